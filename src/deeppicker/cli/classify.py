"""Align and average picks in classes: see what was picked, and drop the junk."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeppicker.cli._shared.progress import steps, track
from deeppicker.cli._shared.types import Length, Numbers, OptionalFile, OptionalPath, Where
from deeppicker.config import ClassifyConfig, DeviceConfig
from deeppicker.errors import InputError
from deeppicker.formats.writable import refuse_unwritable_folder

if TYPE_CHECKING:
    from deeppicker.core import Ctf
    from deeppicker.particles.classify.others import Sampled
    from deeppicker.particles.classify.windows import Windows
    from deeppicker.training.data import Dataset, Labelled


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker classify`."""

    picks: OptionalPath = None
    """Picks: an output folder or autopick.star of `deeppicker pick`, or coordinates in any format."""

    output: Path
    """Folder for the class averages, written whole at the end or not at all."""

    reject: bool = False
    """Also write the picks of good classes, as coordinates for RELION and for `deeppicker adapt`."""

    keep: Numbers = None
    """Choose by hand in a finished output folder: keep the picks of these classes only, such as ``1,2,5-9``. Nothing
    is classified anew, and --picks is not needed."""

    drop: Numbers = None
    """Likewise: keep the good classes except these."""

    ctf: OptionalFile = None
    """Defocus of the micrographs: a STAR file of `deeppicker ctf` or RELION, or a text file (or folder of them) of
    CTFFIND4. Default: from the STAR file of the picks, of their run or of the micrographs, if one holds it."""

    diameter: Length = None
    """Particle diameter in Å; default: that of the run that made the picks."""

    pixel_size: Length = None
    """Å per pixel; default: from the STAR file or the image header."""

    invert: bool = False
    """The particles are bright on a darker background."""

    micrographs: Where = None
    """Folder, pattern or STAR file of the micrographs, if the picks do not name them."""

    relion: bool = False
    """Let RELION's relion_refine align and average; the quality is judged as usual."""

    overwrite: bool = False
    """Replace an output folder of this command."""

    classify: ClassifyConfig = ClassifyConfig()
    device: DeviceConfig = DeviceConfig()


def run(options: Options) -> int:
    """Classify, or choose among the classes of a finished folder; show and write."""
    if options.keep is not None or options.drop is not None:
        return _choose(options)
    if options.picks is None:
        raise InputError("--picks must be given, or --keep or --drop to choose classes of a finished --output")
    return _classify(options, options.picks)


def _choose(options: Options) -> int:
    from deeppicker.particles.classify.files import KEPT, choose_classes

    if options.picks is not None or options.reject or options.overwrite:
        raise InputError("--keep and --drop choose classes of a finished --output; give neither --picks nor --reject")
    keep = None if options.keep is None else numbers_of(options.keep, "--keep")
    report = choose_classes(options.output, keep=keep, drop=numbers_of(options.drop or "", "--drop"))
    numbers = ", ".join(str(k + 1) for k in range(len(report.chosen)) if report.chosen[k])
    print(
        f"classes {numbers} are kept: {int(report.kept.sum()):,} of {len(report.kept):,} picks "
        f"-> {options.output / KEPT}"
    )
    return 0


