"""What relion_refine reads and writes in a two-dimensional classification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.star_table import format_table, read_tables
from deeppicker.formats.text import number


@dataclass(frozen=True)
class Found:
    """Alignment of windows, in the order in which they were given.

    Parameters
    ----------
    label : int array, (n,)
        Class, from 0.
    psi : float array, (n,)
        Degrees, as RELION counts them.
    origin : float array, (n, 2)
        Pixels (x, y) of the window by which a particle is to be moved.
    probability : float array, (n,)
        Largest probability.
    """

    label: Int64[np.ndarray, " n"]
    psi: Float64[np.ndarray, " n"]
    origin: Float64[np.ndarray, "n 2"]
    probability: Float64[np.ndarray, " n"]


def write_windows(path: Path, count: int, side: int, pixel_size: float) -> None:
    """Write the STAR file of ``windows.mrcs``, whose phases are flipped already."""
    optics = {
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnOpticsGroup": ["1"],
        "rlnVoltage": ["300"],
        "rlnSphericalAberration": ["2.7"],
        "rlnAmplitudeContrast": ["0.1"],
        "rlnImagePixelSize": [number(pixel_size)],
        "rlnImageSize": [str(side)],
        "rlnImageDimensionality": ["2"],
    }
    rows = range(1, count + 1)
    particles = {
        "rlnImageName": [f"{row:06d}@windows.mrcs" for row in rows],
        "rlnMicrographName": ["windows.mrc"] * count,
        "rlnOpticsGroup": ["1"] * count,
    }
    atomic_write(path, format_table("optics", optics) + format_table("particles", particles))


def read_alignment(path: Path, pixel_size: float) -> Found:
    """Read a ``_data.star`` of relion_refine.

    Raises
    ------
    FormatError
        If a column is missing.
    """
    table = next(table for table in read_tables(path) if table.name == "particles")
    order = np.argsort([int(name.split("@")[0]) for name in table.text("rlnImageName")])
    origin = np.stack([table.numbers(f"rlnOrigin{axis}Angst") for axis in "XY"], axis=1) / pixel_size
    return Found(
        table.numbers("rlnClassNumber").astype(np.int64)[order] - 1,
        table.numbers("rlnAnglePsi")[order],
        origin[order],
        table.numbers("rlnMaxValueProbDistribution")[order],
    )
