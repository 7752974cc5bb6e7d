"""Ranges from which the parameters of simulated micrographs are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeppicker.config.limits import positive, within
from deeppicker.errors import InputError

Range = tuple[float, float]
"""Smallest and largest value of a uniform distribution."""


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Parameters of simulated micrographs, drawn anew for each micrograph."""

    size: tuple[int, int] = (1024, 1024)
    """Width and height of a micrograph in pixels."""

    pixel_size: float | None = None
    """Å per pixel; default: drawn so that the particle is ``pixels_across`` large."""

    pixels_across: Range = (30.0, 70.0)
    """Diameter of the particle in pixels, where no pixel size is given. Published micrographs have more, but are binned
    to less than this before a network sees them."""

    binning: int = 1
    """Binning factor of micrographs that are imaged with correspondingly smaller pixels; 1 is faster and hardly
    different after the reduction at the start of picking."""

    voltage: float = 300.0
    """kV; 300, 200 or 120."""

    cs: float = 2.7
    """mm."""

    amplitude_contrast: Range = (0.07, 0.14)
    """Fraction, 0-1."""

    defocus: Range = (0.5, 4.0)
    """µm, underfocus."""

    astigmatism: float = 0.08
    """µm; largest difference between the two defoci."""

    phase_plates: float = 0.1
    """Fraction of the micrographs with a phase plate."""

    b_factor: Range = (30.0, 300.0)
    """Å²; envelope of motion and incoherence."""

    dose: Range = (15.0, 80.0)
    """e/Å²."""

    contrast: Range = (0.2, 1.3)
    """Density of the particles in relation to protein in pure ice; drawn evenly on a logarithmic scale. Low values are
    barely visible, as particles in thick ice or in detergent are."""

    ice: Range = (200.0, 1200.0)
    """Å; thickness of the ice, which varies by up to a third across a micrograph."""

    solvent: Range = (0.3, 4.0)
    """Structured noise of the ice, in relation to that of pure water; drawn on a logarithmic scale."""

    spacing: Range = (0.55, 1.3)
    """Smallest distance between particles, in diameters."""

    coverage: Range = (0.03, 0.7)
    """Fraction of the area covered by particles, if there is room; drawn on a logarithmic scale."""

    crowded: float = 0.3
    """Fraction of the micrographs in which particles touch and overlap: their least distance is from 0.45 to 0.8
    diameters, and they take from 0.3 to 0.9 of the area."""

    packed: float = 0.1
    """Fraction of the micrographs whose particles lie in rows with vacancies, everywhere or in rafts."""

    clustered: float = 0.25
    """Fraction of the micrographs whose particles gather in clusters."""

    preferred: float = 0.3
    """Fraction of the micrographs with preferred orientations."""

    mixed: float = 0.15
    """Fraction of the micrographs with a second species of similar size."""

    oligomers: float = 0.0
    """Fraction of the micrographs that also hold pairs to rings of four of the particle, as a species of their own.
    None by default: the model in the package was trained without."""

    membranes: float = 0.15
    """Fraction of the micrographs in which the particle sits in a nanodisc or micelle."""

    contamination: float = 0.5
    """Probability of each kind of contamination in a micrograph; 0 for none."""

    empty: float = 0.14
    """Fraction of micrographs without any particle: empty ice, vacuum, nothing but carbon or crystals."""

    borders: float = 0.12
    """Fraction of micrographs with edges as motion correction leaves them: rows that repeat, or a constant."""

    processed: float = 0.5
    """Fraction of micrographs that are low-passed, denoised, flattened or quantised to 8 bits afterwards."""

    def __post_init__(self) -> None:
        for name in ("amplitude_contrast", "defocus", "b_factor", "dose", "contrast", "ice", "solvent", "spacing"):
            self._check_range(name, 0.0 if name in ("amplitude_contrast", "b_factor") else 1e-6)
        self._check_range("coverage", 1e-6)
        self._check_range("pixels_across", 4.0)
        chances = ("phase_plates", "crowded", "packed", "clustered", "preferred", "mixed", "oligomers", "membranes")
        fractions = (*chances, "borders", "contamination", "empty", "processed")
        within(self, binning=(1, 8), **dict.fromkeys(fractions, (0, 1)))
        positive(self, "pixel_size")
        if self.voltage not in (300.0, 200.0, 120.0):
            raise InputError(f"--voltage {self.voltage:g} kV is not known; choose 300, 200 or 120")
        if min(self.size) < 64 or max(self.size) > 16384:
            raise InputError(f"--size {self.size[0]} {self.size[1]} is out of range; choose 64 to 16384 pixels")

    def _check_range(self, name: str, least: float) -> None:
        low, high = getattr(self, name)
        if not least <= low <= high < math.inf:
            option = name.replace("_", "-")
            raise InputError(f"--{option} {low:g} {high:g} is not a range; give the lower value first, from {least:g}")


def between(rng: object, limits: Range) -> float:
    """Return a uniform number of the range."""
    return float(rng.uniform(*limits))  # type: ignore[attr-defined]


def logarithmic(rng: object, limits: Range) -> float:
    """Return a number of the range, even on a logarithmic scale."""
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))  # type: ignore[attr-defined]
