"""What a run or a data set recorded beside coordinates."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeppicker.config import SelectConfig
from deeppicker.core import Picks
from deeppicker.errors import FormatError
from deeppicker.formats.recorded import Recorded
from deeppicker.runs.folder import RunFolder


def beside(folder: Path, **files: str) -> Recorded:
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return Recorded(folder / "picks.star")


def run_of(folder: Path, select: SelectConfig) -> Recorded:
    opened = RunFolder(folder, {"diameter": 150.0}, select)
    opened.store(
        Picks("a.mrc", np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([0.9, 0.2]), np.array([0.6, 0.1])), 1.0
    )
    opened.finish([])
    return Recorded(folder)


def test_nothing_recorded_is_none(tmp_path: Path):
    found = Recorded(tmp_path)
    assert (found.diameter, found.pixel_size, found.threshold, found.invert) == (None, None, None, False)


def test_the_diameter_of_the_run_counts_more_than_the_data_sets(tmp_path: Path):
    assert beside(tmp_path, dataset='{"particle_diameter_angstrom": 80}').diameter == 80.0
    assert beside(tmp_path, run='{"diameter": 99}').diameter == Recorded(tmp_path).diameter == 99.0


@pytest.mark.parametrize("text", ["{}", "[3]", '{"diameter": null}'])
def test_a_run_without_diameter_is_passed_over(tmp_path: Path, text: str):
    assert beside(tmp_path, run=text, dataset='{"particle_diameter_angstrom": 80}').diameter == 80.0


@pytest.mark.parametrize(
    "text", ["", "{", '{"diameter": "wide"}', '{"diameter": [3]}', '{"diameter": 0}', '{"diameter": NaN}']
)
def test_a_broken_record_names_the_file_and_the_option(tmp_path: Path, text: str):
    with pytest.raises(FormatError, match=r"run.json.*--diameter") as caught:
        _ = beside(tmp_path, run=text).diameter
    assert "\n" not in str(caught.value)


def test_pixel_size_and_contrast_are_those_of_the_run(tmp_path: Path):
    found = beside(tmp_path, run='{"pixel_size": 4.5, "invert": true}')
    assert (found.pixel_size, found.invert) == (4.5, True)


@pytest.mark.parametrize("select", [SelectConfig(threshold=0.6), SelectConfig(threshold=None)])
def test_the_threshold_is_the_one_by_which_the_picks_were_chosen(tmp_path: Path, select: SelectConfig):
    found = run_of(tmp_path, select)
    assert found.threshold == json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["threshold"]
    assert 0.2 < found.threshold <= 0.9


def test_a_number_of_picks_or_an_unfinished_selection_has_no_threshold(tmp_path: Path):
    assert run_of(tmp_path, SelectConfig(num_particles=1)).threshold is None
    assert run_of(tmp_path / "filtered", SelectConfig(min_contrast=0.1)).threshold is None
    assert beside(tmp_path, run='{"select": null, "threshold": 0.5}').threshold is None
    with pytest.raises(FormatError, match=r"run.json.*'high'"):
        _ = beside(tmp_path, run='{"select": {"num_particles": null}, "threshold": "high"}').threshold
