"""Images of particles: windows of a micrograph, scaled and normalised with the arithmetic of RELION. No torch.

The differences from ``relion_preprocess --extract`` are those of rounding to 32 bits; ``tests/test_relion.py`` measures
them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from deeppicker.config import ExtractConfig
from deeppicker.core import MicrographEntry, Picks, micrograph_key
from deeppicker.errors import InputError, UnreadableError
from deeppicker.formats import read_micrograph
from deeppicker.formats.fingerprint import Fingerprint
from deeppicker.formats.images.stack import read_mark, write_stack
from deeppicker.formats.text import one_line

_BLOCK = 1 << 20  # pixels of windows that are cut out at a time: 8 MB at each step
_FLAT = 1e-10  # a background with less deviation is left as it is, as in RELION
_VERSION = 2  # of the arithmetic, for the mark


def extract_particles(
    image: Float32[np.ndarray, "height width"], positions: Float[np.ndarray, "n 2"], config: ExtractConfig
) -> Iterator[Float32[np.ndarray, "_ side side"]]:
    """Yield the images of particles, a few at a time, in the order of the positions.

    Parameters
    ----------
    image : float32 array, (height, width)
        The micrograph.
    positions : float array, (n, 2)
        Centres (x, y) in pixels. The decimals are cut off, as RELION does, and pixel ``box_size // 2`` of the window
        is that pixel. Where a window leaves the micrograph, it repeats the pixels of its edge.
    config : ExtractConfig
        Sizes and normalisation.
    """
    number = max(1, _BLOCK // config.box_size**2)
    for start in range(0, len(positions), number):
        yield _images(windows(image, positions[start : start + number], config.box_size), config)


def windows(
    image: Float32[np.ndarray, "height width"], positions: Float[np.ndarray, "n 2"], size: int
) -> Float64[np.ndarray, "n size size"]:
    """Cut windows out of an image (see `extract_particles`)."""
    corners = np.trunc(positions).astype(np.int64) - size // 2
    offsets = np.arange(size)
    columns = np.clip(corners[:, :1] + offsets, 0, image.shape[1] - 1)
    rows = np.clip(corners[:, 1:] + offsets, 0, image.shape[0] - 1)
    return np.asarray(image[rows[:, :, None], columns[:, None, :]], dtype=np.float64)


def touching(positions: Float[np.ndarray, "n 2"], shape: tuple[int, ...], size: int) -> Bool[np.ndarray, " n"]:
    """Return for each position whether its window holds any pixel of an image of ``shape`` (height, width)."""
    corners = np.trunc(positions) - size // 2
    inside: Bool[np.ndarray, " n"] = ((corners < [shape[1], shape[0]]) & (corners + size > 0)).all(axis=1)
    return inside


def _images(cut: Float64[np.ndarray, "n size size"], config: ExtractConfig) -> Float32[np.ndarray, "n side side"]:
    if config.side != config.box_size:
        cut = _scaled(cut, config.side)
    if config.image.normalise:
        cut = _normalised(cut, config.radius)
    return np.asarray(-cut if config.image.invert_contrast else cut, dtype=np.float32)


def _scaled(cut: Float64[np.ndarray, "n size size"], side: int) -> Float64[np.ndarray, "n side side"]:
    """Return the images scaled down by Fourier cropping; of the highest frequencies RELION keeps the positive."""
    size, half = cut.shape[-1], side // 2
    transform = np.fft.rfft2(cut)
    rows = np.r_[0 : half + 1, size - half + 1 : size]
    cropped = transform[:, rows, : half + 1] * (side / size) ** 2
    return np.asarray(np.fft.irfft2(cropped, s=(side, side), axes=(1, 2)))


def _normalised(cut: Float64[np.ndarray, "n side side"], radius: int) -> Float64[np.ndarray, "n side side"]:
    """Return images less the plane through their background, which then has mean 0 and standard deviation 1."""
    side = cut.shape[-1]
    y, x = np.indices((side, side)) - side // 2
    background = x * x + y * y > radius * radius
    plane = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float64)
    coefficients = cut[:, background] @ np.linalg.pinv(plane[background]).T
    cut = cut - np.einsum("nk,yxk->nyx", coefficients, plane)
    outside = cut[:, background]
    mean, deviation = outside.mean(axis=1), outside.std(axis=1)
    flat = deviation < _FLAT
    mean[flat], deviation[flat] = 0, 1
    return np.asarray((cut - mean[:, None, None]) / deviation[:, None, None])


@dataclass(frozen=True)
class ExtractItem:
    """A micrograph, the particles to be extracted from it, and its pixel size in Å over what its file says.

    ``picks`` holds at least one.
    """

    entry: MicrographEntry
    picks: Picks
    pixel_size: float | None = None


@dataclass(frozen=True)
class ExtractJob:
    """Writes the stack of a micrograph. May be sent to another process or machine that sees the same files.

    Parameters
    ----------
    folder : Path
        Of the stacks.
    config : ExtractConfig
        How the images are made.
    """

    folder: Path
    config: ExtractConfig

    def resolved(self) -> ExtractJob:
        """Return the same for another process, whose current folder may be another."""
        return replace(self, folder=self.folder.resolve())

    def file(self, name: str) -> Path:
        """Return the stack of a micrograph."""
        return self.folder / f"{micrograph_key(name)}.mrcs"

    def is_done(self, item: ExtractItem) -> bool:
        """Return whether the stack is whole and was made of these particles in this way."""
        try:
            return read_mark(self.file(item.entry.name)) == self._mark(item, Fingerprint.of(item.entry.path))
        except UnreadableError:
            return False

    def __call__(self, item: ExtractItem) -> int:
        """Write the stack and return the number of its images.

        Raises
        ------
        DeepPickerError
            If the micrograph cannot be read, the stack not be written, or a particle lies outside of the micrograph.
        """
        entry, positions = item.entry, item.picks.positions
        source = Fingerprint.of(entry.path)
        micrograph = read_micrograph(entry.path, name=entry.name, pixel_size=item.pixel_size or entry.pixel_size)
        outside = ~touching(positions, micrograph.image.shape, self.config.box_size)
        if outside.any():
            x, y = positions[outside][0].tolist()
            height, width = micrograph.image.shape
            raise InputError(
                one_line(
                    f"{entry.name} has {width}×{height} pixels, and of {len(positions):,} windows {outside.sum():,} "
                    f"lie outside of it, such as that at ({x:g}, {y:g}); are these its coordinates, in its pixels?"
                )
            )
        source.refuse_change(entry.path)
        images = extract_particles(micrograph.image, positions, self.config)
        pixel_size = micrograph.pixel_size * self.config.box_size / self.config.side
        return write_stack(self.file(entry.name), images, pixel_size, self._mark(item, source))

    def _mark(self, item: ExtractItem, source: Fingerprint) -> str:
        size = item.pixel_size or item.entry.pixel_size
        content = [source.size, source.modified, source.checksum]
        settings = json.dumps([_VERSION, asdict(self.config), size, item.entry.name, content])
        return hashlib.sha256(settings.encode() + item.picks.positions.tobytes()).hexdigest()[:40]
