"""Maximum-likelihood alignment and averaging (Scheres et al., J. Mol. Biol. 348, 2005, 139).

Each particle is compared with each class average in each of a grid of rotations and small shifts, as one product of
matrices over the low-frequency Fourier coefficients; it then contributes to all averages by its probabilities. The
frequencies that take part grow from iteration to iteration. An average of many particles is less noisy and
attracts still more: larger classes get a small handicap, and the largest are divided where others have starved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from deeppicker.config import ClassifyConfig
from deeppicker.particles.classify.search import Search, number_of_classes, search_for
from deeppicker.particles.classify.windows import BOX, MASK, Windows, disc, spectrum_rings

_CPU = torch.device("cpu")
_SCORES = 12_000_000  # scores held at a time: 50 MB
_FIRST_RINGS = 5  # frequencies of the first iteration, in 1/window
_GROWING = 0.8  # part of the iterations in which the frequencies grow
_SAMPLED = 0.4  # part of the iterations that look at a random part of the particles only
_SAMPLE = 40  # particles for each class in these
_LEAST = 0.3  # weight in these of what may be noise: averages that are smoothly round would stay so for ever
_STARVED = 0.2  # a class with less than this part of its share is renewed
_WHOLE = 2  # last iterations, in which all particles take part
_SETTLED = 3  # last iterations, in which no class is renewed or handicapped anew
_BALANCE = 0.7  # logarithm of the odds that a class loses for each e-fold of members above its share ...
_HANDICAP = 3.0  # ... up to this
_SPLIT = 0.2  # how far the halves of a divided class differ from it


@dataclass(frozen=True)
class Alignment:
    """How each particle lies in its class.

    Parameters
    ----------
    label : int tensor, (n,)
        Its most probable class.
    angle : float tensor, (n,)
        Degrees by which the average is turned (from x towards y) to lie as the particle does.
    shift : float tensor, (n, 2)
        Pixels (x, y) of the window by which the particle's centre lies off the middle.
    probability : float tensor, (n,)
        Of this class.
    """

    label: Int[Tensor, " n"]
    angle: Float[Tensor, " n"]
    shift: Float[Tensor, "n 2"]
    probability: Float[Tensor, " n"]


@dataclass(frozen=True)
class Coefficients:
    """The half plane of Fourier coefficients that take part, as indices into a flat real FFT."""

    index: Int[Tensor, " m"]
    ring: Int[Tensor, " m"]
    y: Float[Tensor, " m"]
    x: Float[Tensor, " m"]


@dataclass(frozen=True)
class State:
    """All that the next iteration needs, and the alignment that the last one found.

    Parameters
    ----------
    done : int
        Number of iterations.
    averages : float tensor, (classes, side, side)
        Class averages.
    noise : float tensor, (rings,)
        Power of the noise.
    handicap : float tensor, (classes,)
        What a class loses for its size.
    random : byte tensor
        State of the random generator.
    alignment : Alignment or None
        Of the particles that took part; None at the start.
    """

    done: int
    averages: Float[Tensor, "classes side side"]
    noise: Float[Tensor, " rings"]
    handicap: Float[Tensor, " classes"]
    random: Tensor
    alignment: Alignment | None = None


def classify(
    windows: Windows,
    config: ClassifyConfig,
    after: Callable[[State], None] = lambda _: None,
    start: State | None = None,
    device: torch.device = _CPU,
) -> tuple[Float[Tensor, "classes side side"], Alignment]:
    """Return class averages of low resolution, and how the particles lie in them.

    Parameters
    ----------
    windows : Windows
        At least as many as classes.
    config : ClassifyConfig
        Number of classes, grids, iterations, seed.
    after : callable
        Called with the state after each iteration.
    start : State, optional
        Of an earlier call with the same windows and settings that was interrupted.
    device : torch.device
        Where particles and averages are compared, which is nearly all of the time. All else is on the processor.
    """
    generator = torch.Generator().manual_seed(config.seed)
    side = windows.images.shape[-1]
    mask = torch.from_numpy(disc(side, MASK))
    spectra = _spectra(windows, mask)
    transfer, group = torch.from_numpy(windows.transfer), torch.from_numpy(windows.group)
    number = len(windows)
    if start is None:
        averages = _first(windows, number_of_classes(config, number), generator) * mask
        noise = ring_means(spectra.abs().square().mean(dim=0), side)
        start = State(0, averages, noise, torch.zeros(len(averages)), generator.get_state())
    generator.set_state(start.random)
    averages, noise, handicap, alignment = start.averages, start.noise, start.handicap, start.alignment
    finest, classes = search_for(config, number), len(averages)
    last = max(1, round(_GROWING * config.iterations))
    for iteration in range(start.done, config.iterations):
        # The resolution grows with the iterations, and so does the number of particles.
        part = min(1.0, iteration / last)
        search = finest.coarser(round(_FIRST_RINGS + part * (finest.rings - _FIRST_RINGS)))
        sampled = iteration < _SAMPLED * config.iterations
        most = _SAMPLE * classes if sampled else config.learn_from
        most = number if iteration >= config.iterations - _WHOLE else most
        rows = torch.randperm(number, generator=generator)[:most].sort().values
        step = _Step(averages, noise, mask, handicap, search, _LEAST if sampled else 0.0)
        averages, share, alignment, noise = step.run(spectra[rows], transfer, group[rows], device)
        fair = len(rows) / classes
        if iteration < config.iterations - _SETTLED:
            # A class with more than its fair share gets a handicap, and a starved one is made anew.
            handicap = (handicap + _BALANCE * torch.log(share / fair + 0.1)).clamp(-_HANDICAP, _HANDICAP)
            averages = _renewed(averages, share, fair, generator)
        after(State(iteration + 1, averages, noise, handicap, generator.get_state(), alignment))
    assert alignment is not None
    return averages, alignment


class _Step:
    """One iteration: references in all rotations, probabilities, new averages."""

    def __init__(
        self,
        averages: Float[Tensor, "classes side side"],
        noise: Float[Tensor, " rings"],
        mask: Float[Tensor, "side side"],
        handicap: Float[Tensor, " classes"],
        search: Search,
        least: float,
    ) -> None:
        self.side, self.classes = averages.shape[-1], len(averages)
        self.least, self.noise, self.chosen, self.mask = least, noise, coefficients(self.side, search.rings), mask
        chosen, unit = self.chosen, self.side / BOX
        self.angles = torch.arange(search.rotations) * (360.0 / search.rotations)
        self.shifts = shift_grid(search.shift * unit, search.shift_step * unit)
        # Log-prior of the shifts: a Gaussian about the picked centre, about as wide as picks deviate from the truth.
        self.prior = -self.shifts.square().sum(dim=1) / (2 * (0.35 * search.shift * unit + 0.5) ** 2)
        self.scale = noise[chosen.ring].rsqrt()  # coefficients in units of the noise
        turned = torch.stack([rotate(averages, float(angle)) for angle in self.angles], dim=1)
        flat = torch.fft.rfft2(torch.fft.ifftshift(turned, dim=(-2, -1))).flatten(-2)[..., chosen.index]
        self.references = (flat * self.scale).reshape(-1, len(chosen.index))
        # Coefficients of masked images are not independent: there are as many as the mask has pixels.
        self.temper = float(mask.square().mean())
        self.handicap = handicap.repeat_interleave(search.rotations)

    def run(
        self, spectra: Tensor, transfer: Float[Tensor, "groups rings"], group: Int[Tensor, " n"], device: torch.device
    ) -> tuple[Tensor, Tensor, Alignment, Tensor]:
        """Return new averages, the particles of each, their alignment, and the power of the noise."""
        total, member, best = self._compare(spectra, transfer, group, device)
        # A flat index counts rotations fastest, then classes, then shifts.
        rotations, label = len(self.angles), best // len(self.angles) % self.classes
        alignment = Alignment(
            label,
            self.angles[best % rotations],
            self.shifts[best // (rotations * self.classes)],
            member.gather(1, label[:, None])[:, 0],
        )
        averages, noise = self._average(total, member, spectra, transfer, group)
        return averages, member.sum(dim=0), alignment, noise

    def _compare(
        self, spectra: Tensor, transfer: Float[Tensor, "groups rings"], group: Int[Tensor, " n"], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums of the particles for each reference, how much each belongs to each class, and where it is best.

        The results are on the processor.
        """
        ring = self.chosen.ring
        count, rotations = len(self.shifts), len(self.angles)
        phases = torch.exp(
            2j * math.pi / self.side * (self.shifts[:, :1] * self.chosen.x + self.shifts[:, 1:] * self.chosen.y)
        ).to(torch.complex64)
        power = (self.references.abs().square() @ transfer.square()[:, ring].T).to(device)  # (references, groups)
        # A complex product becomes a real one of twice the length, so one matrix product compares everything.
        references = torch.view_as_real(self.references).flatten(1).to(device)
        phases, prior, handicap = phases.to(device), self.prior.to(device), self.handicap.to(device)
        total = torch.zeros_like(references)
        member = torch.zeros(len(spectra), self.classes)
        best = torch.zeros(len(spectra), dtype=torch.int64)
        chunk = max(1, _SCORES // (count * len(references)))
        for start in range(0, len(spectra), chunk):
            rows = slice(start, start + chunk)
            data = spectra[rows].flatten(1)[:, self.chosen.index] * self.scale * transfer[group[rows]][:, ring]
            data = data.to(device)
            shifted = torch.view_as_real(data[:, None] * phases).reshape(-1, references.shape[1])
            # Log-likelihood: -|data - reference|², without |data|², which is the same for all references.
            scores = (shifted @ references.T).reshape(len(data), count, -1)
            scores.mul_(2).sub_(power[:, group[rows].to(device)].T[:, None]).mul_(self.temper)
            scores.add_(prior[:, None]).sub_(handicap)
            flat = scores.flatten(1)
            best[rows] = flat.argmax(dim=1).cpu()
            probability = torch.softmax(flat, dim=1)
            member[rows] = probability.reshape(len(data), count, self.classes, rotations).sum(dim=(1, 3)).cpu()
            total += probability.reshape(-1, len(references)).T @ shifted
        return total.cpu(), member, best

    def _average(
        self, total: Tensor, member: Tensor, spectra: Tensor, transfer: Tensor, group: Tensor
    ) -> tuple[Tensor, Tensor]:
        side, half = self.side, self.side // 2 + 1
        flat = torch.zeros(len(total), side * half, dtype=torch.complex64)
        flat[:, self.chosen.index] = torch.view_as_complex(total.reshape(len(total), -1, 2)) / self.scale
        spectrum = flat.reshape(-1, side, half)
        # Of conjugate pairs, one is summed; the inverse transform wants both where x is 0.
        spectrum[:, side // 2 + 1 :, 0] = spectrum[:, 1 : side // 2, 0].flip(1).conj()
        # Every turn but quarter ones would cut corners off, and draw averages to the axes: what is there is noise.
        images = torch.fft.fftshift(torch.fft.irfft2(spectrum, s=(side, side)), dim=(-2, -1)) * self.mask
        images = images.reshape(self.classes, len(self.angles), side, side)
        # The sum of each rotation is turned back before all are added.
        summed = torch.stack([rotate(images[:, i], -float(a)) for i, a in enumerate(self.angles)]).sum(dim=0)
        seen = member.T @ transfer.square()[group]
        averages, explained = filtered(summed, seen, self.noise, self.least)
        # The noise is the power that the averages do not explain, but at least 0.3 of all.
        whole = ring_means(spectra.abs().square().mean(dim=0), side)
        signal = (member @ explained * transfer.square()[group]).mean(dim=0)
        return averages * self.mask, torch.maximum(whole - signal, 0.3 * whole)


def filtered(
    summed: Float[Tensor, "classes side side"],
    seen: Float[Tensor, "classes rings"],
    noise: Float[Tensor, " rings"],
    least: float = 0.0,
) -> tuple[Float[Tensor, "classes side side"], Float[Tensor, "classes rings"]]:
    """Return averages, each ring weighted by how far it stands out of the noise, and the power of these rings.

    Parameters
    ----------
    summed : float tensor, (classes, side, side)
        Sums of aligned particles, each weighted by its transfer.
    seen : float tensor, (classes, rings)
        Sums of the squared transfer.
    noise : float tensor, (rings,)
        Power of the noise in one particle.
    least : float
        Weight of rings in which there is nothing but noise, where anything is transferred.
    """
    side = summed.shape[-1]
    spectrum = torch.fft.rfft2(torch.fft.ifftshift(summed, dim=(-2, -1)))
    whole = seen + 1e-3
    power = ring_means(spectrum.abs().square(), side) / whole.square()
    # Power of the signal over that of the noise in the average; a Wiener filter follows from it.
    excess = (power * seen / noise - 1).clamp_min(0)
    weight = torch.maximum(excess / (excess + 1), least * (seen > 0))
    weight[:, 0] = 1
    factors = weight / whole
    factors[:, 0] = factors[:, 1]  # of the mean itself hardly anything is transferred, but of what is beside it
    return by_rings(summed, factors), power * weight.square()


def by_rings(images: Float[Tensor, "n side side"], factors: Float[Tensor, "n rings"]) -> Float[Tensor, "n side side"]:
    """Return images of which each ring of frequencies is multiplied by a factor.

    The factors are interpolated between the rings, and nothing is around the images. A factor that steps from ring to
    ring reaches as far as the image is wide, and what comes back from the opposite side is not round: averages of round
    particles would become squares, iteration by iteration.
    """
    side = images.shape[-1]
    wide, edge = 2 * side, side // 2
    y = torch.fft.fftfreq(wide, 1 / side)[:, None]
    radius = torch.hypot(y, torch.fft.rfftfreq(wide, 1 / side)).clamp_max(side // 2)
    below = radius.floor().clamp_max(side // 2 - 1).long()
    factor = torch.lerp(factors[:, below], factors[:, below + 1], radius - below)
    spectrum = torch.fft.rfft2(torch.fft.ifftshift(functional.pad(images, (edge,) * 4), dim=(-2, -1)))
    whole: Tensor = torch.fft.fftshift(torch.fft.irfft2(spectrum * factor, s=(wide, wide)), dim=(-2, -1))
    return whole[:, edge : edge + side, edge : edge + side]


def coefficients(side: int, rings: int) -> Coefficients:
    """Return the coefficients of frequencies up to ``rings``, one of each conjugate pair, without the mean."""
    y = torch.fft.fftfreq(side, 1 / side)[:, None].expand(side, side // 2 + 1)
    x = torch.fft.rfftfreq(side, 1 / side)[None, :].expand(side, side // 2 + 1)
    used = (torch.hypot(x, y) <= rings + 0.5) & ((x > 0) | (y > 0)) & (x < side // 2)
    index = used.flatten().nonzero()[:, 0]
    ring = torch.from_numpy(spectrum_rings(side)).flatten()[index]
    return Coefficients(index, ring.clamp_max(side // 2), y.flatten()[index], x.flatten()[index])


def ring_means(power: Float[Tensor, "*batch side half"], side: int) -> Float[Tensor, "*batch rings"]:
    """Return the means over rings of frequencies."""
    rings = torch.from_numpy(spectrum_rings(side)).clamp_max(side // 2).flatten()
    number = torch.bincount(rings).to(power.dtype)
    flat = power.flatten(-2)
    sums = torch.zeros(*flat.shape[:-1], len(number), dtype=power.dtype)
    return sums.index_add(-1, rings, flat) / number


def rotate(images: Float[Tensor, "n side side"], degrees: float) -> Float[Tensor, "n side side"]:
    """Return images turned about pixel ``side // 2`` by an angle from x towards y."""
    return transformed(images, torch.full((len(images),), degrees), torch.zeros(len(images), 2))


def transformed(
    images: Float[Tensor, "n side side"], degrees: Float[Tensor, " n"], shift: Float[Tensor, "n 2"]
) -> Float[Tensor, "n side side"]:
    """Return each image turned about pixel ``side // 2``, then moved by (x, y) pixels."""
    side = images.shape[-1]
    line = torch.arange(side, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    cos, sin = (f(torch.deg2rad(degrees))[:, None, None] for f in (torch.cos, torch.sin))
    across, down = x - shift[:, 0, None, None], y - shift[:, 1, None, None]
    source = torch.stack([cos * across + sin * down, -sin * across + cos * down], dim=-1)
    source = (source + side // 2) * (2 / (side - 1)) - 1
    moved: Tensor = functional.grid_sample(images[:, None], source, mode="bicubic", align_corners=True)[:, 0]
    return moved


def shift_grid(radius: float, step: float) -> Float[Tensor, "shifts 2"]:
    """Return the points (x, y) of a square grid within a radius, the origin among them."""
    number = int(radius / step + 1e-6)
    line = torch.arange(-number, number + 1) * step
    y, x = torch.meshgrid(line, line, indexing="ij")
    inside = torch.hypot(x, y) <= radius + 1e-6
    return torch.stack([x[inside], y[inside]], dim=1)


def _spectra(windows: Windows, mask: Float[Tensor, "side side"]) -> Tensor:
    images = torch.from_numpy(windows.images) * mask
    spectra: Tensor = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))
    return spectra


def _first(windows: Windows, classes: int, generator: torch.Generator) -> Float[Tensor, "classes side side"]:
    """Return averages of random parts of the particles, each particle turned at random."""
    order = torch.randperm(len(windows), generator=generator)
    angles = 360 * torch.rand(len(windows), generator=generator)
    images = torch.from_numpy(windows.images)
    return torch.stack(
        [
            transformed(images[part], angles[part], torch.zeros(len(part), 2)).mean(dim=0)
            for part in (order[k::classes][:_SAMPLE] for k in range(classes))
        ]
    )


def _renewed(
    averages: Float[Tensor, "classes side side"],
    share: Float[Tensor, " classes"],
    fair: float,
    generator: torch.Generator,
) -> Float[Tensor, "classes side side"]:
    """Return the averages; each that is starved becomes one half of the largest, with a random difference."""
    result, left = averages.clone(), share.clone()
    for k in torch.nonzero(share < _STARVED * fair)[:, 0].tolist():
        large = int(left.argmax())
        other = int(torch.randint(len(averages), (1,), generator=generator))
        angle = float(360 * torch.rand(1, generator=generator))
        change = rotate(averages[other : other + 1], angle)[0] - averages[large]
        change = _SPLIT * change * averages[large].norm() / (change.norm() + 1e-9)
        result[k], result[large] = result[large] + change, result[large] - change
        left[k] = left[large] = left[large] / 2
    return result


def as_numpy(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array."""
    return np.asarray(tensor.detach().numpy())
