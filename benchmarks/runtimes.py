"""Whether another runtime computes the network faster than PyTorch does, on one core of this processor.

    pip install onnx onnxscript onnxruntime openvino    (in an environment of its own)
    python benchmarks/runtimes.py

Prints processor time for a tile, its ratio to PyTorch's, and by how much log-odds differ. What is not installed is left
out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from deeppicker import load_model

SIDE = 512
"""Pixels of a tile."""
ROUNDS = 6

Runtime = Callable[[], list[np.ndarray]]


def main() -> None:
    torch.set_num_threads(1)
    network = load_model().for_picking
    image = torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        runtimes = dict(every(network, image, Path(folder) / "network.onnx"))
        expected = runtimes["PyTorch"]()
        taken = {name: min(cost(runtime) for _ in range(ROUNDS)) for name, runtime in runtimes.items()}
        print("| runtime | processor time | PyTorch's over it | largest difference |\n|---|---|---|---|")
        for name, runtime in runtimes.items():
            off = max(float(np.abs(a - b).max()) for a, b in zip(runtime(), expected, strict=True))
            print(f"| {name} | {taken[name]:.3f} s | {taken['PyTorch'] / taken[name]:.2f}× | {off:.1g} |")


def cost(runtime: Runtime) -> float:
    start = time.process_time()
    runtime()
    return time.process_time() - start


def every(network: torch.nn.Module, image: torch.Tensor, path: Path) -> Iterator[tuple[str, Runtime]]:
    """Yield each runtime that is there, ready to run."""
    compiled = torch.compile(network)
    yield "PyTorch", lambda: by_torch(network, image)
    yield "PyTorch, compiled", lambda: by_torch(compiled, image)
    yield "PyTorch, bfloat16", lambda: in_bfloat16(network, image)
    with suppress(ImportError):
        import onnxruntime

        torch.onnx.export(network, (image,), path, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        yield "ONNX Runtime", lambda: session.run(None, {name: image.numpy()})
    with suppress(ImportError):
        import openvino

        core = openvino.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
        model = core.compile_model(path, "CPU")
        yield "OpenVINO", lambda: list(model([image.numpy()]).values())


def by_torch(network: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], image: torch.Tensor) -> list[np.ndarray]:
    with torch.inference_mode():
        return [part.float().numpy() for part in network(image)]


def in_bfloat16(network: torch.nn.Module, image: torch.Tensor) -> list[np.ndarray]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return by_torch(network, image)


if __name__ == "__main__":
    main()
