"""Every setting and its default, with its unit, meaning and source. The command line is generated from these.

"Section" refers to Wang et al. (2016), "DeepPicker: a deep learning approach for fully automated particle picking
in cryo-EM". A *box* is the square window that holds one particle; a *working pixel* is a pixel of the prepared
micrograph, which is scaled so that one box spans ``PrepareConfig.window`` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeppicker.errors import InputError

DEFAULT_MODEL = "deeppicker2016"
"""The model in the package that is used unless another is named."""

STEPS = (1, 2, 4, 8, 16)
"""Distances of scored positions: the network pools by 16 in all, and powers of two up to that are subsets."""


def _within(config: object, **limits: tuple[int | float, int | float]) -> None:
    """Check that fields lie within limits, both inclusive; NaN does not."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            option = name.replace("_", "-")
            upper = "or more" if high == math.inf else f"to {high:g}"
            raise InputError(f"--{option} {value:g} is out of range; choose {low:g} {upper}")


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
        _within(
            self, box_diameters=(0.5, 10), window=(8, 4096), lowpass=(0, 100), background=(0.01, 100), clip=(1, 1e6)
        )


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How the network is swept over a prepared micrograph."""

    step: int = 4
    """Distance of neighbouring scored positions in working pixels (Section 4.5). A power of two up to 16."""

    tile: int = 512
    """Side of the tiles that are scored one after the other, in working pixels; bounds memory."""

    def __post_init__(self) -> None:
        _within(self, tile=(1, 1_000_000))
        if self.step not in STEPS:
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
        _within(self, connect_threshold=(1e-6, 1 - 1e-6), max_region=(0, math.inf))


@dataclass(frozen=True, kw_only=True)
class PeaksConfig:
    """Choice of particle centres from the score map."""

    peak_window: float = 0.8
    """Side of the window in which a pick has the highest score, in boxes; the minimum distance of two picks is
    half of it (Section 4.5)."""

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
        _within(self, peak_window=(0.01, 10), floor=(0, 1), extreme_sigmas=(0, math.inf), max_extreme=(0, 1))
        _within(self, edge=(0, 100))


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
        _within(self, smooth=(0, 10))


@dataclass(frozen=True, kw_only=True)
class ExampleConfig:
    """How labelled windows are drawn from micrographs with known particles."""

    num_particles: int = 10_000
    """Positive windows in all, shared equally among the data sets; as many negatives are added (Section 4.3)."""

    negative_distance: float = 0.6
    """Least distance of a negative window's centre from every particle, in boxes (Section 4.3)."""

    noise: float = 0.15
    """Fraction of the negatives that come from noise with the spectrum of the micrographs. Our choice: a network
    that only ever saw crowded micrographs finds particles in an empty one."""

    validation: float = 1 / 9
    """Size of the validation part in relation to the training part, split by micrograph (Section 4.3)."""

    max_lowpass: float = 2.7
    """Each training micrograph is also low-passed with random strengths up to this standard deviation, in working
    pixels, because published micrographs differ in how they were filtered."""

    scale_jitter: float = 0.1
    """Each training micrograph is also enlarged or reduced by up to this fraction, because a particle's diameter is
    never known exactly."""

    versions: int = 4
    """Number of such random filterings and scalings of each training micrograph."""

    def __post_init__(self) -> None:
        _within(self, num_particles=(1, math.inf), negative_distance=(0, 100), noise=(0, 1), validation=(1e-6, 1))
        _within(self, max_lowpass=(0, 100), scale_jitter=(0, 0.9), versions=(1, 1000))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Stochastic gradient descent with momentum (Section 4.3)."""

    epochs: int = 15
    """Passes over the training windows."""

    batch_size: int = 64
    """Windows per step."""

    learning_rate: float = 0.01
    """Learning rate at the start (Section 4.5); it falls to zero along a half cosine."""

    momentum: float = 0.9
    """Momentum of the gradient descent."""

    weight_decay: float = 5e-4
    """L2 penalty on the weights."""

    seed: int = 0
    """Seed of every random choice: the same seed and data give the same model."""

    def __post_init__(self) -> None:
        _within(self, epochs=(1, 1_000_000), batch_size=(1, 1_000_000), learning_rate=(1e-12, 10), momentum=(0, 0.9999))
        _within(self, weight_decay=(0, 1), seed=(0, 2**31))


ADAPT_EPOCHS = 10
"""Epochs when a trained model is adapted: fewer than for a new one."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which candidates become picks (Section 2.1, sorting). Can be changed without scoring again."""

    threshold: float = 0.5
    """Picks are the candidates with at least this score, 0-1."""

    num_particles: int | None = None
    """Keep only so many picks with the highest scores, over all micrographs of the run."""

    def __post_init__(self) -> None:
        _within(self, threshold=(0, 1))
        if self.num_particles is not None:
            _within(self, num_particles=(1, math.inf))
