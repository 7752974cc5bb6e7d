"""Refuse unusable values, naming their option. Unset values (None) pass."""

from __future__ import annotations

import math

from deeppicker.errors import out_of_range


def within(config: object, **limits: tuple[int | float, int | float]) -> None:
    """Check that fields lie within limits, both inclusive; NaN fails.

    Raises
    ------
    InputError
        If one lies outside.
    """
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise out_of_range(name, value, f"{low:g} " + ("or more" if high == math.inf else f"to {high:g}"))


def positive(config: object, *names: str) -> None:
    """Check that fields are positive, finite numbers.

    Raises
    ------
    InputError
        If one is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise out_of_range(name, value, "a positive number")
