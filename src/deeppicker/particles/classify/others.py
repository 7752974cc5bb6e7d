"""Places that the picks are compared with: where nothing was picked, and the candidates of the lowest scores.

They are classified with the picks, so a class that is as frequent among them shows gaps, rims or noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial import cKDTree

from deeppicker.core import Ctf, Micrograph, Picks
from deeppicker.formats.recorded import CANDIDATES, file_of
from deeppicker.formats.relion import star
from deeppicker.particles.classify.windows import Windows, cut, join

_PART = 0.2  # random places for each pick, and as many of the candidates
_AWAY = 0.5  # diameters of a random place from every pick, where there is room ...
_TRIED = 30  # ... else so many are tried for each and the farthest taken
_BORDER = 0.4  # diameters of a random place from the edge
_MICROGRAPHS = 40  # that a sample comes from, if there are so many
_WORST = 0.5  # part of the other candidates, those of the lowest scores, of which most are no particles


@dataclass(frozen=True)
class Sampled:
    """What is classified of a micrograph, and what else is known of it.

    Parameters
    ----------
    picks : Picks
        Those to classify.
    every : Picks
        All of its picks.
    candidates : Picks, optional
        What was found besides, with lower scores.
    """

    picks: Picks
    every: Picks
    candidates: Picks | None = None


@dataclass(frozen=True)
class Cut:
    """Windows of one micrograph: of its picks, of the places for comparison, and the transfer of both."""

    picks: Float32[np.ndarray, "n side side"]
    others: Float32[np.ndarray, "m side side"]
    transfer: Float32[np.ndarray, " rings"]


def candidates_of(folder: Path, picks: Picks) -> Picks | None:
    """Return the candidates of a run in this folder that are not among these picks; None where none are known."""
    file = file_of(folder, CANDIDATES, picks.micrograph)
    return star.read_candidates(file)[0].without(picks) if file.is_file() else None


def sample(picks: Sequence[Picks], most: int, rng: np.random.Generator) -> list[Picks]:
    """Return so many picks at most, from whole micrographs as far as enough of these take part.

    Parameters
    ----------
    picks : sequence of Picks
        By micrograph.
    most : int
        0 for all.
    rng : Generator
        Draws them.

    Returns
    -------
    list of Picks
        By micrograph; empty for those that take no part.
    """
    numbers = np.array([len(item) for item in picks])
    if not most or numbers.sum() <= most:
        return list(picks)
    order = rng.permutation(len(picks))
    enough = max(int(np.searchsorted(np.cumsum(numbers[order]), most)) + 1, _MICROGRAPHS)
    part = np.zeros(len(picks), dtype=bool)
    part[order[:enough]] = True
    drawn = np.zeros(numbers.sum(), dtype=bool)
    drawn[rng.permutation(np.flatnonzero(np.repeat(part, numbers)))[:most]] = True
    chosen = np.split(drawn, np.cumsum(numbers)[:-1])
    return [item.where(mine) for item, mine in zip(picks, chosen, strict=True)]


def cut_with_others(
    micrograph: Micrograph,
    sampled: Sampled,
    diameter: float,
    side: int,
    rng: np.random.Generator,
    ctf: Ctf | None = None,
) -> Cut:
    """Return the windows of picks, and of places in the same micrograph that they are compared with.

    Parameters
    ----------
    micrograph : Micrograph
        Particles dark.
    sampled : Sampled
        Its picks.
    diameter : float
        Particle diameter in Å.
    side : int
        Pixels of a window along each side.
    rng : Generator
        Draws the places.
    ctf : Ctf, optional
        See `windows.cut`.
    """
    number = int(_PART * len(sampled.picks) + rng.random())
    places = _elsewhere(micrograph, sampled.every, number, diameter, rng)
    if sampled.candidates is not None:
        worst = np.argsort(sampled.candidates.scores)[: round(_WORST * len(sampled.candidates))]
        places = np.concatenate([places, sampled.candidates.positions[rng.permutation(worst)[:number]]])
    positions = np.concatenate([sampled.picks.positions, places])
    images, transfer = cut(micrograph, positions, diameter, side, ctf, neighbours=sampled.every.positions)
    return Cut(images[: len(sampled.picks)], images[len(sampled.picks) :], transfer)


def together(cuts: Sequence[Cut]) -> Windows:
    """Return the windows of all picks, micrograph by micrograph, and then those of all other places."""
    return join([(item.picks, item.transfer) for item in cuts] + [(item.others, item.transfer) for item in cuts])


def _elsewhere(
    micrograph: Micrograph, picks: Picks, number: int, diameter: float, rng: np.random.Generator
) -> Float[np.ndarray, "m 2"]:
    """Return random places away from the picks, or those of many that are farthest from them."""
    height, width = micrograph.image.shape
    pixels = diameter / micrograph.pixel_size
    border = min(_BORDER * pixels, 0.4 * min(height, width))
    tried = rng.uniform(border, (width - border, height - border), (_TRIED * number, 2))
    away = cKDTree(picks.positions).query(tried)[0] / pixels
    free = tried[away >= _AWAY]
    return free[:number] if len(free) >= number else tried[np.argsort(-away)[:number]]
