"""The networks: the paper's, which judges windows, and the dense one, which draws a map of centres."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

SIZE_BINS = 23
"""Bins of the logarithm of true over assumed diameter; the outermost hold everything beyond."""

SIZE_BIN_WIDTH = 0.1
"""Width of such a bin: a tenth, in diameter."""


@runtime_checkable
class Network(Protocol):
    """What the pipeline needs of a network. An ``nn.Module``."""

    window: int
    """Side in working pixels of the box for which the network is made; the micrograph is extended by half of it."""

    stride: int
    """Distance in working pixels of the positions that are scored unless another step is asked for."""

    tile: int
    """Side in working pixels of the tiles in which a micrograph is scored unless another is asked for."""

    peak_window: float
    """Side in boxes of the window in which a pick has the highest score, unless another is asked for."""

    def sweep(self, image: Float[torch.Tensor, "height width"], step: int) -> Float[torch.Tensor, "rows columns"]:
        """Return the log-odds that a particle is centred at positions ``step`` pixels apart."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the trainable weights."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Return the trainable weights with their names."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return all weights by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> object:
        """Take over all weights by name."""
        ...

    def train(self, mode: bool = True) -> object:
        """Switch dropout and the update of statistics on (or off)."""
        ...


class PaperNetwork(nn.Module):
    """The network of Section 4.2: four convolutions with ReLU and max-pooling, two fully-connected layers.

    Kernel sizes and channels (9×9×8, 5×5×16, 3×3×32, 2×2×64, then 256-128-2; 49,922 parameters) are those of the
    authors' later public code; the paper does not give them. Input: 64×64; output: log-probabilities of
    (background, particle) before the softmax.
    """

    window = 64
    stride = 4
    tile = 512
    peak_window = 0.8

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
        logits = self.forward(windows)
        return logits[:, 1] - logits[:, 0]

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