def numbers_of(text: str, option: str) -> set[int]:
    """Return the numbers in a text such as ``1,2,5-9``.

    Raises
    ------
    InputError
        If it is none.
    """
    found: set[int] = set()
    for part in text.replace(",", " ").split():
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise InputError(f"{option} {text} is no list of classes; give their numbers, such as 1,2,5-9")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _classify(options: Options, source: Path) -> int:
    from deeppicker.formats.provenance import tables_of_run
    from deeppicker.formats.recorded import Recorded
    from deeppicker.particles.classify import files
    from deeppicker.particles.classify.relion import classify as classify_by_relion
    from deeppicker.particles.classify.report import report_of
    from deeppicker.particles.classify.search import number_of_classes
    from deeppicker.particles.classify.unfinished import forget
    from deeppicker.training.data import load_dataset

    files.check(options.output, options.overwrite)
    refuse_unwritable_folder(options.output.absolute().parent)
    dataset = load_dataset(
        source,
        diameter=options.diameter,
        pixel_size=options.pixel_size,
        micrographs=options.micrographs,
        invert=options.invert,
    )
    config = options.classify
    items = _sampled(dataset, source, 0 if options.reject else config.sample, config.seed)
    number = sum(len(item.picks) for _, item in items)
    classes = number_of_classes(config, number)
    if number < 2 * classes:
        raise InputError(
            f"{source} holds {number} picks, too few for {classes} classes; set --classes to {max(1, number // 50)}"
        )
    known = _defocus(options, source)
    windows, picks = _windows(dataset, items, config, known), [item.picks for _, item in items]
    if options.relion:
        start, found = classify_by_relion(windows, dataset.diameter, config)
    else:
        from deeppicker.device import settle, torch_device
        from deeppicker.particles.classify.em import State, classify
        from deeppicker.particles.classify.unfinished import Unfinished

        place = settle(options.device.device, one=True)
        print(f"computing {place}", flush=True)
        unfinished = Unfinished(options.output, windows, config)
        with steps("classifying", config.iterations) as shown:

            def after(state: State) -> None:
                unfinished.keep(state)
                shown.at(state.done)

            start, found = classify(windows, config, after, unfinished.state(), torch_device(place.device))
    report = report_of(windows, picks, start, found, dataset.diameter, config)
    recorded = Recorded(source)
    bright = options.invert or recorded.invert
    size = options.pixel_size if options.pixel_size is not None else recorded.pixel_size
    settings = {"made_by": "deeppicker classify", "diameter": dataset.diameter, "invert": bright, "pixel_size": size}
    files.write(options.output, report, settings, tables_of_run(source), kept=options.reject)
    forget(options.output)
    print(
        f"{int((report.members > 0).sum())} classes, {int(report.good.sum())} of them good; "
        f"{int(report.kept.sum()):,} of {len(report.kept):,} picks kept -> {options.output / 'classes.png'}"
    )
    if report.good.any():
        print(f"resolution of the good classes: {report.resolution} (where the halves of their members agree by half)")
    if options.reject:
        print(f"next: deeppicker adapt --picks {options.output / files.KEPT} --output adapted.safetensors")
    return 0


def _defocus(options: Options, picks: Path) -> dict[str, Ctf]:
    from deeppicker.formats.provenance import tables_of_run
    from deeppicker.formats.relion import defocus

    if options.ctf is not None:
        return defocus.read(options.ctf)
    named = [Path(options.micrographs)] if options.micrographs is not None else []
    known: dict[str, Ctf] = {}
    for path in [*tables_of_run(picks), picks, *named]:
        if path.suffix.lower() == ".star" and path.is_file():
            known |= defocus.read_known(path)
    return known


def _sampled(dataset: Dataset, source: Path, most: int, seed: int) -> list[tuple[Labelled, Sampled]]:
    """Return what is classified of each micrograph, and say so if it is not everything."""
    import numpy as np

    from deeppicker.formats.recorded import Recorded
    from deeppicker.particles.classify.others import Sampled, candidates_of, sample

    folder = Recorded(source).folder
    items = [item for item in dataset.micrographs if len(item.picks)]
    drawn = sample([item.picks for item in items], most, np.random.default_rng([seed, 1]))
    taken = []
    for item, picks in zip(items, drawn, strict=True):
        if len(picks):
            taken.append((item, Sampled(picks, item.picks, candidates_of(folder, item.picks.micrograph))))
    if (number := sum(map(len, drawn))) < len(dataset):
        print(
            f"a sample is classified: {number:,} of {len(dataset):,} picks, of {len(taken):,} of {len(items):,} "
            "micrographs; --sample 0 takes all"
        )
    return taken


def _windows(
    dataset: Dataset, items: Sequence[tuple[Labelled, Sampled]], config: ClassifyConfig, known: dict[str, Ctf]
) -> Windows:
    import numpy as np

    from deeppicker.particles.classify.others import cut_with_others, together

    keys = [item.picks.key for item, _ in items]
    doubtful = [key for key in keys if key in known and not known[key].reliable]
    if doubtful:
        warnings.warn(
            f"the defocus of {len(doubtful):,} micrographs is not used, because its fit is poor: "
            f"{doubtful[0]} has {known[doubtful[0]].fit:.2f}",
            stacklevel=2,
        )
        known = {key: ctf for key, ctf in known.items() if ctf.reliable}
    flipped = sum(key in known for key in keys)
    number = sum(len(sampled.picks) for _, sampled in items)
    print(
        f"{dataset.name}: {number:,} picks of {dataset.diameter:g} Å in {len(items):,} micrographs; "
        f"defocus known for {flipped:,}",
        flush=True,
    )
    rng = np.random.default_rng([config.seed, 2])
    return together(
        [
            cut_with_others(item.load(), sampled, dataset.diameter, config.side, rng, known.get(key))
            for key, (item, sampled) in track(list(zip(keys, items, strict=True)), "cutting")
        ]
    )
