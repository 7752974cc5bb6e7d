"""Refuse values that cannot be used, naming their option."""

from __future__ import annotations

import math

from deeppicker.errors import InputError


def within(config: object, **limits: tuple[int | float, int | float]) -> None:
    """Check that fields lie within limits, both inclusive; NaN does not."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            option = name.replace("_", "-")
            upper = "or more" if high == math.inf else f"to {high:g}"
            raise InputError(f"--{option} {value:g} is out of range; choose {low:g} {upper}")
