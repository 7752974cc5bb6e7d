import dataclasses
import math

import pytest

from deeppicker import config
from deeppicker.errors import InputError

CONFIGS = [item for item in vars(config).values() if isinstance(item, type) and dataclasses.is_dataclass(item)]
UNUSABLE = [
    (kind, field.name, value)
    for kind in CONFIGS
    for field in dataclasses.fields(kind)
    for value in ((-1,) if field.type == "int" else (-1.0, -math.inf, math.nan) if field.type == "float" else ())
]


@pytest.mark.parametrize(("kind", "name", "value"), UNUSABLE)
def test_every_number_refuses_values_that_cannot_be_used_and_names_its_option(kind, name, value):
    with pytest.raises(InputError, match="--" + name.replace("_", "-")) as caught:
        kind(**{name: value})
    assert f"{value:g}" in str(caught.value)


@pytest.mark.parametrize("number", [0, -3])
def test_the_number_of_particles_to_keep_is_at_least_one(number: int):
    with pytest.raises(InputError, match=f"--num-particles {number} "):
        config.SelectConfig(num_particles=number)


def test_a_range_of_contrasts_is_not_upside_down():
    with pytest.raises(InputError, match="--min-contrast 2 is above --max-contrast 1"):
        config.SelectConfig(min_contrast=2.0, max_contrast=1.0)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.PickConfig().smooth = 1.0  # type: ignore[misc]
