"""Class averages at full resolution, from a finer search around what the expectation-maximisation found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deeppicker.config import ClassifyConfig
from deeppicker.particles.classify.em import Alignment, coefficients, filtered, ring_means, transformed
from deeppicker.particles.classify.search import search_for
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
    strength : float tensor, (n,)
        How far each particle agrees with the average of the *others* in its class, in standard deviations of noise.
    halves : float tensor, (classes, rings)
        Correlation of the averages of every other member and of the rest, by frequency, inside the mask. Both were
        refined without each other.
    held : bool tensor, (rings,)
        Whether the micrographs hold these frequencies at all.
    """

    averages: Float[Tensor, "classes side side"]
    alignment: Alignment
    strength: Float[Tensor, " n"]
    halves: Float[Tensor, "classes rings"]
    held: Bool[Tensor, " rings"]


def refine(
    windows: Windows, start: Float[Tensor, "classes side side"], found: Alignment, config: ClassifyConfig
) -> Classes:
    """Return class averages from a local search of rotation and shift, without changing the classes.

    Every other member of a class is aligned to an average of its own, so that what both halves show is no accident.

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
    number, half = 2 * len(start), _halves(found.label, len(start))
    averages, alignment = start.repeat_interleave(2, dim=0), replace(found, label=half)
    noise = _noise(whole, averages * mask, half, transfer)
    seen = torch.zeros(number, side // 2 + 1).index_add(0, half, transfer.square())
    search = search_for(config, len(windows))
    reach = search.shift * side / BOX
    for turn in range(_ROUNDS + 1):
        summed = torch.zeros(number, side, side)
        for rows in _chunks(len(images)):
            part = _part(alignment, rows)
            if turn < _ROUNDS:
                step = 360.0 / search.rotations / 2.0 ** (turn + 1)
                part = _search(images[rows], transfer[rows], averages * mask, part, noise, step, reach)
                _store(alignment := _copied(alignment), rows, part)
            summed.index_add_(0, part.label, _aligned(images[rows], transfer[rows], part))
        averages, _ = filtered(summed, seen, noise)
        noise = _noise(whole, averages * mask, half, transfer)
    correlation = _correlation(summed * mask)
    summed, seen = summed[0::2] + summed[1::2], seen[0::2] + seen[1::2]
    alignment = replace(alignment, label=found.label)
    strength = _strength(images, transfer, (summed, seen), alignment, mask)
    held = transfer.amax(dim=0) > 0
    return Classes(filtered(summed, seen, noise)[0], alignment, strength, correlation, held)


def _halves(label: Int[Tensor, " n"], classes: int) -> Int[Tensor, " n"]:
    """Return twice the label of each particle, plus one for every other member of a class."""
    order = torch.argsort(label, stable=True)
    first = torch.bincount(label, minlength=classes).cumsum(0) - torch.bincount(label, minlength=classes)
    place = torch.empty_like(label)
    place[order] = torch.arange(len(label)) - first[label[order]]
    return 2 * label + place % 2


def _correlation(summed: Float[Tensor, "halves side side"]) -> Float[Tensor, "classes rings"]:
    """Return the correlation of two images each, one after the other, by frequency."""
    side = summed.shape[-1]
    spectra = torch.fft.rfft2(summed)
    first, second = spectra[0::2], spectra[1::2]
    shared = ring_means((first * second.conj()).real, side)
    power = ring_means(first.abs().square(), side) * ring_means(second.abs().square(), side)
    return shared / power.sqrt().clamp_min(1e-12)


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


def _strength(
    images: Tensor, transfer: Tensor, total: tuple[Tensor, Tensor], alignment: Alignment, mask: Tensor
) -> Float[Tensor, " n"]:
    """Compare each particle with the average of the others in its class, of which ``total`` holds the sums."""
    side = images.shape[-1]
    chosen = coefficients(side, side // 2 - 1)
    summed, seen = total
    rings = seen.shape[1]
    strength = torch.zeros(len(images))
    totals = torch.fft.rfft2(summed * mask).flatten(-2)[:, chosen.index]
    ring_size = torch.bincount(chosen.ring, minlength=rings)
    low = slice(1, rings // 2)
    for rows in _chunks(len(images)):
        part = _part(alignment, rows)
        own = torch.fft.rfft2(_aligned(images[rows], transfer[rows], part) * mask).flatten(-2)[:, chosen.index]
        left = (seen[part.label] - transfer[rows].square()).clamp_min(1e-3)
        others = (totals[part.label] - own) / left[:, chosen.ring]
        product = _by_ring((own * others.conj()).real, chosen.ring, rings)
        other_power = _by_ring(others.abs().square(), chosen.ring, rings)
        own_power = _by_ring(own.abs().square(), chosen.ring, rings)
        weight = 1 / (own_power.mean(dim=0) / ring_size.clamp_min(1) + 1e-9)
        strength[rows] = (product * weight)[:, low].sum(dim=1) / (
            0.5 * (other_power * weight)[:, low].sum(dim=1) / float(mask.square().mean())
        ).clamp_min(1e-9).sqrt()
    return strength


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
