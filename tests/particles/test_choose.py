"""Classes chosen by hand in a finished folder."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeppicker.cli.main import main
from deeppicker.core import Picks
from deeppicker.errors import FormatError, InputError
from deeppicker.formats import read_picks
from deeppicker.particles.classify.files import choose_classes, read, write
from deeppicker.particles.classify.results import Quality, Report

SETTINGS = {"made_by": "deeppicker classify", "diameter": 150.0, "invert": False, "pixel_size": None}
OUTLIER = 5  # a pick of class 1 that agrees far too well


def report_of_five() -> Report:
    """Return five classes, the first two of them good and the last one empty, of 40 picks in two micrographs."""
    rng = np.random.default_rng(1)
    label = np.tile([0, 1, 2, 3], 10)
    strength = rng.uniform(2.0, 2.4, 40).round(4)
    strength[4 * OUTLIER] = 9.0
    good = np.array([True, True, False, False, False])
    values = [np.array([0.98, 0.71, 0.31, 0.02, 0.0]) for _ in range(9)]
    picks = [
        Picks("Micrographs/a.mrc", rng.uniform(0, 900, (25, 2)), rng.uniform(0, 1, 25)),
        Picks.unscored("Micrographs/b, of two.mrc", rng.uniform(0, 900, (15, 2))),
    ]
    return Report(
        averages=rng.normal(size=(5, 32, 32)).astype(np.float32),
        members=np.array([10, 10, 10, 10, 0]),
        quality=Quality(*values, limited=np.array([True, False, False, False, True])),
        good=good,
        chosen=good,
        pixel_size=3.5,
        picks=picks,
        label=label,
        angle=rng.uniform(0, 360, 40).round(2),
        shift=rng.uniform(-9, 9, (40, 2)).round(2),
        probability=rng.uniform(0, 1, 40).round(3),
        strength=strength,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "classes", report_of_five(), SETTINGS, (), kept=False)
    return tmp_path / "classes"


def positions_of(labels: set[int]) -> np.ndarray:
    report = report_of_five()
    everything = np.concatenate([item.positions for item in report.picks])
    wanted = np.isin(report.label + 1, list(labels)) & (np.arange(40) != 4 * OUTLIER)
    return everything[wanted]


def kept_positions(folder: Path) -> np.ndarray:
    return np.concatenate([item.positions for item in read_picks(folder / "kept")])


def test_a_folder_is_read_as_it_was_written(folder: Path):
    before, after = report_of_five(), read(folder)
    for name in ("averages", "members", "good", "chosen", "label", "angle", "shift", "probability", "strength", "kept"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name
    assert all(
        np.array_equal(getattr(before.quality, name), getattr(after.quality, name))
        for name in Quality.__dataclass_fields__
    )
    for one, other in zip(before.picks, after.picks, strict=True):
        assert one.micrograph == other.micrograph
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.scores, other.scores, equal_nan=True)


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (["--keep", "1,3"], {1, 3}),
        (["--keep", "2-4"], {2, 3, 4}),
        (["--drop", "1"], {2}),
        (["--keep", "1-4", "--drop", "2,4"], {1, 3}),
        (["--keep", "1,2,5"], {1, 2}),  # the fifth is empty
    ],
)
def test_the_picks_of_the_classes_chosen_are_kept_without_outliers(folder: Path, words: list[str], classes: set[int]):
    assert main(["classify", "--output", str(folder), *words]) == 0
    assert np.allclose(kept_positions(folder), positions_of(classes), atol=0.005)
    with (folder / "particles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["class"]) for row in rows if row["kept"] == "yes"} == classes
    assert json.loads((folder / "kept" / "run.json").read_text()) == SETTINGS


def test_the_last_choice_counts_and_the_judgement_stays(folder: Path):
    choose_classes(folder, keep=[4])
    (folder / "notes.txt").write_text("mine")
    report = choose_classes(folder, drop=[2])
    assert np.flatnonzero(report.chosen).tolist() == [0]
    assert np.array_equal(read(folder).good, report_of_five().good)
    assert np.allclose(kept_positions(folder), positions_of({1}), atol=0.005)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["classes.csv", "classes.mrcs", "classes.png", "particles.csv", "run.json", "kept", "notes.txt"]
    )


def test_the_picture_shows_what_is_kept(folder: Path):
    def reds() -> int:
        pixels = np.asarray(Image.open(folder / "classes.png")).astype(int)
        return int((pixels[..., 0] > pixels[..., 1] + 60).sum())

    choose_classes(folder, keep=[1, 2, 3, 4, 5])
    none = reds()
    choose_classes(folder, keep=[1])
    assert none == 0 < reds()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--keep", "6"], "--keep 6 is no class; their numbers are 1 to 5"),
        (["--drop", "0"], "--drop 0 is no class"),
        (["--keep", "one"], "--keep one is no list of classes"),
        (["--keep", "1-"], "--keep 1- is no list of classes"),
        (["--keep", "5"], "no pick would be left"),
        (["--drop", "1,2"], "no pick would be left"),
        (["--keep", "1", "--picks", "picks"], "give neither --picks nor --reject"),
    ],
)
def test_a_choice_that_cannot_be_made_changes_nothing(
    folder: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["classify", "--output", str(folder), *words]) == 2
    assert reason in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_another_folder_is_refused(tmp_path: Path, folder: Path):
    with pytest.raises(InputError, match="give a finished folder of deeppicker classify"):
        choose_classes(tmp_path, keep=[1])
    table = (folder / "particles.csv").read_text().replace("class", "klass", 1)
    (folder / "particles.csv").write_text(table)
    with pytest.raises(FormatError, match="cannot be read as classes"):
        choose_classes(folder, keep=[1])


def test_picks_are_needed_to_classify(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["classify", "--output", str(tmp_path / "classes")]) == 2
    assert "--picks must be given" in capsys.readouterr().err


def test_all_members_of_a_class_chosen_by_hand_may_agree_alike():
    report = replace(report_of_five(), strength=np.full(40, 2.0))
    assert report.choosing([3], ()).kept.sum() == 10


def test_choosing_needs_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("deeppicker.particles.classify")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["classify", "--output", str(folder), "--keep", "3"]) == 0
