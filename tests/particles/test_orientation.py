"""The check of orientations: on synthetic scenes, and on real micrographs with flipped copies of their particles."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import deeppicker.particles.orientation as orientation_module
import scenes
from deeppicker.cli.main import main
from deeppicker.core import Micrograph, Picks
from deeppicker.formats import find_micrographs, read_micrograph, read_picks, write_picks
from deeppicker.formats.orientation import ORIENTATIONS, Orientation
from deeppicker.formats.recorded import Recorded
from deeppicker.particles.orientation import Verdict, judge, profiles, ring_maps

SETS = ("apoferritin-10146", "trpv1-10059", "ribosome-10028")


@cache
def scene(seed: int) -> scenes.Scene:
    return scenes.scene(seed, number=24)


def inverse(orientation: Orientation) -> Orientation:
    """What brings coordinates back to which an orientation was applied."""
    if not orientation.swap_xy:
        return orientation
    return replace(orientation, flip_x=orientation.flip_y, flip_y=orientation.flip_x)


def seen_as(orientation: Orientation, positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return coordinates that ``orientation`` puts right."""
    turned = shape[::-1] if orientation.swap_xy else shape
    return inverse(orientation).apply(positions, turned)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_orientation_is_undone_by_its_inverse_in_images_that_are_not_square(orientation: Orientation):
    positions = np.array([[3.5, 10.0], [300.0, 0.0]])
    back = orientation.apply(seen_as(orientation, positions, (230, 310)), (230, 310))
    np.testing.assert_array_equal(back, positions)


def test_the_eight_orientations_are_different_and_the_first_does_nothing():
    positions = np.array([[3.0, 10.0]])
    found = {tuple(orientation.apply(positions, (230, 310))[0]) for orientation in ORIENTATIONS}
    assert len(found) == 8
    np.testing.assert_array_equal(ORIENTATIONS[0].apply(positions, (230, 310)), positions)
    assert ORIENTATIONS[0].options == ""


def verdict_on(*turned: tuple[scenes.Scene, np.ndarray], diameter: float = scenes.DIAMETER) -> Verdict:
    rng = np.random.default_rng(0)
    return judge([profiles(item.micrograph, positions, diameter, rng) for item, positions in turned])


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: o.options or "right")
def test_each_orientation_is_recognised(orientation: Orientation):
    item = scene(1)
    verdict = verdict_on((item, seen_as(orientation, item.positions, item.micrograph.image.shape)))
    assert ORIENTATIONS[verdict.best] == orientation
    assert verdict.certain
    assert verdict.wrong == (orientation != ORIENTATIONS[0])


def test_bright_particles_and_a_diameter_that_is_somewhat_wrong_change_nothing():
    item = scene(2)
    bright = replace(item, micrograph=item.micrograph.inverted())
    flipped = seen_as(ORIENTATIONS[1], item.positions, item.micrograph.image.shape)
    for factor in (0.8, 1.0, 1.33):
        for one in (item, bright):
            assert not verdict_on((one, one.positions), diameter=factor * scenes.DIAMETER).wrong
            assert verdict_on((one, flipped), diameter=factor * scenes.DIAMETER).wrong


@cache
def shells() -> tuple[tuple[Micrograph, np.ndarray], ...]:
    """Return square micrographs of six hollow spheres each, whose middle is as grey as the ice, and where these are."""
    made = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        spots = rng.permutation(9)[:6]
        centres = np.stack([spots % 3, spots // 3], axis=1) * 80 + 50 + rng.uniform(-8, 8, (6, 2))
        y, x = np.indices((256, 256))
        image = 0.6 * rng.normal(size=(256, 256))
        for across, down in centres:
            square = np.clip(36**2 - (x - across) ** 2 - (y - down) ** 2, 0, None)
            inner = np.clip(28**2 - (x - across) ** 2 - (y - down) ** 2, 0, None)
            image -= (np.sqrt(square) - np.sqrt(inner)) / 14
        made.append((Micrograph(f"{seed}.mrc", image.astype(np.float32), 4.0), centres))
    return tuple(made)


def verdict_on_shells(orientation: Orientation, diameter: float) -> Verdict:
    rng = np.random.default_rng(0)
    return judge([profiles(one, seen_as(orientation, at, (256, 256)), diameter, rng) for one, at in shells()])


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.33])
def test_large_hollow_particles_in_small_square_micrographs_are_recognised(factor: float):
    for orientation in ORIENTATIONS:
        verdict = verdict_on_shells(orientation, factor * 288)
        assert ORIENTATIONS[verdict.best] == orientation
        assert verdict.wrong == (orientation != ORIENTATIONS[0])
        assert verdict.right == (orientation == ORIENTATIONS[0])


