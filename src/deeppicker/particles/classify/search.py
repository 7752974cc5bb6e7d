"""How many classes, and how finely is compared: from the number of picks, unless it is given. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeppicker.config import ClassifyConfig

_MEMBERS = 40  # picks for each class ...
_CLASSES = (2, 50)  # ... between these numbers of classes
_RINGS = (12, 18)  # an eighth to a twelfth of the diameter; the work grows with the fifth power ...
_PICKS = 4000  # ... so that fewer picks than these are compared more finely in the same time
_ROTATIONS = 3  # for each ring: neighbours differ by two thirds of a wave at the rim of the particle
_SHIFT_STEP = 0.56  # likewise, in diameters times rings


@dataclass(frozen=True, kw_only=True)
class Search:
    """The grid of one comparison.

    Parameters
    ----------
    rings : int
        Highest frequency, in 1/window.
    rotations : int
        Number of them.
    shift, shift_step : float
        Largest shift and distance of two, in particle diameters.
    """

    rings: int
    rotations: int
    shift: float
    shift_step: float

    def coarser(self, rings: int) -> Search:
        """Return what suits lower frequencies."""
        part = rings / self.rings
        return Search(
            rings=rings,
            rotations=max(4, round(self.rotations * part)),
            shift=self.shift,
            shift_step=min(self.shift_step / part, max(self.shift, self.shift_step)),
        )


def number_of_classes(config: ClassifyConfig, picks: int) -> int:
    """Return the number of classes for so many picks."""
    return int(np.clip(picks // _MEMBERS, *_CLASSES)) if config.classes is None else config.classes


def search_for(config: ClassifyConfig, picks: int) -> Search:
    """Return the finest grid for so many picks."""
    rings = config.rings
    if rings is None:
        rings = min(int(np.clip(round(_RINGS[0] * (_PICKS / max(picks, 1)) ** 0.2), *_RINGS)), config.side // 2 - 2)
    return Search(
        rings=rings,
        rotations=_ROTATIONS * rings if config.rotations is None else config.rotations,
        shift=config.shift,
        shift_step=_SHIFT_STEP / rings if config.shift_step is None else config.shift_step,
    )
