"""Corrections are a log that nothing tears apart."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.core import Picks
from deeppicker.errors import InputError, OutputError
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


def test_no_flipped_byte_goes_unnoticed_and_it_harms_no_other_line(tmp_path: Path):
    log = EditLog(tmp_path / EDITS)
    for name in "abc":
        log.append(name, [put("one", 1.25, 2.5)], "tab")
    assert log.trouble == ""
    whole = (tmp_path / EDITS).read_bytes()
    second, third = (sum(map(len, whole.splitlines(keepends=True)[:number])) for number in (1, 2))
    marks = {name: log.of(name) for name in "abc"}
    for place in range(second, len(whole)):
        bad = bytearray(whole)
        bad[place] ^= 1 << place % 8
        (tmp_path / EDITS).write_bytes(bad)
        after = EditLog(tmp_path / EDITS)
        after.refresh()
        assert "torn or damaged" in after.trouble, (place, bytes(bad))
        assert "\n" not in after.trouble
        assert after.of("a") == marks["a"]
        if place >= third:
            assert (after.of("b"), after.of("c")) == (marks["b"], Marks())


def test_a_log_that_is_removed_or_replaced_meanwhile_is_read_anew_and_said_so(tmp_path: Path):
    log = EditLog(tmp_path / EDITS)
    log.append("a", [put("one")], "tab")
    other = EditLog(tmp_path / "other.jsonl")
    other.append("b", [put("two")], "tab")
    version = log.append("a", [put("more")], "tab")
    (tmp_path / "other.jsonl").replace(tmp_path / EDITS)
    log.refresh()
    assert "was replaced by another file" in log.trouble
    assert (log.of("a"), log.of("b").added) == (Marks(), {"two": (1.0, 2.0)})
    assert log.since(version) == ["a", "b"]  # so that a page takes up that all is gone
    (tmp_path / EDITS).unlink()
    log.refresh()
    assert "was removed" in log.trouble
    assert log.marked() == {}
    log.append("c", [put("new")], "tab")
    assert log.of("c").added == EditLog(tmp_path / EDITS).of("c").added == {"new": (1.0, 2.0)}


def test_a_log_that_cannot_be_read_is_said_so_and_is_tried_again(tmp_path: Path):
    log = EditLog(tmp_path / EDITS)
    (tmp_path / EDITS).mkdir()
    log.refresh()
    assert "cannot be read" in log.trouble
    with pytest.raises(OutputError, match="cannot be written"):
        log.append("a", [put("one")], "tab")
    (tmp_path / EDITS).rmdir()
    log.append("a", [put("one")], "tab")
    log.refresh()
    assert log.trouble == ""


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
