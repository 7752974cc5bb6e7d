"""Batches of random crops of micrographs, simulated and real, with and without particles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from deeppicker.config import EPOCH_STEPS, CropConfig, PrepareConfig, TrainSettings
from deeppicker.errors import InputError
from deeppicker.networks.batches import CropBatch
from deeppicker.training.crops import draw_batch
from deeppicker.training.data import Dataset
from deeppicker.training.doubt import doubted
from deeppicker.training.feed import Lesson, Portion
from deeppicker.training.plates import Plate, load_plates, open_plates, save_plates
from deeppicker.training.prefetch import ahead
from deeppicker.training.ranks import Ranks

_HELD = 16  # batches for validation

Group = tuple[float, Sequence[Plate]]
"""How often a crop comes from some plates, which are equally likely."""


def fill_plates(lesson: Lesson, folder: Path) -> None:
    """Read the micrographs, those for training first, and write what crops are cut from into a folder."""
    prepare = lesson.start.prepare
    save_plates((plate for part in _parts(lesson) for plate in load_plates(part, prepare)), folder)


def _parts(lesson: Lesson) -> Iterator[Dataset]:
    start = lesson.start
    for part, _ in lesson.halves:
        yield doubted(start, part, lesson.config.crops.doubt) if start.info else part  # a new model has no opinion
    yield from (held for _, held in lesson.halves if len(held))


def open_crops(lesson: Lesson, folder: Path, settings: TrainSettings, ranks: Ranks) -> CropFeed:
    """Return crops of the plates in a folder, in the order of `fill_plates`.

    Raises
    ------
    InputError
        If crops of this size do not suit the network.
    """
    config, multiple = lesson.config.crops, lesson.start.network.multiple
    if config.crop % multiple:
        raise InputError(f"--crop {config.crop} is no multiple of {multiple}, which the network needs; choose one")
    plates = iter(open_plates(folder))
    parts = [(part.simulated, list(islice(plates, len(part.micrographs)))) for part, _ in lesson.halves]
    return CropFeed(mixture(parts, config), list(plates), config, lesson.start.prepare, settings, ranks)


def mixture(parts: Sequence[tuple[bool, Sequence[Plate]]], config: CropConfig) -> list[Group]:
    """Return from which plates crops are drawn, and how often.

    Crops without particles have a fixed share, and so have those of real micrographs among the others. Each real data
    set counts alike; simulated micrographs are one group, whatever their molecule.

    Parameters
    ----------
    parts : sequence of (bool, sequence of Plate)
        The plates of each data set, and whether it is simulated.
    config : CropConfig
        The shares.
    """
    real = [plates for simulated, plates in parts if not simulated and _holds_particles(plates)]
    background = [p for simulated, plates in parts if not simulated and not _holds_particles(plates) for p in plates]
    made = [plate for simulated, plates in parts if simulated for plate in plates]
    full, empty = ([plate for plate in made if (len(plate.centres) > 0) is wanted] for wanted in (True, False))
    share = config.empty_crops if empty or background else 0.0
    nothing = share if real or full else 1.0
    return [
        *_equally((1 - nothing) * (config.real if full else 1.0), real),
        *_equally((1 - nothing) * (1 - config.real if real else 1.0), [full]),
        *_equally(nothing, [empty, background]),
    ]


def _holds_particles(plates: Sequence[Plate]) -> bool:
    return any(len(plate.centres) for plate in plates)


def _equally(share: float, groups: Sequence[Sequence[Plate]]) -> list[Group]:
    """Return the groups that hold anything, with equal parts of a share."""
    groups = [group for group in groups if group]
    return [(share / len(groups), group) for group in groups if share > 0]


@dataclass(frozen=True)
class CropFeed:
    """Batches of crops, drawn at random without end; an epoch is a number of steps.

    Parameters
    ----------
    groups : sequence of (weight, plates)
        From what crops for training are drawn, and how often.
    validation : sequence of Plate
        From what crops for validation are drawn.
    crops : CropConfig
        How they are drawn.
    prepare : PrepareConfig
        The preparation of the model.
    settings : TrainSettings
        Size of a batch, and the seed.
    ranks : Ranks
        The place of this process among those that train.
    """

    groups: Sequence[Group]
    validation: Sequence[Plate]
    crops: CropConfig
    prepare: PrepareConfig
    settings: TrainSettings
    ranks: Ranks

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return EPOCH_STEPS

    def epoch(self, number: int) -> Iterator[Portion]:
        """Yield the crops of an epoch.

        Each has a generator of its own, so that no process needs to draw those of the others.
        """
        seed, size = self.settings.seed, self.settings.batch_size
        weights = np.array([weight for weight, _ in self.groups])
        rng = np.random.default_rng([seed, number, 1])
        chosen = rng.choice(len(weights), size=(EPOCH_STEPS, size), p=weights / weights.sum())

        def load(step: int) -> Portion:
            mine = np.arange(size)[self.ranks.share(size)].tolist()
            crops = [self._draw(self.groups[chosen[step, i]][1], 1, [seed, number, 2, step, i]) for i in mine]
            return Portion(CropBatch.join(crops), size)

        return ahead(load, range(EPOCH_STEPS))

    def held(self) -> Iterator[CropBatch]:
        """Yield the validation crops, always the same ones, of which each process looks at its share."""
        return iter(self._held)

    @cached_property
    def _held(self) -> list[CropBatch]:
        size, mine = self.settings.batch_size, range(_HELD)[self.ranks.share(_HELD)]
        return [self._draw(self.validation, size, [self.settings.seed, i]) for i in mine]

    def _draw(self, plates: Sequence[Plate], number: int, seed: Sequence[int]) -> CropBatch:
        return draw_batch(plates, number, self.crops, self.prepare, np.random.default_rng(seed))
