"""PNG and JPEG images, through Pillow; colours become luminance."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32

from deeppicker.errors import DeepPickerError, FormatError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.room import refuse_large_image
from deeppicker.formats.text import one_line, unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

_KINDS = ("PNG", "JPEG")
_NUMERIC_MODES = ("L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def write_mask(path: Path, mask: Bool[np.ndarray, "height width"]) -> None:
    """Write a mask as a PNG of one bit a pixel, white where it is true.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(mask).save(content, format="PNG")
    atomic_write(path, content.getvalue())


def read_shape(path: Path) -> tuple[int, int]:
    """Return (height, width) without reading the pixels. Raises as `read`."""
    try:
        with _open(path) as image:
            return image.height, image.width
    except DeepPickerError:
        raise
    except Exception as error:
        raise _failed(path, error) from error


def read(path: Path) -> Float32[np.ndarray, "height width"]:
    """Read the image; row 0 is the first row of the file, whatever orientation its metadata asks for.

    Raises
    ------
    FormatError
        If the file is not a PNG or JPEG, is damaged, or an animation.
    InputError
        If it cannot be opened.
    """
    try:
        with _open(path) as image:
            if getattr(image, "n_frames", 1) != 1:
                raise FormatError(one_line(f"{path} is an animation; give a single image"))
            refuse_large_image(path, image.height, image.width)
            grey = image if image.mode in _NUMERIC_MODES else image.convert("L")
            return np.array(grey, dtype=np.float32, order="C")
    except DeepPickerError:
        raise
    except Exception as error:  # Pillow raises many types for damaged files: SyntaxError, struct.error, …
        raise _failed(path, error) from error


def _open(path: Path) -> Image:
    from PIL import Image

    # Pillow takes more than 89 million pixels for an attack; super-resolution micrographs have more. We have our limit.
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(path, formats=_KINDS)


def _failed(path: Path, error: Exception) -> DeepPickerError:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return FormatError(one_line(f"{path} is not a PNG or JPEG image; check the file"))
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(path, error)
    reason = error or type(error).__name__
    return FormatError(one_line(f"{path} cannot be read as an image ({reason}); check the file or copy it again"))
