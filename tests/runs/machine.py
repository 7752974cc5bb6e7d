"""A model of what users, schedulers and disks do to a run folder, and of what must stay true whatever they do.

Commands are real ones (`run_picking`, `watch_picking`), each in a thread of its own that halts before and after every
micrograph, so that hypothesis decides who goes on when: a command that is not stepped is suspended. Only the network is
replaced: what is "found" is a function of the pixels and the settings, so that the right answer is known at once.

What must be true is said by `RunFolderMachine.check_folder`. ``python tests/runs/machine.py --sequences 2000`` plays
long; `test_machine.py` plays a few sequences in the test suite.
"""

from __future__ import annotations

import argparse
import csv
import errno
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import mrcfile
import numpy as np
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from deeppicker.config import ArrivalConfig, LearnFirstConfig, PickConfig, RunConfig, SelectConfig, Subject, WorkConfig
from deeppicker.core import Found, Grid, MicrographEntry, Picks, micrograph_key
from deeppicker.errors import DeepPickerError
from deeppicker.formats import atomic, read_micrograph
from deeppicker.formats.images import raster
from deeppicker.formats.recorded import CANDIDATES, PICKS_SUFFIX, RUN, file_of
from deeppicker.formats.recorded import JUNK as JUNK_FILE
from deeppicker.formats.relion import star
from deeppicker.networks.model import Model, new_model, weights_digest
from deeppicker.picking.pipeline import JUNK
from deeppicker.runs import arrivals, folder, run, session, watch
from deeppicker.runs.events import RunEvent, Warned
from deeppicker.runs.pick_job import Picker
from deeppicker.runs.results import Results
from deeppicker.runs.selection import select, threshold_of

NAMES = [f"{letter}.mrc" for letter in "abcd"]
SHAPE = (6, 9)
MODELS = {"one": new_model(1), "two": new_model(2)}
_DIGESTS = {id(model.network): weights_digest(model) for model in MODELS.values()}


class Killed(BaseException):
    """The end of a command at any moment, as by SIGKILL."""


def answer(pixels: np.ndarray, made: str, name: str) -> Found:
    """Return what is found in a micrograph: a function of its pixels and of the settings."""
    number = hashlib.sha256(pixels.tobytes() + made.encode()).digest()
    rng = np.random.default_rng(list(number))
    found = Picks(name, np.round(rng.uniform(0, 9, (9, 2)), 4), np.round(rng.uniform(0.05, 0.95, 9), 6))
    good = np.arange(9) < 6
    junk = rng.random((2, 3)) < 0.5
    return Found(found.where(good).sorted(), found.where(~good), (JUNK,) * 3, junk, Grid((0.0, 0.0), 4.0))


def made_by(model: Model, diameter: float, smooth: float) -> str:
    """Return a text that names all settings on which the answer depends."""
    return f"{_DIGESTS[id(model.network)]} {diameter} {smooth}"


def find(picker: Picker, entry: MicrographEntry) -> tuple[Found, tuple[int, ...]]:
    """Stand in for `Picker.find`."""
    here().halt("before the micrograph is read")
    micrograph = picker.source.load(entry)
    here().halt("before its files are written")
    return answer(micrograph.image, made_by(picker.model, picker.diameter, picker.steps.smooth), entry.name), SHAPE


