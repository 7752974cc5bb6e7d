"""What an evaluation is told, and what it finds: settings, micrographs, rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deeppicker.config.limits import positive, within
from deeppicker.evaluation.ranking import BestThreshold, PicksCurve, Rates


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What counts as agreement, and what is left out."""

    particle_diameter: float
    """Å. Diameter of the particle; every length below follows from it."""
    box_diameters: float = 1.5
    """Particle diameters. Size of the box, the paper's sliding window (section 4.5: 180 pixels for TRPV1,
    about 1.5 of its diameters)."""
    match_boxes: float = 0.2
    """Boxes. A pick within this distance of a reference particle agrees with it (section 4.4)."""
    border: float | None = None
    """Å. Picks and references closer than this to the edge are left out; half a diameter when not given. The
    paper does not say; a particle nearer than that is cut by the edge, and experts label such or do not."""
    threshold: float | None = None
    """Score. Only picks scored at least this count in precision, recall and F1; the lower ones still count in
    average precision and the curves, which look at all thresholds. All picks when not given; the paper
    reports recall above 0.5 (Fig. 2b)."""
    resamples: int = 1000
    """Bootstrap resamples of the micrographs for the 95 % intervals."""
    chance_repeats: int = 20
    """How many sets of random picks the chance level averages over."""
    defocus_bin: float = 0.5
    """µm. Width of a defocus range in the table of recall against defocus (Fig. 6a-c)."""
    seed: int = 0
    """Seed of the bootstrap and of the random picks."""

    def __post_init__(self) -> None:
        positive(self, "particle_diameter", "box_diameters", "match_boxes", "defocus_bin")
        within(self, border=(0, math.inf))

    @property
    def box(self) -> float:
        """Box size in Å."""
        return self.box_diameters * self.particle_diameter

    @property
    def match_radius(self) -> float:
        """Match radius in Å."""
        return self.match_boxes * self.box

    @property
    def border_angstrom(self) -> float:
        """Width in Å of the zone along the edge that is left out."""
        return self.particle_diameter / 2 if self.border is None else self.border


@dataclass(frozen=True, kw_only=True)
class MicrographInfo:
    """What the evaluation needs to know about one micrograph besides the particles."""

    pixel_size: float
    """Å per pixel."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; without it nothing is left out at the border, and chance is unknown."""
    defocus: float | None = None
    """µm of underfocus, mean of both axes."""


@dataclass(frozen=True)
class MicrographResult:
    """The agreement in one micrograph; counts are those after the border zone is left out."""

    micrograph: str
    picks: int
    references: int
    true_positives: int
    rates: Rates
    chance: Rates | None
    picks_at_border: int
    references_at_border: int
    pixel_size: float
    defocus: float | None


@dataclass(frozen=True)
class DefocusBin:
    """Recall in the micrographs of one defocus range (Fig. 6a-c); ``low`` <= defocus < ``high``, in µm."""

    low: float
    high: float
    micrographs: int
    references: int
    recall: float


@dataclass(frozen=True)
class Evaluation:
    """The agreement of a set of picks with a reference.

    ``macro`` is the mean over micrographs, ``intervals`` its 95 % bootstrap intervals, ``pooled`` counts all
    micrographs as one, ``chance`` is the macro level of as many uniformly random picks.
    """

    config: EvaluateConfig
    micrographs: tuple[MicrographResult, ...]
    macro: Rates
    intervals: Mapping[str, tuple[float, float] | None]
    pooled: Rates
    chance: Rates | None
    best: BestThreshold | None
    curve: PicksCurve | None
    defocus: tuple[DefocusBin, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the whole evaluation for the json module; undefined numbers are None, never NaN."""
        derived = {
            "box_angstrom": self.config.box,
            "match_radius_angstrom": self.config.match_radius,
            "border_angstrom": self.config.border_angstrom,
        }
        cleaned: dict[str, Any] = _without_nan(asdict(self) | derived)
        return cleaned


def _without_nan(value: Any) -> Any:
    """Return a value of dicts, sequences and numbers with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return value
