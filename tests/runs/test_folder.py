"""The output folder: completed whatever stopped a run, selected anew without scoring."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeppicker.config import SelectConfig
from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import InputError, OutputError
from deeppicker.formats import read_picks
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.formats.relion import star
from deeppicker.runs import folder as runs
from deeppicker.runs import results, state
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.results import CANDIDATES, PICKS, RECORD, Results
from deeppicker.runs.selection import reasons, select, threshold_of
from scenes import files_of

SETTINGS = {"diameter": 120.0, "weights": "abc", "steps": {"score": {"step": 4}, "window": (1, 2)}}
NAMES = ["mics/a.mrc", "mics/b.1.mrc", "mics/c.mrc"]


def found_in(name: str) -> Picks:
    """Return what scoring would find in a micrograph; the last has equal scores and one has no candidates above 0.9."""
    rng = np.random.default_rng(NAMES.index(name))
    number = 6 + NAMES.index(name)
    scores = rng.choice([0.05, 0.2, 0.6, 0.7, 0.85], number) + 1e-9 * rng.integers(0, 3, number)
    positions, contrast = rng.uniform(0, 500, (number, 2)), rng.uniform(-0.2, 1.0, number).round(3)
    return Picks(name, positions, scores, contrast).sorted()


def run(
    folder: Path,
    selection: SelectConfig = SelectConfig(threshold=0.5),
    names: list[str] = NAMES,
    *,
    overwrite: bool = False,
) -> RunFolder:
    """Do what `deeppicker pick` does, without scoring."""
    opened = RunFolder(folder, SETTINGS, selection, overwrite=overwrite)
    try:
        for name in names:
            if not opened.is_done(name):
                opened.store(found_in(name), 1.25)
    finally:
        opened.finish(names)
    return opened


def without_times(files: dict[str, bytes]) -> dict[str, object]:
    table = csv.DictReader(files["summary.csv"].decode().splitlines())
    records = {
        name: json.loads(text) | {"seconds": 0, "checksum": ""}
        for name, text in files.items()
        if name.startswith("records/")
    }
    return {**files, **records, "summary.csv": [{k: v for k, v in row.items() if k != "seconds"} for row in table]}


def test_a_run_leaves_exactly_these_files(tmp_path: Path):
    run(tmp_path / "out")
    assert set(files_of(tmp_path / "out")) == {
        "run.json",
        "summary.csv",
        "autopick.star",
        "a_autopick.star",
        "b.1_autopick.star",
        "c_autopick.star",
        "candidates/a_candidates.star",
        "candidates/b.1_candidates.star",
        "candidates/c_candidates.star",
        "records/a.json",
        "records/b.1.json",
        "records/c.json",
    }


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.7, 0.99])
def test_picks_are_the_candidates_that_reach_the_threshold(tmp_path: Path, threshold: float):
    assert any(0.7 in found_in(name).scores for name in NAMES)  # exactly at a threshold
    opened = run(tmp_path, SelectConfig(threshold=threshold))
    for name in NAMES:
        expected = found_in(name)
        chosen = expected.scores >= threshold
        picks = star.read(opened.results.file(PICKS, name))[0]
        every = star.read(opened.results.file(CANDIDATES, name))[0]
        np.testing.assert_array_equal(picks.positions, expected.positions[chosen])
        np.testing.assert_array_equal(picks.scores[: chosen.sum()], expected.scores[chosen])
        np.testing.assert_array_equal(every.positions, expected.positions)
        np.testing.assert_array_equal(opened.results.read(name).contrast, expected.contrast)


def test_the_list_for_relion_names_each_micrograph_and_its_file(tmp_path: Path):
    run(tmp_path / "out")
    picks = read_picks(tmp_path / "out" / "autopick.star")
    assert [item.micrograph for item in picks] == NAMES
    for item in picks:
        expected = found_in(item.micrograph)
        np.testing.assert_array_equal(item.positions, expected.positions[expected.scores >= 0.5])
    text = (tmp_path / "out" / "autopick.star").read_text(encoding="utf-8")
    assert "data_coordinate_files" in text
    assert str(tmp_path / "out" / "b.1_autopick.star") in text


def test_the_summary_has_a_row_for_each_micrograph(tmp_path: Path):
    opened = RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))
    opened.store(found_in(NAMES[0]), 1.25)
    opened.fail(NAMES[1], 'mics/b.1.mrc is cut short, "again"', 0.5)
    opened.finish(NAMES)
    with (tmp_path / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = found_in(NAMES[0]).scores
    chosen = int((scores >= 0.5).sum())
    assert [row["micrograph"] for row in rows] == NAMES[:2]
    assert rows[0] == {
        "micrograph": NAMES[0],
        "picks": str(chosen),
        "candidates": str(6 - chosen),
        "right": f"{scores[scores >= 0.5].sum():.2f}",
        "particles": f"{scores.sum():.2f}",
        "seconds": "1.25",
        "error": "",
    }
    assert rows[1]["error"] == 'mics/b.1.mrc is cut short, "again"'
    assert [item.micrograph for item in read_picks(tmp_path / "autopick.star")] == NAMES[:1]


def test_what_is_done_is_skipped_and_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(tmp_path)
    before = files_of(tmp_path)
    monkeypatch.setattr(RunFolder, "store", lambda *_: pytest.fail("scored again"))
    run(tmp_path)
    assert files_of(tmp_path) == before


def test_more_micrographs_are_added_to_what_is_there(tmp_path: Path):
    run(tmp_path / "twice", names=NAMES[:1])
    run(tmp_path / "twice")
    run(tmp_path / "once")
    assert files_of(tmp_path / "twice") == files_of(tmp_path / "once")


def test_a_run_on_some_of_the_micrographs_keeps_the_others_listed(tmp_path: Path):
    run(tmp_path)
    before = files_of(tmp_path)
    run(tmp_path, names=NAMES[1:2])
    assert files_of(tmp_path) == before


def test_a_failed_micrograph_is_tried_again_and_then_listed_in_its_place(tmp_path: Path):
    opened = RunFolder(tmp_path / "twice", SETTINGS, SelectConfig(threshold=0.5))
    opened.fail(NAMES[0], "is cut short", 0.1)
    for name in NAMES[1:]:
        opened.store(found_in(name), 1.25)
    opened.finish(NAMES)
    run(tmp_path / "twice")
    run(tmp_path / "once")
    assert files_of(tmp_path / "twice") == files_of(tmp_path / "once")


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("diameter", 130.0, "diameter .*130.0"),
        ("weights", "xyz", "weights .*'xyz'"),
        ("steps", {"score": {"step": 8}}, "with step .*8"),
        ("new", 1, "new None, not 1"),
    ],
)
def test_picks_made_with_other_settings_are_never_mixed_in(tmp_path: Path, key: str, value: object, shown: str):
    run(tmp_path)
    before = files_of(tmp_path)
    with pytest.raises(InputError, match=rf"{shown}; .*--overwrite") as caught:
        RunFolder(tmp_path, {**SETTINGS, key: value}, SelectConfig(threshold=0.5))
    assert str(tmp_path) in str(caught.value)
    assert files_of(tmp_path) == before


def test_overwriting_starts_again(tmp_path: Path):
    run(tmp_path)
    opened = RunFolder(tmp_path, {**SETTINGS, "diameter": 130.0}, SelectConfig(threshold=0.5), overwrite=True)
    assert not any(opened.is_done(name) for name in NAMES)
    assert not list(tmp_path.glob("**/*_candidates.star"))
    assert opened.rows == []
    opened.store(found_in(NAMES[0]), 1.0)
    RunFolder(tmp_path, {**SETTINGS, "diameter": 130.0}, SelectConfig(threshold=0.5))
    with pytest.raises(InputError, match="diameter 130"):
        RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", "[" * 100_000, '{"select": 3, "threshold": null}', None])
def test_a_damaged_run_file_is_written_again_if_the_records_tell_of_the_same_settings(tmp_path: Path, text: str | None):
    run(tmp_path)
    before, told = files_of(tmp_path), list[str]()
    if text is None:
        (tmp_path / "run.json").unlink()
    else:
        (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.json.*other settings.*--overwrite"):
        RunFolder(tmp_path, {**SETTINGS, "diameter": 130.0}, SelectConfig(threshold=0.5))
    opened = RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5), tell=told.append)
    assert "run.json was" in told[0]
    assert all(opened.is_done(name) for name in NAMES)
    opened.finish(NAMES)
    assert files_of(tmp_path) == before


def test_a_folder_without_picks_takes_corrected_settings(tmp_path: Path):
    RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5)).fail(NAMES[0], "no pixel size", 0.1)
    opened = RunFolder(tmp_path, {**SETTINGS, "diameter": 130.0}, SelectConfig(threshold=0.5))
    assert opened.rows == []
    assert '"diameter": 130.0' in (tmp_path / "run.json").read_text()


def test_a_lost_summary_loses_no_picks_and_mixes_no_thresholds(tmp_path: Path):
    run(tmp_path / "out")
    (tmp_path / "out" / "summary.csv").unlink()
    run(tmp_path / "out", SelectConfig(threshold=0.65), NAMES[:1])
    run(tmp_path / "whole", SelectConfig(threshold=0.65))
    for name in NAMES:
        picks = [
            star.read(run(tmp_path / folder, SelectConfig(threshold=0.65)).results.file(PICKS, name))[0]
            for folder in ("out", "whole")
        ]
        assert picks[0].positions.tolist() == picks[1].positions.tolist()
    assert len(read_picks(tmp_path / "out" / "autopick.star")) == len(NAMES)


def test_picks_of_another_micrograph_of_the_same_name_are_not_taken_for_its_own(tmp_path: Path):
    paths = [tmp_path / folder / "m.mrc" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())
    opened = RunFolder(tmp_path / "out", SETTINGS, SelectConfig(threshold=0.5))
    opened.store(Picks(str(paths[0]), np.zeros((0, 2)), np.zeros(0)), 1.0, Fingerprint.of(paths[0]))
    entries = [MicrographEntry(str(path), path) for path in (*paths, tmp_path / "b" / ".." / "a" / "m.mrc")]
    opened.refuse_other_paths([entries[0], entries[2]])
    with pytest.raises(InputError, match="another --output"):
        opened.refuse_other_paths([entries[1]])


def test_picks_of_another_program_are_not_deleted_unasked(tmp_path: Path):
    theirs = tmp_path / "x_autopick.star"
    star.write_coordinates(theirs, found_in(NAMES[0]))
    before = theirs.read_bytes()
    with pytest.raises(InputError, match=r"holds picks but no run\.json.*--overwrite"):
        RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))
    assert theirs.read_bytes() == before
    RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5), overwrite=True)
    assert not theirs.exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"micrograph,picks\nx,many\n", b"other\n1\n"])
def test_a_damaged_summary_costs_nothing_but_the_times(tmp_path: Path, content: bytes):
    run(tmp_path)
    before = without_times(files_of(tmp_path))
    (tmp_path / "summary.csv").write_bytes(content)
    run(tmp_path)
    assert without_times(files_of(tmp_path)) == before


SELECTIONS = [
    SelectConfig(threshold=0.0),
    SelectConfig(threshold=0.65),
    SelectConfig(threshold=0.95),
    SelectConfig(threshold=0.5, num_particles=4),
    SelectConfig(threshold=0.1, num_particles=9),
    SelectConfig(threshold=0.1, num_particles=1),
    SelectConfig(threshold=0.5, num_particles=1000),
    SelectConfig(threshold=0.5, min_contrast=0.4),
    SelectConfig(min_contrast=0.1, max_contrast=0.6),
    SelectConfig(threshold=0.1, num_particles=5, max_contrast=0.5),
]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_new_selection_gives_what_a_new_run_would_without_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: SelectConfig
):
    run(tmp_path / "new", selection)
    run(tmp_path / "old")
    monkeypatch.setattr(RunFolder, "store", lambda *_: pytest.fail("scored again"))
    run(tmp_path / "old", selection)
    assert files_of(tmp_path / "old") == files_of(tmp_path / "new")


@pytest.mark.parametrize("selection", SELECTIONS)
def test_going_back_to_the_first_selection_gives_the_first_files_back(tmp_path: Path, selection: SelectConfig):
    run(tmp_path)
    before = files_of(tmp_path)
    run(tmp_path, selection)
    assert files_of(tmp_path) != before
    run(tmp_path)
    assert files_of(tmp_path) == before


def test_the_best_of_all_micrographs_are_kept(tmp_path: Path):
    run(tmp_path, SelectConfig(threshold=0.1, num_particles=7))
    kept = np.concatenate([star.read(path)[0].scores for path in tmp_path.glob("*_autopick.star")])
    everything = np.concatenate([found_in(name).scores for name in NAMES])
    kept = kept[np.isfinite(kept)]
    assert sorted(kept, reverse=True) == sorted(everything, reverse=True)[:7]


def test_a_pick_reaches_the_threshold_and_its_contrast_lies_within_the_limits(tmp_path: Path):
    opened = run(tmp_path, SelectConfig(threshold=0.5, min_contrast=0.1, max_contrast=0.7))
    numbers = []
    for name in NAMES:
        expected = found_in(name)
        inside = (expected.contrast >= 0.1) & (expected.contrast <= 0.7)
        picks = star.read(opened.results.file(PICKS, name))[0]
        np.testing.assert_array_equal(picks.positions, expected.positions[inside & (expected.scores >= 0.5)])
        numbers += [(len(picks), (expected.scores >= 0.5).sum())]
    assert any(some < every for some, every in numbers)


def test_a_threshold_is_chosen_by_the_candidates_that_pass_the_filters():
    contrast = np.array([0.9, 0.8, 0.1, 0.1, 0.1])
    found = Picks("a", np.zeros((5, 2)), np.array([0.9, 0.2, 0.6, 0.6, 0.6]), contrast)
    alone = threshold_of([found.where(contrast > 0.5)], SelectConfig())
    assert threshold_of([found], SelectConfig(min_contrast=0.5)) == alone
    assert threshold_of([found], SelectConfig()) < alone


def test_each_candidate_that_a_filter_keeps_out_has_a_reason():
    found = Picks("a", np.zeros((4, 2)), np.array([0.9, 0.8, 0.7, 0.1]), np.array([0.1, 0.5, 2.0, 0.1]))
    why = reasons(found, SelectConfig(min_contrast=0.2, max_contrast=1.0), 0.5)
    assert why.tolist() == ["low contrast", "", "high contrast", ""]


def test_filters_refuse_what_was_not_measured(tmp_path: Path):
    opened = RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))
    opened.store(replace(found_in(NAMES[0]), contrast=None), 1.0)
    opened.finish(NAMES[:1])
    before = files_of(tmp_path)
    with pytest.raises(InputError, match=r"a\.mrc was not measured; .*--min-contrast.*--overwrite"):
        run(tmp_path, SelectConfig(threshold=0.5, min_contrast=0.2), NAMES[:1])
    run(tmp_path, names=NAMES[:1])
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("content", [None, "", "data_\n\nloop_\n_x #1\n1\n"])
def test_damaged_candidates_are_noticed_and_the_micrograph_is_picked_again(tmp_path: Path, content: str | None):
    opened = run(tmp_path)
    before = files_of(tmp_path)
    path = opened.results.file(CANDIDATES, NAMES[1])
    path.unlink() if content is None else path.write_text(content)
    again = RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))
    assert [again.is_done(name) for name in NAMES] == [True, False, True]
    run(tmp_path)
    assert without_times({k: v for k, v in files_of(tmp_path).items() if "damaged/" not in k}) == without_times(before)


@given(
    st.lists(st.lists(st.sampled_from([0.2, 0.5, 0.5, 0.9]), max_size=6), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.5, 0.7]),
    st.one_of(st.none(), st.integers(1, 12)),
)
def test_selection_equals_a_sort_of_all_candidates(scores, threshold, number):
    found = {
        f"m{i}": Picks(f"m{i}", np.zeros((len(part), 2)), np.sort(np.array(part, dtype=float))[::-1])
        for i, part in enumerate(scores)
    }
    ranked = sorted(
        (-score, i, j)
        for i, picks in enumerate(found.values())
        for j, score in enumerate(picks.scores.tolist())
        if score >= threshold
    )
    expected = {(i, j) for _, i, j in ranked[:number]}
    kept = select(found, SelectConfig(threshold=threshold, num_particles=number))
    assert list(kept) == list(found)
    assert {(i, int(j)) for i, keep in enumerate(kept.values()) for j in np.flatnonzero(keep)} == expected


def test_a_finished_run_is_not_selected_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for selection in (SelectConfig(), SelectConfig(threshold=0.1, num_particles=8), SelectConfig(min_contrast=0.2)):
        run(tmp_path, selection)
        before = files_of(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(Results, "read", lambda *_: pytest.fail("candidates were read"))
            run(tmp_path, selection)
        assert files_of(tmp_path) == before


def test_a_micrograph_that_is_picked_again_is_selected_with_all_others(tmp_path: Path):
    chosen = SelectConfig(threshold=0.1, num_particles=8)
    before = files_of(run(tmp_path, chosen).folder)
    opened = RunFolder(tmp_path, SETTINGS, chosen)
    opened.store(found_in(NAMES[0]), 1.25)  # more picks than eight until they are selected
    assert files_of(tmp_path) != before
    opened.finish(NAMES)
    assert files_of(tmp_path) == before


def test_files_that_did_not_change_are_read_once_by_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(tmp_path)
    monkeypatch.setattr("deeppicker.runs.results._SETTLED", 0)
    opened = RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))
    monkeypatch.setattr("deeppicker.runs.results.read_record", lambda path: pytest.fail(f"{path} was read"))
    opened.finish(NAMES)


@pytest.mark.parametrize("kind", [PICKS, CANDIDATES, RECORD])
def test_a_file_that_changes_under_a_command_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    run(tmp_path)
    monkeypatch.setattr("deeppicker.runs.results._SETTLED", 0)
    opened = RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))
    path = opened.results.file(kind, NAMES[1])
    path.write_bytes(path.read_bytes()[:-2] + b"x\n")  # of the same length
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # as late as a clock can tell
    opened.finish(NAMES)
    assert [opened.is_done(name) for name in NAMES] == [True, False, True]


def test_what_has_just_been_written_has_no_stamp_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = run(tmp_path).results
    written = max(opened.file(kind, "a").stat().st_ctime_ns for kind in (PICKS, CANDIDATES, RECORD))
    for age, stamped in ((1, False), (3, True)):  # it may change again within a tick of the clock
        monkeypatch.setattr("deeppicker.runs.results.time.time_ns", lambda age=age: written + age * 10**9)
        assert (opened.stamp("a") is not None) == stamped


@pytest.mark.durable
def test_what_a_run_has_written_is_on_the_disk_when_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr("deeppicker.formats.atomic.sync", synced.append)
    results = run(tmp_path, names=NAMES[:2]).results
    files = {results.file(kind, name) for kind in (PICKS, CANDIDATES) for name in NAMES[:2]}
    assert files <= set(synced)
    assert {path.parent for path in files} <= set(synced)
    synced.clear()
    run(tmp_path, names=NAMES[:2])
    assert not files & set(synced)  # they are there already


class Cut(BaseException):
    """The end of a run at any moment, as by a power cut."""


def allow_writes(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let so many files be written and no more."""
    real, left = runs.atomic_write, [number]

    def write(path: Path, content: str, *, durable: bool = False) -> None:
        if left[0] == 0:
            raise Cut
        left[0] -= 1
        real(path, content, durable=durable)

    monkeypatch.setattr(runs, "atomic_write", write)
    monkeypatch.setattr(state, "atomic_write", write)
    monkeypatch.setattr(results, "atomic_write", write)
    monkeypatch.setattr(star, "atomic_write", write)


