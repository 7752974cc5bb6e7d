"""Scoring the whole micrograph at once, compared with position by position, which is how the original scores.

Three ratios, all for the scoring alone of one prepared micrograph:

- the paper's network swept over the micrograph, against the same network on the window around each position;
- the default network drawing its map, against the same network on the receptive field of each position of that map;
- the default network drawing its map, against the paper's network window by window: the gain for a user who changes
  from the original to DeepPicker.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from deeppicker.config import ScoreConfig
from deeppicker.core import Prepared, ScoreMap
from deeppicker.formats import read_micrograph
from deeppicker.networks.dense import DenseNetwork
from deeppicker.networks.model import Model, load_model
from deeppicker.networks.paper import PaperNetwork
from deeppicker.picking.prepare import prepare
from deeppicker.picking.score import score
from timing.bench import DIAMETER, USUAL, Bench
from timing.measure import warm

PAPER = "deeppicker2016"
BATCH = 1024
"""Windows that the paper's network judges at a time."""

_ROWS = 12  # of the grid whose windows are judged one by one; the rest is extrapolated
_POSITIONS, _CROPS = 96, 8  # positions of the dense map that are drawn one by one, and how many at a time
_REPEATS = 5


def measure(bench: Bench) -> dict[str, Any]:
    """Return seconds for all positions of a micrograph, and their ratios."""
    torch.set_num_threads(bench.cores)
    micrograph = read_micrograph(bench.micrograph(USUAL))
    result: dict[str, Any] = {"threads": bench.cores}
    for name, kind, one_by_one in (("paper", PAPER, windows), ("default", None, crops)):
        model = load_model(kind) if kind else load_model()
        prepared = prepare(micrograph, DIAMETER, model.prepare)
        scores = score(model, prepared, ScoreConfig())
        result[name] = {
            "positions": scores.logits.size,
            "at once": warm(_REPEATS, lambda model=model, prepared=prepared: score(model, prepared, ScoreConfig())),
            "one by one": one_by_one(model, prepared, scores),
        }
    result["ratios"] = {
        "paper": result["paper"]["one by one"] / result["paper"]["at once"],
        "default": result["default"]["one by one"] / result["default"]["at once"],
        "paper to default": result["paper"]["one by one"] / result["default"]["at once"],
    }
    return result


def windows(model: Model, prepared: Prepared, scores: ScoreMap) -> float:
    """Return the seconds that the paper's network takes for the windows of all positions, batch after batch."""
    network = model.for_picking
    assert isinstance(network, PaperNetwork)
    step, side = network.stride, network.window
    patches = torch.from_numpy(prepared.image).unfold(0, side, step).unfold(1, side, step)
    chosen = slice(None, None, max(1, len(patches) // _ROWS))
    rows = patches[chosen].reshape(-1, side, side)
    found = []
    with torch.inference_mode():
        network.windows(rows[:BATCH])
        start = time.perf_counter()
        for first in range(0, len(rows), BATCH):
            found.append(network.windows(rows[first : first + BATCH]))
        seconds = time.perf_counter() - start
    assert np.allclose(torch.cat(found).numpy(), scores.logits[chosen].ravel(), atol=1e-3), "not the same scores"
    return seconds / len(rows) * scores.logits.size


def crops(model: Model, prepared: Prepared, scores: ScoreMap) -> float:
    """Return the seconds that the dense network takes for the receptive field of each position, batch after batch.

    Positions are even pixels, but the network pools on multiples of 16, so a crop begins at one.
    """
    network = model.for_picking
    assert isinstance(network, DenseNetwork)
    halo, multiple, stride = network.reach.halo, network.multiple, network.stride
    image = torch.from_numpy(prepared.image)
    side = 2 * halo + multiple
    rng = np.random.default_rng(0)
    corners = multiple * rng.integers(0, [(length - side) // multiple for length in image.shape], (_POSITIONS, 2))
    inside = rng.integers(0, multiple // stride, (_POSITIONS, 2)) + halo // stride
    parts = torch.stack([image[y : y + side, x : x + side] for y, x in corners.tolist()])
    found = []
    with torch.inference_mode():
        network(parts[:_CROPS])
        start = time.perf_counter()
        for first in range(0, _POSITIONS, _CROPS):
            found.append(network(parts[first : first + _CROPS])[0])
        seconds = time.perf_counter() - start
    each = torch.cat(found).numpy()[np.arange(_POSITIONS), inside[:, 0], inside[:, 1]]
    rows, columns = (corners // stride + inside).T
    assert np.allclose(each, scores.logits[rows, columns], atol=1e-3), "not the same scores"
    return seconds / _POSITIONS * scores.logits.size
