"""The map of scores behind the picks of a micrograph, computed when somebody looks at it.

``python -m deeppicker.gui.score_map`` reads what to compute from its input and writes a PNG file: the service does not
load PyTorch, so that its memory stays small.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage, special

from deeppicker.config import PickConfig
from deeppicker.core import ScoreMap
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats.recorded import RUN
from deeppicker.gui.pictures import eight_bit, png
from deeppicker.gui.project import Project
from deeppicker.gui.rounds import read_json

if TYPE_CHECKING:
    from deeppicker.networks.model import Model

_NO_MODEL = "the model that made these picks is not found, so there is no score map"
_SIDE = 1024  # pixels of the picture, at most


def score_map(project: Project, index: int) -> bytes:
    """Return the probabilities of a particle at each place of a micrograph as a PNG file.

    Raises
    ------
    InputError
        If there is no run, or its model cannot be found.
    """
    entry, header = project.entries[index], project.header(index)
    if not project.has_run or project.wanted.picks is not None:
        raise InputError("only a run has score maps")
    if "weights" not in read_json(project.folder / RUN):
        raise InputError(_NO_MODEL)
    if project.diameter is None or header.pixel_size is None:
        raise InputError("the diameter and the pixel size are needed for the score map")
    task = {
        "folder": str(project.folder),
        "path": str(entry.path),
        "pixel_size": header.pixel_size,
        "diameter": project.recorded.diameter or project.diameter,
        "invert": project.recorded.invert,
    }
    command = [sys.executable, "-m", "deeppicker.gui.score_map"]
    done = subprocess.run(command, input=json.dumps(task).encode(), capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(lines[-1] if lines else "the score map cannot be computed")
    return done.stdout


def picture(scores: ScoreMap, shape: tuple[int, int]) -> UInt8[np.ndarray, "rows columns"]:
    """Return the probabilities over the whole micrograph, whose ``shape`` is given, on fewer pixels."""
    factor = max(1, -(-max(shape) // _SIDE))
    rows, columns = (factor * (np.arange(-(-side // factor)) + 0.5) - 0.5 for side in shape)
    left, top = scores.grid.origin
    places = np.meshgrid((rows - top) / scores.grid.step, (columns - left) / scores.grid.step, indexing="ij")
    there: Float[np.ndarray, "rows columns"] = ndimage.map_coordinates(
        special.expit(scores.logits), places, order=1, mode="constant", cval=0.0
    )
    return eight_bit(there.astype(np.float32), 0.0, 1.0)


def _computed(task: dict[str, Any]) -> bytes:
    from deeppicker.formats import read_micrograph
    from deeppicker.picking.prepare import prepare
    from deeppicker.picking.score import score

    model = _model(Path(task["folder"]))
    micrograph = read_micrograph(Path(task["path"]), pixel_size=task["pixel_size"], invert=task["invert"])
    prepared = prepare(micrograph, task["diameter"], model.prepare)
    height, width = micrograph.image.shape
    return png(picture(score(model, prepared, PickConfig().score), (height, width)))


def _model(folder: Path) -> Model:
    from deeppicker.gui.learn import made_by
    from deeppicker.networks.model import load_model

    name = made_by(folder)
    if name is None:
        raise InputError(_NO_MODEL)
    return load_model(name)


def main() -> int:
    """Compute what the input asks for, and return the exit status."""
    try:
        content = _computed(json.loads(sys.stdin.buffer.read()))
    except DeepPickerError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