def interrupted_after(folder: Path, number: int, selection: SelectConfig, *, overwrite: bool = False) -> bool:
    """Run until so many files are written; return whether that was before the end."""
    with pytest.MonkeyPatch.context() as patch:
        allow_writes(patch, number)
        try:
            run(folder, selection, overwrite=overwrite)
        except Cut:
            return True
        return False


@pytest.mark.parametrize("selection", [SelectConfig(threshold=0.5), SelectConfig(threshold=0.1, num_particles=8)])
def test_a_run_cut_off_between_any_two_writes_is_completed_by_the_next(tmp_path: Path, selection: SelectConfig):
    run(tmp_path / "whole", selection)
    expected = without_times(files_of(tmp_path / "whole"))
    number = 0
    while interrupted_after(tmp_path / str(number), number, selection):
        run(tmp_path / str(number), selection)
        assert without_times(files_of(tmp_path / str(number))) == expected, f"after {number} writes"
        number += 1
    assert number >= len(expected)


@pytest.mark.parametrize("first", [SelectConfig(threshold=0.5), SelectConfig(threshold=0.1, num_particles=8)])
@pytest.mark.parametrize("second", [SelectConfig(threshold=0.65), SelectConfig(threshold=0.1)])
@pytest.mark.parametrize("back", [False, True])
def test_a_selection_cut_off_between_any_two_writes_is_completed_by_the_next_whatever_it_selects(
    tmp_path: Path, first: SelectConfig, second: SelectConfig, *, back: bool
):
    last = first if back else second
    run(tmp_path / "whole", last)
    expected = files_of(tmp_path / "whole")
    number, cut = 0, True
    while cut:
        folder = tmp_path / str(number)
        run(folder, first)
        cut = interrupted_after(folder, number, second)
        run(folder, last)
        assert files_of(folder) == expected, f"after {number} writes"
        number += 1
    assert number > 5


