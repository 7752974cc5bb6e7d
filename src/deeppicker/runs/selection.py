"""Which candidates of a run become picks. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from deeppicker.config import CAUTION, SelectConfig
from deeppicker.core import Picks, micrograph_key
from deeppicker.errors import InputError
from deeppicker.formats.text import one_line
from deeppicker.picking.threshold import choose_threshold

LOW, HIGH = "low contrast", "high contrast"
"""Why a filter keeps a candidate out."""


@dataclass(frozen=True)
class Scores:
    """Candidates of a micrograph without their places; see `Picks`."""

    micrograph: str
    scores: Float[np.ndarray, " n"]
    contrast: Float[np.ndarray, " n"] | None


Scored = Picks | Scores


def select(found: Mapping[str, Scored], config: SelectConfig, caution: float = CAUTION) -> dict[str, np.ndarray]:
    """Return which candidates of each micrograph become picks.

    Candidates reach the threshold, pass the filters and, if a number of particles is set, are among that many best of
    all micrographs; of equal scores that of the micrograph first in the alphabet, then the earlier candidate is kept.
    """
    threshold = threshold_of(found.values(), config, caution)
    keep = {name: chosen(picks, config, threshold) for name, picks in found.items()}
    if config.num_particles is None or not keep:
        return keep
    names = sorted(found, key=micrograph_key)  # so that ties do not depend on the order of the micrographs
    ends = np.cumsum([len(found[name].scores) for name in names])
    scores = np.concatenate([found[name].scores for name in names])
    reached = np.concatenate([keep[name] for name in names])
    best = np.argsort(np.where(reached, -scores, np.inf), kind="stable")[: config.num_particles]
    among = np.zeros(len(scores), dtype=bool)
    among[best] = True
    return dict(zip(names, np.split(reached & among, ends[:-1]), strict=True))


def threshold_of(found: Iterable[Scored], config: SelectConfig, caution: float = CAUTION) -> float:
    """Return the threshold that is set, or the one that suits all candidates that pass the filters best.

    See `choose_threshold`.
    """
    if config.threshold is not None:
        return config.threshold
    passed = [picks.scores[passing(picks, config)] for picks in found]
    return choose_threshold(np.concatenate([np.zeros(0), *passed]), caution)


def chosen(found: Scored, config: SelectConfig, threshold: float) -> Bool[np.ndarray, " n"]:
    """Return which candidates of a micrograph reach a threshold and pass the filters."""
    return np.asarray((found.scores >= threshold) & passing(found, config))


def passing(found: Scored, config: SelectConfig) -> Bool[np.ndarray, " n"]:
    """Return which candidates no filter keeps out."""
    return np.asarray(~np.any(list(kept_out(found, config).values()), axis=0))


def kept_out(found: Scored, config: SelectConfig) -> dict[str, Bool[np.ndarray, " n"]]:
    """Return for each reason which candidates a filter keeps out.

    Raises
    ------
    InputError
        If there is a filter, and what it looks at was not measured.
    """
    if config.filtered and found.contrast is None:
        raise InputError(
            one_line(
                f"contrast of the candidates in {found.micrograph} was not measured; leave out --min-contrast and "
                "--max-contrast, or set --overwrite to pick again"
            )
        )
    contrast = np.zeros(len(found.scores)) if found.contrast is None else found.contrast
    low, high = config.min_contrast, config.max_contrast
    return {
        LOW: contrast < (-np.inf if low is None else low),
        HIGH: contrast > (np.inf if high is None else high),
    }


def reasons(found: Scored, config: SelectConfig, threshold: float) -> np.ndarray:
    """Return of each candidate that reaches a threshold why a filter keeps it out; nothing of the others."""
    why = np.full(len(found.scores), "", dtype=object)
    for reason, failed in kept_out(found, config).items():
        why[failed & (found.scores >= threshold)] = reason
    return why
