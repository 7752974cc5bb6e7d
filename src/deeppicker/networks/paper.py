"""The network of the paper, which judges windows (Section 4.2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from deeppicker.config import PrepareConfig, TrainSettings
from deeppicker.core import Prepared, ScoreMap
from deeppicker.networks import tiles
from deeppicker.networks.base import Loss, Network
from deeppicker.networks.batches import Batch, WindowBatch


class PaperNetwork(Network):
    """The network of Section 4.2: four convolutions with ReLU and max-pooling, two fully-connected layers.

    Kernel sizes and channels (9×9×8, 5×5×16, 3×3×32, 2×2×64, then 256-128-2; 49,922 parameters) are those of the
    authors' later public code; the paper does not give them. Input: 64×64; output: log-probabilities of
    (background, particle) before the softmax.
    """

    kind = "paper"
    preparation: ClassVar[PrepareConfig] = PrepareConfig()
    stride = 4
    tile = 512
    peak_window = 0.8
    learns_from = WindowBatch
    defaults: ClassVar[TrainSettings] = TrainSettings(
        epochs=15, batch_size=64, learning_rate=0.01, momentum=0.9, weight_decay=5e-4, seed=0
    )
    adapt_epochs = 10
    gradient_limit = 5.0

    def __init__(self) -> None:
        super().__init__()
        shapes = [(1, 8, 9), (8, 16, 5), (16, 32, 3), (32, 64, 2)]  # input channels, output channels, kernel
        self.convolutions = nn.ModuleList(nn.Conv2d(*shape) for shape in shapes)
        self.hidden = nn.Linear(256, 128)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(128, 2)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # half the time on a CPU

    def forward(self, windows: Float[torch.Tensor, "n 64 64"]) -> Float[torch.Tensor, "n 2"]:
        """Return the unnormalised log-probabilities of background and particle."""
        features = windows[:, None]
        for convolution in self.convolutions:
            features = functional.max_pool2d(convolution(features), 2).relu()  # the same as ReLU first, faster
        hidden = self.hidden(features.flatten(1)).relu()
        result: torch.Tensor = self.output(self.dropout(hidden))
        return result

    def windows(self, windows: Float[torch.Tensor, "n 64 64"]) -> Float[torch.Tensor, " n"]:
        """Return the log-odds of particle against background for each window."""
        return _odds(self.forward(windows))

    def loss(self, outputs: Float[torch.Tensor, "n 2"], batch: Batch) -> Loss:
        """Return the mean cross-entropy, and the fraction of the windows on whose right side the log-odds are."""
        assert isinstance(batch, WindowBatch)
        odds = _odds(outputs)
        share = 1 / max(1, len(batch))  # the last batch may be too small for all processes
        entropy = functional.binary_cross_entropy_with_logits(odds, batch.labels, reduction="sum")
        right = (odds > 0) == (batch.labels > 0.5)
        return Loss(entropy * share, right.sum().double() * share)

    def optimizer(self, settings: TrainSettings) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum (Section 4.3)."""
        rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
        return torch.optim.SGD(self.parameters(), lr=rate, momentum=momentum, weight_decay=decay)

    def score_map(self, prepared: Prepared, step: int, tile: int) -> ScoreMap:
        """Return the log-odds of all windows; the first position is the centre of the first window."""
        logits = tiles.sweep(prepared.image, self.window, step, tile, lambda part: self.sweep(part, step), self.device)
        centre = (self.window - 1) / 2
        return ScoreMap(logits, prepared.grid.derive((centre, centre), float(step)))

    def sweep(self, image: Float[torch.Tensor, "height width"], step: int) -> Float[torch.Tensor, "rows columns"]:
        """Return the log-odds of all windows in one pass; equal to `windows` on each window by itself.

        A max-pooling keeps its stride of 2 as long as the result still holds every ``step``-th position. From there on
        it is done four times, from each of the four places in a block of 2×2 pixels, so that no position is lost, and
        the four results are treated as four images ("shift and stitch") until their log-odds are interleaved again.
        """
        rows, columns = ((side - self.window) // step + 1 for side in image.shape)
        features = image[None, None]
        stride = 1
        for layer in self.convolutions:
            assert isinstance(layer, nn.Conv2d)
            features = functional.conv2d(features, _fast(layer.weight), layer.bias)
            if stride < step:
                features = functional.max_pool2d(features, 2).relu_()
                stride *= 2
            else:
                features = _pooled_from_everywhere(features).relu_()
        hidden = functional.conv2d(features, _fast(self.hidden.weight.view(128, 64, 2, 2)), self.hidden.bias).relu_()
        weight, bias = self.output.weight[1] - self.output.weight[0], self.output.bias[1] - self.output.bias[0]
        logits = (hidden * weight[:, None, None]).sum(dim=1) + bias
        while len(logits) > 1:
            logits = _interleaved(logits)
        return logits[0, :rows, :columns]


def _odds(logits: Float[torch.Tensor, "n 2"]) -> Float[torch.Tensor, " n"]:
    return logits[:, 1] - logits[:, 0]


def _fast(weight: torch.Tensor) -> torch.Tensor:
    """Return the weights of a convolution in the order of channels that is fastest on a CPU."""
    return weight.clone(memory_format=torch.channels_last)  # also where there is a single one


def _pooled_from_everywhere(
    features: Float[torch.Tensor, "n channels height width"],
) -> Float[torch.Tensor, "n4 channels rows columns"]:
    """Return the maxima of the blocks of 2×2 that begin at pixel (0, 0), then those from (0, 1), (1, 0) and (1, 1)."""
    height, width = features.shape[-2:]
    padded = functional.pad(features, (0, (width + 1) % 2, 0, (height + 1) % 2))  # so that all have the same size
    return torch.cat([functional.max_pool2d(padded[:, :, y:, x:], 2) for y in (0, 1) for x in (0, 1)])


def _interleaved(maps: Float[torch.Tensor, "n4 rows columns"]) -> Float[torch.Tensor, "n height width"]:
    """Undo `_pooled_from_everywhere` for maps with a value for each block."""
    number, rows, columns = maps.shape
    blocks = maps.view(2, 2, number // 4, rows, columns).permute(2, 3, 0, 4, 1)
    return blocks.reshape(number // 4, 2 * rows, 2 * columns)
