"""What every classification does, of the command line and of the browser: choose, cut, align. Progress is theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from deeppicker.config import ClassifyConfig
from deeppicker.core import Ctf, Micrograph, Picks
from deeppicker.particles.classify.em import Alignment, State, classify
from deeppicker.particles.classify.others import Sampled, candidates_of, cut_with_others, sample, together
from deeppicker.particles.classify.unfinished import Unfinished
from deeppicker.particles.classify.windows import Windows

_CPU = torch.device("cpu")


@runtime_checkable
class Picked(Protocol):
    """A micrograph with picks, read when it is needed."""

    @property
    def picks(self) -> Picks:
        """Its picks."""

    def load(self) -> Micrograph:
        """Read it."""


Item = TypeVar("Item", bound=Picked)
Chosen = tuple[Item, Sampled]


def choose(items: Sequence[Item], folder: Path, most: int, seed: int) -> list[Chosen[Item]]:
    """Return the micrographs that take part, with what is classified of each.

    Parameters
    ----------
    items : sequence of Picked
        All micrographs.
    folder : Path
        Where a run may have left other candidates of them.
    most : int
        Most picks to classify; 0 for all.
    seed : int
        Draws them.
    """
    full = [item for item in items if len(item.picks)]
    drawn = sample([item.picks for item in full], most, np.random.default_rng([seed, 1]))
    return [
        (item, Sampled(picks, item.picks, candidates_of(folder, item.picks)))
        for item, picks in zip(full, drawn, strict=True)
        if len(picks)
    ]


def cut_all(
    chosen: Sequence[Chosen[Item]],
    diameter: float,
    config: ClassifyConfig,
    known: Mapping[str, Ctf],
    shown: Callable[[Sequence[Chosen[Item]]], Iterable[Chosen[Item]]],
) -> Windows:
    """Return the windows of all picks, and then those of the places that they are compared with.

    Parameters
    ----------
    chosen
        As `choose` returns it.
    diameter : float
        Particle diameter in Å.
    config : ClassifyConfig
        Settings.
    known : mapping of str to Ctf
        Contrast transfer by micrograph key, where it is known.
    shown : callable
        Yields what it is given, and shows how far that is.
    """
    rng = np.random.default_rng([config.seed, 2])
    return together(
        [
            cut_with_others(item.load(), sampled, diameter, config.side, rng, known.get(item.picks.key))
            for item, sampled in shown(chosen)
        ]
    )


def align(
    windows: Windows,
    config: ClassifyConfig,
    output: Path,
    progress: Callable[[int], None],
    device: torch.device = _CPU,
) -> tuple[torch.Tensor, Alignment]:
    """Return averages and alignment; an interrupted classification into the same folder goes on.

    Parameters
    ----------
    windows, config
        See `em.classify`.
    output : Path
        The folder of classes.
    progress : callable
        Told how many iterations are done.
    device : torch.device
        Where the particles are compared.
    """
    unfinished = Unfinished(output, windows, config)

    def after(state: State) -> None:
        unfinished.keep(state)
        progress(state.done)

    return classify(windows, config, after, unfinished.state(), device)
