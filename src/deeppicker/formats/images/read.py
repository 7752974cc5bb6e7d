"""Micrographs of every supported kind: `read_micrograph` and `read_header`."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from deeppicker.core import Micrograph
from deeppicker.errors import DeepPickerError, FormatError, InputError, out_of_range
from deeppicker.formats.images import mrc, raster, tiff
from deeppicker.formats.room import refuse_special
from deeppicker.formats.text import one_line

MRC_EXTENSIONS = (".mrc", ".mrcs", ".mrc.gz", ".mrc.bz2", ".mrcs.gz", ".mrcs.bz2")
TIFF_EXTENSIONS = (".tif", ".tiff")
RASTER_EXTENSIONS = (".png", ".jpg", ".jpeg")
IMAGE_EXTENSIONS = MRC_EXTENSIONS + TIFF_EXTENSIONS + RASTER_EXTENSIONS
_TAIL = 4096  # bytes at the end of a file, a block of most file systems
_STRIP = 64  # rows that are checked at a time
_ANISOTROPY = 0.01  # x and y may differ by this part; binning to whole pixels causes that much


class ImageHeader(NamedTuple):
    """Size of an image in pixels, and its pixel size in Å if the file holds a usable one."""

    height: int
    width: int
    pixel_size: float | None


def is_image(path: str | Path) -> bool:
    """Return whether the file name has the extension of a supported image."""
    return str(path).lower().endswith(IMAGE_EXTENSIONS)


def read_micrograph(
    path: str | Path, *, name: str | None = None, pixel_size: float | None = None, invert: bool = False
) -> Micrograph:
    """Read one image file.

    Parameters
    ----------
    path : path
        MRC (also ``.gz``, ``.bz2``), TIFF, PNG or JPEG.
    name : str, optional
        The micrograph's name; the path as given by default.
    pixel_size : float, optional
        Å per pixel; overrides that of the file, and is needed for all but MRC files.
    invert : bool
        Whether the particles are bright; then the contrast is inverted, without another copy of the image.

    Raises
    ------
    FormatError
        If the file is not a single grey-scale image, is damaged, holds NaN or infinity, or is constant.
    InputError
        If it cannot be opened, or there is no pixel size.
    """
    file = Path(path)
    if pixel_size is not None and not _is_length(pixel_size):
        raise out_of_range("pixel_size", pixel_size, "a positive number")
    kind = _kind(file)
    if kind in TIFF_EXTENSIONS:
        image, stored = tiff.read(file), None
    elif kind in RASTER_EXTENSIONS:
        image, stored = raster.read(file), None
    else:
        image, header = mrc.read(file)
        stored = header.voxel_size
    _check_pixels(file, image)
    if invert:
        np.negative(image, out=image)
    size = float(pixel_size) if pixel_size is not None else _stored_pixel_size(file, stored)
    return Micrograph(str(path) if name is None else name, image, size)


def read_header(path: str | Path) -> ImageHeader:
    """Return the size of an image without reading its pixels.

    Raises
    ------
    FormatError, InputError
        As `read_micrograph`, but a missing pixel size is None, not an error.
    """
    file = Path(path)
    kind = _kind(file)
    if kind in TIFF_EXTENSIONS:
        return ImageHeader(*tiff.read_shape(file), None)
    if kind in RASTER_EXTENSIONS:
        return ImageHeader(*raster.read_shape(file), None)
    header = mrc.read_header(file)
    try:
        pixel_size = _stored_pixel_size(file, header.voxel_size)
    except DeepPickerError:
        return ImageHeader(header.height, header.width, None)
    return ImageHeader(header.height, header.width, pixel_size)


def is_whole(path: Path) -> bool:
    """Return whether a file is as long as its header says; True where only reading it all would tell."""
    if not str(path).lower().endswith((".mrc", ".mrcs")):
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = mrc.read_header(path)
        return path.stat().st_size >= header.offset + header.nbytes
    except (DeepPickerError, OSError):
        return False


def ends_in_zeros(path: Path) -> bool:
    """Return whether the last block of a file holds nothing but zeros, as if it was still to be filled."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size - min(_TAIL, size // 2))
            return not any(file.read())
    except OSError:
        return False


def _kind(path: Path) -> str:
    """Return the extension, lower case; refuse what is not supported or not there."""
    lower = path.name.lower()
    if lower.endswith(".eer"):
        raise FormatError(one_line(f"{path} is a movie; motion-correct it first and give the resulting micrograph"))
    kind = next((extension for extension in IMAGE_EXTENSIONS if lower.endswith(extension)), None)
    if kind is None:
        message = f"{path} has no supported image extension; supported are {', '.join(IMAGE_EXTENSIONS)}"
        raise FormatError(one_line(message))
    if os.path.isdir(path):  # noqa: PTH112 - False where Path.is_dir raises
        raise InputError(one_line(f"{path} is a folder, not an image file; give the file"))
    refuse_special(path)
    return kind


def _check_pixels(path: Path, image: Float32[np.ndarray, "height width"]) -> None:
    # Strip by strip: each is in the cache when its maximum is sought. Both are NaN where any pixel is.
    strips = [image[top : top + _STRIP] for top in range(0, image.shape[0], _STRIP)]
    with np.errstate(invalid="ignore"):
        low, high = np.min([strip.min() for strip in strips]), np.max([strip.max() for strip in strips])
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = sum(strip.size - int(np.isfinite(strip).sum()) for strip in strips)
        raise FormatError(
            one_line(f"{path} has {bad:,} of {image.size:,} NaN or infinite pixels; repair or leave it out")
        )
    if low == high:
        raise FormatError(one_line(f"{path} is constant (every pixel is {low:g}); leave it out or copy it again"))


def _stored_pixel_size(path: Path, stored: tuple[float, float] | None) -> float:
    if stored is None:
        raise InputError(one_line(f"{path} carries no reliable pixel size; set --pixel-size"))
    x, y = stored
    if not _is_length(x):
        raise InputError(one_line(f"{path} has pixel size {x} Å; set --pixel-size"))
    if not _is_length(y) or abs(x - y) > _ANISOTROPY * max(x, y):
        raise InputError(one_line(f"{path} has pixel size {x} Å along x but {y} Å along y; set --pixel-size"))
    return x


def _is_length(value: float) -> bool:
    return math.isfinite(value) and value > 0
