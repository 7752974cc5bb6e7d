"""Attacks on a run folder that were found by hand, each of which mixed picks or kept stale ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import SHAPE, Command, RunFolderMachine, Wish

from deeppicker.config import SelectConfig
from deeppicker.errors import DeepPickerError

LOW, HIGH = (Wish(select=SelectConfig(threshold=value)) for value in (0.3, 0.7))


@pytest.fixture
def play() -> Iterator[RunFolderMachine]:
    """A machine with two micrographs, which is healed and checked at the end."""
    machine = RunFolderMachine()
    machine.begin()
    yield machine
    machine.teardown()


def begun(play: RunFolderMachine, wish: Wish, steps: int, which: str = "all", *, overwrite: bool = False) -> Command:
    """Start a command and suspend it after so many steps."""
    command = play._command("pick", which, wish, overwrite=overwrite)
    play.commands.append(command)
    for _ in range(steps):
        command.step()
    return command


def ended(command: Command) -> DeepPickerError | None:
    """Let a command go on to its end; return the error in which it ends."""
    command.finish()
    assert command.error is None or isinstance(command.error, DeepPickerError)
    return command.error


def test_another_threshold_for_one_micrograph_while_all_are_picked_counts_for_all(play: RunFolderMachine):
    first = begun(play, HIGH, 2)
    assert ended(begun(play, LOW, 0, "a.mrc")) is None
    assert ended(first) is None
    play.check_folder()
    assert ended(begun(play, LOW, 0)) is None
    play.check_folder()


@pytest.mark.parametrize("steps", range(6))
def test_of_two_settings_in_a_new_folder_one_gives_way(play: RunFolderMachine, steps: int):
    first = begun(play, Wish(smooth=0.25), steps)
    second = begun(play, Wish(), 1)
    errors = [ended(first), ended(second)]
    assert errors.count(None) == 1
    play.check_folder()


@pytest.mark.parametrize("steps", range(1, 5))
def test_a_suspended_command_that_was_overtaken_writes_nothing_more(play: RunFolderMachine, steps: int):
    first = begun(play, Wish(), steps)
    assert ended(begun(play, Wish(diameter=170.0), 0, overwrite=True)) is None
    before = {path: path.read_bytes() for path in play._files()}
    error = ended(first)
    assert error is not None
    assert "overtaken" in str(error) or "started again" in str(error)
    assert {path: path.read_bytes() for path in play._files()} == before
    play.check_folder()


@pytest.mark.parametrize(
    "change",
    [
        lambda play: play.write_a_micrograph("a.mrc", 77),
        lambda play: play.replace_keeping_the_time(0, 77),
        lambda play: play.preallocate_and_fill_later("a.mrc", 0, 0.5),
        lambda play: play.rename(1, "a.mrc"),
    ],
)
def test_a_micrograph_that_changed_is_picked_again(play: RunFolderMachine, change: Callable[[RunFolderMachine], None]):
    assert ended(begun(play, Wish(), 0)) is None
    change(play)
    again = begun(play, Wish(), 0)
    assert ended(again) is None
    assert again.found == ["a"]
    play.check_folder()


def test_a_micrograph_that_changes_while_others_are_picked_is_told_of_at_the_end(play: RunFolderMachine):
    first = begun(play, Wish(), 0)
    while not first.found:
        first.step()
    name = f"{first.found[0]}.mrc"
    first.step()
    play._write(name, 99)
    assert ended(first) is None
    assert any(name in warning and "repeat the command with all" in warning for warning in first.warnings)
    assert ended(begun(play, Wish(), 0)) is None
    play.check_folder()


def test_a_micrograph_that_is_not_picked_now_and_changed_is_told_of(play: RunFolderMachine):
    assert ended(begun(play, Wish(), 0)) is None
    play._write("b.mrc", 99)
    one = begun(play, Wish(), 0, "a.mrc")
    assert ended(one) is None
    assert any("b.mrc" in warning and "repeat the command with all" in warning for warning in one.warnings)


def test_a_micrograph_of_the_same_name_elsewhere_does_not_inherit_picks(play: RunFolderMachine):
    assert ended(begun(play, Wish(), 0)) is None
    here, there = play.root / "in", play.root / "gone"
    here.rename(there)
    for number in (5, 6):
        play._write("ab"[number - 5] + ".mrc", number)
    (there / "a.mrc").unlink()
    again = begun(play, Wish(), 0)
    assert ended(again) is None
    assert sorted(again.found) == ["a", "b"]
    play.check_folder()


def test_watching_picks_again_what_was_preallocated_and_filled_later(play: RunFolderMachine):
    play.preallocate_and_fill_later("a.mrc", 0, 0.5)
    command = play._command("watch", "all", Wish())
    play.commands.append(command)
    for _ in range(12):
        command.step()
    assert sorted(command.found) == ["a", "b"]
    play.write_a_micrograph("a.mrc", 0)
    for _ in range(6):
        command.step()
    assert ended(command) is None
    assert command.found[2:] == ["a"]
    play.check_folder()
    assert SHAPE


def files(root: Path) -> list[Path]:
    """Return all files."""
    return sorted(path for path in root.rglob("*") if path.is_file())
