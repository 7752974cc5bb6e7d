"""Whether self-training can begin, how sure its start is, and whether what came of a round is safe to use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from deeppicker.config import SelfTrainConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.networks.model import Model
from deeppicker.picking.prepare import prepare_image
from deeppicker.picking.spread import spreads

_SPARE = 1.2  # times as many micrographs as should be enough


def needed(picks: Sequence[Picks], config: SelfTrainConfig) -> int:
    """Return how many such micrographs would hold picks enough in either half; 0 if these do."""
    fewer = _in_the_poorer_half(picks)
    if fewer >= config.fewest:
        return 0
    return 2 * math.ceil(_SPARE * len(picks) / 2 * config.fewest / max(1, fewer))


def too_little(picks: Sequence[Picks], config: SelfTrainConfig) -> str:
    """Return why these picks are too few to learn from; empty if they are enough."""
    number, fewer = sum(map(len, picks)), _in_the_poorer_half(picks)
    if fewer >= config.fewest:
        return ""
    if number < 2 * config.fewest:
        return f"{number:,} picks in {len(picks):,} micrographs are too few"
    return f"of {number:,} picks, one half of the {len(picks):,} micrographs holds {fewer:,}, too few to judge by"


def better(picks: Sequence[Picks], config: SelfTrainConfig) -> list[Picks]:
    """Return those of the picks that are taught in the first round."""
    scores = np.sort(np.concatenate([item.scores for item in picks]))[::-1]
    least = scores[max(0, math.ceil(config.sure * len(scores)) - 1)]
    return [item.where(item.scores >= least) for item in picks]


def doubtful(taught: Sequence[Picks], config: SelfTrainConfig) -> bool:
    """Return whether the better picks score so low that the start hardly knows these particles."""
    return bool(np.concatenate([item.scores for item in taught]).mean() < config.convincing)


def spread_of(
    model: Model, micrographs: Sequence[Micrograph], diameter: float, picks: Sequence[Picks]
) -> Float[np.ndarray, " n"]:
    """Return how far the contrast of all picks reaches; see `picking.spread`."""
    parts = []
    for index, some in enumerate(picks):
        if len(some) == 0:
            continue  # so its micrograph need not be read
        image, grid = prepare_image(micrographs[index], diameter, model.prepare)
        parts.append(spreads(image, grid.indices(some.positions), model.prepare.diameter_pixels))
    return np.concatenate(parts)


def compact(spread: Float[np.ndarray, " n"]) -> bool:
    """Return whether better picks, of which the start is not sure, look like contamination.

    Particles that are hard to recognise are faint, so that noise spreads their contrast; what is more compact than a
    filled disc of their diameter is easy to see, and should have been recognised.
    """
    return bool(np.median(spread) < 0)


def disagreement(agreement: float, config: SelfTrainConfig) -> str:
    """Return that the halves do not find each other's picks, after which nothing more is learnt; empty if they do."""
    if agreement < config.agreement:
        return f"the halves of the micrographs agree on {agreement:.0%} of the better picks only"
    return ""


def unlikely(picks: int, before: int, config: SelfTrainConfig) -> str:
    """Return that the number of picks after a round is implausible; empty if it is plausible."""
    if not config.fewer * before <= picks <= config.more * before:
        return f"{before:,} picks would become {picks:,}"
    return ""


def _in_the_poorer_half(picks: Sequence[Picks]) -> int:
    return min(sum(map(len, picks[half::2])) for half in (0, 1))
