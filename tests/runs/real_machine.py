"""What `machine.py` plays with threads, played with real processes: suspended, continued and killed by signals.

``PYTHONPATH=tests python tests/runs/real_machine.py --sequences 100 --seed 1`` plays random sequences. A sequence
starts `deeppicker pick` up to three times at once in the same folder, with other settings, for all micrographs or one,
with ``--overwrite`` or not; sends SIGSTOP, SIGCONT and SIGKILL; replaces and deletes micrographs. At its end all go on,
and none may end in anything but a line. What the last one leaves, if it ended well, must be what a command with the
recorded settings gives in a new folder; and at any rate what such a command makes of it.

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
from scenes import DIAMETER, files_of_run

NAMES = ("a", "b", "c", "d")
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

    def start(self, which: str = "in", **settings: object) -> Command:
        """Start a command."""
        given = {"smooth": self.random.choice(SMOOTH), "threshold": self.random.choice(THRESHOLDS), "output": "out"}
        given |= settings
        more = ["--overwrite"] if given.pop("overwrite", False) else []
        for option, value in given.items():
            more += [f"--{option}", str(self.root / "out" if value == "out" else value)]
        fixed = ["--model", str(self.root.parent / "model.safetensors"), "--diameter", str(DIAMETER), "--retries", "1"]
        self.number += 1
        words = ["pick", str(self.root / which), *fixed, "--learn", "off", *more]
        command = begin([*words, "--workers", "0"], self.root / f"{self.number}.err")
        command.writes = self.writes
        self.commands.append(command)
        return command

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

    def _compare(self) -> None:
        """Check that the folder is that of a run of its own."""
        ours, fresh = files_of_run(self.root / "out"), files_of_run(self.root / "fresh")
        ours["run.json"], fresh["run.json"] = (self._settings(name) for name in ("out", "fresh"))
        for name in ("inputs.json", "summary.csv", "autopick.star"):  # which tell of earlier commands too
            ours.pop(name, None)
            fresh.pop(name)
        different = [name for name, content in fresh.items() if ours.get(name) != content]
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
            print(f"{number}: {sequence.number} commands, {killed} killed, {seconds:.1f} s{judged}", flush=True)
            shutil.rmtree(sequence.root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    play(options.sequences, options.steps, options.seed)
    print(f"{options.sequences} sequences of {options.steps} steps: no fault")