class DenseNetwork(nn.Module):
    """An encoder and decoder with skip connections (U-Net, Ronneberger et al. 2015) that maps particle centres.

    From images in which a particle is 24 pixels across it makes a map of centres at half that resolution: the log-odds
    that a particle is centred there, up to a calibration. A second head, eight times coarser than the image, tells
    whether a particle of any size covers a place, whether contamination does, and how the logarithm of the diameter
    relates to 24 pixels.

    Parameters
    ----------
    width : int
        Channels at the finest level; those of the others follow from it.
    """

    window = 36
    stride = 2
    tile = 2048
    peak_window = 0.6
    multiple = 16
    """Image sides are extended to multiples of this."""
    coarse = 8
    """Side of the blocks of pixels to which a value of the coarse map belongs."""
    halo = 128
    """Pixels around a place that its score depends on, rounded up to a multiple of 16."""
    least = 304
    """Side that is shown to the network at least, where the image has it: PyTorch computes convolutions of fewer than
    20,481 values by other means, which round in another way, and 64 channels of a 16th of this side are more."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        a, b, c, d = width, 2 * width, 3 * width, 4 * width
        self.width = width
        self.level1 = nn.Sequential(_Convolution(1, a, 5, stride=2), _Convolution(a, a))
        self.level2 = nn.Sequential(_Convolution(a, b, stride=2), _Convolution(b, b))
        self.level3 = nn.Sequential(_Convolution(b, c, stride=2), _Convolution(c, c))
        self.level4 = nn.Sequential(_Convolution(c, d, stride=2), _Convolution(d, d), _Convolution(d, d))
        self.up3, self.merge3 = _Convolution(d, c, 1), _Convolution(2 * c, c)
        self.up2, self.merge2 = _Convolution(c, b, 1), _Convolution(2 * b, b)
        self.up1, self.merge1 = _Convolution(b, a, 1), _Convolution(2 * a, 2 * a)
        self.centre = _conv2d(2 * a, 1, 1)
        self.size = nn.Sequential(_Convolution(c, d), _conv2d(d, 2 + SIZE_BINS, 1))
        assert self.centre.bias is not None
        nn.init.constant_(self.centre.bias, -3.0)  # centres are rare
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # half the time on a CPU

    def forward(
        self, images: Float[torch.Tensor, "n height width"]
    ) -> tuple[Float[torch.Tensor, "n rows columns"], Float[torch.Tensor, "n bins coarse_rows coarse_columns"]]:
        """Return the map of centres, and the coarse map of presence (channel 0), junk (1) and size (others)."""
        one, two, features = self._encode(images)
        sizes = self.size(features)
        features = self.merge2(torch.cat([_double(self.up2(features)), two], dim=1))
        features = self.merge1(torch.cat([_double(self.up1(features)), one], dim=1))
        return self.centre(features)[:, 0], sizes

    def sizes(
        self, images: Float[torch.Tensor, "n height width"]
    ) -> Float[torch.Tensor, "n bins coarse_rows coarse_columns"]:
        """Return the coarse map only, in half the time."""
        result: torch.Tensor = self.size(self._encode(images)[2])
        return result

    def _encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the features of the two finest levels, and those of the third, which know of the fourth."""
        one = self.level1(images[:, None])
        two = self.level2(one)
        three = self.level3(two)
        return one, two, self.merge3(torch.cat([_double(self.up3(self.level4(three))), three], dim=1))

    def sweep(self, image: Float[torch.Tensor, "height width"], step: int) -> Float[torch.Tensor, "rows columns"]:
        """Return the log-odds for blocks of ``step`` pixels of an image; see `maps`."""
        return self.maps(image, step)[0]

    def maps(
        self, image: Float[torch.Tensor, "height width"], step: int
    ) -> tuple[Float[torch.Tensor, "rows columns"], Float[torch.Tensor, "coarse_rows coarse_columns"]]:
        """Return the log-odds of centres for each block of ``step`` pixels, and of junk for each of ``coarse``.

        2 is the finest step; of a coarser one, the value is that of the first block of 2 pixels in it.
        """
        centres, sizes = self.forward(self.extended(image)[None])
        every = max(1, step // self.stride)
        part = tuple(slice(0, -(-side // self.stride), every) for side in image.shape)
        return centres[0][part], sizes[0, 1]

    def extended(self, image: Float[torch.Tensor, "height width"]) -> Float[torch.Tensor, "rows columns"]:
        """Return the image with zeros beyond its right and its lower edge, to multiples of 16."""
        height, width = image.shape
        return functional.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))


class _Convolution(nn.Sequential):
    """A convolution that keeps the size (over the stride), normalised by batch, with ReLU.

    Where nothing is learnt, the normalisation is a factor and an offset, and they become part of the convolution.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        layer = _conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        super().__init__(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features of the next level."""
        layer, norm, _ = self
        if self.training:
            learning: torch.Tensor = super().forward(features)  # type: ignore[no-untyped-call]
            return learning
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight, offset = layer.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor
        return functional.conv2d(features, weight, offset, layer.stride, layer.padding, layer.dilation).relu_()


def _conv2d(inputs: int, outputs: int, kernel: int, **settings: Any) -> nn.Conv2d:
    """Return a convolution whose result is the same to the last bit for any number of threads.

    Where there is a single thread, PyTorch computes a kernel of 1×1 by other means, which round in another way; not so
    if it is dilated, which means nothing for such a kernel.
    """
    return nn.Conv2d(inputs, outputs, kernel, dilation=2 if kernel == 1 else 1, **settings)


def _double(features: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


NETWORKS: Mapping[str, type[Network]] = {"paper": PaperNetwork, "dense": DenseNetwork}
"""The networks by the names under which model files know them."""


def new_network(seed: int, kind: str = "paper") -> Network:
    """Return an untrained network whose weights depend on ``seed`` only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[kind]()


def copy_network(network: Network) -> Network:
    """Return an independent network with the same weights."""
    return copy.deepcopy(network)


def kind_of(network: Network) -> str:
    """Return the name of a network's kind."""
    return next(kind for kind, cls in NETWORKS.items() if isinstance(network, cls))
