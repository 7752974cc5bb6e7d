"""Start and cancel jobs, tell how they are, and accept what came of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.gui.edits import EDITS, EditLog, Marks
from deeppicker.gui.job import task_of
from deeppicker.gui.project import Project, Wanted
from deeppicker.gui.rounds import (
    JOB,
    LOG,
    PICKS,
    TASK,
    classify_folder,
    current,
    make_current,
    read_json,
    round_folder,
    rounds,
)

_CARRIED = "carried.jsonl"


class Jobs:
    """The rounds of a project."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._base = project.base
        self._pid: int | None = None  # of the job that was started last, until it says so itself

    def state(self) -> dict[str, Any] | None:
        """Return how the last round is; None if there was none. A job that no longer runs has failed."""
        numbers = rounds(self._base)
        if not numbers:
            return None
        state = self._state(round_folder(self._base, numbers[-1]))
        return {**state, "round": numbers[-1], "current": current(self._base)}

    def classifying(self) -> dict[str, Any] | None:
        """Return how the last classification is; None if there was none."""
        folder = classify_folder(self._base)
        return self._state(folder) if folder.is_dir() else None

    def _state(self, folder: Path) -> dict[str, Any]:
        state = read_json(folder / JOB) or {"state": "running", "step": "starting", "pid": self._pid}
        if state.get("state") == "running" and not _lives(state.get("pid"), folder):
            again = read_json(folder / JOB)  # it may have ended just now
            ended = again if again.get("state") not in ("running", None) else {}
            state = ended or {**state, "state": "failed", "error": f"the job was ended; see {folder / LOG}"}
        return state

    def do(self, what: str) -> bool:
        """Start ``learn``, ``pick`` or ``classify``, ``cancel``, ``accept`` or go ``back``.

        Return whether other picks are shown then.
        """
        state = self.state()
        running = next((job for job in (state, self.classifying()) if job and job["state"] == "running"), None)
        if what in ("learn", "pick", "classify"):
            if running is not None:
                raise InputError("a job is running; cancel it first")
            self._start(what)
        elif what == "cancel" and running is not None:
            os.kill(running["pid"], signal.SIGTERM)
        elif what == "accept" and state is not None and state["state"] == "done" and state["kind"] == "learn":
            carry_over(self._project, round_folder(self._base, state["round"]) / PICKS)
            make_current(self._base, state["round"])
            return True
        elif what == "back" and current(self._base) is not None:
            before = [number for number in rounds(self._base) if number < (current(self._base) or 0)]
            accepted = [n for n in before if (round_folder(self._base, n) / PICKS / EDITS).is_file()]
            make_current(self._base, accepted[-1] if accepted else None)
            return True
        else:
            raise InputError(f"{what} cannot be done now")
        return False

    def _start(self, kind: str) -> None:
        number = max(rounds(self._base), default=0) + 1
        folder = classify_folder(self._base) if kind == "classify" else round_folder(self._base, number)
        make_folder(folder)
        (folder / JOB).unlink(missing_ok=True)
        atomic_write(folder / TASK, task_of(self._project.wanted, kind))
        with (folder / LOG).open("wb") as log:
            command = [sys.executable, "-m", "deeppicker.gui.job", str(folder)]
            child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        self._pid = child.pid
        threading.Thread(target=child.wait, daemon=True).start()  # so that it can end

    def compare(self, index: int) -> dict[str, Any]:
        """Return the picks of a micrograph before and after the last round."""
        numbers = rounds(self._base)
        after = Project(Wanted(inputs=(str(round_folder(self._base, numbers[-1]) / PICKS),))) if numbers else None
        if after is None:
            raise InputError("nothing was learnt yet")
        key = self._project.key(index)
        sides = ((self._project, index), (after, after.index(key)))
        before, new = (_shown(project, number) for project, number in sides)
        return {"before": before.positions.round(1).tolist(), "after": new.positions.round(1).tolist()}


def _shown(project: Project, index: int) -> Picks:
    found = project.automatic(index)
    return found.where(project.is_pick(found, project.select))


def _lives(pid: int | None, folder: Path) -> bool:
    """Return whether the process of a job is alive, and not another one that was given its number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and str(folder) in process.cmdline()
    except (psutil.Error, TypeError, ValueError):
        return False


def carry_over(project: Project, target: Path) -> None:
    """Take all marks to the picks of a round. In complete micrographs what was picked stays, and nothing is added."""
    if (target / EDITS).exists():
        return  # it was accepted before, and may have been corrected since
    partial = target / _CARRIED  # so that what a crash cut short is done anew
    partial.unlink(missing_ok=True)
    log = EditLog(partial)
    for index in range(len(project.entries)):
        marks = project.marks(index)
        edits = _all_of(marks)
        if marks.complete:
            kept, _ = project.final(index, project.select)
            edits += [
                {"op": "put", "name": f"kept-{number}", "kind": "added", "x": x, "y": y}
                for number, (x, y) in enumerate(kept.positions.tolist())
            ]
            edits += [{"op": "only", "value": True}, {"op": "complete", "value": True}]
        if edits:
            log.append(project.key(index), edits, "accepted")
    if partial.exists():
        partial.replace(target / EDITS)


def _all_of(marks: Marks) -> list[dict[str, Any]]:
    return [
        {"op": "put", "name": name, "kind": kind, "x": x, "y": y}
        for kind, places in (("added", marks.added), ("removed", marks.removed))
        for name, (x, y) in places.items()
    ]
