"""Coordinates that other programs count from another corner, or along the other axis first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import InputError
from deeppicker.formats.inputs import size_of
from deeppicker.formats.text import one_line


@dataclass(frozen=True)
class Orientation:
    """What must be done to coordinates: first x and y are exchanged, then each may be counted from the other end."""

    swap_xy: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, positions: Float[np.ndarray, "n 2"], shape: tuple[int, ...]) -> Float[np.ndarray, "n 2"]:
        """Return the positions in an image of ``shape`` (height, width)."""
        x, y = positions.T[::-1] if self.swap_xy else positions.T
        x = shape[1] - 1 - x if self.flip_x else x
        y = shape[0] - 1 - y if self.flip_y else y
        return np.stack([x, y], axis=1)

    @property
    def options(self) -> str:
        """The options of `deeppicker convert` that do it; empty if there is nothing to do."""
        given = {"--swap-xy": self.swap_xy, "--flip-x": self.flip_x, "--flip-y": self.flip_y}
        return " ".join(option for option, wanted in given.items() if wanted)


ORIENTATIONS = tuple(Orientation(*(bool(code & bit) for bit in (4, 2, 1))) for code in range(8))
"""All eight, the first as the coordinates are."""


def turned(picks: Picks, orientation: Orientation, entry: MicrographEntry | None) -> Picks:
    """Return picks whose coordinates are exchanged and counted anew.

    Parameters
    ----------
    picks : Picks
        As their file gives them.
    orientation : Orientation
        What must be done.
    entry : MicrographEntry or None
        The micrograph, whose size a flip needs.

    Raises
    ------
    InputError
        If a flip needs a size that is not known, or that cannot be read.
    """
    shape = (0, 0)
    if orientation.flip_x or orientation.flip_y:
        if entry is None:
            option, side = ("--flip-x", "width") if orientation.flip_x else ("--flip-y", "height")
            raise InputError(
                one_line(f"{option} needs the {side} of {picks.micrograph}, which --micrographs does not hold; add it")
            )
        size = size_of(entry)
        shape = (size.height, size.width)
    return replace(picks, positions=orientation.apply(picks.positions, shape))
