"""Labelled training windows from micrographs with known particles (Section 4.3)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy import fft
from scipy.spatial import cKDTree

from deeppicker.config import ExampleConfig, PrepareConfig
from deeppicker.core import Micrograph, Picks, Prepared
from deeppicker.errors import InputError
from deeppicker.formats.atomic import make_folder
from deeppicker.imaging.noise import without_structure
from deeppicker.imaging.resample import resample
from deeppicker.picking.prepare import box_pixels, prepare
from deeppicker.training.cache import new_array, open_array
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.prefetch import ahead

_MOST_OUTSIDE = 0.05  # fraction of the particles of a micrograph
_AT_ONCE = 1024  # windows that are held in memory
_THREADS = min(4, os.cpu_count() or 1)
_WINDOWS, _LABELS = "windows.npy", "labels.npy"
_NOISE_PIXELS = 1.5  # to a working pixel, in noise that resembles a micrograph: finer than any version is prepared
_ATTEMPTS = 20_000  # random positions tried for negatives in each version of a micrograph


@dataclass(frozen=True)
class Examples:
    """Training windows: as many negatives as positives.

    Parameters
    ----------
    windows : float16 array, (n, window, window)
        Cut from prepared micrographs, so of about zero mean and unit standard deviation. In memory or in a file.
    labels : float32 array, (n,)
        1 for a particle, 0 for background.
    """

    windows: Float[np.ndarray, "n window window"]
    labels: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, first: int, last: int) -> Examples:
        """Return a run of the examples, without copying them."""
        return Examples(self.windows[first:last], self.labels[first:last])


def new_examples(folder: Path, number: int, window: int) -> Examples:
    """Return ``number`` blank examples that live in a folder, which is created."""
    make_folder(folder)
    return Examples(
        new_array(folder / _WINDOWS, (number, window, window), np.float16),
        new_array(folder / _LABELS, (number,), np.float32),
    )


def open_examples(folder: Path) -> Examples:
    """Return the examples in a folder; their windows are read when they are used."""
    return Examples(open_array(folder / _WINDOWS), open_array(folder / _LABELS))


def fill(examples: Examples, dataset: Dataset, config: ExampleConfig, base: PrepareConfig, seed: Sequence[int]) -> None:
    """Fill ``examples`` with windows of one data set: particles the first half, background the second.

    Each micrograph is prepared in several versions, with random low-pass filters and scales; a data set with fewer
    particles than asked for contributes each of them several times, from different versions.

    Raises
    ------
    InputError
        If the data set holds no particle, or no room for negatives.
    """
    if len(dataset) == 0:
        raise InputError(f"{dataset.name} holds too few particles to learn from; at least two are needed")
    rng = np.random.default_rng(seed)
    number = len(examples) // 2
    examples.labels[:number], examples.labels[number:] = 1, 0
    free = [number, 0]  # the next row of background, of particles
    for sheet, prepared in ahead(_prepared, _sheets(dataset, number, config, base, rng), _THREADS):
        for label, positions in ((1, sheet.particles), (0, sheet.background)):
            put(prepared, positions, examples.windows[free[label] : free[label] + len(positions)])
            free[label] += len(positions)
    _repeat(examples.windows[number:], free[0] - number, rng)


@dataclass(frozen=True)
class _Sheet:
    """A version of a micrograph, or of noise that resembles it, and what is to be cut from it."""

    micrograph: Micrograph
    diameter: float
    settings: PrepareConfig
    particles: Float[np.ndarray, "n 2"]
    background: Float[np.ndarray, "m 2"]


def _prepared(sheet: _Sheet) -> tuple[_Sheet, Prepared]:
    return sheet, prepare(sheet.micrograph, sheet.diameter, sheet.settings)


def _sheets(
    dataset: Dataset, number: int, config: ExampleConfig, base: PrepareConfig, rng: np.random.Generator
) -> Iterator[_Sheet]:
    """Yield all from which the windows of a data set are cut, with ``number`` particles in all."""
    chosen = _choose(len(dataset), number, rng)
    versions = _versions(config, base, rng)
    margin = unlabelled_margin(dataset)
    nothing = np.zeros((0, 2))
    first = room = 0
    for item in dataset.micrographs:
        mine = chosen[(chosen >= first) & (chosen < first + len(item.picks))] - first
        first += len(item.picks)
        if len(mine) == 0:
            continue
        micrograph = item.load()
        refuse_outside(dataset.name, item, micrograph)
        assigned = rng.integers(len(versions), size=len(mine))
        coarse = _coarse(micrograph, dataset.diameter, base)
        distance = config.negative_distance * box_pixels(dataset.diameter, micrograph.pixel_size, base)
        for version, (scale, settings) in enumerate(versions):
            centres = item.picks.positions[mine[assigned == version]]
            if len(centres) == 0:
                continue
            number_noise = round(config.noise * len(centres))
            empty = _background(item.avoid, micrograph.image.shape, distance, margin, rng)
            room += min(len(empty), len(centres))
            anywhere = rng.uniform((0, 0), coarse.image.shape[::-1], size=(number_noise, 2))
            diameter = dataset.diameter * scale
            yield _Sheet(micrograph, diameter, settings, centres, empty[: len(centres) - number_noise])
            yield _Sheet(without_structure(coarse, rng), diameter, settings, nothing, anywhere)
    if room == 0:
        raise InputError(
            f"{dataset.name}: no background is left at {config.negative_distance:g} box from every particle; "
            f"check --diameter ({dataset.diameter:g} Å) or add micrographs that are less crowded"
        )


def _coarse(micrograph: Micrograph, diameter: float, base: PrepareConfig) -> Micrograph:
    """Return a micrograph with no more pixels than noise like it needs, which is made several times."""
    step = box_pixels(diameter, micrograph.pixel_size, base) / base.window / _NOISE_PIXELS
    if step <= 1 or min(micrograph.image.shape) < 2 * base.window * step:
        return micrograph  # it has few pixels, or so few that `prepare` may refuse the diameter
    image, _ = resample(micrograph.image, 1 / step)
    height, width = (_fast(side) for side in image.shape)
    return replace(micrograph, image=image[:height, :width], pixel_size=step * micrograph.pixel_size)


def _fast(side: int) -> int:
    """Return the largest side up to this one whose Fourier transform is fast, twice as fast as many."""
    return next(length for length in range(side, 0, -1) if fft.next_fast_len(length, real=True) == length)


def refuse_outside(dataset: str, item: Labelled, micrograph: Micrograph) -> None:
    """Refuse coordinates that cannot belong to this image; a few beyond the edge occur in published ones."""
    outside = Picks.unscored(micrograph.name, item.avoid).outside(micrograph.image.shape)
    if len(outside) > _MOST_OUTSIDE * len(item.avoid):
        height, width = micrograph.image.shape
        x, y = outside.positions[0]
        raise InputError(
            f"{dataset}: {len(outside)} of {len(item.avoid)} particles lie outside the {width}×{height} pixels of "
            f"{micrograph.name}, such as ({x:g}, {y:g}); are these the coordinates of another binning?"
        )


def put(prepared: Prepared, positions: Float[np.ndarray, "n 2"], windows: Float[np.ndarray, "n side side"]) -> None:
    """Put into ``windows`` those centred (to the nearest working pixel) on positions in the micrograph."""
    height, width = prepared.image.shape
    side = windows.shape[1]
    corners = np.rint(prepared.grid.indices(positions) - (side - 1) / 2).astype(np.int64)
    corners = np.clip(corners, 0, [width - side, height - side])
    views = np.lib.stride_tricks.sliding_window_view(prepared.image, (side, side))
    for start in range(0, len(corners), _AT_ONCE):
        part = corners[start : start + _AT_ONCE]
        windows[start : start + _AT_ONCE] = views[part[:, 1], part[:, 0]]


def _choose(available: int, number: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Return ``number`` particle indices: each particle as often as any other, give or take one."""
    rounds = -(-number // available)
    return np.concatenate([rng.permutation(available) for _ in range(rounds)])[:number]


def _versions(
    config: ExampleConfig, base: PrepareConfig, rng: np.random.Generator
) -> list[tuple[float, PrepareConfig]]:
    """Return the scales and preparations of a data set; the first is that of picking."""
    others = [
        (
            1 + rng.uniform(-config.scale_jitter, config.scale_jitter),
            replace(base, lowpass=rng.uniform(0, config.max_lowpass)),
        )
        for _ in range(config.versions - 1)
    ]
    return [(1.0, base), *others]


def unlabelled_margin(dataset: Dataset) -> float:
    """Return how far, in pixels, all labels keep off the left and upper edge.

    Published labels often leave out a frame along the edge; the particles in it must not become negatives.
    """
    return float(min((item.avoid.min() for item in dataset.micrographs if len(item.avoid)), default=0.0))


def _background(
    avoid: Float[np.ndarray, "m 2"],
    shape: tuple[int, ...],
    distance: float,
    margin: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n 2"]:
    """Return random positions at least ``distance`` from every particle, and inside the labelled frame."""
    size = np.array([shape[1] - 1, shape[0] - 1], dtype=np.float64)
    margin = min(margin, distance)  # a few labels say little about the frame
    points = rng.uniform(margin, np.maximum(size - margin, margin), size=(_ATTEMPTS, 2))
    nearest, _ = cKDTree(avoid).query(points)
    result: Float[np.ndarray, "n 2"] = points[nearest >= distance]
    return result


def _repeat(windows: Float[np.ndarray, "n side side"], known: int, rng: np.random.Generator) -> None:
    """Fill the rest of the windows with random ones of the ``known`` first, so that there are enough of them."""
    again = rng.choice(known, len(windows) - known)
    for start in range(0, len(again), _AT_ONCE):
        part = again[start : start + _AT_ONCE]
        windows[known + start : known + start + len(part)] = windows[part]
