"""What a network is to the rest of the program. A new one is a subclass in a file of its own, and a line in `kinds`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import nn

from deeppicker.config import PrepareConfig, TrainSettings
from deeppicker.core import Prepared, ScoreMap
from deeppicker.networks.batches import Batch

SIZE_BINS = 23
"""Bins of the logarithm of true over assumed diameter; the outermost hold everything beyond."""

SIZE_BIN_WIDTH = 0.1
"""Width of such a bin: a tenth, in diameter."""


class Loss(NamedTuple):
    """How wrong a network is about a batch: what is made smaller, and the fraction that is right; means over it."""

    value: torch.Tensor
    accuracy: torch.Tensor


class Network(nn.Module, ABC):
    """A network, with all that picking and training need to know of it.

    Subclasses set the class variables without a value here. What they are constructed with is stored in model files
    (`arguments`), so it consists of JSON values.
    """

    kind: ClassVar[str]
    """The name by which model files and the command line know it."""

    preparation: ClassVar[PrepareConfig]
    """How micrographs are prepared for a new one."""

    stride: ClassVar[int]
    """Distance in working pixels of the positions that are scored unless another step is asked for."""

    tile: ClassVar[int]
    """Side in working pixels of the tiles in which a micrograph is scored unless another is asked for."""

    peak_window: ClassVar[float]
    """Side in boxes of the window in which a pick has the highest score, unless another is asked for."""

    learns_from: ClassVar[type[Batch]]
    """What its batches are."""

    defaults: ClassVar[TrainSettings]
    """Settings of training where none are given."""

    adapt_epochs: ClassVar[int]
    """Epochs when a trained model is adapted: fewer than for a new one."""

    gradient_limit: ClassVar[float]
    """Norm to which gradients are cut; keeps a first step from an unlucky start harmless."""

    warm_up: ClassVar[int] = 0
    """Steps over which the learning rate rises before it falls."""

    calibrated: ClassVar[bool] = False
    """Whether training ends with a calibration of the scores on micrographs whose particles are all known."""

    multiple: int = 1
    """Sides of the images in a batch are multiples of this."""

    @property
    def window(self) -> int:
        """Side in working pixels of the box for which the network is made."""
        return self.preparation.window

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the network was constructed with."""
        return {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def score_map(self, prepared: Prepared, step: int, tile: int) -> ScoreMap:
        """Return the log-odds of a particle at positions ``step`` working pixels apart.

        The micrograph is looked at in tiles of about ``tile`` working pixels, which bound memory and change nothing
        else.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Loss:
        """Return how wrong the outputs are, which `forward` has made of the images of a batch."""

    @abstractmethod
    def optimizer(self, settings: TrainSettings) -> torch.optim.Optimizer:
        """Return what changes the weights in training."""

    def best(self, losses: Sequence[float]) -> int:
        """Return the index of the best epoch, given the validation loss of each: the first of the least."""
        return losses.index(min(losses))

    def fused(self) -> Network:
        """Return a copy for inference only, as fast as it can be made. Training goes on from the original."""
        return copy.deepcopy(self).train(False).requires_grad_(False)


class TellsDiameter(ABC):
    """What a network is too if it can tell how large particles are."""

    @abstractmethod
    def sizes(
        self, image: Float[torch.Tensor, "height width"]
    ) -> tuple[Float[torch.Tensor, "rows columns"], Float[torch.Tensor, "bins rows columns"]]:
        """Return for each place the probability that particles cover it, and the log-probability of each bin of size.

        Bin ``i`` of `SIZE_BINS` means that the logarithm of the true diameter over the one for which the image was
        prepared is ``SIZE_BIN_WIDTH * (i - SIZE_BINS // 2)``.
        """
