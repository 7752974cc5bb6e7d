"""Estimate the particle diameter from micrographs: what the network says of it at several assumed diameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from deeppicker.config import DiameterConfig
from deeppicker.core import Micrograph
from deeppicker.errors import InputError
from deeppicker.networks.base import SIZE_BIN_WIDTH, SIZE_BINS, TellsDiameter
from deeppicker.networks.model import Model
from deeppicker.picking.prepare import prepare_image

_FINE = 0.02  # step of the logarithm of the diameters among which the best is sought
_REACH = 0.5  # standard deviation of the logarithm of true over assumed diameter up to which an assumption counts
_CLOSE = math.log(1.15)  # an estimate is said to be right within 15 %
_BINS = SIZE_BIN_WIDTH * (np.arange(SIZE_BINS) - SIZE_BINS // 2)


@dataclass(frozen=True)
class Diameter:
    """An estimate of the particle diameter.

    Parameters
    ----------
    value : float
        Å.
    low, high : float
        Å; the true diameter lies between them with a probability of 90 %.
    confidence : float
        Probability that it lies within 15 % of the estimate.
    coverage : float
        Fraction of the area that particles seem to cover at this diameter; close to 0 where there are none.
    """

    value: float
    low: float
    high: float
    confidence: float
    coverage: float


@dataclass(frozen=True)
class Evidence:
    """What one micrograph says about the diameter.

    Parameters
    ----------
    assumed : float array, (k,)
        Diameters in Å that were assumed in turn.
    coverage : float array, (k,)
        Fraction of the area that particles seem to cover, at each.
    likelihood : float array, (k, bins)
        Mean log-probability of each bin of the true over the assumed diameter, where particles seem to be.
    """

    assumed: Float[np.ndarray, " k"]
    coverage: Float[np.ndarray, " k"]
    likelihood: Float[np.ndarray, "k bins"]


def gather(model: Model, micrograph: Micrograph, config: DiameterConfig) -> Evidence:
    """Let the network look at a micrograph at every diameter that it could have."""
    network = model.for_picking
    assert isinstance(network, TellsDiameter)
    assumed = candidates(micrograph, config)
    coverage, likelihood = [], []
    for diameter in assumed:
        part = _central(micrograph, diameter, model, config)
        image = torch.from_numpy(prepare_image(part, diameter, model.prepare)[0]).to(network.device)
        with torch.inference_mode():
            present, logs = network.sizes(image)
            weight = present / present.sum().clamp_min(1e-9)
            likelihood.append((logs * weight).sum(dim=(1, 2)).cpu().numpy())
            coverage.append(float(present.mean()))
    return Evidence(assumed, np.array(coverage), np.array(likelihood).reshape(len(assumed), SIZE_BINS))


def candidates(micrograph: Micrograph, config: DiameterConfig) -> Float[np.ndarray, " k"]:
    """Return the diameters in Å at which a micrograph is looked at.

    Raises
    ------
    InputError
        If no diameter of the range can be seen in it.
    """
    low = max(config.search[0], config.least_pixels * micrograph.pixel_size)
    high = min(config.search[1], min(micrograph.image.shape) * micrograph.pixel_size / 3)
    if low >= high:
        raise InputError(
            f"{micrograph.name}: no diameter of {config.search[0]:g} to {config.search[1]:g} Å can be seen in "
            f"{micrograph.image.shape[1]}×{micrograph.image.shape[0]} px of {micrograph.pixel_size:g} Å; "
            "check --pixel-size, or set --diameter"
        )
    number = 1 + math.ceil(math.log(high / low) / math.log(config.factor))
    return np.geomspace(low, high, number)


def combine(evidence: Sequence[Evidence], config: DiameterConfig) -> Diameter:
    """Return the diameter on which all micrographs and all assumptions agree best.

    What was said at an assumed diameter counts for diameters that are not far from it, all the more the more of the
    area particles seemed to cover and the more definite it was.
    """
    grid = np.arange(math.log(config.search[0]), math.log(config.search[1]) + _FINE, _FINE)
    total, weights, coverages = np.zeros(len(grid)), np.full(len(grid), 1e-9), np.zeros(len(grid))
    for item in evidence:
        for assumed, coverage, likelihood in zip(item.assumed, item.coverage, item.likelihood, strict=True):
            ratio = grid - math.log(assumed)
            weight = coverage * math.exp(2 * likelihood.max()) * np.exp(-0.5 * (ratio / _REACH) ** 2)
            total += weight * np.interp(ratio, _BINS, likelihood)
            weights += weight
        coverages += np.interp(grid, np.log(item.assumed), item.coverage)
    mean = total / weights
    posterior = np.exp(config.trust * (mean - mean.max()))
    posterior /= posterior.sum()
    best = int(np.argmax(np.convolve(posterior, np.ones(5), mode="same")))
    near = np.abs(grid - grid[best]) <= 2 * _CLOSE
    centre = float((grid * posterior)[near].sum() / posterior[near].sum())
    cumulative = np.cumsum(posterior)
    low, high = (math.exp(np.interp(q, cumulative, grid)) for q in (0.05, 0.95))
    close = np.abs(grid - centre) <= _CLOSE
    value = math.exp(centre)
    coverage = float(np.interp(centre, grid, coverages)) / max(1, len(evidence))
    return Diameter(value, min(low, value), max(high, value), float(posterior[close].sum()), coverage)


def estimate_diameter(
    model: Model, micrographs: Sequence[Micrograph], config: DiameterConfig = DiameterConfig()
) -> Diameter:
    """Return the particle diameter that some micrographs of the same particle show.

    Raises
    ------
    InputError
        If the model cannot tell sizes, or a micrograph is too small.
    """
    if not can_estimate(model):
        raise InputError("this model cannot tell the particle diameter; set --diameter (in Å)")
    return combine([gather(model, micrograph, config) for micrograph in micrographs], config)


def can_estimate(model: Model) -> bool:
    """Return whether a model can tell sizes."""
    return isinstance(model.network, TellsDiameter)


def _central(micrograph: Micrograph, diameter: float, model: Model, config: DiameterConfig) -> Micrograph:
    """Return the middle of the micrograph, no larger than the network needs to see."""
    side = math.ceil(config.side * diameter / model.prepare.diameter_pixels / micrograph.pixel_size)
    height, width = micrograph.image.shape
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return replace(micrograph, image=micrograph.image[top : top + side, left : left + side])
