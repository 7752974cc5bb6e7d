"""A short training of a network on sheets, and the mean of several networks: the tools of self-training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from deeppicker.config import SelfTrainConfig
from deeppicker.networks.dense import CENTRE_WEIGHT, JUNK_WEIGHT, SIZE_WEIGHT, DenseNetwork
from deeppicker.networks.model import Model
from deeppicker.training.loop import warm_cosine
from deeppicker.training.sheets import Crops, Sheet, draw_crops

_WARM = 10  # steps in which the learning rate rises
_GRADIENT_LIMIT = 3.0
_WEIGHT_DECAY = 0.01


def network_copy(model: Model) -> DenseNetwork:
    """Return a copy of the network of a model, where it is used."""
    network = copy.deepcopy(model.network).to(model.place)
    assert isinstance(network, DenseNetwork)
    return network


def train_on_sheets(
    network: DenseNetwork,
    sheets: Sequence[Sheet],
    targets: Sequence[torch.Tensor],
    seed: Sequence[int],
    config: SelfTrainConfig,
    after_step: Callable[[float], None],
) -> None:
    """Train a network for so many steps, telling the loss of each.

    It stays in evaluation mode: the statistics of its normalisation are those with which it picks, and do not change.
    """
    rng = np.random.default_rng(seed)
    weights = list(network.parameters())
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = LambdaLR(optimizer, partial(warm_cosine, total=config.steps, warm=_WARM))
    for _ in range(config.steps):
        loss = _loss(network, draw_crops(sheets, targets, config.crop, config.batch_size, rng))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, _GRADIENT_LIMIT)
        optimizer.step()
        schedule.step()
        after_step(float(loss.detach()))
    optimizer.zero_grad()


def _loss(network: DenseNetwork, crops: Crops) -> torch.Tensor:
    """Return the loss on centres, and what is lost where the coarse map differs from that at the start."""
    centres, sizes = network(crops.images)
    known = ~crops.centres.isnan()
    each = functional.binary_cross_entropy_with_logits(centres, crops.centres.nan_to_num(0), reduction="none")
    centre = (each * known).sum() / known.sum().clamp_min(1)
    before = torch.sigmoid(crops.sizes[:, :2])
    coarse = functional.binary_cross_entropy_with_logits(sizes[:, :2], before)
    bins = -(torch.softmax(crops.sizes[:, 2:], dim=1) * torch.log_softmax(sizes[:, 2:], dim=1)).sum(dim=1).mean()
    return CENTRE_WEIGHT * centre + JUNK_WEIGHT * coarse + SIZE_WEIGHT * bins


def mean_of(networks: Sequence[DenseNetwork], first: float) -> DenseNetwork:
    """Return the network of mean weights, in which the first has the part given: as good as all, as fast as one."""
    parts = [first, *(len(networks) - 1) * [(1 - first) / (len(networks) - 1)]]
    mean = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    mean.load_state_dict(
        {
            name: sum(part * state[name] for part, state in zip(parts, states, strict=True))
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
    )
    assert isinstance(mean, DenseNetwork)
    return mean