def test_overwriting_cut_off_at_any_write_never_leaves_old_picks_as_new_ones(tmp_path: Path):
    run(tmp_path / "whole")
    expected = without_times(files_of(tmp_path / "whole"))
    number, cut = 0, True
    while cut:
        folder = tmp_path / str(number)
        old = RunFolder(folder, {**SETTINGS, "diameter": 1.0}, SelectConfig(threshold=0.5))
        for name in NAMES:
            old.store(found_in(name).where(np.arange(len(found_in(name))) == 1), 1.0)
        old.finish(NAMES)
        cut = interrupted_after(folder, number, SelectConfig(threshold=0.5), overwrite=True)
        run(folder, overwrite=number <= 1)  # else the command says so
        assert without_times(files_of(folder)) == expected, f"after {number} writes"
        number += 1
    assert number > 5


@pytest.mark.parametrize("where", ["out", "out/candidates", "out/run.json"])
def test_an_output_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path, where: str):
    blocker = tmp_path / where
    blocker.parent.mkdir(parents=True, exist_ok=True)
    if where.endswith("run.json"):
        blocker.mkdir()
    else:
        blocker.write_text("a file", encoding="utf-8")
    with pytest.raises((OutputError, InputError), match=where) as caught:
        RunFolder(tmp_path / "out", SETTINGS, SelectConfig(threshold=0.5))
    assert "\n" not in str(caught.value)


def test_tables_are_refreshed_during_a_long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])
    opened = RunFolder(tmp_path, SETTINGS, SelectConfig(threshold=0.5))
    opened.store(found_in(NAMES[0]), 1.0)
    assert not (tmp_path / "summary.csv").exists()
    now[0] = 11.0
    opened.store(found_in(NAMES[1]), 1.0)
    assert len((tmp_path / "summary.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_which_of_equal_scores_is_kept_does_not_depend_on_the_order_of_the_micrographs():
    found = {name: Picks(name, np.zeros((2, 2)), np.array([0.9, 0.8])) for name in NAMES}
    config = SelectConfig(num_particles=4)
    forwards, backwards = select(found, config), select(dict(reversed(found.items())), config)
    assert {name: keep.tolist() for name, keep in forwards.items()} == {
        "mics/a.mrc": [True, True],
        "mics/b.1.mrc": [True, False],
        "mics/c.mrc": [True, False],
    }
    assert all((forwards[name] == backwards[name]).all() for name in NAMES)
