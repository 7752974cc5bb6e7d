"""Values that cannot be used are refused, naming their option."""

import math
from dataclasses import dataclass

import pytest

from deeppicker.config.limits import positive, within
from deeppicker.errors import InputError


@dataclass(frozen=True)
class Setting:
    pixel_size: float | None


@pytest.mark.parametrize("value", [0, -1.5, math.nan, math.inf])
def test_what_is_no_positive_number_is_refused(value: float):
    with pytest.raises(InputError, match=rf"^--pixel-size {value:g} is out of range; choose a positive number$"):
        positive(Setting(value), "pixel_size")


@pytest.mark.parametrize("value", [0.4, 3.1, math.nan])
def test_what_lies_outside_of_its_limits_is_refused(value: float):
    with pytest.raises(InputError, match=rf"^--pixel-size {value:g} is out of range; choose 0.5 to 3$"):
        within(Setting(value), pixel_size=(0.5, 3))


def test_limits_are_inclusive_and_what_is_not_set_is_not_judged():
    for value in (None, 0.5, 3):
        assert within(Setting(value), pixel_size=(0.5, 3)) is None
        assert positive(Setting(value), "pixel_size") is None
