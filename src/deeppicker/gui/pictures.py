"""Micrographs as 8-bit pictures for the eye: reduced to the scale of picking, tiles of what one zooms into, crops."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from deeppicker.core import Micrograph
from deeppicker.formats import read_micrograph

TILE = 512  # pixels of a tile
_DETAIL = 36  # pixels that a box spans where the dense network looks at it
_LEAST_SIDE = 1000  # pixels of a reduced micrograph, so that it fills a screen
_SIGMAS = 5.0  # that 256 grey levels span on either side of the mean
_QUALITY = 90  # of JPEG: below what the eye sees in noise
_MEMORY = 256 << 20  # bytes of micrographs that are kept
_THUMBNAIL = 96
_PATIENCE = 10.0  # seconds
Item = TypeVar("Item")


class Cache(Generic[Item]):
    """The items that were used last, up to a total size."""

    def __init__(self, size: int, weigh: Callable[[Item], int]) -> None:
        self._size, self._weigh = size, weigh
        self._items: OrderedDict[object, Item] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], Item]) -> Item:
        """Return an item, made if it is not there."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        item = make()
        with self._lock:
            self._items[key] = item
            while len(self._items) > 1 and sum(map(self._weigh, self._items.values())) > self._size:
                self._items.popitem(last=False)
        return item


