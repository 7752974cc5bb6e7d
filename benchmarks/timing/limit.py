"""What a micrograph must cost at least on one core: the bytes that are read, and the operations of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from deeppicker.formats import read_micrograph
from deeppicker.networks.model import load_model
from deeppicker.picking.prepare import prepare
from timing.bench import DIAMETER, USUAL, Bench
from timing.measure import warm

_SIDE = 2048  # of the matrices whose product shows what the processor can do
_REPEATS = 5


def measure(bench: Bench) -> dict[str, Any]:
    """Return the operations of the network, the speeds of this processor, and the time that follows from them."""
    torch.set_num_threads(1)
    model = load_model()
    micrograph = read_micrograph(bench.micrograph(USUAL))
    prepared = prepare(micrograph, DIAMETER, model.prepare)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.for_picking.score_map(prepared, model.network.stride, model.network.tile)
    matrix = torch.rand(_SIDE, _SIDE)
    target = np.empty_like(micrograph.image)
    flops = counter.get_total_flops()
    peak = 2 * _SIDE**3 / warm(_REPEATS, lambda: torch.mm(matrix, matrix))
    copied = micrograph.image.nbytes / warm(_REPEATS, lambda: np.copyto(target, micrograph.image))
    return {
        "flops": flops,
        "peak": peak,
        "bytes": micrograph.image.nbytes,
        "copied": copied,
        "seconds": flops / peak + micrograph.image.nbytes / copied,
    }
