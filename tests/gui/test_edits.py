"""Corrections are a log that nothing tears apart."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.gui.edits import ADDED, EDITS, REMOVED, EditLog, Marks


def put(name: str, x: float = 1.0, y: float = 2.0, kind: str = ADDED) -> dict[str, object]:
    return {"op": "put", "name": name, "kind": kind, "x": x, "y": y}


def drop(name: str) -> dict[str, object]:
    return {"op": "drop", "name": name}


def test_what_was_acknowledged_is_there_when_the_log_is_opened_again(tmp_path: Path):
    log = EditLog(tmp_path / EDITS)
    log.append("a", [put("one"), put("two", 3, 4, REMOVED)], "tab")
    log.append("a", [{"op": "complete", "value": True}], "tab")
    log.append("b", [put("one")], "tab")
    log.append("b", [drop("one")], "tab")
    again = EditLog(tmp_path / EDITS)
    assert again.of("a") == Marks({"one": (1.0, 2.0)}, {"two": (3.0, 4.0)}, True)
    assert again.of("b") == Marks() == again.of("c")
    assert again.size == log.size == (tmp_path / EDITS).stat().st_size


def test_a_line_torn_by_a_crash_is_passed_over_and_harms_no_other(tmp_path: Path):
    EditLog(tmp_path / EDITS).append("a", [put("one")], "tab")
    with (tmp_path / EDITS).open("ab") as file:
        file.write(b"[" * 100_000 + b"\n" + b'{"micrograph":"a","edits":[{"op":"put","na')
    log = EditLog(tmp_path / EDITS)
    assert log.of("a").added == {"one": (1.0, 2.0)}
    log.append("a", [put("two")], "tab")
    assert log.of("a").added == EditLog(tmp_path / EDITS).of("a").added == {"one": (1.0, 2.0), "two": (1.0, 2.0)}


def test_two_processes_see_what_the_other_writes_and_overwrite_nothing(tmp_path: Path):
    mine, theirs = EditLog(tmp_path / EDITS), EditLog(tmp_path / EDITS)
    before = mine.append("a", [put("mine")], "me")
    theirs.append("a", [put("theirs", 5, 6)], "they")
    mine.append("b", [put("mine")], "me")
    assert mine.of("a").added == {"mine": (1.0, 2.0), "theirs": (5.0, 6.0)}
    assert sorted(mine.since(before)) == ["a", "b"]
    assert mine.since(mine.size) == []


@given(st.lists(st.sampled_from("abc"), min_size=1), st.data())
def test_edits_of_different_picks_may_come_in_any_order_and_twice(names: list[str], data: st.DataObject):
    batches = [put(name) if data.draw(st.booleans()) else drop(name) for name in names]
    last = {edit["name"]: edit for edit in batches}
    straight, mixed = Marks(), Marks()
    for edit in batches:
        straight.apply(edit)
    for edit in data.draw(st.permutations(list(last.values()) * 2)):
        mixed.apply(edit)
    assert straight == mixed


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "put", "name": "a", "kind": "added", "x": float("nan"), "y": 1},
        {"op": "put", "name": "a", "kind": "added", "x": 1e9, "y": 1},
        {"op": "put", "name": "../a b", "kind": "added", "x": 1, "y": 1},
        {"op": "put", "name": "a", "kind": "other", "x": 1, "y": 1},
        {"op": "complete", "value": 1},
        {"op": "diameter", "value": -3},
        {"op": "format", "name": "c"},
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_with_its_whole_batch(tmp_path: Path, edit: dict[str, object]):
    log = EditLog(tmp_path / EDITS)
    with pytest.raises(InputError, match="an edit puts or drops"):
        log.append("a", [put("good"), edit], "tab")
    assert not (tmp_path / EDITS).exists()


def test_a_mark_hides_the_pick_that_it_is_about_also_after_a_new_run_moved_it_a_little():
    marks = Marks(added={"a": (10.0, 10.0)}, removed={"b": (50.0, 50.0)})
    picks = Picks("m", np.array([[12.0, 10.0], [50.0, 53.0], [30.0, 30.0]]), np.array([0.9, 0.8, 0.7]))
    assert marks.hides(picks, 5.0).tolist() == [True, True, False]
    assert marks.hides(picks, 1.0).tolist() == [False, False, False]


def test_the_diameter_measured_last_counts(tmp_path: Path):
    log = EditLog(tmp_path / EDITS)
    assert log.diameter is None
    for value in (120, 131.5):
        log.append("a", [{"op": "diameter", "value": value}], "tab")
    assert EditLog(tmp_path / EDITS).diameter == 131.5
    lines = (tmp_path / EDITS).read_text().splitlines()
    assert json.loads(lines[0])["edits"] == [{"op": "diameter", "value": 120.0}]
