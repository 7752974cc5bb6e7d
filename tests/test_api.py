"""What comes after picking, from Python; and that the tests call every public name."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import deeppicker as dp
import scenes

TESTS = Path(__file__).parent
GIVEN = {"DeepPickerError", "Model"}  # which the program makes, and its users take


def test_every_public_name_is_called_in_the_tests():
    used: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                used.add(name)
    assert set(dp.__all__) - GIVEN - used == set()


def test_picks_are_classified_without_files_and_each_pick_has_its_class():
    torch.set_num_threads(1)
    made = [scenes.scene(seed, f"mic{seed}.mrc", number=24) for seed in range(2)]
    picks = [dp.Picks(item.micrograph.name, item.positions, np.ones(len(item.positions))) for item in made]
    config = dp.ClassifyConfig(classes=3, iterations=3, rotations=12)
    known = {picks[0].key: dp.Ctf(defocus_u=1.2, defocus_v=1.2)}
    report = dp.classify_particles([item.micrograph for item in made], picks, scenes.DIAMETER, config, known)
    number = sum(map(len, picks))
    assert report.averages.shape == (3, config.side, config.side)
    assert np.isfinite(report.averages).all()
    assert len(report.label) == number
    assert set(report.label.tolist()) <= {0, 1, 2}
    assert report.members.sum() == number
    assert [item.micrograph for item in report.picks] == ["mic0.mrc", "mic1.mrc"]
    again = dp.classify_particles((item.micrograph for item in made), picks, scenes.DIAMETER, config, known)
    assert np.array_equal(again.averages, report.averages)


def test_flipped_picks_are_told_from_right_ones():
    item = scenes.scene(1, number=24)
    height = item.micrograph.image.shape[0]
    flipped = np.column_stack([item.positions[:, 0], height - 1 - item.positions[:, 1]])
    right, wrong = (dp.Picks.unscored("a.mrc", positions) for positions in (item.positions, flipped))
    verdict = dp.check_orientation([item.micrograph], [right], scenes.DIAMETER)
    assert (verdict.right, verdict.wrong, verdict.certain) == (True, False, True)
    verdict = dp.check_orientation(iter([item.micrograph]), iter([wrong]), scenes.DIAMETER, seed=3)
    assert (verdict.right, verdict.wrong, verdict.certain) == (False, True, True)


def test_the_range_of_a_search_for_defocus_is_kept():
    image = np.random.default_rng(1).normal(size=(400, 500)).astype(np.float32)
    config = dp.CtfConfig(defocus=(1.0, 1.4))
    found = dp.estimate_ctf(dp.Micrograph("noise.mrc", image, 1.5), dp.Microscope(), config)
    assert 0.9 < found.defocus < 1.5
    with pytest.raises(dp.DeepPickerError, match="not a range of underfocus"):
        dp.CtfConfig(defocus=(2.0, 1.0))
