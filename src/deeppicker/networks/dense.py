"""The dense network, which draws a map of particle centres, and maps of what covers a place and how large it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.special import expit
from torch import nn
from torch.nn import functional

from deeppicker.config import PrepareConfig, TrainSettings
from deeppicker.core import Prepared, ScoreMap
from deeppicker.networks import tiles
from deeppicker.networks.base import SIZE_BINS, Loss, Network, TellsDiameter
from deeppicker.networks.batches import Batch, CropBatch

CENTRE_WEIGHT = 20.0
PRESENCE_WEIGHT = 0.3
JUNK_WEIGHT = 0.5
SIZE_WEIGHT = 0.15
"""Weights of the four parts of the loss, such that all are of order one after a few hundred steps."""
_SPREAD = 0.7  # standard deviation, in bins, of the target of the size
_ONE_WAY = 20_480  # PyTorch computes convolutions of fewer values by other means, which round in another way
_STRIP = 64  # rows of the second level whose centres are drawn at a time: bounds memory
_MARGIN = 2  # rows more on both sides, which interpolation and convolution look at
_COARSE_LEVEL = 3  # the level at which the coarse map is drawn


class DenseNetwork(Network, TellsDiameter):
    """An encoder and decoder with skip connections (U-Net, Ronneberger et al. 2015) that maps particle centres.

    From images in which a particle is 24 pixels across it makes a map of centres at half that resolution: the log-odds
    that a particle is centred there, up to a calibration. A second head, eight times coarser than the image, tells
    whether a particle of any size covers a place, whether contamination does, and how the logarithm of the diameter
    relates to 24 pixels.

    Parameters
    ----------
    width : int
        Channels at the finest level; level ``i`` has ``i`` times as many.
    depth : int
        Levels, each half as fine as the one before; at least 4. One more doubles how far the network sees.
    """

    kind = "dense"
    preparation: ClassVar[PrepareConfig] = PrepareConfig(window=36, lowpass=0.0, background=1.5)
    """Particles are 24 pixels across, so nothing finer than a twelfth of the diameter is seen: that is the same for all
    micrographs, whatever their pixel size and filters, and it is fast."""
    stride = 2
    tile = 2048
    peak_window = 0.6
    coarse = 2**_COARSE_LEVEL
    """Side of the blocks of pixels to which a value of the coarse map belongs."""
    learns_from = CropBatch
    defaults: ClassVar[TrainSettings] = TrainSettings(
        epochs=40, batch_size=8, learning_rate=1.5e-3, momentum=0.9, weight_decay=0.01, seed=0
    )
    adapt_epochs = 5
    gradient_limit = 3.0
    warm_up = 100
    calibrated = True

    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        if not (width >= 1 and depth > _COARSE_LEVEL):
            raise ValueError(f"a width of {width} and a depth of {depth} make no network")
        self.width, self.depth = width, depth
        self.multiple = 2**depth
        channels = [1, *(width * level for level in range(1, depth + 1))]
        for level in range(1, depth + 1):
            before, here = channels[level - 1 : level + 1]
            first = _Convolution(before, here, 5 if level == 1 else 3, stride=2)
            more = 2 if level == depth else 1
            self.add_module(f"level{level}", nn.Sequential(first, *(_Convolution(here, here) for _ in range(more))))
        for level in range(depth - 1, 0, -1):
            here, below = channels[level : level + 2]
            self.add_module(f"up{level}", _Convolution(below, here, 1))
            self.add_module(f"merge{level}", _Convolution(2 * here, 2 * here if level == 1 else here))
        self.centre = _conv2d(2 * width, 1, 1)
        coarse = channels[_COARSE_LEVEL]
        self.size = nn.Sequential(_Convolution(coarse, coarse + width), _conv2d(coarse + width, 2 + SIZE_BINS, 1))
        assert self.centre.bias is not None
        nn.init.constant_(self.centre.bias, -3.0)  # centres are rare
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # half the time on a CPU

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Width and depth."""
        return {"width": self.width, "depth": self.depth}

    @property
    def reach(self) -> tiles.Reach:
        """What the network must see for the map of a tile.

        A score depends on what is less than eight times ``multiple`` pixels away. No convolution is so small that
        PyTorch would compute it in another way than those of large images: neither that of the deepest level, whose
        places are the fewest, nor the map of centres, which is a single channel.
        """
        deepest = self.multiple * math.sqrt(_ONE_WAY / (self.width * self.depth))
        centres = self.stride * math.sqrt(_ONE_WAY)
        least = self.multiple * (math.ceil(max(deepest, centres) / self.multiple) + 1)
        return tiles.Reach(self.multiple, 8 * self.multiple, least)

    def forward(
        self, images: Float[torch.Tensor, "n height width"]
    ) -> tuple[Float[torch.Tensor, "n rows columns"], Float[torch.Tensor, "n channels coarse_rows coarse_columns"]]:
        """Return the map of centres, and the coarse map of presence (channel 0), junk (1) and size (others)."""
        *finer, features = self._encode(images)
        sizes = self.size(features)
        for level in range(_COARSE_LEVEL - 1, 0, -1):
            features = self._merged(level, features, finer[level - 1])
        return self.centre(features)[:, 0], sizes

    def coarse_maps(
        self, images: Float[torch.Tensor, "n height width"]
    ) -> Float[torch.Tensor, "n channels coarse_rows coarse_columns"]:
        """Return the coarse map alone, in half the time."""
        maps: torch.Tensor = self.size(self._encode(images)[-1])
        return maps

    def _encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of the levels down to that of the coarse map, which know of all levels below."""
        levels = [images[:, None]]
        for level in range(1, self.depth + 1):
            levels.append(self.get_submodule(f"level{level}")(levels[-1]))
        features = levels[self.depth]
        for level in range(self.depth - 1, _COARSE_LEVEL - 1, -1):
            features = self._merged(level, features, levels[level])
        return [*levels[1:_COARSE_LEVEL], features]

    def _merged(self, level: int, below: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        """Return the features of a level, after those of the level below have joined them."""
        merged: torch.Tensor = self.get_submodule(f"merge{level}")(self._joined(level, below, here))
        return merged

    def _joined(self, level: int, below: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        """Return the features of two levels side by side; by themselves, they are freed before they are merged."""
        doubled = functional.interpolate(
            self.get_submodule(f"up{level}")(below), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return torch.cat([doubled, here], dim=1)

    def maps(
        self, image: Float[torch.Tensor, "height width"], step: int
    ) -> tuple[Float[torch.Tensor, "rows columns"], Float[torch.Tensor, "coarse_rows coarse_columns"]]:
        """Return the log-odds of centres for each block of ``step`` pixels, and of junk for each of ``coarse``.

        2 is the finest step; of a coarser one, the value is that of the first block of 2 pixels in it.
        """
        *finer, features = self._encode(self.extended(image)[None])
        junk = self.size(features)[0, 1]
        for level in range(_COARSE_LEVEL - 1, 1, -1):
            features = self._merged(level, features, finer[level - 1])
        every = step // self.stride
        return self._centres(features, finer[0])[::every, ::every], junk

    def _centres(self, below: torch.Tensor, finest: torch.Tensor) -> Float[torch.Tensor, "rows columns"]:
        """Return the map of centres, strip by strip: the merged features of the finest level take most memory."""
        rows = below.shape[2]
        strip = min(rows, max(_STRIP, math.ceil(_ONE_WAY / below.shape[3])))
        parts = []
        for start in range(0, rows, strip):
            # The last strip is as high as the others: small ones would be rounded in another way.
            first = max(0, min(start, rows - strip) - _MARGIN)
            last = min(rows, start + strip + _MARGIN)
            merged = self._merged(1, below[:, :, first:last], finest[:, :, 2 * first : 2 * last])
            parts.append(self.centre(merged)[0, 0, 2 * (start - first) :][: 2 * strip])
        return torch.cat(parts)

    def extended(self, image: Float[torch.Tensor, "height width"]) -> Float[torch.Tensor, "rows columns"]:
        """Return the image with zeros beyond its right and its lower edge, to multiples of ``multiple``."""
        height, width = image.shape
        return functional.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))

    def score_map(self, prepared: Prepared, step: int, tile: int) -> ScoreMap:
        """Return the map of centres with that of contamination; a place of it is the middle of a block of 2 pixels."""
        step = max(step, self.stride)
        logits, junk = tiles.draw(
            prepared.image, (step, self.coarse), tile, self.reach, lambda part: self.maps(part, step), self.device
        )
        every = step // self.stride
        fine = _refined(expit(junk), self.coarse // self.stride)[::every, ::every]
        inside = tuple(slice(0, -(-side // step)) for side in prepared.image.shape)
        middle = 0.5 * (self.stride - 1)
        grid = prepared.grid.derive((middle, middle), float(step))
        return ScoreMap(np.ascontiguousarray(logits[inside]), grid, np.ascontiguousarray(fine[inside]))

    def sizes(
        self, image: Float[torch.Tensor, "height width"]
    ) -> tuple[Float[torch.Tensor, "rows columns"], Float[torch.Tensor, "bins rows columns"]]:
        """Return where particles are and no contamination, and how large; in half the time of all maps."""
        rows, columns = (side // self.coarse for side in image.shape)
        coarse = self.coarse_maps(self.extended(image)[None])[0, :, :rows, :columns].cpu().double()
        present = torch.sigmoid(coarse[0]) * (1 - torch.sigmoid(coarse[1]))
        return present, torch.log_softmax(coarse[2:], dim=0)

    def loss(self, outputs: tuple[torch.Tensor, torch.Tensor], batch: Batch) -> Loss:
        """Return the weighted sum of the four losses, and how much of the map of presence is right."""
        assert isinstance(batch, CropBatch)
        centre, presence, junk, size = losses(outputs, batch)
        value = CENTRE_WEIGHT * centre + PRESENCE_WEIGHT * presence + JUNK_WEIGHT * junk + SIZE_WEIGHT * size
        known = ~batch.presence.isnan()
        right = ((outputs[1][:, 0] > 0) == (batch.presence > 0.5)) & known
        return Loss(value, right.float().sum() / known.float().sum())

    def optimizer(self, settings: TrainSettings) -> torch.optim.Optimizer:
        """Return AdamW (Loshchilov & Hutter 2019)."""
        return torch.optim.AdamW(self.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def best(self, losses: Sequence[float]) -> int:
        """Return the last epoch, when the learning rate has come to rest.

        The loss on random crops differs less between epochs than between draws.
        """
        return len(losses) - 1

    def fused(self) -> Network:
        """Return a copy for inference, in which each normalisation has become part of the convolution before it."""
        network = super().fused()
        for part in network.modules():
            if isinstance(part, _Convolution):
                part.fold()
        return network


def losses(outputs: tuple[torch.Tensor, torch.Tensor], batch: CropBatch) -> tuple[torch.Tensor, ...]:
    """Return the losses on centres, presence, junk and size; each is a mean over what is known."""
    centres, coarse = outputs
    bins = torch.arange(SIZE_BINS, device=batch.sizes.device)
    target = torch.softmax(-0.5 * ((bins - batch.sizes[:, None]) / _SPREAD) ** 2, dim=1)
    entropy = -(functional.log_softmax(coarse[:, 2:], dim=1) * target[:, :, None, None]).sum(dim=1)
    covered = ((batch.presence == 1) & (batch.sizes >= 0)[:, None, None]).float()
    size = (entropy * covered).sum() / covered.sum().clamp_min(1)
    known = ((centres, batch.centres), (coarse[:, 0], batch.presence), (coarse[:, 1], batch.junk))
    return (*(_known_mean(logits, wanted) for logits, wanted in known), size)


def _known_mean(
    logits: Float[torch.Tensor, "n rows columns"], target: Float[torch.Tensor, "n rows columns"]
) -> torch.Tensor:
    known = ~target.isnan()
    each = functional.binary_cross_entropy_with_logits(logits, target.nan_to_num(0), reduction="none")
    return (each * known).sum() / known.sum().clamp_min(1)


def _refined(
    coarse: Float32[np.ndarray, "coarse_rows coarse_columns"], factor: int
) -> Float32[np.ndarray, "rows columns"]:
    """Return a map interpolated to ``factor`` times as many places along each side."""
    tensor = torch.from_numpy(coarse)[None, None]
    fine = functional.interpolate(tensor, scale_factor=float(factor), mode="bilinear")[0, 0]
    return fine.numpy()


class _Convolution(nn.Sequential):
    """A convolution that keeps the size (over the stride), normalised by batch, with ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        layer = _conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        super().__init__(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def fold(self) -> None:
        """Make the normalisation, a factor and an offset where nothing is learnt, part of the convolution.

        As `torch.nn.utils.fuse_conv_bn_eval`, which takes the reciprocal of the root in one step and so rounds in
        another way.
        """
        layer, norm, _ = self
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        layer.weight = nn.Parameter(layer.weight * factor[:, None, None, None], requires_grad=False)
        layer.bias = nn.Parameter(norm.bias - norm.running_mean * factor, requires_grad=False)
        self[1] = nn.Identity()


def _conv2d(inputs: int, outputs: int, kernel: int, **settings: Any) -> nn.Conv2d:
    """Return a convolution whose result is the same to the last bit for any number of threads.

    Where there is a single thread, PyTorch computes a kernel of 1×1 by other means, which round in another way; not so
    if it is dilated, which means nothing for such a kernel.
    """
    return nn.Conv2d(inputs, outputs, kernel, dilation=2 if kernel == 1 else 1, **settings)
