"""Ice that is not vitreous, over whole micrographs or in patches of them, and thick or uneven ice.

Each texture draws into a `Specimen` with the strength that ``region``, from 0 to 1, has at each place, and marks that
as junk. Sizes follow the particle's diameter: what is as large as it misleads most.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from scipy import fft

from deeppicker.simulate.contamination import Specimen, draw_log, lump
from deeppicker.simulate.optics import random_field

_COVERED = 0.3  # of the strength; a place with more is junk
_MOST = 400  # diffracting crystals in a micrograph

Region = Float32[np.ndarray, "height width"]


def granular(specimen: Specimen, rng: np.random.Generator, region: Region) -> None:
    """Draw grains of about one size, round or drawn out into stripes, finer or coarser than the particle."""
    diameter = specimen.diameter / specimen.pixel_size
    size = diameter * (draw_log(rng, 0.12, 0.6) if rng.random() < 0.7 else draw_log(rng, 1.3, 4))
    stretch = 1.0 if rng.random() < 0.6 else draw_log(rng, 1.5, 12)
    grains = _grains(specimen.shape, max(size, 2.5), stretch, rng)
    if rng.random() < 0.4:  # dark ones stand out
        grains = np.maximum(grains - np.float32(rng.uniform(0, 1.5)), 0)
    specimen.potential += region * grains * np.float32(draw_log(rng, 80, 600))
    specimen.absorption += region * grains * np.float32(draw_log(rng, 0.003, 0.15))
    specimen.junk |= region > _COVERED


def _grains(shape: tuple[int, int], size: float, stretch: float, rng: np.random.Generator) -> Region:
    """Return a field of unit deviation with waves of about ``size`` pixels, longer along one random direction."""
    angle = rng.uniform(0, np.pi)
    y, x = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    squared = size**2 * (across**2 + (stretch * along) ** 2)
    noise = fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    field = fft.irfft2(noise * (squared * np.exp(-squared)).astype(np.float32), shape)
    return np.asarray(field / (field.std() + 1e-12), dtype=np.float32)


def diffracting(specimen: Specimen, rng: np.random.Generator, region: Region) -> None:
    """Draw crystals that diffract: dark, each with a bright image of itself beside it, in the same direction."""
    diameter = specimen.diameter / specimen.pixel_size
    height, width = specimen.shape
    number = min(_MOST, 2 + int(draw_log(rng, 0.02, 0.6) * height * width / diameter**2))
    typical, angle, away = draw_log(rng, 0.12, 1.2), rng.uniform(0, 2 * np.pi), draw_log(rng, 0.2, 2.5)
    drawn = np.zeros(specimen.shape, dtype=np.float32)
    bright = rng.uniform(0.2, 1.0)
    for _ in range(number):
        radius = diameter * typical * np.exp(0.5 * rng.normal())
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        strength, turn = draw_log(rng, 0.1, 1), angle + 0.2 * rng.normal()
        dx, dy = away * diameter * np.cos(turn), away * diameter * np.sin(turn)
        for place_x, place_y, sign in ((x, y, 1.0), (x + dx, y + dy, -bright)):
            part, profile, distance = lump(specimen, rng, place_x, place_y, radius, 0.4)
            if distance.size:
                drawn[part] += np.float32(sign * strength) * profile / np.float32(2 * radius)
    specimen.absorption += region * drawn * np.float32(draw_log(rng, 0.05, 0.8))
    specimen.potential += region * drawn * np.float32(draw_log(rng, 20, 400))
    specimen.junk |= region > _COVERED


def lattice(specimen: Specimen, rng: np.random.Generator, region: Region) -> None:
    """Draw the fringes of a crystal lattice: one to three waves, finer than the particle."""
    rows, columns = np.indices(specimen.shape, dtype=np.float32)
    wavelength = max(3.0, draw_log(rng, 0.1, 0.6) * specimen.diameter / specimen.pixel_size)
    angle = rng.uniform(0, np.pi)
    waves = np.zeros(specimen.shape, dtype=np.float32)
    for turn in range(int(rng.integers(1, 4))):
        direction = angle + turn * np.pi / 3 + 0.02 * rng.normal()
        phase = (2 * np.pi / wavelength) * (columns * np.cos(direction) + rows * np.sin(direction))
        waves += np.sin(phase + rng.uniform(0, 6)).astype(np.float32)
    uneven = 1 + 0.5 * random_field(specimen.shape, 3.0, 4 * wavelength, rng)
    specimen.potential += region * waves * uneven * np.float32(draw_log(rng, 30, 300))
    specimen.junk |= region > _COVERED


TEXTURES: tuple[Callable[[Specimen, np.random.Generator, Region], None], ...] = (granular, diffracting, lattice)
"""Textures of ice, each as likely as the others."""


def textured(specimen: Specimen, rng: np.random.Generator) -> None:
    """Give the whole film one or two textures."""
    everywhere = np.ones(specimen.shape, dtype=np.float32)
    for index in rng.permutation(len(TEXTURES))[: rng.integers(1, 3)]:
        TEXTURES[index](specimen, rng, everywhere)


def patches(specimen: Specimen, rng: np.random.Generator) -> None:
    """Give a texture to some patches of the film with soft borders."""
    field = random_field(specimen.shape, 4.0, 0.3 * min(specimen.shape), rng)
    level = np.quantile(field[::4, ::4], rng.uniform(0.5, 0.92))
    region = np.clip((field - level) / 0.1, 0, 1).astype(np.float32)
    TEXTURES[int(rng.integers(len(TEXTURES)))](specimen, rng, region)


def clouds(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw ice of very uneven thickness, and light that fades towards the corners; particles may lie in both."""
    diameter = specimen.diameter / specimen.pixel_size
    field = random_field(specimen.shape, rng.uniform(2.5, 4), diameter * draw_log(rng, 1.5, 6), rng)
    specimen.absorption += field * np.float32(draw_log(rng, 0.01, 0.2))
    if rng.random() < 0.4:
        y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in specimen.shape)
        middle = rng.uniform(-0.6, 0.6, size=2).astype(np.float32)
        fading = (y[:, None] - middle[0]) ** 2 + (x[None, :] - middle[1]) ** 2
        specimen.absorption += fading * np.float32(rng.uniform(0, 0.4))


KINDS: dict[str, tuple[float, Callable[[Specimen, np.random.Generator], None]]] = {
    "patches": (0.12, patches),
    "clouds": (0.15, clouds),
}
"""Further kinds, as in `contamination.KINDS`."""
