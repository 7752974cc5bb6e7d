"""Settings of picking: preparation, scores, cleaning, peaks, selection, diameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeppicker.config.limits import within
from deeppicker.errors import InputError

DEFAULT_MODEL = "general"
"""The model in the package that is used by default."""

STEPS = (1, 2, 4, 8, 16)
"""Distances of scored positions: the network pools by 16 in all, and powers of two up to that are subsets."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Preparation of a micrograph at a network's working scale. Stored in every model file."""

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
    """The network's sweep over a prepared micrograph."""

    step: int | None = None
    """Distance between scored positions in working pixels, a power of two up to 16. Default: that of the network; 4 for
    the paper's (Section 4.5), 2 for the dense one, which has no finer one."""

    tile: int | None = None
    """Side of the tiles scored one after the other, in working pixels; limits memory. Default: that of the network."""

    def __post_init__(self) -> None:
        within(self, tile=(1, 1_000_000))
        if self.step is not None and self.step not in STEPS:
            raise InputError(f"--step {self.step} is not possible; choose one of {', '.join(map(str, STEPS))}")


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
    """Side of the window in which a pick has the highest score, in boxes; the minimum distance between picks is half of
    it. Default: that of the network; 0.8 for the paper's (Section 4.5), 0.6 for the dense one, whose peaks are sharp
    enough to separate close neighbours."""

    floor: float = 0.01
    """Candidates below this score are dropped; those between it and the threshold are kept as candidates."""

    extreme_sigmas: float = 3.0
    """Pixels further than this many standard deviations from the micrograph's mean are extreme (Section 4.5)."""

    max_extreme: float = 0.1
    """A candidate is dropped if the fraction of extreme pixels in its window exceeds that of the typical candidate by
    more than this. The paper gives no number; no reference particle of the three development data sets has more than
    0.05, and hardly a window on an ice crystal less than 0.4."""

    edge: float = 0.5
    """Picks closer than this to the micrograph's edge, or to a blank border that motion correction left there, are
    dropped, in particle diameters. Our choice: a particle cut by the edge is useless."""

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
"""Fraction of the area that particles must seem to cover for a credible diameter."""


@dataclass(frozen=True, kw_only=True)
class DiameterConfig:
    """Estimation of the particle diameter if none is given. All choices are ours."""

    search: tuple[float, float] = (50.0, 700.0)
    """Å; smallest and largest diameter to look for."""

    looked_at: int = 8
    """Number of micrographs to examine, evenly spread over the input."""

    factor: float = 1.3
    """Ratio between successive assumed diameters."""

    side: int = 448
    """Side, in working pixels, of the examined middle of a micrograph."""

    least_pixels: float = 8.0
    """Smallest particle to look for, in pixels of the micrograph."""

    trust: float = 20.0
    """Factor on the mean log-probability of a place, because places and micrographs are not independent."""

    def __post_init__(self) -> None:
        within(self, looked_at=(1, 10_000), factor=(1.01, 4), side=(128, 8192), least_pixels=(4, 1000), trust=(0, 1e6))
        if not 0 < self.search[0] < self.search[1] < math.inf:
            raise InputError(
                f"--search {self.search[0]:g} {self.search[1]:g} is not a range of diameters; give the lower one first"
            )


CAUTION = 0.6
"""Part of the threshold of highest expected F1 that is taken. The scores of molecules that a network finds hard are too
low, so the threshold that their scores ask for is too high: of 1, 0.8, 0.6, 0.5, 0.4 and 0.3 this loses least F1 on
simulated micrographs that were held out of training (0.061 on average, and 1 loses 0.078; docs/decisions/0002)."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Selection of picks among the candidates (Section 2.1, sorting). Can be changed without scoring again."""

    threshold: float | None = None
    """Least score of a pick, 0-1; default: chosen for all micrographs of the run from their scores, for the highest
    expected F1."""

    num_particles: int | None = None
    """Keep only this many picks, those with the highest scores of all micrographs of the run."""

    min_contrast: float | None = None
    """Least contrast of a pick: by how much its disc is darker than the ring around it, in standard deviations of the
    prepared micrograph. Default: any."""

    max_contrast: float | None = None
    """Greatest contrast of a pick. Default: any."""

    def __post_init__(self) -> None:
        within(self, threshold=(0, 1), num_particles=(1, math.inf))
        within(self, min_contrast=(-100, 100), max_contrast=(-100, 100))
        low, high = self.min_contrast, self.max_contrast
        if low is not None and high is not None and low > high:
            raise InputError(f"--min-contrast {low:g} is above --max-contrast {high:g}, so nothing would be picked")

    @property
    def filtered(self) -> bool:
        """Whether anything but scores keeps candidates out."""
        return self.min_contrast is not None or self.max_contrast is not None

    @property
    def fixed(self) -> float | None:
        """The threshold, if that alone tells picks from other candidates; None otherwise."""
        return self.threshold if self.num_particles is None and not self.filtered else None
