"""Checksums of picks, to prove that a change of the code leaves them the same to the last bit.

    python benchmarks/checksum.py [--data DIR]

Prints one line for each model and set of micrographs: the first two micrographs of each real data set, the sample, and
two simulated micrographs (which also prove the simulator). Covers positions and scores of all candidates and the
estimated diameter. Only the public API is used, so the same file runs on any layout of the package. Bits depend on the
processor and on the version of PyTorch: compare lines of one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import deeppicker
from deeppicker import Micrograph

ROOT = Path(__file__).parents[1]
REAL = {"apoferritin-10146": 130.0, "trpv1-10059": 130.0, "ribosome-10028": 290.0}  # diameters in Å
SIMULATED = {"4v4r": 260.0, "6pxm": 130.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DEEPPICKER_DATA"))
    data = parser.parse_args().data
    if data is None:
        parser.error("set --data or DEEPPICKER_DATA to the development data")
    everything = hashlib.sha256()
    for name, diameter, micrographs in sets(Path(data)):
        for kind in ("general", "deeppicker2016"):
            line = f"{checksum(kind, micrographs, diameter)}  {kind:14}  {name}"
            everything.update(line.encode())
            print(line, flush=True)
    print(f"{everything.hexdigest()[:32]}  all")


def sets(data: Path) -> Iterator[tuple[str, float, list[Micrograph]]]:
    """Yield the name, the particle diameter in Å and the micrographs of each set."""
    for name, diameter in REAL.items():
        files = sorted((data / "real" / name / "micrographs").glob("*.mrc"))[:2]
        star = [
            entry.pixel_size for entry in deeppicker.find_micrographs([str(data / "real" / name / "particles.star")])
        ]
        yield name, diameter, [deeppicker.read_micrograph(file, name=file.name, pixel_size=star[0]) for file in files]
    sample = ROOT / "sample" / "micrographs" / "sample_001.mrc.gz"
    yield "sample", 180.0, [deeppicker.read_micrograph(sample, name=sample.name)]
    config = deeppicker.SimulateConfig(size=(720, 560))
    for name, diameter in SIMULATED.items():
        volume = deeppicker.read_structure(data / "structures" / "maps" / f"{name}.mrc.gz")
        scene = deeppicker.simulate_micrograph(volume, [], config, np.random.default_rng(7))
        yield f"simulated {name}", diameter, [Micrograph(name, scene.image, scene.pixel_size)]


def checksum(kind: str, micrographs: Sequence[Micrograph], diameter: float) -> str:
    """Return the checksum of all candidates and, where the model tells it, of the estimated diameter."""
    model = deeppicker.load_model(kind)
    digest = hashlib.sha256()
    for micrograph in micrographs:
        digest.update(micrograph.image.tobytes())
        found = deeppicker.pick_micrograph(micrograph, model, diameter)
        digest.update(found.positions.tobytes() + found.scores.tobytes())
    if kind == "general":
        digest.update(np.float64(deeppicker.estimate_diameter(model, micrographs).value).tobytes())
    return digest.hexdigest()[:32]


if __name__ == "__main__":
    main()
