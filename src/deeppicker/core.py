"""The nouns that cross module borders: Grid, Micrograph, Prepared, ScoreMap, Picks. NumPy only.

Conventions, everywhere outside ``formats``: positions are particle centres in pixels of the stored micrograph,
``(x, y)`` with x along a row; row 0 is the first row of the file; pixel centres lie at integers. Images index
``[y, x]``. Lengths in Å carry ``pixel_size``, ``diameter`` or ``_angstrom`` in their name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Bool, Float, Float32

# A name may hold dots of its own, and some programs write names without an extension: only these are cut off.
_COMPRESSION_SUFFIXES = {".gz", ".bz2"}
_IMAGE_SUFFIXES = {".mrc", ".mrcs", ".map", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".eer"}


def micrograph_key(name: str | PurePath) -> str:
    """Return the name by which a micrograph is recognised: no folder, no extension, no compression suffix.

    >>> micrograph_key("Micrographs/May08_03.05.mrc.gz"), micrograph_key("May08_03.05")
    ('May08_03.05', 'May08_03.05')
    """
    text = str(name)
    base = text[text.rfind("/") + 1 :]  # a path costs ten times as much, and there may be 100,000
    if base in ("", "."):
        base = PurePath(text).name
    for suffixes in (_COMPRESSION_SUFFIXES, _IMAGE_SUFFIXES):
        stem, dot, extension = base.rpartition(".")
        if stem and (dot + extension).lower() in suffixes:
            base = stem
    return base


BOX_DIAMETERS = 1.5
"""Side of a particle's box in diameters: "slightly larger than the particle" (Wang et al. 2016, Section 2.1)."""


