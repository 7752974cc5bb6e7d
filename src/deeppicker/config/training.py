"""Settings of training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

from deeppicker.config.limits import within
from deeppicker.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExampleConfig:
    """Labelled windows from micrographs with known particles."""

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
        within(self, num_particles=(1, math.inf), negative_distance=(0, 100), noise=(0, 1), validation=(1e-6, 1))
        within(self, max_lowpass=(0, 100), scale_jitter=(0, 0.9), versions=(1, 1000))


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Training images of the dense network. All choices are ours."""

    crop: int = 224
    """Side of a crop in working pixels, a multiple of 16."""

    target_sigma: float = 0.1
    """Standard deviation, in particle diameters, of the peaks that the network should draw at the centres."""

    on_particles: float = 0.8
    """Fraction of the crops that are laid on a particle; the others lie anywhere."""

    size_jitter: float = 0.25
    """Largest error of the diameter that picking assumes, as a fraction."""

    wide: float = 0.25
    """Fraction of the crops whose diameter is assumed wrong by up to ``--wide-factor``; from them the network learns to
    tell sizes, not to find centres."""

    wide_factor: float = 3.5
    """Largest factor of error of the diameter in these crops."""

    blurred: float = 0.4
    """Fraction of the crops that are low-passed ..."""

    max_blur: float = 2.0
    """... by up to this standard deviation in working pixels."""

    noisy: float = 0.3
    """Fraction of the crops that get white noise ..."""

    max_noise: float = 1.0
    """... of up to this many times their own deviation."""

    graded: float = 0.3
    """Fraction of the crops whose grey values are distorted by a smooth curve."""

    real: float = 0.3
    """Fraction of the crops from real micrographs, if simulated ones are given too."""

    empty_crops: float = 0.15
    """Fraction of the crops from micrographs known to hold no particle, if there are any."""

    noise_crops: float = 0.1
    """Fraction of the crops that are noise with a spectrum between white and that of the crop, without particles."""

    doubt: float = 0.5
    """Labels of real micrographs are never complete. Unlabelled places that the starting model scores higher than this
    count as unknown. Without a starting model, none do."""

    def __post_init__(self) -> None:
        within(self, crop=(64, 4096), target_sigma=(0.01, 1), size_jitter=(0, 0.9), wide=(0, 1), wide_factor=(1, 10))
        within(self, on_particles=(0, 1), blurred=(0, 1), noisy=(0, 1), graded=(0, 1), real=(0, 1), doubt=(0, 1))
        within(self, empty_crops=(0, 1), noise_crops=(0, 1))
        within(self, max_blur=(0, 100), max_noise=(0, 100))
        if self.crop % 16:
            raise InputError(f"--crop {self.crop} is not a multiple of 16; choose one such as 224")


EPOCH_STEPS = 100
"""Steps per epoch of the dense network, which draws random crops without end."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Stochastic gradient descent with momentum (Section 4.3), or AdamW for the dense network."""

    epochs: int | None = None
    """Passes over the training windows; 15 for the paper's network, 40 of 100 steps each for the dense one."""

    batch_size: int | None = None
    """Windows or crops per step; 64 for the paper's network, 8 for the dense one."""

    learning_rate: float | None = None
    """Initial learning rate; it falls to zero along a half cosine. 0.01 for the paper's network (Section 4.5), 0.0015
    for the dense one, after a short rise."""

    momentum: float = 0.9
    """Momentum of the gradient descent; the dense network's optimizer has its own."""

    weight_decay: float | None = None
    """Weight decay; 0.0005 for the paper's network, 0.01 for the dense one."""

    seed: int = 0
    """Seed of every random choice: the same seed and data give the same model."""

    def __post_init__(self) -> None:
        limits = {"epochs": (1, 1_000_000), "batch_size": (1, 1_000_000), "learning_rate": (1e-12, 10)}
        for name, (low, high) in {**limits, "weight_decay": (0, 1)}.items():
            if getattr(self, name) is not None:
                within(self, **{name: (low, high)})
        within(self, momentum=(0, 0.9999), seed=(0, 2**31))

    def resolved(self, defaults: TrainSettings) -> TrainSettings:
        """Return all settings, given those of a network where none are set."""
        return defaults._replace(**{name: value for name, value in asdict(self).items() if value is not None})


class TrainSettings(NamedTuple):
    """The fields of `TrainConfig` with a value for each."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    seed: int

    def seed_of(self, epoch: int) -> int:
        """Return the seed of what PyTorch chooses in an epoch, counted from 0."""
        return self.seed * 1_000_003 + epoch


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """What decides the result of training, besides the data."""

    examples: ExampleConfig = ExampleConfig()
    crops: CropConfig = CropConfig()
    train: TrainConfig = TrainConfig()
