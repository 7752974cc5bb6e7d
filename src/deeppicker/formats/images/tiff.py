"""TIFF images of one page and one channel, through tifffile."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from deeppicker.errors import DeepPickerError, FormatError
from deeppicker.formats.room import refuse_large_image
from deeppicker.formats.text import one_line, unreadable

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_LONGEST_SIDE = 1 << 18
_PALETTE = 3  # PhotometricInterpretation in TIFF 6.0


def read_shape(path: Path) -> tuple[int, int]:
    """Return (height, width) without reading the pixels. Raises as `read`."""
    try:
        with _open(path) as tiff:
            height, width = _single_page(path, tiff).shape
            return height, width
    except DeepPickerError:
        raise
    except Exception as error:
        raise _failed(path, error) from error


def read(path: Path) -> Float32[np.ndarray, "height width"]:
    """Read the image; row 0 is the first row of the file.

    Raises
    ------
    FormatError
        If the file is not a TIFF, is damaged, a movie, or in colour.
    InputError
        If it cannot be opened.
    """
    try:
        with _open(path) as tiff, np.errstate(over="ignore"):
            page = _single_page(path, tiff)
            for height, width in (page.shape, _chunk(page)):
                refuse_large_image(path, height, width)
            image = np.ascontiguousarray(page.asarray(), dtype=np.float32)
            if image.shape != page.shape:
                raise ValueError(f"{image.shape} pixels instead of {page.shape}")
            return image
    except DeepPickerError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever a damaged file leads them to
        raise _failed(path, error) from error


def _open(path: Path) -> TiffFile:
    from tifffile import TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it reports comes as one of our errors
    return TiffFile(path)


def _single_page(path: Path, tiff: TiffFile) -> TiffPage:
    if len(tiff.pages) == 0:
        raise FormatError(one_line(f"{path} is damaged: no image in it; copy it again"))
    if len(tiff.pages) != 1:
        raise FormatError(
            one_line(
                f"{path} holds {len(tiff.pages)} pages, a movie or stack; "
                "motion-correct it first and give the motion-corrected micrograph"
            )
        )
    page = tiff.pages.first
    if _names_another_page(tiff, page):
        raise FormatError(one_line(f"{path} is cut short: its second page is missing, perhaps a movie; copy it again"))
    if page.samplesperpixel != 1 or len(page.shape) != 2:
        raise FormatError(
            one_line(f"{path} has {page.samplesperpixel} channels, shape {page.shape}; give the grey-scale image")
        )
    if page.photometric == _PALETTE:
        raise FormatError(one_line(f"{path} is an image with a colour palette; give the grey-scale image"))
    if page.dtype is None or page.dtype.kind not in "uif":
        raise FormatError(one_line(f"{path} holds pixels of type {page.dtype}; give integers or floats"))
    height, width = page.shape
    if not (0 < height <= _LONGEST_SIDE and 0 < width <= _LONGEST_SIDE):
        raise FormatError(one_line(f"{path} claims {width}×{height} pixels; check the file"))
    return page


def _chunk(page: TiffPage) -> tuple[int, int]:
    """Return (height, width) of the parts in which the pixels are stored, which are decoded one by one."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.shape[0]), page.shape[1]


def _names_another_page(tiff: TiffFile, page: TiffPage) -> bool:
    """Return whether a directory of tags gives a place for a further one; tifffile overlooks those past the end."""
    layout, file = tiff.tiff, tiff.filehandle
    file.seek(page.offset)
    (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    file.seek(page.offset + layout.tagnosize + count * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    return bool(following != 0)


def _failed(path: Path, error: Exception) -> DeepPickerError:
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(path, error)
    reason = error or type(error).__name__
    return FormatError(one_line(f"{path} cannot be read as TIFF ({reason}); check the file or copy it again"))
