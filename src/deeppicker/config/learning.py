"""Whether and how a run learns its own micrographs before it picks them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeppicker.config.limits import within
from deeppicker.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SelfTrainConfig:
    """How the dense network learns a data set from its own picks. All choices are ours."""

    micrographs: int = 12
    """Number of micrographs that are learnt from, evenly spread over those of the run."""

    rounds: int = 2
    """How often the picks become labels. Two halves of the micrographs judge each other in between."""

    steps: int = 30
    """Steps of training of each of the two networks, in each round."""

    batch_size: int = 2
    """Crops in a step."""

    crop: int = 224
    """Side of a crop in working pixels, a multiple of 16."""

    learning_rate: float = 1.5e-3
    """Learning rate at the start of a round; it falls to zero along a half cosine."""

    sure: float = 0.5
    """As many of the best candidates are taught as particles in the first round as this fraction of the picks ..."""

    sure_later: float = 0.85
    """... and in later rounds, whose order is better, as this fraction of the first picks that should be right. It is
    always a fraction of the first picks, so that the number of particles cannot run away."""

    unknown: float = 0.01
    """Other candidates of at least this score are taken for unknown in the first round. The rest is background ..."""

    unknown_later: float = 0.3
    """... and in later rounds, whose low scores are more certain. Where all candidates are unknown, a second round has
    nothing to learn false ones from, and in sparse or faint micrographs their number grows."""

    fewest: int = 40
    """Fewer picks in either half of the micrographs are not learnt from."""

    agreement: float = 0.8
    """Of the picks that are taught, this fraction must be picked by the network of the other half, or nothing is
    learnt."""

    fewer: float = 0.5
    """Nothing is learnt either if fewer than this fraction of the picks are left ..."""

    more: float = 1.2
    """... or if there are more than this many times as many."""

    convincing: float = 0.65
    """If the picks that are taught in the first round have a smaller mean score, the start is doubtful. Then ..."""

    rounds_if_doubtful: int = 4
    """... there are so many rounds, because it takes longer until the picks have come and junk has gone ..."""

    more_if_doubtful: float = 1.5
    """... and this many times as many picks are allowed, because the start has found few of the particles."""

    more_if_compact: float = 1.0
    """If the picks of a doubtful start are compact like contamination besides, they may not become more, only fewer.
    Whether they are is not asked if this is no less than ``more_if_doubtful``."""

    start_share: float = 0.5
    """Part that the start keeps in the weights of the result; the networks that have learnt share the rest. What the
    start knows and the data set does not show often enough, such as a second species, then stays."""

    seed: int = 0
    """Seed of every random choice."""

    def __post_init__(self) -> None:
        within(self, micrographs=(2, 10_000), rounds=(1, 100), steps=(1, 1_000_000), batch_size=(1, 10_000))
        within(
            self,
            crop=(64, 4096),
            learning_rate=(1e-12, 10),
            sure=(0, 1),
            sure_later=(0, 1),
            unknown=(0, 1),
            unknown_later=(0, 1),
        )
        within(self, fewest=(1, math.inf), agreement=(0, 1), fewer=(0, 1), more=(1, math.inf), convincing=(0, 1))
        within(self, rounds_if_doubtful=(1, 100), more_if_doubtful=(1, math.inf), more_if_compact=(1, math.inf))
        within(self, start_share=(0, 1), seed=(0, 2**31))
        if self.crop % 16:
            raise InputError(f"--crop {self.crop} is no multiple of 16; choose one such as 224")


@dataclass(frozen=True, kw_only=True)
class LearnFirstConfig:
    """Learning the data set before picking, without labels (the paper's iteration, Section 2.1)."""

    learn: str = "auto"
    """Learn from the run's own best picks before picking: ``auto`` (a general model, in a new output folder), ``off``,
    or the number of rounds. The output folder keeps the model learnt, and later runs in it use it again."""

    def __post_init__(self) -> None:
        if self.learn not in ("auto", "off") and not (self.learn.isascii() and self.learn.isdigit()):
            raise InputError(f"--learn {self.learn} is none; choose auto, off or a number of rounds, such as 2")

    @property
    def off(self) -> bool:
        """Whether nothing is to be learnt."""
        return self.learn == "off" or self.learn.strip("0") == ""

    @property
    def method(self) -> SelfTrainConfig:
        """How it is learnt."""
        if self.learn.isdigit():
            return SelfTrainConfig(rounds=int(self.learn), rounds_if_doubtful=int(self.learn))
        return SelfTrainConfig()
