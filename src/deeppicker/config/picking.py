"""What picking consists of: preparation, scores, cleaning, peaks, selection, diameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeppicker.config.limits import within
from deeppicker.errors import InputError

DEFAULT_MODEL = "general"
"""The model in the package that is used unless another is named."""

STEPS = (1, 2, 4, 8, 16)
"""Distances of scored positions: the network pools by 16 in all, and powers of two up to that are subsets."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How a micrograph is brought to a network's working scale. Stored in every model file."""

    box_diameters: float = 1.5
    """Side of the box in particle diameters. The window is "slightly larger than the particle" (Section 2.1)."""

    window: int = 64
    """Side of the network's input in working pixels (Section 4.3)."""

    lowpass: float = 0.1
    """Standard deviation of the Gaussian low-pass filter in working pixels (Section 4.5)."""

    background: float = 1.0
    """Standard deviation, in boxes, of the Gaussian neighbourhood whose mean is subtracted and by whose standard
    deviation the image is divided. Our choice: flattens ice gradients but keeps particles."""

    clip: float = 6.0
    """Pixels further than this many robust standard deviations from the median (hot and dead pixels, X-rays) are
    moved to that distance, before resampling and again after normalising. Our choice."""

    def __post_init__(self) -> None:
        within(self, box_diameters=(0.5, 10), window=(8, 4096), lowpass=(0, 100), background=(0.01, 100), clip=(1, 1e6))

    @property
    def diameter_pixels(self) -> float:
        """The particle diameter in working pixels."""
        return self.window / self.box_diameters


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How the network is swept over a prepared micrograph."""

    step: int | None = None
    """Distance of neighbouring scored positions in working pixels, a power of two up to 16. Default: that of the
    network; 4 for the paper's (Section 4.5), 2 for the dense one, which has no finer one."""

    tile: int | None = None
    """Side of the tiles that are scored one after the other, in working pixels; bounds memory. Default: that of the
    network."""

    def __post_init__(self) -> None:
        within(self, tile=(1, 1_000_000))
        if self.step is not None and self.step not in STEPS:
            raise InputError(f"--step {self.step} cannot be scored; choose one of {', '.join(map(str, STEPS))}")


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Removal of implausibly large regions of high score: ice, carbon, aggregates."""

    connect_threshold: float = 0.5
    """Neighbouring positions whose scores both exceed this are connected (Section 4.5)."""

    max_region: float = 4.0
    """Connected regions larger than this many times the average are removed (Section 4.5). A region of touching
    particles counts as one for each of its peaks."""

    def __post_init__(self) -> None:
        within(self, connect_threshold=(1e-6, 1 - 1e-6), max_region=(0, math.inf))


@dataclass(frozen=True, kw_only=True)
class PeaksConfig:
    """Choice of particle centres from the score map."""

    peak_window: float | None = None
    """Side of the window in which a pick has the highest score, in boxes; the minimum distance of two picks is
    half of it. Default: that of the network; 0.8 for the paper's (Section 4.5), 0.6 for the dense one, whose peaks
    are sharp enough to tell close neighbours."""

    floor: float = 0.01
    """Candidates below this score are dropped; those between it and the threshold go to the side file."""

    extreme_sigmas: float = 3.0
    """Pixels further than this many standard deviations from the micrograph's mean are extreme (Section 4.5)."""

    max_extreme: float = 0.1
    """A candidate is dropped if the fraction of extreme pixels in its window exceeds that of the typical candidate by
    more than this. The paper gives no number; no reference particle of the three development data sets has more than
    0.05, and hardly a window on an ice crystal less than 0.4."""

    edge: float = 0.5
    """Picks closer than this to the micrograph's edge are dropped, in particle diameters. Our choice: a particle
    that is cut by the edge cannot be used."""

    def __post_init__(self) -> None:
        within(self, peak_window=(0.01, 10), floor=(0, 1), edge=(0, 100))
        within(self, extreme_sigmas=(0, math.inf), max_extreme=(0, 1))


@dataclass(frozen=True, kw_only=True)
class PickConfig:
    """The steps from a prepared micrograph to candidates, in order."""

    score: ScoreConfig = ScoreConfig()

    smooth: float = 1 / 16
    """Standard deviation, in boxes, of the Gaussian that smooths the score map before regions and peaks are sought in
    it. Our choice: all windows near a centre score high, so their mean shows the centre better than the best of them.
    The score of a pick is not smoothed."""

    clean: CleanConfig = CleanConfig()
    peaks: PeaksConfig = PeaksConfig()

    def __post_init__(self) -> None:
        within(self, smooth=(0, 10))


LEAST_COVERAGE = 0.01
"""Fraction of the area that particles must seem to cover for their diameter to be believed."""


@dataclass(frozen=True, kw_only=True)
class DiameterConfig:
    """How the particle diameter is estimated where none is given. All choices are ours."""

    search: tuple[float, float] = (50.0, 700.0)
    """Å; least and largest diameter that is looked for."""

    looked_at: int = 8
    """Number of micrographs that are looked at, evenly spread over those that are given."""

    factor: float = 1.3
    """Ratio of two successive diameters that are assumed in turn."""

    side: int = 448
    """Working pixels of a micrograph's middle that are looked at, along each side."""

    least_pixels: float = 8.0
    """Particles smaller than this many pixels of the micrograph are not looked for."""

    trust: float = 20.0
    """By how much the mean log-probability of a place is multiplied; places and micrographs are not independent."""

    def __post_init__(self) -> None:
        within(self, looked_at=(1, 10_000), factor=(1.01, 4), side=(128, 8192), least_pixels=(4, 1000), trust=(0, 1e6))
        if not 0 < self.search[0] < self.search[1] < math.inf:
            raise InputError(
                f"--search {self.search[0]:g} {self.search[1]:g} is no range of diameters; give the lower first"
            )


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which candidates become picks (Section 2.1, sorting). Can be changed without scoring again."""

    threshold: float | None = None
    """Picks are the candidates with at least this score, 0-1. Default: chosen for the data set from its scores, so that
    the expected F1 is highest."""

    num_particles: int | None = None
    """Keep only so many picks with the highest scores, over all micrographs of the run."""

    def __post_init__(self) -> None:
        within(self, threshold=(0, 1), num_particles=(1, math.inf))