def box_size(diameter: float, pixel_size: float) -> int:
    """Return the even side, in pixels, of the box that suits a particle of a diameter in Å."""
    return 2 * round(BOX_DIAMETERS * diameter / pixel_size / 2)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a derived image lie in the micrograph: ``position = origin + step × index``.

    Parameters
    ----------
    origin : (float, float)
        Position (x, y) of the derived image's pixel [0, 0], in micrograph pixels.
    step : float
        Distance of neighbouring derived pixels, in micrograph pixels.
    """

    origin: tuple[float, float] = (0.0, 0.0)
    step: float = 1.0

    def positions(self, indices: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Map indices (x, y) of the derived image to positions in the micrograph."""
        positions: Float[np.ndarray, "n 2"] = np.asarray(self.origin) + self.step * np.asarray(indices)
        return positions

    def indices(self, positions: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Map positions in the micrograph to (fractional) indices (x, y) of the derived image."""
        indices: Float[np.ndarray, "n 2"] = (np.asarray(positions) - np.asarray(self.origin)) / self.step
        return indices

    def derive(self, origin: tuple[float, float], step: float) -> Grid:
        """Return the grid of an image derived from this one: its pixel [0, 0] lies at index ``origin`` here."""
        x, y = self.positions(np.array([origin]))[0]
        return Grid((float(x), float(y)), self.step * step)


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """What a microscope is set to.

    Parameters
    ----------
    voltage : float
        kV.
    spherical_aberration : float
        mm.
    amplitude_contrast : float
        Fraction, 0-1.
    phase_shift : float
        Degrees; of a phase plate, 0 without one.
    """

    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.1
    phase_shift: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ctf:
    """The contrast transfer of one micrograph.

    Parameters
    ----------
    defocus_u, defocus_v : float
        Underfocus in µm along its two axes.
    angle : float
        Degrees from the x axis (along a row) towards y, to the direction of ``defocus_u``.
    microscope : Microscope
        With which it was taken.
    fit : float
        How well the defocus was found, as the program that did it says; NaN if unknown.
    reliable : bool
        False if that program warned of it.
    """

    defocus_u: float
    defocus_v: float
    angle: float = 0.0
    microscope: Microscope = Microscope()
    fit: float = math.nan
    reliable: bool = True

    @property
    def defocus(self) -> float:
        """Mean underfocus in µm."""
        return 0.5 * (self.defocus_u + self.defocus_v)


@dataclass(frozen=True)
class MicrographEntry:
    """A micrograph that a user names, directly or through a STAR file.

    Parameters
    ----------
    name : str
        As the user or the STAR file gives it.
    path : Path
        Where its image is expected; it may not exist.
    pixel_size : float or None
        Å per pixel if the STAR file says so.
    defocus : float or None
        Mean underfocus in µm if the STAR file says so.
    shape : (int, int) or None
        Height and width in pixels if a cryoSPARC file says so.
    uid : int or None
        cryoSPARC's number of the exposure, if its file says so.
    """

    name: str
    path: Path
    pixel_size: float | None = None
    defocus: float | None = None
    shape: tuple[int, int] | None = None
    uid: int | None = None


@dataclass(frozen=True)
class Micrograph:
    """One stored image.

    Parameters
    ----------
    name : str
        The name by which files refer to it, normally its path as the user gave it.
    image : float32 array, (height, width)
        Finite and not constant; particles dark on a brighter background.
    pixel_size : float
        Å per pixel.
    """

    name: str
    image: Float32[np.ndarray, "height width"]
    pixel_size: float

    @property
    def key(self) -> str:
        """The name without folder and extension (see `micrograph_key`)."""
        return micrograph_key(self.name)

    def inverted(self) -> Micrograph:
        """Return the micrograph with its contrast inverted, for images whose particles are bright."""
        return replace(self, image=-self.image)


@dataclass(frozen=True)
class Prepared:
    """A micrograph at the working scale of a network, normalised.

    Parameters
    ----------
    image : float32 array, (height, width)
        About zero mean and unit standard deviation everywhere.
    grid : Grid
        Where its pixels lie in the micrograph.
    deviation : float32 array, (height, width)
        The same pixels before local normalisation: difference from the trend of the whole micrograph, in its robust
        standard deviations. Tells ice and gold, which local normalisation hides.
    """

    image: Float32[np.ndarray, "height width"]
    grid: Grid
    deviation: Float32[np.ndarray, "height width"]


@dataclass(frozen=True)
class ScoreMap:
    """Log-odds that a particle centre lies at each grid position.

    Parameters
    ----------
    logits : float32 array, (height, width)
        Log-odds.
    grid : Grid
        Where its pixels lie in the micrograph.
    junk : float32 array, (height, width)
        Probability that contamination covers the position; None if the network does not judge that.
    """

    logits: Float32[np.ndarray, "height width"]
    grid: Grid
    junk: Float32[np.ndarray, "height width"] | None = None


@dataclass(frozen=True)
class Picks:
    """Particle centres in one micrograph.

    Parameters
    ----------
    micrograph : str
        Name of the micrograph, as the file that was read (or the user) gave it.
    positions : float array, (n, 2)
        x and y in pixels of the stored micrograph.
    scores : float array, (n,)
        Probabilities in 0-1 for our own picks; whatever scale another program uses for its own; NaN where there
        is no score (manual picks).
    contrast : float array, (n,), or None
        By how much each is darker than its surroundings, in standard deviations of the prepared micrograph; None where
        that is not known.
    """

    micrograph: str
    positions: Float[np.ndarray, "n 2"]
    scores: Float[np.ndarray, " n"]
    contrast: Float[np.ndarray, " n"] | None = None

    @classmethod
    def unscored(cls, micrograph: str, positions: Float[np.ndarray, "n 2"]) -> Picks:
        """Return picks without scores, such as manual ones."""
        return cls(micrograph, positions, np.full(len(positions), np.nan))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def key(self) -> str:
        """The micrograph's name without folder and extension (see `micrograph_key`)."""
        return micrograph_key(self.micrograph)

    @property
    def has_scores(self) -> bool:
        """Whether any pick has a score."""
        return bool(np.isfinite(self.scores).any())

    def outside(self, shape: tuple[int, ...]) -> Picks:
        """Return those picks that lie outside an image of ``shape`` (height, width)."""
        return self.where(~self.inside(shape))

    def inside(self, shape: tuple[int, ...]) -> Bool[np.ndarray, " n"]:
        """Return which picks lie in an image of ``shape`` (height, width)."""
        upper = np.array([shape[1], shape[0]]) - 0.5
        return np.asarray(((self.positions >= -0.5) & (self.positions <= upper)).all(axis=1))

    def where(self, keep: Bool[np.ndarray, " n"]) -> Picks:
        """Return those picks for which ``keep`` is true, in the same order."""
        return self._at(keep)

    def without(self, others: Picks) -> Picks:
        """Return those picks that have no other exactly at their place."""
        there = set(map(tuple, others.positions.tolist()))
        return self.where(np.array([place not in there for place in map(tuple, self.positions.tolist())], dtype=bool))

    def sorted(self) -> Picks:
        """Return the picks from the highest score down; equal scores by y, then x; no score last."""
        return self._at(np.lexsort((self.positions[:, 0], self.positions[:, 1], -self.scores)))

    def _at(self, which: np.ndarray) -> Picks:
        contrast = None if self.contrast is None else self.contrast[which]
        return replace(self, positions=self.positions[which], scores=self.scores[which], contrast=contrast)


@dataclass(frozen=True)
class Found:
    """What was found in a micrograph.

    Parameters
    ----------
    candidates : Picks
        All that may be particles, above the floor of scores, best first.
    rejected : Picks
        What scored as high but cannot be a particle, best first.
    reasons : tuple of str, (n,)
        Why, for each of these.
    junk : bool array, (rows, columns)
        Contamination and regions that are too large.
    grid : Grid
        Where the pixels of ``junk`` lie in the micrograph.
    """

    candidates: Picks
    rejected: Picks
    reasons: tuple[str, ...]
    junk: Bool[np.ndarray, "rows columns"]
    grid: Grid

    def junk_image(self, shape: tuple[int, ...]) -> Bool[np.ndarray, "height width"]:
        """Return ``junk`` over a micrograph of ``shape`` (height, width), reduced by a whole factor."""
        factor = max(1, int(self.grid.step))
        rows, columns = (np.arange(0, side, factor, dtype=np.float64) for side in shape)
        nearest = [
            np.clip(np.rint((line - origin) / self.grid.step), 0, side - 1).astype(np.int64)
            for line, origin, side in zip((rows, columns), self.grid.origin[::-1], self.junk.shape, strict=True)
        ]
        return self.junk[np.ix_(*nearest)]
