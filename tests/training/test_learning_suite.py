"""The simulated data sets on which self-training is measured."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _benchmarks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))


def test_every_set_has_a_name_of_its_own_and_settings_that_exist() -> None:
    from deeppicker.simulate import ice
    from deeppicker.simulate.config import SimulateConfig
    from deeppicker.simulate.contamination import KINDS
    from selftraining.suite import _SHARED, OWN, RECIPES

    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES) >= 40
    for recipe in RECIPES:
        assert SimulateConfig(**{**_SHARED, **recipe.settings})
        assert set(recipe.contaminants) <= {*OWN, *KINDS, *ice.KINDS}
