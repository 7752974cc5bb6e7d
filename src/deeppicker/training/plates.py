"""Micrographs at a moderate resolution with their known particles: what the dense network's crops are cut from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from scipy.spatial import cKDTree

from deeppicker.config import PrepareConfig
from deeppicker.imaging.normalise import clip_outliers
from deeppicker.imaging.resample import resample
from deeppicker.training.cache import writing
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.windows import refuse_outside, unlabelled_margin

_FINEST = 2.0  # stored images have at most this many times the resolution that the network works at
_IMAGES, _JUNK, _TABLE, _POINTS = "images.float16", "junk.bool", "table.npy", "points.npy"


@dataclass(frozen=True)
class Plate:
    """A micrograph with its known particles, held at a moderate resolution.

    Parameters
    ----------
    image : float16 array, (height, width)
        Without outliers, of about unit deviation. In memory or in a file.
    centres : float array, (n, 2)
        Particle centres (x, y) in its pixels.
    doubtful : float array, (m, 2)
        Positions that may be particles or not.
    diameter : float
        Of the particle, in its pixels.
    frame : float
        Width in its pixels of the strip along the edges that carries no labels.
    junk : bool array, (height, width), or None
        Where there is contamination, if that is known.
    """

    image: Float[np.ndarray, "height width"]
    centres: Float[np.ndarray, "n 2"]
    doubtful: Float[np.ndarray, "m 2"]
    diameter: float
    frame: float
    junk: Bool[np.ndarray, "height width"] | None = None


def load_plates(dataset: Dataset, prepare: PrepareConfig) -> Iterator[Plate]:
    """Yield the micrographs of a data set, reduced to at most twice the resolution that the network works at."""
    frame = unlabelled_margin(dataset)
    for item in dataset.micrographs:
        micrograph = item.load()
        refuse_outside(dataset.name, item, micrograph)
        diameter = dataset.diameter / micrograph.pixel_size
        scale = min(1.0, _FINEST * prepare.diameter_pixels / diameter)
        image, grid = resample(clip_outliers(micrograph.image, prepare.clip), scale)
        image = (image - image.mean()) / (image.std() + 1e-12)
        junk = None if item.mask is None else _reduced(item.mask, image.shape)
        centres, doubtful = (grid.indices(points) for points in (item.picks.positions, in_doubt(item)))
        yield Plate(image.astype(np.float16), centres, doubtful, diameter * scale, frame * scale, junk)


def in_doubt(item: Labelled) -> Float[np.ndarray, "m 2"]:
    """Return what is to be avoided but no particle to learn from."""
    if len(item.picks) == 0 or len(item.avoid) == 0:
        return item.avoid
    distances, _ = cKDTree(item.picks.positions).query(item.avoid)
    return np.asarray(item.avoid[distances > 1e-3])


def _reduced(mask: Path, shape: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Return a stored mask at the size of the image that is held."""
    with Image.open(mask) as file:
        reduced = np.asarray(file.convert("L").resize(shape[::-1], Image.Resampling.BILINEAR))
    return np.asarray(reduced > 127)


def save_plates(plates: Iterable[Plate], folder: Path) -> None:
    """Write plates into a folder, one after the other; each is forgotten before the next is asked for.

    All images are in one file, as a program may not have thousands of files open.

    Raises
    ------
    OutputError
        If the files cannot be written.
    """
    table: list[tuple[float, ...]] = []
    points: list[Float[np.ndarray, "n 2"]] = [np.zeros((0, 2))]
    for plate in plates:
        _append(folder / _IMAGES, plate.image)
        _append(folder / _JUNK, np.zeros(0, dtype=bool) if plate.junk is None else plate.junk)
        points += [plate.centres, plate.doubtful]
        numbers = (*plate.image.shape, len(plate.centres), len(plate.doubtful), plate.junk is not None)
        table.append((*numbers, plate.diameter, plate.frame))
    with writing(folder):
        np.save(folder / _TABLE, np.array(table, dtype=np.float64).reshape(-1, 7))
        np.save(folder / _POINTS, np.concatenate(points))


def _append(path: Path, values: np.ndarray) -> None:
    with writing(path), path.open("ab") as file:
        file.write(values.tobytes())


def open_plates(folder: Path) -> Sequence[Plate]:
    """Return the plates in a folder, in their order; parts of their images are read when they are used."""
    pixels, masks = _mapped(folder / _IMAGES, np.float16), _mapped(folder / _JUNK, np.bool_)
    points = np.load(folder / _POINTS)
    plates = []
    pixel = mask = point = 0
    for *numbers, diameter, frame in np.load(folder / _TABLE).tolist():
        height, width, centres, doubtful, known = map(int, numbers)
        area = height * width
        image = pixels[pixel : pixel + area].reshape(height, width)
        junk = masks[mask : mask + area].reshape(height, width) if known else None
        middle, end = point + centres, point + centres + doubtful
        plates.append(Plate(image, points[point:middle], points[middle:end], diameter, frame, junk))
        pixel, mask, point = pixel + area, mask + area * known, end
    return plates


def _mapped(path: Path, dtype: type[np.generic]) -> np.ndarray:
    if not path.exists() or path.stat().st_size == 0:  # nothing cannot be mapped
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r")