class Command(threading.Thread):
    """A command that goes from one halt to the next when it is told to."""

    def __init__(self, work: Callable[[Command], object], what: str) -> None:
        super().__init__(daemon=True, name=what)
        self.what, self._work = what, work
        self.result: object = None
        self.error: BaseException | None = None
        self.warnings: list[str] = []
        self.found: list[str] = []
        self.ended = self.dead = False
        self.stop_watching = threading.Event()
        self.writes_left: int | None = None
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)

    def run(self) -> None:
        """Do the work, in the thread."""
        self._go.acquire()
        try:
            self.result = self._work(self)
        except BaseException as error:
            self.error = error
        self.ended = True
        self._halted.release()

    def halt(self, _where: str) -> None:
        """Wait, in the thread, to be told to go on."""
        self.live()
        self._halted.release()
        self._go.acquire()
        self.live()

    def live(self) -> None:
        """End the thread here if it was killed."""
        if self.dead:
            raise Killed

    def write(self) -> None:
        """Count a write, in the thread, and end there if that was the last one."""
        self.live()
        if self.writes_left is not None:
            self.dead = self.writes_left <= 0
            self.writes_left -= 1
            self.live()

    def step(self) -> None:
        """Let it go on until its next halt."""
        if self.ended:
            return
        if not self.is_alive():
            self.start()
        self._go.release()
        if not self._halted.acquire(timeout=20):
            raise AssertionError(f"{self.what} hangs")

    def finish(self) -> None:
        """Let it go on until its end."""
        self.stop_watching.set()
        while not self.ended:
            self.step()

    def kill(self, writes: int) -> None:
        """Kill it after so many writes; it may end before."""
        self.writes_left = writes
        if writes == 0:
            self.dead = True
        while not self.ended:
            self.stop_watching.set()
            self.step()

    def listen(self, event: RunEvent) -> None:
        """Take up a warning."""
        if isinstance(event, Warned):
            self.warnings.append(event.text)


def here() -> Command:
    """Return the command whose thread this is."""
    thread = threading.current_thread()
    assert isinstance(thread, Command)
    return thread


@dataclass
class Disk:
    """Whether there is room."""

    full: bool = False


def _patched(disk: Disk) -> Iterator[Any]:
    real_replace, real_unlink, real_write = os.replace, Path.unlink, Path.write_bytes
    real_results = Results.write

    def write_results(results: Results, found: Found, *rest: Any) -> Any:
        here().found.append(micrograph_key(found.candidates.micrograph))  # not where it only looks at a micrograph
        return real_results(results, found, *rest)

    def do_replace(source: Any, target: Any) -> None:
        if isinstance(threading.current_thread(), Command):
            here().write()
        real_replace(source, target)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if isinstance(threading.current_thread(), Command):
            here().live()
        real_unlink(path, missing_ok=missing_ok)

    def write_bytes(path: Path, data: bytes) -> int:
        if disk.full and isinstance(threading.current_thread(), Command):
            real_write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(path, data)

    def changes(_arrivals: object, _interval: float, stop: threading.Event) -> Iterator[None]:
        while not stop.is_set():
            here().halt("before it looks for new files")
            yield

    load = lambda name: MODELS[str(name)]  # noqa: E731
    yield mock.patch.object(atomic.os, "replace", do_replace)
    yield mock.patch.object(Path, "unlink", unlink)
    yield mock.patch.object(Path, "write_bytes", write_bytes)
    yield mock.patch.object(Picker, "find", find)
    yield mock.patch.object(Results, "write", write_results)
    yield mock.patch.object(session, "load_model", load)
    yield mock.patch.object(arrivals.Arrivals, "changes", changes)
    if hasattr(run, "read_ahead"):
        yield mock.patch.object(run, "read_ahead", lambda entries: entries)
    yield mock.patch.object(folder, "_NAMED", len(NAMES))  # so that warnings name all
    yield mock.patch("deeppicker.runs.results._SETTLED", 20_000_000)  # longer than a tick of the clock of a local disk
    yield mock.patch("deeppicker.runs.diameter._check")
    yield mock.patch("deeppicker.runs.pick_job.weights_digest", lambda model: _DIGESTS[id(model.network)])


@dataclass(frozen=True)
class Wish:
    """What a user asks for."""

    model: str = "one"
    diameter: float = 130.0
    smooth: float = 0.0625
    select: SelectConfig = SelectConfig(threshold=0.5)

    def config(self, *, overwrite: bool = False) -> RunConfig:
        """Return it as settings of a run."""
        return RunConfig(
            subject=Subject(model=self.model, diameter=self.diameter),
            learning=LearnFirstConfig(learn="off"),
            select=self.select,
            work=WorkConfig(workers=0, retries=0),
            steps=PickConfig(smooth=self.smooth),
            arrivals=ArrivalConfig(settle=1e-9, interval=1e-9),
            overwrite=overwrite,
        )

    @property
    def made(self) -> str:
        """Return what the answer depends on."""
        return made_by(MODELS[self.model], self.diameter, self.smooth)


