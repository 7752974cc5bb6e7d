"""Training images of the dense network: random crops of micrographs, with maps of their particles and contamination."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from scipy import ndimage
from scipy.spatial import cKDTree
from torch.nn import functional

from deeppicker.config import CropConfig, PrepareConfig
from deeppicker.imaging.noise import coloured_noise
from deeppicker.imaging.normalise import flatten
from deeppicker.networks.base import SIZE_BIN_WIDTH, SIZE_BINS
from deeppicker.networks.batches import CropBatch
from deeppicker.training.plates import Plate

_CONTEXT = 32  # working pixels around a crop, for normalisation only, then cut off
_COARSE = 8  # the map of sizes is that much coarser than the image
_FINE = 2  # the map of centres
_FADED = 6.0  # standard deviations beyond which a Gaussian is nothing
_NOISE_POWER = 0.7  # largest power of the spectrum that noise takes over: at 1 it would have the texture of particles


def draw_batch(
    plates: Sequence[Plate], size: int, config: CropConfig, prepare: PrepareConfig, rng: np.random.Generator
) -> CropBatch:
    """Return ``size`` random crops of ``config.crop`` working pixels, from plates that are all equally likely."""
    crops = [_crop(plates[int(rng.integers(len(plates)))], config, prepare, rng) for _ in range(size)]
    images, centres, presence, junk, sizes = zip(*crops, strict=True)
    return CropBatch(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.stack(centres)),
        torch.from_numpy(np.stack(presence)),
        torch.from_numpy(np.stack(junk)),
        torch.tensor(sizes),
    )


def _crop(
    plate: Plate, config: CropConfig, prepare: PrepareConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Return a crop, its maps of centres, of presence and of junk, and its bin of size."""
    wide = rng.random() < config.wide
    spread = config.wide_factor if wide else 1 + config.size_jitter
    ratio = spread ** rng.uniform(-1, 1)  # of the true to the assumed diameter
    scale = prepare.diameter_pixels * ratio / plate.diameter
    side = config.crop
    full = side + 2 * _CONTEXT
    middle = _middle(plate, 0.5 * side / scale, config, rng)
    # Cut whole pixels of the plate, and scale them to the crop with a margin for filters: ``exact`` is the true scale.
    reach = math.ceil(full / scale)
    corner = np.rint(middle - 0.5 * reach).astype(np.int64)
    region = _mirrored(plate.image, corner, reach)
    exact = full / reach
    image = _resized(region, full, exact, rng)
    noise = rng.random() < config.noise_crops
    if noise:
        image = coloured_noise(image, _NOISE_POWER * rng.uniform(), rng)
    image = _degrade(image, config, prepare, rng)
    image = flatten(image, prepare.background * prepare.window, prepare.clip)[_CONTEXT:-_CONTEXT, _CONTEXT:-_CONTEXT]
    # Pixel centres lie at whole numbers, edges at halves: scale from the edge, hence 0.5 on both sides.
    centres = (plate.centres - corner + 0.5) * exact - 0.5 - _CONTEXT
    known = _known(plate, corner, exact, side)
    diameter = plate.diameter * exact
    doubtful = (plate.doubtful - corner + 0.5) * exact - 0.5 - _CONTEXT
    if wide:
        fine = np.full((side // _FINE, side // _FINE), np.nan, dtype=np.float32)
    else:
        fine = _centre_map(centres, side, config.target_sigma * diameter)
        fine[~known[::_FINE, ::_FINE]] = np.nan
        fine[(_presence_map(doubtful, side, _FINE, 0.4 * diameter) == 1) & (fine < 0.1)] = np.nan
    coarse = _presence_map(centres, side, _COARSE, 0.5 * diameter)
    coarse[(_presence_map(doubtful, side, _COARSE, 0.7 * diameter) == 1) & (coarse == 0)] = np.nan
    coarse[~known[_COARSE // 2 :: _COARSE, _COARSE // 2 :: _COARSE]] = np.nan
    junk = _junk_map(plate, corner, exact, side)
    junk[np.isnan(junk) & (coarse == 1)] = 0  # where contamination is not known, particles at least are none
    # Random turn and mirror, the same for the image and its maps.
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    parts = [np.rot90(part.T if mirror else part, turns) for part in (image, fine, coarse, junk)]
    image, fine, coarse, junk = (np.ascontiguousarray(part, dtype=np.float32) for part in parts)
    if noise:  # no particle is left, so all maps are empty
        fine[:], coarse[:], junk[:] = 0, 0, 0
        wide = False
    size = size_bin(math.log(diameter / prepare.diameter_pixels)) if wide else -1
    return image, fine, coarse, junk, size


def size_bin(logarithm: float) -> int:
    """Return the bin of the logarithm of true over assumed diameter."""
    return int(np.clip(round(logarithm / SIZE_BIN_WIDTH) + SIZE_BINS // 2, 0, SIZE_BINS - 1))


def _middle(plate: Plate, half: float, config: CropConfig, rng: np.random.Generator) -> Float[np.ndarray, 2]:
    """Return the middle of a crop: near a particle, or anywhere."""
    height, width = plate.image.shape
    if len(plate.centres) and rng.random() < config.on_particles:
        particle = plate.centres[int(rng.integers(len(plate.centres)))]
        middle = particle + rng.uniform(-half, half, size=2)
    else:
        middle = rng.uniform((0, 0), (width, height))
    extent = np.array([width, height], dtype=np.float64)
    low, high = np.minimum(half, extent / 2), np.maximum(extent - half, extent / 2)
    inside: Float[np.ndarray, 2] = np.clip(middle, low, high)
    return inside


def _mirrored(
    image: Float[np.ndarray, "height width"], corner: Int[np.ndarray, 2], reach: int
) -> Float32[np.ndarray, "reach reach"]:
    """Return a square part of the image, which is continued by its mirror image beyond its edges."""
    indices = []
    for first, length in zip(corner[::-1], image.shape, strict=True):
        folded = np.mod(np.arange(first, first + reach), 2 * length)
        indices.append(np.where(folded < length, folded, 2 * length - 1 - folded))
    part: Float32[np.ndarray, "reach reach"] = image[np.ix_(*indices)].astype(np.float32)
    return part


def _resized(
    region: Float32[np.ndarray, "reach reach"], full: int, scale: float, rng: np.random.Generator
) -> Float32[np.ndarray, "full full"]:
    """Return the region scaled to ``full`` pixels.

    Enlarging adds the fine noise that a finer image would have had, as strong as the finest noise in the region.
    Otherwise the network would tell sizes by the missing noise.
    """
    tensor = torch.from_numpy(region)[None, None]
    scaled = functional.interpolate(tensor, size=(full, full), mode="bicubic", antialias=True)
    if scale > 1:
        finest = region - ndimage.uniform_filter(region, 3)
        noise = torch.from_numpy(rng.standard_normal((1, 1, full, full), dtype=np.float32))
        coarse = functional.interpolate(noise, size=region.shape, mode="bicubic", antialias=True)
        noise -= functional.interpolate(coarse, size=(full, full), mode="bicubic")
        scaled += noise * (1.06 * float(finest.std()) * scale)  # 1.06 makes up for the mean of nine pixels
    result: Float32[np.ndarray, "full full"] = scaled[0, 0].numpy()
    return result


def _degrade(
    image: Float32[np.ndarray, "full full"], config: CropConfig, prepare: PrepareConfig, rng: np.random.Generator
) -> Float32[np.ndarray, "full full"]:
    """Return the image with a random filter, random noise and a random gradation, as micrographs differ in them."""
    if rng.random() < config.blurred:
        image = ndimage.gaussian_filter(image, rng.uniform(0, config.max_blur))
    if rng.random() < config.noisy:
        image = image + image.std() * rng.uniform(0, config.max_noise) * rng.standard_normal(
            image.shape, dtype=np.float32
        )
    if rng.random() < config.graded:
        deviation = (image - image.mean()) / (image.std() + 1e-12)
        image = np.sinh(rng.uniform(-0.3, 0.3) + rng.uniform(0.2, 0.5) * deviation)  # skews and stretches the tails
    if prepare.lowpass > 0:
        image = ndimage.gaussian_filter(image, prepare.lowpass, mode="nearest")
    return np.ascontiguousarray(image, dtype=np.float32)


def _known(plate: Plate, corner: Int[np.ndarray, 2], scale: float, side: int) -> Bool[np.ndarray, "side side"]:
    """Return where the labels of a crop are complete: inside the micrograph and its labelled frame."""
    places = (np.arange(side) + _CONTEXT + 0.5) / scale - 0.5
    height, width = plate.image.shape
    rows, columns = places + corner[1], places + corner[0]
    frame = plate.frame
    inside_y = (rows >= frame) & (rows <= height - 1 - frame)
    inside_x = (columns >= frame) & (columns <= width - 1 - frame)
    return np.asarray(inside_y[:, None] & inside_x[None, :])


def _junk_map(
    plate: Plate, corner: Int[np.ndarray, 2], scale: float, side: int
) -> Float32[np.ndarray, "coarse coarse"]:
    """Return a map that is 1 where contamination covers the middle of a place, and NaN where that is not known."""
    where = (places(side, _COARSE) + _CONTEXT + 0.5) / scale - 0.5
    junk = np.full((len(where), len(where)), np.nan, dtype=np.float32)
    if plate.junk is None:
        return junk
    height, width = plate.junk.shape
    rows, columns = (np.rint(where + first).astype(np.int64) for first in corner[::-1])
    y, x = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    junk[np.ix_(y, x)] = plate.junk[np.ix_(rows[y], columns[x])]
    return junk


def places(side: int, step: int) -> Float[np.ndarray, " m"]:
    """Return where the places of a map lie along an image, in its pixels: the middles of blocks of ``step`` pixels."""
    return np.arange(0.5 * (step - 1), side, step)


def _centre_map(centres: Float[np.ndarray, "n 2"], side: int, sigma: float) -> Float32[np.ndarray, "fine fine"]:
    """Return a map with a Gaussian of height 1 at every centre; where they overlap, the larger value counts."""
    squared = _squared_distances(centres, places(side, _FINE), _FADED * sigma)
    return np.exp(-0.5 * squared / sigma**2).astype(np.float32)


def _presence_map(
    centres: Float[np.ndarray, "n 2"], side: int, step: int, radius: float
) -> Float32[np.ndarray, "rows rows"]:
    """Return a map, one place every ``step`` pixels, that is 1 where a centre lies within a radius."""
    squared = _squared_distances(centres, places(side, step), 1.001 * radius)
    return (squared <= radius**2).astype(np.float32)


def _squared_distances(
    centres: Float[np.ndarray, "n 2"], line: Float[np.ndarray, " m"], reach: float
) -> Float[np.ndarray, "m m"]:
    """Return the squared distance of each place of a square grid from the next centre; infinite beyond ``reach``."""
    near = centres[((centres >= line[0] - reach) & (centres <= line[-1] + reach)).all(axis=1)]
    if len(near) > len(line):
        grid = np.stack(np.meshgrid(line, line), axis=-1)
        distances, _ = cKDTree(near).query(grid, distance_upper_bound=reach)
        return np.asarray(distances) ** 2
    squared = np.full((len(line), len(line)), np.inf)
    for x, y in near.tolist():  # a few small squares take less time than a tree
        (left, top), (right, bottom) = np.searchsorted(line, [[x - reach, y - reach], [x + reach, y + reach]])
        part = squared[top:bottom, left:right]
        np.minimum(part, (line[top:bottom, None] - y) ** 2 + (line[None, left:right] - x) ** 2, out=part)
    return squared
