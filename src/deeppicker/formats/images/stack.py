"""MRC stacks of particle images (``.mrcs``), written part by part, with a mark that tells how they were made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from mrcfile.dtypes import HEADER_DTYPE

from deeppicker.formats.atomic import atomic_path

_MODE = 2  # float32
_WIDTH = 80  # characters of a label


def write_stack(path: Path, blocks: Iterable[Float32[np.ndarray, "_ side side"]], pixel_size: float, mark: str) -> int:
    """Write images as they come, at least one; return how many there were.

    Parameters
    ----------
    path : Path
        Whole or not there at all, whatever happens.
    blocks : iterable of float32 array, (n, side, side)
        The images; no more than a block is held in memory.
    pixel_size : float
        Å.
    mark : str
        Up to 80 ASCII characters that `read_mark` gives back.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    number, side, low, high, total, squares = 0, 0, math.inf, -math.inf, 0.0, 0.0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(HEADER_DTYPE.itemsize))
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
            number, side = number + len(block), block.shape[-1]
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            total += float(block.sum(dtype=np.float64))
            squares += float(np.square(block, dtype=np.float64).sum())
        assert number > 0
        mean = total / (number * side * side)
        deviation = math.sqrt(max(0.0, squares / (number * side * side) - mean * mean))
        file.seek(0)
        file.write(_header(number, side, pixel_size, (low, high, mean, deviation), mark))
    return number


def read_mark(path: Path) -> str | None:
    """Return the mark of a stack; None if there is none, or the file is not whole."""
    try:
        with path.open("rb") as file:
            raw = file.read(HEADER_DTYPE.itemsize)
        if len(raw) < HEADER_DTYPE.itemsize:
            return None
        fields: Any = np.frombuffer(raw, HEADER_DTYPE)[0]
        pixels = int(fields["nx"]) * int(fields["ny"]) * int(fields["nz"])
        if fields["mode"] != _MODE or fields["nlabl"] < 2 or path.stat().st_size != len(raw) + 4 * pixels:
            return None
        return bytes(fields["label"][1]).decode("ascii", "replace").rstrip("\0 ")
    except OSError:
        return None


def _header(
    number: int, side: int, pixel_size: float, statistics: tuple[float, float, float, float], mark: str
) -> bytes:
    """Return the header of a stack (MRC2014: space group 0, one section a volume)."""
    header: Any = np.zeros(1, HEADER_DTYPE.newbyteorder("<"))
    header["nx"] = header["ny"] = header["mx"] = header["my"] = side
    header["nz"], header["mz"], header["mode"] = number, 1, _MODE
    for axis, extent in zip("xyz", (side, side, 1), strict=True):
        header["cella"][axis] = extent * pixel_size
    for angle in ("alpha", "beta", "gamma"):
        header["cellb"][angle] = 90
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = statistics
    header["nversion"], header["map"], header["machst"] = 20141, b"MAP ", [0x44, 0x44, 0, 0]
    header["nlabl"] = 2
    header["label"][0, 0] = f"DeepPicker {version('deeppicker')}".encode()[:_WIDTH]
    header["label"][0, 1] = mark.encode()[:_WIDTH]
    return bytes(header.tobytes())
