"""What the experiments share: molecules, trained networks, picks and their scores, each made once and kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from deeppicker.config import ExampleConfig, LearnConfig, PickConfig, TrainConfig
from deeppicker.core import Picks
from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.results import EvaluateConfig, Evaluation
from deeppicker.formats.atomic import atomic_path, make_folder
from deeppicker.networks.model import Model, load_model, new_model, weights_digest
from deeppicker.networks.paper import PaperNetwork
from deeppicker.parallel.jobs import here
from deeppicker.parallel.processes import processes
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.fit import train_model
from few_labels import few
from paper import data
from paper.cache import checksum
from paper.data import OTHERS, Molecule, Part
from paper.results import number
from paper.settings import Settings

THRESHOLD = 0.5
RATES = (f"recall at {THRESHOLD}", f"precision at {THRESHOLD}", "best F1", "AP")
"""Score from which on a candidate counts as a pick (the paper's Fig. 2b)."""


@dataclass(frozen=True)
class Lesson:
    """What a network of the paper is trained on: so many particles, in equal parts of some molecules."""

    molecules: tuple[str, ...]
    particles: int


@dataclass(frozen=True)
class Study:
    """The settings and folders of a study, and what has been made of them.

    Parameters
    ----------
    settings : Settings
        How large it is.
    work : Path
        Folder of everything that is kept.
    data : Path or None
        The development data, where they are.
    left_out : Path or None
        Folder where ``recipes/together.py`` left networks that each have not seen one real molecule.
    """

    settings: Settings
    work: Path
    data: Path | None = None
    left_out: Path | None = None
    _molecules: dict[str, Molecule] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """Molecules to pick: the real ones only where the development data are."""
        return tuple(name for name in self.settings.targets if self.data is not None or name not in data.REAL)

    def molecule(self, name: str) -> Molecule:
        """Return a molecule, read or simulated when it is first asked for."""
        if name not in self._molecules:
            self._molecules[name] = data.load(name, self.settings, self.work, self.data)
        return self._molecules[name]

    def test(self, name: str) -> Part:
        """Return the micrographs of a molecule that no network is trained on."""
        return self.molecule(name).test

    def cross(self, target: str, others: int) -> Lesson:
        """Return the fully automatic lesson: other molecules only."""
        return Lesson(OTHERS[target][:others], self.settings.particles)

    def own(self, target: str, particles: int) -> Lesson:
        """Return the semi-automatic lesson: particles of the target itself, in other micrographs."""
        return Lesson((target,), particles)

    def default(self, target: str) -> Model:
        """Return the default network, taught without a real target where there is such a one."""
        path = self._without(target)
        return load_model(path) if path else load_model()

    @property
    def unseen(self) -> tuple[str, ...]:
        """Real targets for which there is a default network that has not seen them."""
        return tuple(name for name in self.targets if self._without(name))

    @property
    def about_default(self) -> str:
        """What the default network has seen of the targets."""
        seen = [data.title_of(name) for name in self.targets if name in data.REAL and name not in self.unseen]
        parts = [
            "The default network is that in the package. It has seen no simulated target, but it has seen micrographs "
            "of this simulator, some with shapes that were invented likewise: simulated targets are its home ground."
        ]
        if self.unseen:
            names = "; ".join(map(data.title_of, self.unseen))
            parts.append(f"For {names}, it is one of the same recipe that has not seen the molecule.")
        if seen:
            parts.append(f"It has learnt from {'; '.join(seen)}, whose figures are too good.")
        return " ".join(parts)

    def _without(self, target: str) -> Path | None:
        path = self.left_out / f"without-{target}.safetensors" if self.left_out else None
        return path if path and path.is_file() else None

    @property
    def models(self) -> Path:
        """The folder of networks."""
        return make_folder(self.work / "models")

    def network(self, lesson: Lesson) -> Model:
        """Return the paper's network after a lesson."""
        path = self.models / f"{checksum(self.settings.taught, asdict(lesson))}.safetensors"
        examples = ExampleConfig(num_particles=self.windows(lesson), versions=self.settings.versions)
        settings = PaperNetwork.defaults
        steps = math.ceil(2 * examples.num_particles / settings.batch_size)  # as many windows of background
        epochs = max(self.settings.epochs or settings.epochs, math.ceil(self.settings.steps / steps))
        config = LearnConfig(examples=examples, train=TrainConfig(epochs=epochs))
        return trained(path, partial(train_model, new_model(0, "paper"), self._datasets(lesson), config, path))

    def windows(self, lesson: Lesson) -> int:
        """Return how many windows of particles a network learns from.

        There are fewer than asked for where a particle would come more than once from each version of its micrograph,
        as in `deeppicker adapt`.
        """
        return min(lesson.particles, self.settings.versions * sum(map(len, self._datasets(lesson))))

    def particles(self, lesson: Lesson) -> int:
        """Return how many different particles these windows show."""
        share = self.windows(lesson) // len(lesson.molecules)
        return sum(min(share, len(dataset)) for dataset in self._datasets(lesson))

    def _datasets(self, lesson: Lesson) -> list[Dataset]:
        return [self._taught(name, lesson) for name in lesson.molecules]

    def _taught(self, name: str, lesson: Lesson) -> Dataset:
        dataset = self.molecule(name).training.dataset
        share = lesson.particles if len(lesson.molecules) == 1 else len(dataset)
        return few(dataset, share) if share < len(dataset) else dataset

    def picks(self, model: Model, target: str, config: PickConfig = PickConfig()) -> list[Picks]:
        """Return all candidates in the test micrographs of a target, given its diameter."""
        part = self.test(target)
        key = checksum(weights_digest(model), asdict(model.calibration), target, self.settings.taught, asdict(config))
        path = self.work / "picks" / f"{key}.npz"
        names = [item.picks.micrograph for item in part.dataset.micrographs]
        if path.is_file():
            with np.load(path) as stored:
                return [Picks(name, stored[f"p{i}"], stored[f"s{i}"]) for i, name in enumerate(names)]
        diameter = part.dataset.diameter
        found = [pick_micrograph(item.load(), model, diameter, config) for item in part.dataset.micrographs]
        make_folder(path.parent)
        arrays = {f"p{i}": one.positions for i, one in enumerate(found)}
        with atomic_path(path) as new, new.open("wb") as file:
            np.savez(file, **arrays, **{f"s{i}": one.scores for i, one in enumerate(found)})
        return [Picks(name, one.positions, one.scores) for name, one in zip(names, found, strict=True)]

    def example(self) -> tuple[str, Labelled, Picks]:
        """Return a target, one of its test micrographs, and its picks after training on two other molecules."""
        target = "spliceosome" if "spliceosome" in self.targets else self.targets[0]
        found = self.picks(self.network(self.cross(target, 2)), target)[-1]
        return target, self.test(target).dataset.micrographs[-1], found.where(found.scores >= THRESHOLD)

    def evaluated(
        self, found: Sequence[Picks], target: str, threshold: float | None = THRESHOLD, first: int | None = None
    ) -> Evaluation:
        """Return how picks agree with the reference, of the ``first`` micrographs, as `deeppicker evaluate` does."""
        part = self.test(target)
        config = EvaluateConfig(
            particle_diameter=part.dataset.diameter, threshold=threshold, resamples=200, chance_repeats=1
        )
        return evaluate_picks(found, [item.picks for item in part.dataset.micrographs[:first]], config, part.info)

    def warm(self, lessons: Sequence[tuple[Lesson, str]], workers: int) -> None:
        """Train networks and pick with each, several at once: most of the study's time.

        A training that fails, because there is too little to learn from, does so again in the experiment that needs
        it, which says why.
        """
        names = sorted({name for lesson, target in lessons for name in (*lesson.molecules, target)})
        data.simulate(names, self.settings, self.work, workers)
        if workers == 1:
            list(here(self._trained_and_picked)(lessons))
            return
        with processes(workers, math.inf) as mapper:
            list(mapper(partial(_in_process, self.settings, self.work, self.data))(lessons))

    def _trained_and_picked(self, item: tuple[Lesson, str]) -> None:
        lesson, target = item
        self.picks(self.network(lesson), target)


def best_f1(one: Evaluation) -> float:
    """Return F1 at the best threshold, for sums and figures; 0 where there is none."""
    return one.best.f1 if one.best else 0.0


def rates_of(one: Evaluation) -> tuple[str, ...]:
    """Return cells of a table, as `RATES` heads them."""
    rates = one.pooled.recall, one.pooled.precision, one.best.f1 if one.best else None, one.pooled.average_precision
    return tuple(map(number, rates))


def thinned(picks: Sequence[Picks], most: int) -> list[Picks]:
    """Return at most so many picks, chosen at random; the same each time."""
    rng, number = np.random.default_rng(0), sum(map(len, picks))
    keep = np.zeros(number, dtype=bool)
    keep[rng.permutation(number)[:most]] = True
    parts = np.split(keep, np.cumsum([len(one) for one in picks])[:-1])
    return [one.where(part) for one, part in zip(picks, parts, strict=True)]


def trained(path: Path, train: Callable[[], Model]) -> Model:
    """Return the model in a file, or train it; a training that was interrupted goes on."""
    finished = path.exists() and not path.with_name(f"{path.name}.checkpoint").exists()
    return load_model(path) if finished else train()


def _in_process(settings: Settings, work: Path, where: Path | None, item: tuple[Lesson, str]) -> None:
    torch.set_num_threads(1)
    _study(settings, work, where)._trained_and_picked(item)


@cache
def _study(settings: Settings, work: Path, where: Path | None) -> Study:
    """Return the study as a process sees it, whose molecules are read once."""
    return Study(settings, work, where)