WISHES = st.builds(
    Wish,
    model=st.sampled_from(["one", "one", "one", "two"]),
    diameter=st.sampled_from([130.0, 130.0, 170.0]),
    smooth=st.sampled_from([0.0625, 0.0625, 0.25]),
    select=st.sampled_from([SelectConfig(threshold=0.3), SelectConfig(threshold=0.7), SelectConfig()])
    | st.just(SelectConfig(num_particles=5)),
)
INPUTS = st.sampled_from(["all", "all", "all", *NAMES])
ANY = st.integers(0, 10**6)


class RunFolderMachine(RuleBasedStateMachine):
    """Plays random sequences, and checks the folder."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        self.out, self.disk = self.root / "out", Disk()
        self.commands: list[Command] = []
        self.clock = 1_700_000_000_000_000_000
        self.patches = list(_patched(self.disk))
        for patch in self.patches:
            patch.start()
        (self.root / "in").mkdir()

    @initialize()
    def begin(self) -> None:
        """Start with two micrographs."""
        for number, name in enumerate(NAMES[:2]):
            self._write(name, number)

    # What users do to micrographs

    def _write(self, name: str, number: int, *, stamp: bool = True) -> Path:
        path = self.root / "in" / name
        path.parent.mkdir(exist_ok=True)
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(np.random.default_rng([number, 3]).normal(size=SHAPE).astype(np.float32))
            file.voxel_size = 3.0
        if stamp:
            self._stamp(path)
        return path

    def _stamp(self, path: Path) -> None:
        self.clock += 1_000_000_000
        os.utime(path, ns=(self.clock, self.clock))

    def _there(self) -> list[Path]:
        return sorted((self.root / "in").glob("*.mrc"))

    @rule(name=st.sampled_from(NAMES), number=ANY)
    def write_a_micrograph(self, name: str, number: int) -> None:
        """Add or replace."""
        self._write(name, number)

    @precondition(lambda self: self._there())
    @rule(index=ANY, number=ANY)
    def replace_keeping_the_time(self, index: int, number: int) -> None:
        """Replace as ``cp -p`` may: same size, same time of modification."""
        path = self._there()[index % len(self._there())]
        status = path.stat()
        self._write(path.name, number, stamp=False)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    @precondition(lambda self: self._there())
    @rule(index=ANY)
    def touch(self, index: int) -> None:
        """Change nothing but the time."""
        self._stamp(self._there()[index % len(self._there())])

    @precondition(lambda self: self._there())
    @rule(index=ANY, part=st.floats(0.1, 0.9))
    def truncate(self, index: int, part: float) -> None:
        """Cut a micrograph short."""
        path = self._there()[index % len(self._there())]
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        self._stamp(path)

    @rule(name=st.sampled_from(NAMES), number=ANY, halves=st.just(0.5))
    def preallocate_and_fill_later(self, name: str, number: int, halves: float) -> None:
        """Write at full size, zeros at the end; `write_a_micrograph` of the same number completes it."""
        path = self._write(name, number)
        content = path.read_bytes()
        kept = int(len(content) * halves) + 500
        path.write_bytes(content[:kept] + bytes(len(content) - kept))
        self._stamp(path)

    @precondition(lambda self: self._there())
    @rule(index=ANY)
    def delete(self, index: int) -> None:
        """Delete a micrograph."""
        self._there()[index % len(self._there())].unlink()

    @precondition(lambda self: self._there())
    @rule(index=ANY, name=st.sampled_from(NAMES))
    def rename(self, index: int, name: str) -> None:
        """Rename a micrograph, perhaps over another one."""
        self._there()[index % len(self._there())].rename(self.root / "in" / name)

    # What happens to the run folder

    def _files(self) -> list[Path]:
        return sorted(p for p in self.out.rglob("*") if p.is_file() and p.name != ".lock")

    @precondition(lambda self: self._files())
    @rule(index=ANY, how=st.sampled_from(["empty", "half", "flip", "delete", "brackets"]), at=ANY)
    def damage(self, index: int, how: str, at: int) -> None:
        """Damage any file."""
        path = self._files()[index % len(self._files())]
        content = bytearray(path.read_bytes())
        if how == "delete":
            path.unlink()
        elif how == "half":
            path.write_bytes(bytes(content[: len(content) // 2]))
        elif how == "flip" and content:
            content[at % len(content)] ^= 1
            path.write_bytes(bytes(content))
        else:
            path.write_bytes(b"[" * 100_000 if how == "brackets" else b"")

    @rule(full=st.booleans())
    def fill_the_disk(self, full: bool) -> None:
        """Fill the disk, or make room."""
        self.disk.full = full

    # Commands

    def _inputs(self, which: str) -> list[str]:
        return [str(self.root / "in")] if which == "all" else [str(self.root / "in" / which)]

    def _command(self, kind: str, which: str, wish: Wish, *, overwrite: bool = False) -> Command:
        config = wish.config(overwrite=overwrite)
        inputs = self._inputs(which)
        if kind == "pick":
            work = lambda me: run.run_picking(inputs, self.out, config, me.listen)  # noqa: E731
        else:
            work = lambda me: watch.watch_picking(inputs, self.out, config, me.listen, me.stop_watching)  # noqa: E731
        return Command(work, f"{kind} {which} {wish}{' overwrite' if overwrite else ''}")

    @property
    def live(self) -> list[Command]:
        """Commands that have not ended."""
        self.commands = [command for command in self.commands if not command.ended]
        return self.commands

    @precondition(lambda self: len(self.live) < 3)
    @rule(
        kind=st.sampled_from(["pick", "pick", "watch"]),
        which=INPUTS,
        wish=WISHES,
        overwrite=st.sampled_from([False, False, True]),
        steps=st.integers(0, 6),
    )
    def start(self, kind: str, which: str, wish: Wish, overwrite: bool, steps: int) -> None:
        """Start a command and let it come some way."""
        command = self._command(kind, which, wish, overwrite=overwrite and kind == "pick")
        self.commands.append(command)
        for _ in range(steps):
            command.step()
        self._judge(command)

    @precondition(lambda self: self.live)
    @rule(index=ANY, steps=st.integers(1, 6))
    def go_on(self, index: int, steps: int) -> None:
        """Let a command go on."""
        command = self.live[index % len(self.live)]
        for _ in range(steps):
            command.step()
        self._judge(command)

    @precondition(lambda self: self.live)
    @rule(index=ANY)
    def go_on_to_the_end(self, index: int) -> None:
        """Let a command go on to its end."""
        command = self.live[index % len(self.live)]
        command.finish()
        self._judge(command)

    @precondition(lambda self: self.live)
    @rule(index=ANY, writes=st.integers(0, 12))
    def kill(self, index: int, writes: int) -> None:
        """Kill a command."""
        command = self.live[index % len(self.live)]
        command.kill(writes)
        self._judge(command)

    @rule(which=INPUTS, wish=WISHES)
    def pick_at_once(self, which: str, wish: Wish) -> None:
        """Start a command and let it end."""
        command = self._command("pick", which, wish)
        command.finish()
        self._judge(command)

    # What must be true

    def _judge(self, command: Command) -> None:
        if not command.ended or isinstance(command.error, Killed):
            return
        if command.error is not None:
            assert isinstance(command.error, DeepPickerError), (command.what, repr(command.error))
            assert len(str(command.error).splitlines()) == 1
        elif command.result is not None and not self.live and not self.disk.full:
            self.check_folder(said=" ".join([*command.warnings, *self._reasons()]))

    def _reasons(self) -> list[str]:
        with suppress(OSError), (self.out / "summary.csv").open(encoding="utf-8", errors="replace", newline="") as file:
            return [row["error"] or "" for row in csv.DictReader(file)]
        return []

    def check_folder(self, said: str = "") -> None:
        """Check that all picks are those that the recorded settings give for the files as they are now.

        Micrographs of which the last command has said something are let off.
        """
        recorded = json.loads((self.out / RUN).read_text(encoding="utf-8"))
        model = next(m for m in MODELS.values() if _DIGESTS[id(m.network)] == recorded["weights"])
        made = made_by(model, recorded["diameter"], recorded["steps"]["smooth"])
        assert recorded["select"] is not None, "no selection is recorded"
        config = SelectConfig(**recorded["select"])
        keys = sorted(p.name.removesuffix(PICKS_SUFFIX) for p in self.out.glob(f"*{PICKS_SUFFIX}"))
        on_disk = {key: self._on_disk(key) for key in keys}
        found = {}
        for key in keys:
            path = self.root / "in" / f"{key}.mrc"
            try:
                right = answer(read_micrograph(path).image, made, key)
            except DeepPickerError:
                assert not path.exists() or path.name in said, f"{path.name} cannot be read but has picks"
                found[key] = replace(on_disk[key][1], micrograph=key)
                continue
            if path.name in said:
                found[key] = replace(on_disk[key][1], micrograph=key)
                continue
            found[key] = right.candidates
            same = np.array_equal(on_disk[key][1].positions, right.candidates.positions)
            assert same, f"the candidates of {key} are not those of its file as it is now"
            _, rejected, reasons = star.read_candidates(file_of(self.out, CANDIDATES, key))
            same = np.array_equal(rejected.positions, right.rejected.positions) and tuple(reasons) == right.reasons
            assert same, f"what was rejected in {key} is not that of its file as it is now"
            junk, mask = right.junk_image(SHAPE), file_of(self.out, JUNK_FILE, key)
            shown = raster.read(mask) > 0 if mask.is_file() else np.zeros_like(junk)
            assert np.array_equal(shown, junk), f"the junk of {key} is not that of its file"
        threshold = threshold_of(found.values(), config)
        assert recorded["threshold"] == threshold, f"threshold {recorded['threshold']} and not {threshold}"
        for key, keep in select(found, config).items():
            picks = found[key].where(keep)
            assert np.array_equal(on_disk[key][0].positions, picks.positions), f"{key} has not the picks of {config}"
        listed = [item.key for item in star.read(self.out / "autopick.star")] if keys else []
        assert sorted(listed) == keys, f"autopick.star lists {sorted(listed)} and not {keys}"

    def _on_disk(self, key: str) -> tuple[Picks, Picks]:
        every = star.read_candidates(file_of(self.out, CANDIDATES, key))[0]
        return star.read(self.out / f"{key}{PICKS_SUFFIX}")[0].sorted(), every.sorted()

    def heal(self) -> None:
        """Let all end, do what the messages say, and check everything."""
        self.disk.full = False
        for command in self.live:
            command.finish()
            self._judge(command)
        if not self._there():
            self._write(NAMES[0], 1)
        wish = self._recorded_wish()
        command = self._command("pick", "all", wish)
        command.finish()
        if isinstance(command.error, DeepPickerError):
            assert "--overwrite" in str(command.error), f"no remedy in: {command.error}"
            command = self._command("pick", "all", wish, overwrite=True)
            command.finish()
        if command.error is not None:
            raise command.error
        self.check_folder(said=" ".join(self._reasons()))
        again = self._command("pick", "all", wish)
        again.finish()
        assert again.error is None, again.error
        bad = {path.stem for path in self._there() if not _readable(path)}
        assert set(again.found) <= bad, f"picked again without need: {again.found}"

    def _recorded_wish(self) -> Wish:
        try:
            recorded = json.loads((self.out / RUN).read_text(encoding="utf-8"))
            name = next(n for n, m in MODELS.items() if _DIGESTS[id(m.network)] == recorded["weights"])
            chosen = SelectConfig(**recorded["select"]) if recorded["select"] else SelectConfig()
            return Wish(name, recorded["diameter"], recorded["steps"]["smooth"], chosen)
        except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError, DeepPickerError):
            return Wish()

    def teardown(self) -> None:
        """Heal what was done, and leave no trace."""
        try:
            self.heal()
        finally:
            for command in self.commands:
                if not command.ended and command.is_alive():
                    command.kill(0)
            for patch in reversed(self.patches):
                patch.stop()
            shutil.rmtree(self.root, ignore_errors=True)


def _readable(path: Path) -> bool:
    try:
        read_micrograph(path)
    except DeepPickerError:
        return False
    return True


def play(sequences: int, steps: int, number: int) -> None:
    """Play so many random sequences; the same number gives the same ones."""
    config = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        print_blob=True,
    )
    run_state_machine_as_test(seed(number)(RunFolderMachine), settings=config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    play(options.sequences, options.steps, options.seed)
    print(f"{options.sequences} sequences of up to {options.steps} steps: no fault")
