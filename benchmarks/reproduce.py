"""The experiments of the DeepPicker paper, each with our figure beside its claim, in one report.

    python benchmarks/reproduce.py [--quick] [--only NAME ...] [--targets NAME ...] [--work DIR] [--data DIR]
        [--models DIR] [--output DIR]

Writes ``report.html``, ``report.md`` and ``figures`` to ``benchmarks/paper``. The full study takes a night on two
cores, ``--quick`` some minutes. Simulated micrographs, trained networks, picks and the outcome of each experiment stay
in the work folder, so the same command goes on where another one was stopped. `docs/reproduction.md` says how to read
the report. After a change of the program itself, begin with a new work folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

from deeppicker.errors import DeepPickerError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.networks.model import weights_digest
from paper import (
    ablations,
    centres,
    class_averages,
    cross_molecule,
    defocus_and_noise,
    iteration,
    others,
    semi_automatic,
    to_the_map,
)
from paper.about import about
from paper.cache import cached, checksum
from paper.data import REAL
from paper.figures import Canvas
from paper.report import as_html, as_markdown
from paper.results import Section, Verdict
from paper.settings import FULL, QUICK, Settings
from paper.study import Study
from setting import describe
from timing import topaz

EXPERIMENTS: tuple[ModuleType, ...] = (
    cross_molecule,
    class_averages,
    centres,
    semi_automatic,
    defocus_and_noise,
    iteration,
    ablations,
    others,
    to_the_map,
)
"""In the order of the report."""
TITLE = "The experiments of the DeepPicker paper"


@dataclass(frozen=True)
class Places:
    """Where a study works, finds real data and default networks that have not seen them, and writes its report."""

    work: Path
    data: Path | None
    output: Path
    models: Path | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    settings = settings_of(options)
    places = Places(
        options.work or Path("work") / f"paper-{settings.name}", options.data, options.output, options.models
    )
    chosen = [module for module in EXPERIMENTS if not options.only or name_of(module) in options.only]
    sections = reproduce(settings, places, chosen)
    wrong = sum(verdict.agrees is False for one in sections for verdict in one.verdicts)
    print(f"{places.output / 'report.html'}: {len(sections)} experiments, {wrong} statements differ from the paper")


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of the study that is asked for."""
    settings = QUICK if options.quick else FULL
    there = [name for name in settings.targets if options.data is not None or name not in REAL]
    chosen = tuple(name for name in there if not options.targets or name in options.targets)
    if not chosen:
        raise SystemExit(f"this study has none of these targets (real ones need --data); choose of {', '.join(there)}")
    return replace(settings, targets=chosen)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; those of the command line unless arguments are given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small micrographs and short trainings: some minutes")
    parser.add_argument("--only", nargs="+", choices=[name_of(module) for module in EXPERIMENTS], default=[])
    parser.add_argument("--targets", nargs="+", choices=FULL.targets, default=[], help="molecules to pick: some only")
    parser.add_argument("--work", type=Path, help="folder of everything that is kept (default: work/paper-...)")
    data = os.environ.get("DEEPPICKER_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="the development data")
    left_out = "left-one-out networks of recipes/together.py"
    parser.add_argument("--models", type=Path, default=Path("work"), help=left_out)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "paper", help="folder of the report")
    return parser.parse_args(arguments)


def reproduce(
    settings: Settings, places: Places, experiments: Sequence[ModuleType], *, workers: int = 2
) -> list[Section]:
    """Run experiments, or take what an earlier run found, and write the report."""
    study = Study(settings, places.work.resolve(), places.data, places.models)
    began = time.perf_counter(), sum(os.times()[:4])
    if settings.install and {others, to_the_map} & set(experiments):
        topaz.install(study.work.parent)
    lessons = dict.fromkeys(item for module in experiments for item in module.lessons(study))
    study.warm(list(lessons), workers)
    sections = [about(study), *(outcome(module, study) for module in experiments)]
    seconds = time.perf_counter() - began[0], sum(os.times()[:4]) - began[1]
    write(settings, study, sections, places.output, seconds)
    return sections


def outcome(module: ModuleType, study: Study) -> Section:
    """Return what an experiment finds; one that fails leaves its reason in the report, and is run again next time."""
    name = name_of(module)
    canvas = Canvas(study.work / "figures", name)
    key = checksum(asdict(study.settings), study.targets, sources(), circumstances(study))

    def run() -> dict[str, object]:
        print(name, flush=True)
        began = time.perf_counter()
        section: Section = module.run(study, canvas)
        return replace(section, seconds=time.perf_counter() - began).to_json()

    try:
        return Section.from_json(cached(study.work / "outcomes" / f"{name}.json", key, run))
    except Exception as error:  # the other experiments are worth a report
        traceback.print_exc()
        why = str(error) if isinstance(error, DeepPickerError) else f"{type(error).__name__}: {error}"
        return Section(name.replace("_", " "), "", (Verdict("It runs.", "it failed", None, why),))


def sources() -> str:
    """Return a checksum of the code of the study, with what starts other programs."""
    here = Path(__file__).parent
    used = ("few_labels.py", "timing/rivals.py", "timing/topaz.py")
    files = [Path(__file__), *(here / name for name in used), *sorted((here / "paper").glob("*.py"))]
    return checksum([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])


def circumstances(study: Study) -> tuple[object, ...]:
    """Return what else an outcome depends on: the default networks, and which other programs there are."""
    networks = [weights_digest(study.default(target)) for target in study.targets]
    programs = [shutil.which(name) is not None for name in ("relion_autopick", "relion_preprocess", "relion_refine")]
    return networks, programs, others.topaz_of(study) is not None


def write(
    settings: Settings, study: Study, sections: Sequence[Section], output: Path, seconds: tuple[float, float]
) -> None:
    """Write the report as HTML and Markdown, and the figures beside it."""
    where = describe(f"{os.cpu_count()} cores")
    real = "" if study.data else " The real sets are left out, because DEEPPICKER_DATA is not set."
    subtitle = (
        f"The {settings.name} study, {where['date']}, commit {where['commit']}, {where['machine']}, "
        f"torch {where['torch']}; the last command took {seconds[0]:,.0f} s and {seconds[1]:,.0f} s of processor time, "
        f"beside what it found done.{real}"
    )
    folder, drawn = study.work / "figures", [picture for one in sections for picture in one.pictures]
    make_folder(output / "figures")
    for picture in drawn:
        for kind in ("png", "svg"):
            shutil.copyfile(folder / f"{picture.stem}.{kind}", output / "figures" / f"{picture.stem}.{kind}")
    atomic_write(output / "report.html", as_html(TITLE, subtitle, sections, folder))
    places = {picture.stem: f"figures/{picture.stem}.png" for picture in drawn}
    atomic_write(output / "report.md", as_markdown(TITLE, subtitle, sections, places))


def name_of(module: ModuleType) -> str:
    """Return the name of an experiment."""
    return module.__name__.rpartition(".")[2]


if __name__ == "__main__":
    main()
