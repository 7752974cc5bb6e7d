"""Which candidates of a run become picks. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from deeppicker.config import CAUTION, SelectConfig
from deeppicker.core import Picks, micrograph_key
from deeppicker.picking.threshold import choose_threshold


def select(found: Mapping[str, Picks], config: SelectConfig, caution: float = CAUTION) -> dict[str, np.ndarray]:
    """Return which candidates of each micrograph become picks.

    Candidates reach the threshold and, if a number of particles is set, are among that many best of all
    micrographs; of equal scores that of the micrograph first in the alphabet, then the earlier candidate is kept.
    """
    threshold = threshold_of(found.values(), config, caution)
    keep = {name: picks.scores >= threshold for name, picks in found.items()}
    if config.num_particles is None or not keep:
        return keep
    names = sorted(found, key=micrograph_key)  # so that ties do not depend on the order of the micrographs
    ends = np.cumsum([len(found[name]) for name in names])
    scores = np.concatenate([found[name].scores for name in names])
    reached = np.concatenate([keep[name] for name in names])
    best = np.argsort(np.where(reached, -scores, np.inf), kind="stable")[: config.num_particles]
    among = np.zeros(len(scores), dtype=bool)
    among[best] = True
    return dict(zip(names, np.split(reached & among, ends[:-1]), strict=True))


def threshold_of(found: Iterable[Picks], config: SelectConfig, caution: float = CAUTION) -> float:
    """Return the threshold that is set, or the one that suits all these candidates best; see `choose_threshold`."""
    if config.threshold is not None:
        return config.threshold
    return choose_threshold(np.concatenate([np.zeros(0), *(picks.scores for picks in found)]), caution)