class Pictures:
    """Makes pictures of micrographs, and keeps the last ones."""

    def __init__(self) -> None:
        self._micrographs: Cache[Micrograph] = Cache(_MEMORY, lambda item: item.image.nbytes)
        self._pictures: Cache[bytes] = Cache(_MEMORY // 8, len)
        self._trends: Cache[Trend | None] = Cache(8, lambda _: 1)
        self._reading = threading.Lock()  # one at a time: two large micrographs at once are slower and larger
        self._turn = threading.Condition()
        self._urgent = 0  # pictures that somebody waits for

    def micrograph(self, path: Path, pixel_size: float | None) -> Micrograph:
        """Read a micrograph, or return it once more. A pixel size that is not known counts as 1."""
        with self._reading:
            key = (path, path.stat().st_mtime_ns if path.is_file() else 0)
            return self._micrographs.get(key, lambda: read_micrograph(path, pixel_size=pixel_size or 1.0))

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Let what waits for its `turn` wait meanwhile."""
        with self._turn:
            self._urgent += 1
        try:
            yield
        finally:
            with self._turn:
                self._urgent -= 1
                self._turn.notify_all()

    def turn(self) -> None:
        """Wait until nothing urgent is under way: thumbnails give way to the micrograph on screen."""
        with self._turn:
            self._turn.wait_for(lambda: not self._urgent, _PATIENCE)

    def trend(self, key: object, make: Callable[[], Trend | None]) -> Trend | None:
        """Return what is taken away from the tiles of a micrograph, computed if it is not there."""
        return self._trends.get(key, make)

    def picture(self, key: object, make: Callable[[], bytes]) -> bytes:
        """Return a picture, made if it is not there."""
        return self._pictures.get(key, make)


def base_factor(shape: tuple[int, ...], box: float | None) -> int:
    """Return by how much a micrograph of ``shape`` is reduced for a first look, for boxes of so many pixels."""
    most = max(1, max(shape) // _LEAST_SIDE)
    return most if box is None else max(1, min(most, int(box / _DETAIL)))


def reduced(image: Float32[np.ndarray, "height width"], factor: int) -> Float32[np.ndarray, "rows columns"]:
    """Return means over blocks of ``factor`` × ``factor`` pixels; what is left at the far edges is cut off."""
    if factor == 1:
        return image
    rows, columns = (max(1, side // factor) for side in image.shape)
    factor = min(factor, *image.shape)
    total = np.zeros((rows, columns * factor), dtype=np.float32)
    for offset in range(factor):
        total += image[offset : rows * factor : factor, : columns * factor]
    result: Float32[np.ndarray, "rows columns"] = total.reshape(rows, columns, factor).sum(axis=2) / factor**2
    return result


def first_look(
    image: Float32[np.ndarray, "height width"], factor: int, *, flat: float = 0.0, smooth: float = 0.0
) -> UInt8[np.ndarray, "rows columns"]:
    """Return a reduced micrograph in 8 bits.

    Parameters
    ----------
    image : float32 array, (height, width)
        The micrograph.
    factor : int
        Reduction.
    flat, smooth : float
        Standard deviations, in pixels of the result, of the neighbourhood whose mean is taken away, and of a low-pass
        filter; 0 for none.
    """
    small = reduced(image, factor)
    if smooth:
        small = ndimage.gaussian_filter(small, smooth, mode="nearest")
    if flat:
        small = small - background(small, flat)
    return eight_bit(small, *limits(small))


def background(image: Float32[np.ndarray, "height width"], sigma: float) -> Float32[np.ndarray, "height width"]:
    """Return the local mean; that of a wide neighbourhood is computed on fewer pixels."""
    coarse = max(1, int(sigma / 4))
    small = ndimage.gaussian_filter(reduced(image, coarse), sigma / coarse, mode="nearest")
    ratios = [a / b for a, b in zip(image.shape, small.shape, strict=True)]
    rows, columns = ((np.arange(side) + 0.5) / ratio - 0.5 for side, ratio in zip(image.shape, ratios, strict=True))
    along = _between(small, rows, 0)
    result: Float32[np.ndarray, "height width"] = _between(along, columns, 1).astype(np.float32)
    return result


def _between(image: Float32[np.ndarray, "height width"], places: np.ndarray, axis: int) -> Float32[np.ndarray, "a b"]:
    """Return rows or columns between those of an image."""
    last = image.shape[axis] - 1
    places = np.clip(places, 0, last)
    low = np.minimum(places.astype(np.intp), max(0, last - 1))
    high = np.minimum(low + 1, last)
    part = (places - low).astype(np.float32)
    part = part[:, None] if axis == 0 else part[None]
    return np.asarray(np.take(image, low, axis) * (1 - part) + np.take(image, high, axis) * part, dtype=np.float32)


def limits(image: Float32[np.ndarray, "height width"]) -> tuple[float, float]:
    """Return the values that become black and white: wide, as the page stretches the contrast itself."""
    stride = max(1, int(np.sqrt(image.size / 100_000)))
    sample = image[::stride, ::stride]
    low, middle, high = np.percentile(sample, [16, 50, 84])
    sigma = 0.5 * float(high - low) or float(sample.std()) or 1.0
    return float(middle) - _SIGMAS * sigma, float(middle) + _SIGMAS * sigma


def eight_bit(image: Float32[np.ndarray, "height width"], low: float, high: float) -> UInt8[np.ndarray, "height width"]:
    """Return the image with ``low`` black and ``high`` white."""
    scaled = (image - np.float32(low)) * np.float32(255 / (high - low))
    grey: UInt8[np.ndarray, "height width"] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return grey


@dataclass(frozen=True)
class Trend:
    """The local mean of a micrograph, on fewer pixels, which its tiles are freed of.

    Parameters
    ----------
    means : float32 array, (rows, columns)
        The local means.
    factor : int
        Reduction.
    """

    means: Float32[np.ndarray, "rows columns"]
    factor: int

    def at(self, top: int, left: int, shape: tuple[int, ...], factor: int) -> Float32[np.ndarray, "height width"]:
        """Return the means where a part of the micrograph lies, itself reduced by ``factor``."""
        rows, columns = (
            (start + factor * (np.arange(side) + 0.5)) / self.factor - 0.5
            for start, side in zip((top, left), shape, strict=True)
        )
        return _between(_between(self.means, rows, 0), columns, 1)


def trend(image: Float32[np.ndarray, "height width"], factor: int, flat: float) -> Trend | None:
    """Return what is taken away from a micrograph; ``factor`` and ``flat`` as those of `first_look`."""
    return Trend(background(reduced(image, factor), flat), factor) if flat else None


def tile(
    image: Float32[np.ndarray, "height width"], factor: int, column: int, row: int, away: Trend | None = None
) -> UInt8[np.ndarray, "rows columns"]:
    """Return one tile of a micrograph reduced by ``factor``; all tiles of a factor have the same grey levels."""
    side = TILE * factor
    whole = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
    height, width = image.shape
    middles = [
        (slice(y, y + 128 * factor), slice(x, x + 128 * factor))
        for y in np.linspace(0, max(0, height - 128 * factor), 3).astype(int).tolist()
        for x in np.linspace(0, max(0, width - 128 * factor), 3).astype(int).tolist()
    ]
    samples = np.concatenate([_part(image, place, factor, away).ravel() for place in middles])
    return eight_bit(_part(image, whole, factor, away), *limits(samples[None]))


def _part(
    image: Float32[np.ndarray, "height width"], place: tuple[slice, slice], factor: int, away: Trend | None
) -> Float32[np.ndarray, "rows columns"]:
    part = reduced(image[place], factor)
    if away is not None:
        part = part - away.at(place[0].start, place[1].start, part.shape, factor)
    return part


def crop(
    image: Float32[np.ndarray, "height width"], x: float, y: float, box: float, side: int
) -> UInt8[np.ndarray, "side side"]:
    """Return the neighbourhood of a position, ``box`` pixels wide, as ``side`` × ``side`` pixels."""
    factor = max(1, int(box / side))
    half = int(np.ceil(box / 2 / factor)) * factor
    left, top = round(x) - half, round(y) - half
    rows, columns = (
        np.clip(np.arange(start, start + 2 * half), 0, n - 1)
        for start, n in ((top, image.shape[0]), (left, image.shape[1]))
    )
    small = reduced(np.ascontiguousarray(image[np.ix_(rows, columns)]), factor)
    small = ndimage.gaussian_filter(small, small.shape[0] / 60)  # as the eye needs it to see a particle in noise
    scale = [side / length for length in small.shape]
    fitted = np.asarray(ndimage.zoom(small, scale, order=1, mode="nearest", grid_mode=True), dtype=np.float32)
    low, high = np.percentile(fitted, [1, 99])
    return eight_bit(fitted, float(low), float(max(high, low + 1e-6)))


def thumbnail(image: Float32[np.ndarray, "height width"]) -> UInt8[np.ndarray, "rows columns"]:
    """Return a small picture for a list."""
    small = reduced(image, max(1, max(image.shape) // (2 * _THUMBNAIL)))
    low, high = np.percentile(small, [1, 99])
    return eight_bit(small, float(low), float(max(high, low + 1e-6)))


def jpeg(image: UInt8[np.ndarray, "height width"], quality: int = _QUALITY) -> bytes:
    """Return the image as a JPEG file."""
    return _encoded(image, format="JPEG", quality=quality)


def png(image: UInt8[np.ndarray, "height width"]) -> bytes:
    """Return the image as a PNG file."""
    return _encoded(image, format="PNG")


def _encoded(image: UInt8[np.ndarray, "height width"], **options: object) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, **options)  # type: ignore[arg-type]
    return content.getvalue()
