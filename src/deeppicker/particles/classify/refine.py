"""Class averages at full resolution, from a finer search around what the expectation-maximisation found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeppicker.config import ClassifyConfig
from deeppicker.particles.classify.em import Alignment, coefficients, filtered, ring_means, transformed
from deeppicker.particles.classify.windows import BOX, MASK, Windows, disc, spectrum_rings

_ROUNDS = 3  # each with half the step of the one before
_LEAST_NOISE = 0.01  # part of the power of a ring
_CHUNK = 512  # particles at a time


@dataclass(frozen=True)
class Classes:
    """Class averages, and how each particle lies in its class.

    Parameters
    ----------
    averages : float tensor, (classes, side, side)
        Not masked; particles bright.
    alignment : Alignment
        Refined.
    members : int tensor, (classes,)
        Particles of each.
    strength : float tensor, (n,)
        How far each particle agrees with the average of the *others* in its class, in standard deviations of noise.
    consistency : float tensor, (classes, rings)
        Correlation of the average with what a single particle would show without noise, by frequency: the square root
        of the part of its power that the members share; from each member and the average of the others.
    """

    averages: Float[Tensor, "classes side side"]
    alignment: Alignment
    members: Int[Tensor, " classes"]
    strength: Float[Tensor, " n"]
    consistency: Float[Tensor, "classes rings"]


def refine(
    windows: Windows, start: Float[Tensor, "classes side side"], found: Alignment, config: ClassifyConfig
) -> Classes:
    """Return class averages from a local search of rotation and shift, without changing the classes.

    Parameters
    ----------
    windows : Windows
        The particles.
    start : float tensor, (classes, side, side)
        Averages of low resolution.
    found : Alignment
        How the particles lie in them.
    config : ClassifyConfig
        Its grids tell how finely was searched before.
    """
    side = windows.images.shape[-1]
    images, mask = torch.from_numpy(windows.images), torch.from_numpy(disc(side, MASK))
    transfer = torch.from_numpy(windows.transfer)[torch.from_numpy(windows.group)]
    whole = ring_means(torch.fft.rfft2(images * mask).abs().square().mean(dim=0), side)
    noise = _noise(whole, start * mask, found.label, transfer)
    number = len(start)
    seen = torch.zeros(number, side // 2 + 1).index_add(0, found.label, transfer.square())
    averages, alignment = start, found
    reach = config.shift * side / BOX
    for turn in range(_ROUNDS + 1):
        summed = torch.zeros(number, side, side)
        for rows in _chunks(len(images)):
            part = _part(alignment, rows)
            if turn < _ROUNDS:
                step = 360.0 / config.rotations / 2.0 ** (turn + 1)
                part = _search(images[rows], transfer[rows], averages * mask, part, noise, step, reach)
                _store(alignment := _copied(alignment), rows, part)
            summed.index_add_(0, part.label, _aligned(images[rows], transfer[rows], part))
        averages, _ = filtered(summed, seen, noise)
        noise = _noise(whole, averages * mask, found.label, transfer)
    return _judged(images, transfer, summed, seen, averages, alignment, mask)


def _peak(score: Float[Tensor, "n rows rows"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 2"]]:
    """Return the largest score and where it lies, (x, y) from the middle; between pixels where it has neighbours."""
    half = score.shape[-1] // 2
    top = score.flatten(1).max(dim=1)
    row, column = top.indices // score.shape[-1], top.indices % score.shape[-1]
    y, x = row.clamp(1, 2 * half - 1), column.clamp(1, 2 * half - 1)
    inner = (y == row) & (x == column)
    every = torch.arange(len(score))
    moves, gain = [], torch.zeros(len(score))
    for before, after in (((y, x - 1), (y, x + 1)), ((y - 1, x), (y + 1, x))):
        low, high = score[every, *before], score[every, *after]
        bend = (2 * top.values - low - high).clamp_min(1e-12)
        move = torch.where(inner, 0.5 * (high - low) / bend, 0.0).clamp(-0.5, 0.5)
        gain = gain + 0.5 * bend * move.square()
        moves.append(move)
    return top.values + gain, torch.stack([column - half + moves[0], row - half + moves[1]], dim=1)


def _noise(whole: Tensor, averages: Tensor, label: Tensor, transfer: Tensor) -> Float[Tensor, " rings"]:
    """Return the power in a particle that its class average does not explain."""
    power = ring_means(torch.fft.rfft2(averages).abs().square(), averages.shape[-1])
    return torch.maximum(whole - (power[label] * transfer.square()).mean(dim=0), _LEAST_NOISE * whole)


def _search(
    images: Tensor, transfer: Tensor, references: Tensor, part: Alignment, noise: Tensor, step: float, reach: float
) -> Alignment:
    """Return the best of three rotations and of all shifts within two pixels of the present one."""
    side = images.shape[-1]
    rings = torch.from_numpy(spectrum_rings(side)).clamp_max(side // 2)
    target = torch.fft.rfft2(references)[part.label] * (transfer / noise)[:, rings]
    near = torch.arange(-2, 3)
    best = torch.full((len(images),), -math.inf)
    angle, shift = part.angle.clone(), part.shift.clone()
    for turn in (0.0, -step, step):
        tried = part.angle + turn
        moved = _undone(images, tried, part.shift)
        score = torch.fft.irfft2(torch.fft.rfft2(moved).conj() * target, s=(side, side))
        score = score[:, near[:, None], near[None, :]]  # by how much the particle has to move back
        value, peak = _peak(score)
        offset = _turned(-peak, tried)
        better = value > best
        better &= torch.linalg.vector_norm(part.shift + offset, dim=1) <= reach + 1.5
        best = torch.where(better, value, best)
        angle = torch.where(better, tried, angle)
        shift = torch.where(better[:, None], part.shift + offset, shift)
    return Alignment(part.label, angle % 360, shift, part.probability)


def _judged(
    images: Tensor, transfer: Tensor, summed: Tensor, seen: Tensor, averages: Tensor, alignment: Alignment, mask: Tensor
) -> Classes:
    """Compare each particle with the average of the others in its class."""
    side = images.shape[-1]
    chosen = coefficients(side, side // 2 - 1)
    number, rings = seen.shape
    members = torch.bincount(alignment.label, minlength=number)
    inner = torch.zeros(number, rings)
    power, single = torch.zeros(number, rings), torch.zeros(number, rings)
    strength = torch.zeros(len(images))
    totals = torch.fft.rfft2(summed * mask).flatten(-2)[:, chosen.index]
    for rows in _chunks(len(images)):
        part = _part(alignment, rows)
        own = torch.fft.rfft2(_aligned(images[rows], transfer[rows], part) * mask).flatten(-2)[:, chosen.index]
        left = (seen[part.label] - transfer[rows].square()).clamp_min(1e-3)
        others = (totals[part.label] - own) / left[:, chosen.ring]
        product = _by_ring((own * others.conj()).real, chosen.ring, rings)
        inner.index_add_(0, part.label, product)
        other_power = _by_ring(others.abs().square(), chosen.ring, rings)
        own_power = _by_ring(own.abs().square(), chosen.ring, rings)
        power.index_add_(0, part.label, other_power)
        single.index_add_(0, part.label, own_power)
        low = slice(1, rings // 2)
        ring_size = torch.bincount(chosen.ring, minlength=rings)
        weight = 1 / (own_power.mean(dim=0) / ring_size.clamp_min(1) + 1e-9)
        strength[rows] = (product * weight)[:, low].sum(dim=1) / (
            0.5 * (other_power * weight)[:, low].sum(dim=1) / float(mask.square().mean())
        ).clamp_min(1e-9).sqrt()
    correlation = inner / (power * single).clamp_min(1e-9).sqrt()
    count = members[:, None].clamp_min(2).float()
    shared = (correlation.clamp_min(0) * count.sqrt()).square()
    consistency = (shared / (1 + shared)).sqrt()
    return Classes(averages, alignment, members, strength, consistency)


def _chunks(number: int) -> list[Tensor]:
    return [torch.arange(start, min(start + _CHUNK, number)) for start in range(0, number, _CHUNK)]


def _by_ring(values: Tensor, ring: Tensor, rings: int) -> Tensor:
    return torch.zeros(len(values), rings).index_add(1, ring, values)


def _aligned(images: Tensor, transfer: Tensor, part: Alignment) -> Tensor:
    """Return particles weighted by their transfer and moved to where the average lies."""
    side = images.shape[-1]
    rings = torch.from_numpy(spectrum_rings(side)).clamp_max(side // 2)
    weighted = torch.fft.irfft2(torch.fft.rfft2(images) * transfer[:, rings], s=(side, side))
    return _undone(weighted, part.angle, part.shift)


def _undone(images: Tensor, angle: Float[Tensor, " n"], shift: Float[Tensor, "n 2"]) -> Tensor:
    """Return images moved by minus ``shift``, then turned by minus ``angle``."""
    return transformed(images, -angle, -_turned(shift, -angle))


def _turned(points: Float[Tensor, "n 2"], angle: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    cos, sin = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
    x, y = points.unbind(dim=1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=1)


def _part(alignment: Alignment, rows: Tensor) -> Alignment:
    return Alignment(alignment.label[rows], alignment.angle[rows], alignment.shift[rows], alignment.probability[rows])


def _copied(alignment: Alignment) -> Alignment:
    return Alignment(alignment.label, alignment.angle.clone(), alignment.shift.clone(), alignment.probability)


def _store(alignment: Alignment, rows: Tensor, part: Alignment) -> None:
    alignment.angle[rows] = part.angle
    alignment.shift[rows] = part.shift
