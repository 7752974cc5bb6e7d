"""Where a benchmark runs, and the micrographs that it makes there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.scene import simulate_micrograph
from deeppicker.simulate.shapes import invent

PIXEL_SIZE, DIAMETER = 1.77, 180.0
"""Å per pixel and Å."""

USUAL = (4096, 4096)
"""Width and height of the standard micrograph."""

_SIDE = 2048  # of the simulated area; larger micrographs repeat it, mirrored
_SAME = {"ice": (400.0, 400.0), "contrast": (1.0, 1.0), "coverage": (0.2, 0.2), "defocus": (1.5, 1.5)}
_NONE = dict.fromkeys(("empty", "membranes", "mixed", "phase_plates", "contamination", "processed", "crowded"), 0.0)


@dataclass(frozen=True)
class Bench:
    """Where a benchmark runs.

    Parameters
    ----------
    folder : Path
                Temporary, removed afterwards.
    work : Path
        Files kept for the next run.
    cores : int
        Processor cores to which this process and its children are confined.
    """

    folder: Path
    work: Path
    cores: int

    def micrograph(self, size: tuple[int, int]) -> Path:
        """Return a simulated micrograph, width and height given, that holds particles and structured noise."""
        path = self.folder / f"simulated-{size[0]}x{size[1]}.mrc"
        if not path.exists():
            image = self._simulated()
            width, height = size
            padding = ((0, max(0, height - _SIDE)), (0, max(0, width - _SIDE)))
            write(path, np.pad(image, padding, mode="symmetric")[:height, :width])
        return path

    def copies(self, size: tuple[int, int], number: int) -> Path:
        """Return a folder with a number of micrographs, which are links to one file to save disk space.

        The file is in the system's page cache, so the speed of the disk does not matter.
        """
        folder = self.folder / f"{number}-of-{size[0]}x{size[1]}"
        if not folder.exists():
            folder.mkdir()
            source = self.micrograph(size)
            for index in range(number):
                os.link(source, folder / f"micrograph_{index:04d}.mrc")
        return folder

    def _simulated(self) -> np.ndarray:
        path = self.folder / "simulated.npy"
        if not path.exists():
            particle = invent(np.random.default_rng(3), DIAMETER)
            config = SimulateConfig(size=(_SIDE, _SIDE), pixel_size=PIXEL_SIZE, **_SAME, **_NONE)
            np.save(path, simulate_micrograph(particle, (), config, np.random.default_rng(0)).image)
        return np.asarray(np.load(path))


def write(path: Path, image: np.ndarray) -> None:
    """Write an MRC file with the pixel size of all micrographs here."""
    with mrcfile.new(path, np.ascontiguousarray(image)) as file:
        file.voxel_size = PIXEL_SIZE
