"""A job in a process of its own, which outlives page and server.

``python -m deeppicker.gui.job FOLDER`` does what ``FOLDER/task.json`` says, and writes into ``FOLDER/job.json`` how
far it is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deeppicker.errors import DeepPickerError
from deeppicker.gui import classify, learn
from deeppicker.gui.project import Project, Wanted
from deeppicker.gui.rounds import TASK, read_json
from deeppicker.gui.teller import Teller

_KINDS: dict[str, Callable[[Project, Teller], None]] = {
    "learn": lambda project, teller: learn.learn(project, teller),
    "pick": lambda project, teller: learn.pick(project, None, teller),
    "classify": lambda project, teller: classify.classify(project, teller),
}


def main(folder: Path) -> int:
    """Do the job of a folder, and return the exit status."""
    task = read_json(folder / TASK)
    project = Project(_wanted(task["wanted"]))
    teller = Teller(folder, {"kind": task["kind"], "state": "running", "pid": os.getpid(), "step": "starting"})
    teller.tell()
    try:
        _KINDS[task["kind"]](project, teller)
    except DeepPickerError as error:
        teller.tell(state="failed", error=str(error))
        return 2
    except KeyboardInterrupt:
        teller.tell(state="cancelled")
        return 1
    teller.tell(state="done", left=0)
    return 0


def _wanted(values: Mapping[str, Any]) -> Wanted:
    """Return what `task_of` wrote down."""
    return Wanted(
        inputs=tuple(values["inputs"]),
        output=Path(values["output"]),
        picks=Path(values["picks"]) if values["picks"] else None,
        reference=Path(values["reference"]) if values["reference"] else None,
        micrographs=values["micrographs"],
        diameter=values["diameter"],
        pixel_size=values["pixel_size"],
        classes=Path(values["classes"]) if values["classes"] else None,
    )


def task_of(wanted: Wanted, kind: str) -> str:
    """Return the file that tells a job what to do: ``learn``, ``pick`` what has no picks yet, or ``classify``."""
    return json.dumps({"kind": kind, "wanted": asdict(wanted)}, default=str, indent=1) + "\n"


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # see docs/architecture.md; read when PyTorch is loaded
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main(Path(sys.argv[1])))
