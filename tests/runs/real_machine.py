"""What `machine.py` plays with threads, played with real processes: suspended, continued and killed by signals.

``PYTHONPATH=tests python tests/runs/real_machine.py --sequences 100 --seed 1`` plays sequences. A sequence begins with
one of five attacks that once mixed picks or kept stale ones (`SCENES`), after which the folder must at once be that of
a run of its own. Then it is random: it starts `deeppicker pick` up to three times at once in the same folder, with
other settings, for all micrographs or one, with ``--overwrite`` or not; sends SIGSTOP, SIGCONT and SIGKILL; replaces
and deletes micrographs. At its end all go on, and none may end in anything but a line. What the last one leaves, if it
ended well, must be what a command with the recorded settings gives in a new folder; and at any rate what such a command
makes of it.

Each scene finds what it is there for when the program is made to do it (tried with seed 5): ``overtaken`` and ``both``
find a generation that is not checked, or not begun for other settings; ``narrow`` a selection that follows the command
that ends last, or leaves files of others as they are; ``replaced`` a source that is not compared, or by size and time
only; ``filled`` a file that is told once. None finds records whose settings are not compared: that takes a kill between
two writes, as `machine.py` plays it.

The processes are forked from this one, which has loaded PyTorch but never used it, because to load it takes longer than
all else. What happens to them depends on the clock, so that a sequence can be repeated, but not exactly.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch

import deeppicker.runs.pick_job  # noqa: F401 - loaded once for all
import scenes
from deeppicker.cli.main import main
from deeppicker.networks.model import save_model
from deeppicker.runs.results import read_record
from scenes import DIAMETER, files_of_run

NAMES = ("a", "b", "c", "d")
SCENES = ("overtaken", "narrow", "both", "replaced", "filled")
SMOOTH, THRESHOLDS = (0.0625, 0.25), (0.3, 0.7)
LONGEST = 120.0  # seconds of a command, on a machine that does much else
_DEEDS = ("start", "start", "start", "let", "let", "stop", "stop", "continue", "kill", "kill", "end", "write")
_STATUS = (0, 1, 2, -signal.SIGKILL)


@dataclass
class Command:
    """A process that picks."""

    words: list[str]
    errors: Path
    process: psutil.Process
    writes: int = 0  # how often micrographs had been written when it started
    status: int | None = None

    def ended(self, timeout: float = 0.0) -> bool:
        """Return whether it has ended, after so many seconds at the latest."""
        if self.status is None:
            with suppress(psutil.TimeoutExpired):
                self.status = self.process.wait(timeout)
        return self.status is not None

    @property
    def whole(self) -> bool:
        """Whether it picks all micrographs."""
        return not self.words[1].endswith(".mrc")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def judge(self) -> None:
        """Check how it ended."""
        shown = self.errors.read_text(encoding="utf-8")
        assert self.status in _STATUS, (self.words, self.status, shown)
        assert "Traceback" not in shown, (self.words, shown)
        assert all(line.startswith("deeppicker: ") for line in shown.splitlines()), (self.words, shown)


def begin(words: list[str], errors: Path) -> Command:
    """Start a command in a process group of its own."""
    errors.touch()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(errors, os.O_WRONLY), 2)
        os._exit(main(words))
    with suppress(ProcessLookupError, PermissionError):  # whoever is first, this process or its child
        os.setpgid(child, child)
    return Command(words, errors, psutil.Process(child))


@dataclass
class Sequence:
    """One sequence of random actions in a new folder."""

    root: Path
    random: random.Random
    commands: list[Command] = field(default_factory=list)
    number: int = 0
    writes: int = 0
    judged: bool = False  # whether what the last command left was compared before anything else

    def begin(self) -> None:
        """Write the first micrographs."""
        for name in NAMES[:3]:
            self.write(name)

    def write(self, name: str) -> None:
        """Write a micrograph, or replace it at once, as careful programs do."""
        self.writes += 1
        image = np.load(self.root.parent / f"{self.random.randrange(6)}.npy")
        new = scenes.write_mrc(self.root / "new" / f"{name}.mrc", image)
        (self.root / "in").mkdir(exist_ok=True)
        new.replace(self.root / "in" / new.name)

    def start(self, which: str = "in", verb: str = "pick", **settings: object) -> Command:
        """Start a command."""
        given = {"smooth": self.random.choice(SMOOTH), "threshold": self.random.choice(THRESHOLDS), "output": "out"}
        given |= settings
        more = ["--overwrite"] if given.pop("overwrite", False) else []
        for option, value in given.items():
            more += [f"--{option}", str(self.root / "out" if value == "out" else value)]
        fixed = ["--model", str(self.root.parent / "model.safetensors"), "--diameter", str(DIAMETER), "--retries", "1"]
        self.number += 1
        words = [verb, str(self.root / which), *fixed, "--learn", "off", *more]
        command = begin([*words, "--workers", "0"], self.root / f"{self.number}.err")
        command.writes = self.writes
        self.commands.append(command)
        return command

    def overtaken(self) -> None:
        """Suspend a command; another one starts the folder again; then the first one goes on."""
        first = self.start(smooth=SMOOTH[0])
        self._suspend(first)
        second = self.start(smooth=SMOOTH[1], overwrite=True)
        self._let_end(second, first)
        assert second.status == 0, second.words
        self._let_end(first)

    def narrow(self) -> None:
        """While all are picked by one threshold, one is picked by another."""
        first = self.start(smooth=SMOOTH[0], threshold=THRESHOLDS[1])
        self._suspend(first, least=1)  # else it has perhaps not begun, and is the last to start
        second = self.start("in/a.mrc", smooth=SMOOTH[0], threshold=THRESHOLDS[0])
        self._let_end(second, first)
        self._let_end(first)
        assert (first.status, second.status) == (0, 0)
        assert self._recorded()["threshold"] == THRESHOLDS[0]  # that of the command which was started last

    def both(self) -> None:
        """Start two commands with different settings in a new folder."""
        commands = [self.start(smooth=SMOOTH[0])]
        commands[0].ended(self.random.uniform(0, 0.5))
        commands.append(self.start(smooth=SMOOTH[1]))
        for command in commands:
            self._let_end(command)
        assert sorted(command.status or 0 for command in commands) == [0, 2]  # one gives way

    def replaced(self) -> None:
        """Replace a micrograph, which keeps its size and time, after it was picked."""
        first = self.start()
        self._let_end(first)
        path = self.root / "in" / "b.mrc"
        status, before = path.stat(), path.read_bytes()
        while path.read_bytes() == before:
            self.write("b")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        again = begin(first.words, self.root / "again.err")
        self.commands.append(again)
        self._let_end(again)
        assert again.status == 0

    def filled(self) -> None:
        """Watch a folder in which a file gets its room first, and its pixels after it was picked without them."""
        path = self.root / "in" / "b.mrc"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
        command = self.start(verb="watch", settle=0.05, interval=0.1)
        self._wait(lambda: self._is_of(path), command)
        path.write_bytes(whole)
        self._wait(lambda: self._is_of(path), command)
        (self.root / "out" / "STOP").touch()
        self._let_end(command)
        assert command.status == 0

    def _is_of(self, path: Path) -> bool:
        record = read_record(self.root / "out" / "records" / f"{path.stem}.json")
        return record is not None and record.is_of(path)

    def _suspend(self, command: Command, least: int = 0) -> None:
        """Suspend a command after it has picked some micrographs, unless it ends before."""
        number = self.random.randrange(least, 3)
        self._wait(lambda: len(list((self.root / "out").glob("records/*.json"))) >= number, command)
        command.ended(self.random.uniform(0, 0.05))
        command.send(signal.SIGSTOP)

    def _let_end(self, command: Command, suspended: Command | None = None) -> None:
        """Let a command end; a suspended one goes on if it is waited for."""
        command.send(signal.SIGCONT)
        self._wait(lambda: suspended is not None and "waiting" in command.errors.read_text(encoding="utf-8"), command)
        if suspended is not None and not command.ended():
            suspended.send(signal.SIGCONT)
        assert command.ended(LONGEST), f"hangs: {command.words}"
        command.judge()

    @staticmethod
    def _wait(done: Callable[[], bool], command: Command) -> None:
        """Wait until something is done, or a command has ended, or for long."""
        end = time.monotonic() + LONGEST / 4
        while not (done() or command.ended(0.01) or time.monotonic() > end):
            pass

    def play(self, scene: str) -> None:
        """Play a scene, and check what it left at once."""
        getattr(self, scene)()
        assert self._whole({**self._recorded(), "output": self.root / "scene"}) == 0
        self._compare("scene")

    def act(self) -> None:
        """Do one random thing."""
        alive = [command for command in self.commands if not command.ended()]
        one = self.random.choice(alive) if alive else None
        name = self.random.choice(NAMES)
        match self.random.choice(_DEEDS):
            case "start" if len(alive) < 3:
                there = (self.root / "in" / f"{name}.mrc").exists()
                which = f"in/{name}.mrc" if there and self.random.random() < 0.3 else "in"
                self.start(which, overwrite=self.random.random() < 0.3)
            case "let" if one is not None:
                one.ended(self.random.uniform(0, 1))
            case "stop" if one is not None:
                one.send(signal.SIGSTOP)
            case "continue" if one is not None:
                one.send(signal.SIGCONT)
            case "kill" if one is not None:
                one.send(signal.SIGKILL)
                assert one.ended(LONGEST)
            case "end" if one is not None:
                for command in alive:  # that which it waits for may be suspended
                    command.send(signal.SIGCONT)
                assert one.ended(LONGEST), one.words
            case "write":
                self.write(name)

    def end(self) -> None:
        """Let all end, do what the messages say, and compare with a new folder."""
        alive = [command for command in self.commands if not command.ended()]
        for command in self.commands:
            command.send(signal.SIGCONT)
        for command in self.commands:
            assert command.ended(LONGEST), f"hangs: {command.words}"
            command.judge()
        settings = self._recorded()
        assert self._whole({**settings, "output": self.root / "fresh"}) == 0
        last = alive[0] if len(alive) == 1 else None
        if last is not None and last.status == 0 and last.whole and last.writes == self.writes:
            self._compare()
            self.judged = True
        self._whole(settings)
        self._compare()

    def _compare(self, name: str = "fresh") -> None:
        """Check that the folder is that of a run of its own."""
        ours, fresh = files_of_run(self.root / "out"), files_of_run(self.root / name)
        ours["run.json"], fresh["run.json"] = (self._settings(name) for name in ("out", name))
        for file in ("inputs.json", "summary.csv", "autopick.star"):  # which tell of earlier commands too
            ours.pop(file, None)
            fresh.pop(file)
        different = [file for file, content in fresh.items() if ours.get(file) != content]
        assert different == [], [*(command.words for command in self.commands), different]

    def _whole(self, settings: dict[str, object]) -> int:
        command = self.start(**settings)
        assert command.ended(LONGEST), command.words
        command.judge()
        assert command.status is not None
        if command.status == 2 and "--overwrite" in command.errors.read_text(encoding="utf-8"):
            return self._whole({**settings, "overwrite": True})
        assert command.status == 0, command.errors.read_text(encoding="utf-8")
        return command.status

    def _settings(self, name: str) -> dict[str, object]:
        content = json.loads((self.root / name / "run.json").read_text(encoding="utf-8"))
        return {key: value for key, value in content.items() if key != "checksum"}

    def _recorded(self) -> dict[str, object]:
        if not (self.root / "out" / "run.json").exists():  # all were killed before
            return {"smooth": SMOOTH[0], "threshold": THRESHOLDS[0]}
        content = self._settings("out")
        return {"smooth": content["steps"]["smooth"], "threshold": content["select"]["threshold"]}  # type: ignore[index]

    def leave(self) -> None:
        """Leave no process behind."""
        for command in self.commands:
            if not command.ended():
                command.send(signal.SIGKILL)
                command.ended(LONGEST)


def play(sequences: int, steps: int, seed: int) -> None:
    """Play so many sequences."""
    with tempfile.TemporaryDirectory(prefix="real-machine-") as name:
        folder = Path(name)
        save_model(scenes.uncertain(), folder / "model.safetensors")
        for number in range(6):
            np.save(folder / f"{number}.npy", scenes.scene(number, faintest=0.05).micrograph.image)
        for number in range(sequences):
            sequence = Sequence(folder / str(number), random.Random(f"{seed} {number}"))
            sequence.root.mkdir()
            start = time.monotonic()
            try:
                sequence.begin()
                sequence.play(SCENES[number % len(SCENES)])
                for _ in range(steps):
                    sequence.act()
                sequence.end()
            except BaseException:
                print(f"fault in sequence {number} of seed {seed}", flush=True)
                raise
            finally:
                sequence.leave()
            killed = sum(command.status == -signal.SIGKILL for command in sequence.commands)
            seconds, judged = time.monotonic() - start, ", judged at once" * sequence.judged
            told = f"{sequence.number} commands, {killed} killed, {seconds:.1f} s{judged}"
            print(f"{number}: {SCENES[number % len(SCENES)]}, {told}", flush=True)
            shutil.rmtree(sequence.root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    play(options.sequences, options.steps, options.seed)
    print(f"{options.sequences} sequences of {options.steps} steps: no fault")
