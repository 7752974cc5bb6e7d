"""Batches of windows, drawn from data sets into a cache before training begins (Section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from deeppicker.config import TrainSettings
from deeppicker.networks.batches import WindowBatch
from deeppicker.training.feed import Lesson, Portion
from deeppicker.training.prefetch import ahead
from deeppicker.training.ranks import Ranks
from deeppicker.training.windows import Examples, fill, new_examples, open_examples

_PARTS = ("training", "validation")  # folders in the cache
_AT_ONCE = 1024  # windows in a batch for validation


def fill_windows(lesson: Lesson, folder: Path) -> None:
    """Draw the training and validation windows into a folder, shared equally among the data sets."""
    config, start, sets = lesson.config, lesson.start, len(lesson.halves)
    share = max(1, round(config.examples.num_particles / sets))
    counts = (share, max(1, round(share * config.examples.validation)))
    for part, (name, count) in enumerate(zip(_PARTS, counts, strict=True)):
        examples = new_examples(folder / name, 2 * count * sets, start.prepare.window)
        for index, pair in enumerate(lesson.halves):
            mine = examples.part(2 * count * index, 2 * count * (index + 1))
            fill(mine, pair[part], config.examples, start.prepare, [config.train.seed, part, index])


def open_windows(_: Lesson, folder: Path, settings: TrainSettings, ranks: Ranks) -> WindowFeed:
    """Return batches of the windows in a folder."""
    examples, validation = (open_examples(folder / name) for name in _PARTS)
    return WindowFeed(examples, validation, settings, ranks)


@dataclass(frozen=True)
class WindowFeed:
    """Batches of windows, in another order in each epoch.

    Parameters
    ----------
    examples, validation : Examples
        Training and validation windows.
    settings : TrainSettings
        Size of a batch, and the seed.
    ranks : Ranks
        The place of this process among those that train.
    """

    examples: Examples
    validation: Examples
    settings: TrainSettings
    ranks: Ranks

    @property
    def steps(self) -> int:
        """Batches in an epoch, so that each window is seen once."""
        return math.ceil(len(self.examples) / self.settings.batch_size)

    def epoch(self, number: int) -> Iterator[Portion]:
        """Yield the windows of an epoch, turned and mirrored at random."""
        rng = torch.Generator().manual_seed(self.settings.seed_of(number))
        order = torch.randperm(len(self.examples), generator=rng).numpy()
        size = self.settings.batch_size
        batches = [np.sort(order[start : start + size]) for start in range(0, len(order), size)]
        return ahead(self._load, ((chosen, _ways(len(chosen), rng)) for chosen in batches))

    def _load(self, job: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]) -> Portion:
        chosen, ways = job
        share = self.ranks.share(len(chosen))
        mine = chosen[share]
        windows = _turn(np.asarray(self.examples.windows[mine]), ways[share])
        labels = torch.from_numpy(np.asarray(self.examples.labels[mine]))
        return Portion(WindowBatch(torch.from_numpy(windows), labels), len(chosen))

    def held(self) -> Iterator[WindowBatch]:
        """Yield the validation windows, of which each process looks at its share."""
        share = self.ranks.share(len(self.validation))
        for start in range(share.start, share.stop, _AT_ONCE):
            part = self.validation.part(start, min(start + _AT_ONCE, share.stop))
            windows = torch.from_numpy(part.windows.astype(np.float32))
            yield WindowBatch(windows, torch.from_numpy(np.array(part.labels)))


def _ways(number: int, rng: torch.Generator) -> Int[np.ndarray, " n"]:
    """Return for each window of a batch in which of eight ways to turn it: an eighth of them in each."""
    return torch.randperm(8, generator=rng).numpy().repeat(-(-number // 8))[:number]


def _turn(windows: Float[np.ndarray, "n side side"], ways: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n side side"]:
    """Return the windows, each turned and mirrored in one of eight ways."""
    turned = np.empty(windows.shape, dtype=np.float32)
    for way in set(ways.tolist()):
        mine = ways == way
        part = windows[mine]
        turned[mine] = np.rot90(part[:, ::-1] if way >= 4 else part, way % 4, (1, 2))
    return turned
