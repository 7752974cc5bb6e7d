"""The molecules of the study: simulated ones that stand in for the paper's, and real ones.

All simulated particles are invented (`deeppicker.simulate.shapes`) from seeds of their own, so no model in the package
has seen them, and their truth is known. Real sets come from the development data; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import count, pairwise, zip_longest
from pathlib import Path

import numpy as np

from deeppicker.core import Ctf, Micrograph
from deeppicker.evaluation.results import MicrographInfo
from deeppicker.formats import read_micrograph
from deeppicker.formats.recorded import DATASET
from deeppicker.formats.relion.defocus import read_known
from deeppicker.formats.relion.star import read_micrographs
from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.dataset import Plan, make, run
from deeppicker.simulate.shapes import in_membrane, invent
from deeppicker.simulate.volumes import Volume
from deeppicker.training.data import Dataset, load_dataset
from paper.settings import DEFOCUS, SIMULATED, Settings

SEED = 2016
PARTS = ("training", "test")
_EMPTY = "background"


@dataclass(frozen=True)
class Stand:
    """A simulated molecule: what it stands for, its shape, its diameter in Å, and whether it is in a membrane."""

    title: str
    shape: str
    diameter: float
    membrane: bool


MOLECULES: Mapping[str, Stand] = {
    "gamma-secretase": Stand("γ-secretase", "domains", 150.0, True),
    "spliceosome": Stand("spliceosome", "domains", 280.0, False),
    "trpv1": Stand("TRPV1", "ring", 150.0, True),
    "nsf": Stand("NSF complex", "barrel", 210.0, False),
    "beta-galactosidase": Stand("β-galactosidase", "shell", 180.0, False),
}
REAL: Mapping[str, str] = {
    "trpv1-10059": "TRPV1, real",
    "apoferritin-10146": "apoferritin, real",
    "ribosome-10028": "ribosome, real",
}
OTHERS: Mapping[str, tuple[str, ...]] = {
    "gamma-secretase": ("trpv1", "spliceosome", "nsf", "beta-galactosidase"),
    "spliceosome": ("gamma-secretase", "trpv1", "nsf", "beta-galactosidase"),
    "trpv1": ("spliceosome", "gamma-secretase", "nsf", "beta-galactosidase"),
    "trpv1-10059": ("apoferritin-10146", "ribosome-10028", "nsf", "beta-galactosidase"),
    "apoferritin-10146": ("ribosome-10028", "trpv1-10059", "nsf", "beta-galactosidase"),
    "ribosome-10028": ("trpv1-10059", "apoferritin-10146", "nsf", "beta-galactosidase"),
}
"""The molecules in training for each target, in the order in which they are added: the paper's Table 1, and the same
for real ones, with the other real molecules first."""


@dataclass(frozen=True)
class Part:
    """Micrographs of a molecule with their particles, and their contrast transfer where it is known."""

    dataset: Dataset
    ctf: Mapping[str, Ctf]

    @cached_property
    def info(self) -> Mapping[str, MicrographInfo]:
        """Size and defocus of each micrograph; only asked for where picks are judged, because it reads the images."""
        found = {}
        for item in self.dataset.micrographs:
            image, known = item.load(), self.ctf.get(item.picks.key)
            found[item.picks.key] = MicrographInfo(
                pixel_size=image.pixel_size, size=image.image.shape, defocus=None if known is None else known.defocus
            )
        return found

    def micrographs(self) -> list[Micrograph]:
        """Return the images."""
        return [item.load() for item in self.dataset.micrographs]


@dataclass(frozen=True)
class Molecule:
    """A molecule with separate micrographs for training and testing."""

    name: str
    diameter: float
    training: Part
    test: Part
    volume: Volume | None = None


def load(name: str, settings: Settings, work: Path, data: Path | None) -> Molecule:
    """Return a molecule; its micrographs are simulated unless they are there."""
    if name in REAL:
        if data is None:
            raise FileNotFoundError(f"{name} is part of the development data; set DEEPPICKER_DATA")
        return _real(name, load_dataset(data / "real" / name / "particles.star"))
    return _simulated(name, settings, work)


def title_of(name: str) -> str:
    """Return how the report calls a molecule."""
    return REAL[name] if name in REAL else MOLECULES[name].title


@cache
def volume_of(name: str) -> Volume:
    """Return the density of a simulated molecule; the same at any size of the study."""
    stand = MOLECULES[name]
    for attempt in count():
        rng = np.random.default_rng([SEED, sorted(MOLECULES).index(name), attempt])
        volume = invent(rng, 0.85 * stand.diameter if stand.membrane else stand.diameter)
        if volume.name == stand.shape:
            break
    return replace(in_membrane(rng, volume) if stand.membrane else volume, name=name)


def simulate(names: Iterable[str], settings: Settings, work: Path, workers: int) -> None:
    """Make the micrographs of molecules, some at a time, unless they are there."""
    plans = [
        plan for name in names if name in MOLECULES for part in PARTS for plan in _plans(name, part, settings, work)
    ]
    list(run([plan for plan in plans if not (plan.folder / DATASET).is_file()], workers))


def backgrounds(settings: Settings, work: Path) -> list[Micrograph]:
    """Return micrographs of ice without any particle."""
    config = _config(settings, (DEFOCUS[0], DEFOCUS[-1]), empty=1.0, contamination=0.0)
    volume = replace(volume_of("trpv1"), name=_EMPTY)
    plan = Plan(volume, (), work / "simulated" / _EMPTY, settings.backgrounds, config, SEED)
    make(plan)
    entries = read_micrographs(plan.folder / "micrographs.star")
    return [read_micrograph(entry.path, name=entry.name, pixel_size=entry.pixel_size) for entry in entries]


def _plans(name: str, part: str, settings: Settings, work: Path) -> list[Plan]:
    """Return a folder to make for each range of defocus."""
    number = settings.training if part == "training" else settings.tested * (name in SIMULATED)
    volume = volume_of(name)
    return [
        Plan(
            replace(volume, name=f"{name}-{part}-{low:g}"),
            (),
            work / "simulated" / f"{name}-{part}-{low:g}",
            number,
            _config(settings, (low, high)),
            SEED,
        )
        for low, high in (pairwise(DEFOCUS) if number else ())
    ]


def _simulated(name: str, settings: Settings, work: Path) -> Molecule:
    volume = volume_of(name)
    parts = []
    for part in PARTS:
        plans = _plans(name, part, settings, work)
        for plan in plans:
            make(plan)
        parts.append(_joined(name, volume.diameter, [plan.folder for plan in plans]))
    return Molecule(name, volume.diameter, *parts, volume)


def _config(
    settings: Settings, defocus: tuple[float, float], *, empty: float = 0.0, contamination: float = 0.25
) -> SimulateConfig:
    """Return a usual sample: no phase plate, no second species, nothing processed; some ice and carbon."""
    return SimulateConfig(
        size=settings.size,
        pixel_size=settings.pixel_size,
        defocus=defocus,
        dose=(30.0, 60.0),
        contrast=(0.5, 1.0),
        solvent=(0.5, 1.5),
        coverage=(0.2, 0.35),
        spacing=(0.9, 1.1),
        contamination=contamination,
        empty=empty,
        **dict.fromkeys(("phase_plates", "crowded", "packed", "clustered", "preferred", "mixed"), 0.0),
        **dict.fromkeys(("membranes", "borders", "processed"), 0.0),
    )


def _joined(name: str, diameter: float, folders: list[Path]) -> Part:
    """Return the micrographs of several folders as one part; the first of each folder come first."""
    sets = [load_dataset(folder / "particles.star", diameter=diameter) for folder in folders]
    known = {key: ctf for folder in folders for key, ctf in read_known(folder / "micrographs.star").items()}
    turns = zip_longest(*(one.micrographs for one in sets))
    dataset = Dataset(name, diameter, [item for turn in turns for item in turn if item is not None])
    return Part(dataset, known)


def _real(name: str, dataset: Dataset) -> Molecule:
    halves = [replace(dataset, name=name, micrographs=dataset.micrographs[start::2]) for start in (0, 1)]
    return Molecule(name, dataset.diameter, *(Part(half, {}) for half in halves))
