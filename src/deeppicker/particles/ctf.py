"""The defocus of a micrograph from its Thon rings, and undoing the signs of its contrast transfer.

The power spectrum of a micrograph is a smooth background plus a smooth envelope times the squared transfer. For an
assumed defocus the best background and envelope follow by linear least squares, so only the defocus is searched, first
the mean, then both axes and their direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import fft, optimize

from deeppicker.config import CtfConfig
from deeppicker.core import Ctf, Micrograph, Microscope
from deeppicker.errors import InputError
from deeppicker.imaging.ctf import phase, transfer
from deeppicker.imaging.normalise import clip_outliers

_TILE = 1000.0  # Å; rings of 4 µm underfocus at 4 Å are still wider than two coefficients of such a tile
_TILES = (128, 1024)  # pixels; least and largest side of a tile
_SECTORS = 12  # directions over half a turn, for the astigmatism
_TREND = 4  # degree of the polynomial by which the logarithm of the power is made even
_BACKGROUND, _ENVELOPE = 6, 3  # terms of the two polynomials
_ASTIGMATISM = 0.15  # largest half difference of the axes, in relation to the mean defocus
_EVENNESS = 2.0  # a tile counts by its power to minus this, so that contaminated ones hardly do
_CLIP = 6.0  # robust standard deviations; gold and hot pixels must not rule the spectrum


@dataclass(frozen=True)
class _Spectrum:
    """Power by direction and frequency, divided by its smooth trend; weights are numbers of coefficients."""

    frequency: Float[np.ndarray, " bins"]
    angle: Float[np.ndarray, " sectors"]
    power: Float[np.ndarray, "sectors bins"]
    weight: Float[np.ndarray, "sectors bins"]


def flip_phases(micrograph: Micrograph, ctf: Ctf) -> Micrograph:
    """Return the micrograph with the signs of its contrast transfer undone; its dark particles stay dark."""
    signs = np.sign(transfer(ctf, micrograph.image.shape, micrograph.pixel_size))
    signs[signs == 0] = 1
    flipped = fft.irfft2(fft.rfft2(micrograph.image) * signs, micrograph.image.shape)
    return replace(micrograph, image=np.ascontiguousarray(flipped, dtype=np.float32))


def estimate_ctf(micrograph: Micrograph, microscope: Microscope, config: CtfConfig = CtfConfig()) -> Ctf:
    """Return the defocus of a micrograph from its power spectrum.

    Parameters
    ----------
    micrograph : Micrograph
        At any pixel size; the rings that are used lie between ``config.lowest`` and ``config.highest`` Å.
    microscope : Microscope
        With which it was taken.
    config : CtfConfig
        What is searched.

    Returns
    -------
    Ctf
        With ``fit``: the correlation of the rings with those of the estimate, 0-1; below about 0.3 they are not seen.

    Raises
    ------
    InputError
        If the pixels are so large that no ring is left.
    """
    spectrum = _spectrum(micrograph, config)
    grid = np.arange(config.defocus[0], config.defocus[1] + 0.5 * config.step, config.step)
    overall = _Spectrum(
        spectrum.frequency,
        spectrum.angle[:1],
        (spectrum.power * spectrum.weight).sum(axis=0, keepdims=True) / spectrum.weight.sum(axis=0),
        spectrum.weight.sum(axis=0, keepdims=True),
    )
    explained = np.array([_explained(overall, microscope, np.array([value])) for value in grid])
    start = float(grid[np.argmax(explained)])
    limit = _ASTIGMATISM * start

    def loss(values: Float[np.ndarray, " three"]) -> float:
        mean, along, across = (float(value) for value in values)
        if math.hypot(along, across) > limit or not 0.5 * start < mean < 2 * start:
            return 0.0
        local = mean + along * np.cos(2 * spectrum.angle) + across * np.sin(2 * spectrum.angle)
        return -_explained(spectrum, microscope, local)

    simplex = start + np.zeros((4, 3))
    simplex[:, 1:] = 0
    for row, (column, size) in enumerate(((0, 0.02 * start), (1, 0.2 * limit), (2, 0.2 * limit)), start=1):
        simplex[row, column] += size
    best = optimize.minimize(
        loss, simplex[0], method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-6}
    )
    mean, along, across = (float(value) for value in best.x)
    half = math.hypot(along, across)
    return Ctf(
        microscope=microscope,
        defocus_u=mean + half,
        defocus_v=mean - half,
        angle=math.degrees(0.5 * math.atan2(across, along)) % 180,
        fit=math.sqrt(max(0.0, -float(best.fun))),
    )


def _spectrum(micrograph: Micrograph, config: CtfConfig) -> _Spectrum:
    """Return the mean power spectrum of overlapping tiles, by direction and frequency."""
    image, size = clip_outliers(micrograph.image, _CLIP), micrograph.pixel_size
    side = min(max(_TILES[0], fft.next_fast_len(round(_TILE / size))), _TILES[1], *image.shape)
    window = np.hanning(side)[:, None] * np.hanning(side)
    y, x = fft.fftfreq(side, size)[:, None], fft.rfftfreq(side, size)[None, :]
    radius, angle = np.hypot(y, x), np.arctan2(y, x) % math.pi
    highest = min(1 / config.highest, 0.48 / size)
    band = (radius > 1 / config.lowest) & (radius < highest)
    total = np.zeros((side, side // 2 + 1))
    for top in _starts(image.shape[0], side):
        for left in _starts(image.shape[1], side):
            tile = image[top : top + side, left : left + side]
            power = np.abs(fft.rfft2((tile - tile.mean()) * window)) ** 2
            total += power / power[band].mean() ** _EVENNESS  # or a few tiles of contamination would be all
    step = 1 / (side * size)
    bins = int((highest - 1 / config.lowest) / step)
    if bins < 3 * (_BACKGROUND + _ENVELOPE):
        raise InputError(
            f"{micrograph.name}: {bins} frequencies between {config.lowest:g} Å and {1 / highest:.1f} Å are too few "
            "for a defocus; give a larger image or smaller pixels, or set --lowest"
        )
    index = np.floor((radius - 1 / config.lowest) / step).astype(np.int64)
    sector = np.floor(angle / math.pi * _SECTORS + 0.5).astype(np.int64) % _SECTORS
    used = (index >= 0) & (index < bins) & (x > 0)  # the axes carry what the detector and the borders do
    used &= y != 0
    flat = sector[used] * bins + index[used]
    number = np.bincount(flat, minlength=_SECTORS * bins).reshape(_SECTORS, bins).astype(np.float64)
    power = np.bincount(flat, total[used], minlength=_SECTORS * bins).reshape(_SECTORS, bins) / np.maximum(number, 1)
    frequency = 1 / config.lowest + (np.arange(bins) + 0.5) * step
    mean = (power * number).sum(axis=0) / number.sum(axis=0)
    position = np.linspace(-1, 1, bins)
    fitted = np.polynomial.chebyshev.chebfit(position, np.log(mean), _TREND)
    trend = np.exp(np.polynomial.chebyshev.chebval(position, fitted))
    return _Spectrum(frequency, np.arange(_SECTORS) * math.pi / _SECTORS, power / trend, number)


def _starts(length: int, side: int) -> list[int]:
    number = max(1, math.ceil(2 * (length - side) / side) + 1)
    return [round(value) for value in np.linspace(0, length - side, number)]


def _explained(spectrum: _Spectrum, microscope: Microscope, defocus: Float[np.ndarray, " sectors"]) -> float:
    """Return which part of the variance that a smooth background leaves is explained by rings of this defocus."""
    bins = len(spectrum.frequency)
    position = np.linspace(-1, 1, bins)
    smooth = np.polynomial.chebyshev.chebvander(position, _BACKGROUND - 1)
    waves = np.cos(2 * phase(microscope, spectrum.frequency[None, :], defocus[:, None]))
    weight = np.sqrt(spectrum.weight)[:, :, None]
    shape = (len(defocus), bins, _BACKGROUND)
    background = (weight * np.broadcast_to(smooth, shape)).reshape(-1, _BACKGROUND)
    rings = (weight * -waves[:, :, None] * smooth[None, :, :_ENVELOPE]).reshape(-1, _ENVELOPE)
    target = (weight[:, :, 0] * spectrum.power).ravel()
    basis, _ = np.linalg.qr(background)
    target = target - basis @ (basis.T @ target)
    rings = rings - basis @ (basis.T @ rings)
    solution, *_ = np.linalg.lstsq(rings, target, rcond=1e-6)
    amplitude = smooth[:, :_ENVELOPE] @ solution
    if amplitude.mean() <= 0:  # rings where the transfer is zero: not these
        return 0.0
    fitted = rings @ solution
    return float(fitted @ fitted / (target @ target + 1e-30))