def test_symmetric_coordinates_cannot_be_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(1)
    half = np.stack([np.tile([40.0, 100.0, 160.0, 220.0, 280.0], 3), np.repeat([30.0, 75.0, 100.0], 5)], axis=1)
    positions = np.concatenate([half, np.stack([half[:, 0], 229 - half[:, 1]], axis=1)])
    y, x = np.indices((230, 310))
    image = rng.normal(size=(230, 310))
    for across, down in positions:
        image[np.hypot(x - across, y - down) < 9] -= 2
    scenes.write_mrc(tmp_path / "mics" / "a.mrc", image.astype(np.float32))
    write_picks(tmp_path / "a.csv", [Picks.unscored("a", positions)])
    words = ["--micrographs", str(tmp_path / "mics"), "--diameter", str(18 * scenes.PIXEL_SIZE)]
    assert main(["check", str(tmp_path / "a.csv"), *words]) == 3
    shown = capsys.readouterr().out
    assert "cannot tell apart: as they are and --flip-y" in shown
    assert "the orientation is right" not in shown


def test_random_positions_cannot_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scenes.write_mrc(tmp_path / "mics" / "a.mrc", scene(4).micrograph.image)
    positions = np.random.default_rng(8).uniform((0, 0), (310, 230), (30, 2))
    write_picks(tmp_path / "a.csv", [Picks.unscored("a", positions)])
    assert main(["check", str(tmp_path / "a.csv"), "--micrographs", str(tmp_path / "mics"), "--diameter", "72"]) == 3
    assert "cannot tell: no orientation" in capsys.readouterr().out


def test_random_positions_never_raise_an_alarm():
    rng = np.random.default_rng(3)
    for seed in range(20):
        item = scene(seed)
        verdict = verdict_on((item, rng.uniform((0, 0), (310, 230), (30, 2))))
        assert not verdict.wrong


def test_picks_that_are_few_or_outside_of_the_image_tell_nothing():
    item = scene(1)
    few = verdict_on((item, seen_as(ORIENTATIONS[1], item.positions[:10], (230, 310))))
    assert not few.wrong
    assert not few.certain
    away = verdict_on((item, np.full((40, 2), 5000.0)))
    assert not away.wrong
    np.testing.assert_array_equal(away.outside, 1)
    assert not verdict_on((item, np.zeros((1, 2)))).certain


def test_the_command_tells_how_to_put_coordinates_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    item = scene(4)
    scenes.write_mrc(tmp_path / "mics" / "a.mrc", item.micrograph.image)
    wrong = seen_as(Orientation(True, True, False), item.positions, item.micrograph.image.shape)
    write_picks(tmp_path / "wrong.csv", [Picks.unscored("a", wrong)])
    where = ["--micrographs", str(tmp_path / "mics")]
    words = [*where, "--diameter", str(scenes.DIAMETER)]
    assert main(["check", str(tmp_path / "wrong.csv"), *words]) == 1
    shown = capsys.readouterr().out
    assert "deeppicker convert --swap-xy --flip-x --micrographs" in shown
    right = str(tmp_path / "right.csv")
    assert main(["convert", str(tmp_path / "wrong.csv"), right, "--swap-xy", "--flip-x", *where]) == 0
    np.testing.assert_allclose(read_picks(right)[0].positions, item.positions)
    assert main(["check", right, *words]) == 0
    assert "the orientation is right (24 picks in 1 micrographs)" in capsys.readouterr().out


def test_coordinates_of_other_micrographs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scenes.write_mrc(tmp_path / "mics" / "a.mrc", scene(4).micrograph.image)
    write_picks(tmp_path / "b.csv", [Picks.unscored("b", scene(4).positions)])
    assert main(["check", str(tmp_path / "b.csv"), "--micrographs", str(tmp_path / "mics"), "--diameter", "72"]) == 2
    assert "compare the names" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_all_eight_are_detected_on_real_micrographs_each_by_itself_without_a_false_alarm(
    data_root: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    star = data_root / "real" / name / "particles.star"
    entries = {entry.name: entry for entry in find_micrographs([str(star)])}
    diameter = Recorded(star).diameter
    assert diameter is not None
    for picks in read_picks(star):
        entry = entries[picks.micrograph]
        micrograph = read_micrograph(entry.path, pixel_size=entry.pixel_size)
        seen = ring_maps(micrograph.image, float(diameter) / micrograph.pixel_size)
        monkeypatch.setattr(orientation_module, "ring_maps", lambda *_, seen=seen: seen)  # once, not eight times
        for orientation in ORIENTATIONS:
            positions = seen_as(orientation, picks.positions, micrograph.image.shape)
            verdict = judge([profiles(micrograph, positions, float(diameter), np.random.default_rng(0))])
            assert ORIENTATIONS[verdict.best] == orientation, picks.micrograph
            assert verdict.wrong == (orientation != ORIENTATIONS[0]), picks.micrograph
