"""What lies in the ice besides particles: crystals, ethane, drops, carbon, gold, debris, cracks.

Each function draws into a `Specimen` and marks what it covers as junk, so that no particle is placed there.
Lengths are Å unless they say pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from deeppicker.simulate.optics import random_field

_DENSE = 4.0  # V; mean inner potential of ice crystals, ethane and carbon against vitreous ice, a round number
_PROTEIN = 2.5  # V; of protein against vitreous ice (Vulović et al., J. Struct. Biol. 183, 2013)


@dataclass
class Specimen:
    """What the beam crosses, in pixels of one micrograph; drawing changes it.

    Parameters
    ----------
    potential : float32 array, (height, width)
        V·Å, against vitreous ice.
    absorption : float32 array, (height, width)
        Natural logarithm of what is lost to scattering.
    junk : bool array, (height, width)
        Where no particle may be.
    pixel_size : float
        Å.
    diameter : float
        Of the particle, Å: contamination of a similar size is what misleads most.
    """

    potential: Float32[np.ndarray, "height width"]
    absorption: Float32[np.ndarray, "height width"]
    junk: Bool[np.ndarray, "height width"]
    pixel_size: float
    diameter: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.potential.shape


def draw_log(rng: np.random.Generator, low: float | int, high: float | int) -> float:
    """Return a number of a range, even on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _window(
    specimen: Specimen, x: float, y: float, reach: float | int
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return the part of the image within ``reach`` pixels of a point, and its coordinates relative to it."""
    height, width = specimen.shape
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    rows = np.arange(top, max(top, min(height, int(y + reach) + 2)))
    columns = np.arange(left, max(left, min(width, int(x + reach) + 2)))
    part = (slice(top, top + len(rows)), slice(left, left + len(columns)))
    return part, (rows - y)[:, None].astype(np.float32), (columns - x)[None, :].astype(np.float32)


def lump(
    specimen: Specimen, rng: np.random.Generator, x: float, y: float, radius: float, rough: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return the window of a roundish lump, its thickness profile in pixels, and its outline."""
    part, dy, dx = _window(specimen, x, y, 1.5 * radius)
    turn = rng.uniform(0, np.pi)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
    angle = np.arctan2(dy, dx)
    outline = 1 + sum(rough / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
    squeeze = rng.uniform(1, 1 + min(0.4, 3 * rough))
    distance = np.hypot(dx * squeeze, dy / squeeze) / (radius * np.maximum(outline, 0.3))
    profile = 2 * radius * np.sqrt(np.maximum(1 - distance**2, 0))
    return part, profile.astype(np.float32), distance


def ethane(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw dark round drops, alone and in chains."""
    height, width = specimen.shape
    opacity = rng.uniform(0.3, 1.5)
    for _ in range(rng.integers(1, 7)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = draw_log(rng, 40, 500) / specimen.pixel_size
        for _ in range(rng.integers(1, 5)):
            part, profile, distance = lump(specimen, rng, x, y, radius, 0.05)
            if distance.size:
                thickness = profile * specimen.pixel_size
                specimen.potential[part] += _DENSE * np.minimum(thickness, 300) * rng.uniform(0.3, 1)
                specimen.absorption[part] += opacity * profile / (2 * radius)
                specimen.junk[part] |= distance < 1.1
            x, y, radius = x + radius * rng.normal(), y + radius * rng.normal(), radius * rng.uniform(0.6, 1.2)


def crystals(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw lumps of crystalline ice: facetted, mottled, with bright and dark bands."""
    height, width = specimen.shape
    for _ in range(rng.integers(1, 5)):
        radius = draw_log(rng, 100, 1200) / specimen.pixel_size
        part, profile, distance = lump(specimen, rng, rng.uniform(0, width), rng.uniform(0, height), radius, 0.3)
        if not distance.size:
            continue
        mottle = (
            random_field(distance.shape, rng.uniform(1, 3), rng.uniform(1, 6), rng) if min(distance.shape) > 2 else 0
        )
        origin = rng.uniform(0, width), rng.uniform(0, height)
        rows, columns = np.indices(distance.shape)
        wave = 2 * np.pi / draw_log(rng, 4, max(5, 0.7 * radius))
        angle = rng.uniform(0, np.pi)
        along = (rows - origin[1]) * np.cos(angle) + (columns - origin[0]) * np.sin(angle)
        bands = np.sin(wave * along + rng.uniform(0, 6))
        inside = np.clip((1 - distance) * 4, 0, 1)
        strength = rng.uniform(0.2, 1.0)
        specimen.absorption[part] += strength * inside * (0.6 + 0.5 * mottle + rng.uniform(0, 0.6) * bands)
        specimen.potential[part] += _DENSE * np.minimum(profile * specimen.pixel_size, 300) * inside
        specimen.junk[part] |= distance < 1.1


def carbon(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw the edge of a carbon or gold film with its granular texture; it covers a side or a corner."""
    height, width = specimen.shape
    rows, columns = np.indices(specimen.shape, dtype=np.float32)
    angle, radius = rng.uniform(0, 2 * np.pi), draw_log(rng, 5000, 12000) / specimen.pixel_size
    depth = rng.uniform(-0.45, 0.6) * max(height, width)  # of the edge beyond the centre of the image
    x, y = 0.5 * width + (depth - radius) * np.cos(angle), 0.5 * height + (depth - radius) * np.sin(angle)
    ripple = ndimage.gaussian_filter1d(rng.normal(size=720), 5, mode="wrap")
    direction = np.arctan2(rows - y, columns - x)
    edge = (
        radius + draw_log(rng, 1, 60) / specimen.pixel_size * ripple[(direction / (2 * np.pi) * 720).astype(int) % 720]
    )
    film = np.clip((np.hypot(columns - x, rows - y) - edge) / max(1.0, 15 / specimen.pixel_size), 0, 1)
    _film(specimen, rng, film.astype(np.float32))


def _film(specimen: Specimen, rng: np.random.Generator, film: Float32[np.ndarray, "height width"]) -> None:
    thickness = rng.uniform(80, 300)
    grains = random_field(specimen.shape, rng.uniform(0, 1), 0.5, rng)
    strength = draw_log(rng, 3, 12) * np.sqrt(thickness) / specimen.pixel_size
    specimen.potential += film * (_DENSE * thickness * 0.3 + 5 * strength * grains).astype(np.float32)
    specimen.absorption += film.astype(np.float32) * np.float32(draw_log(rng, 0.05, 0.6))
    specimen.junk |= film > 0


def gold(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw fiducial beads: round, sharp and nearly opaque."""
    height, width = specimen.shape
    radius = rng.uniform(25, 80) / specimen.pixel_size
    for _ in range(rng.integers(1, 20)):
        part, dy, dx = _window(specimen, rng.uniform(0, width), rng.uniform(0, height), 1.2 * radius + 2)
        inside = np.clip(radius + 0.5 - np.hypot(dx, dy), 0, 1)
        specimen.absorption[part] += rng.uniform(0.8, 2) * inside
        specimen.potential[part] += 20 * radius * specimen.pixel_size * inside * rng.uniform(0.5, 1)
        specimen.junk[part] |= np.hypot(dx, dy) < radius + 1


def debris(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw compact bits smaller than the particle, from faint to much darker than it."""
    height, width = specimen.shape
    typical, contrast = draw_log(rng, 0.08, 0.5), draw_log(rng, 0.3, 5)
    area = height * width * (specimen.pixel_size / specimen.diameter) ** 2
    for _ in range(int(draw_log(rng, 0.01, 0.5) * area) + 1):
        radius = (
            0.5 * specimen.diameter * np.clip(typical * np.exp(0.3 * rng.normal()), 0.05, 0.65) / specimen.pixel_size
        )
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        part, profile, distance = lump(specimen, rng, x, y, radius, 0.2)
        if distance.size:
            specimen.potential[part] += _PROTEIN * contrast * profile * specimen.pixel_size
            specimen.absorption[part] += 0.0003 * contrast * profile * specimen.pixel_size
            if contrast * radius > 0.4 * 0.5 * specimen.diameter / specimen.pixel_size:
                specimen.junk[part] |= distance < 0.9


def drops(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw compact dark bodies of every size and darkness, below and above the particle, alone and in clusters."""
    height, width = specimen.shape
    unit = 0.5 * specimen.diameter / specimen.pixel_size
    typical, spread, rough = draw_log(rng, 0.2, 3), rng.uniform(0.15, 0.9), rng.uniform(0.0, 0.25)
    most, together = draw_log(rng, 0.01, 0.25), int(rng.integers(1, 6))
    thickness, opacity, flat = draw_log(rng, 60, 1500), draw_log(rng, 0.01, 1.5), rng.random() < 0.4
    number = 1 + int(most * height * width / (2 * unit) ** 2 / (1 + typical**2))
    for _ in range(number):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        for _ in range(rng.integers(1, together + 1)):
            radius = unit * np.clip(typical * np.exp(spread * rng.normal()), 0.15, 5)
            part, profile, distance = lump(specimen, rng, x, y, radius, rough)
            if distance.size:
                relative = np.clip((1 - distance) * radius, 0, 1) if flat else profile / (2 * radius)
                strength = np.float32(rng.uniform(0.5, 1))
                specimen.potential[part] += strength * np.float32(thickness) * relative.astype(np.float32)
                specimen.absorption[part] += strength * np.float32(opacity) * relative.astype(np.float32)
                specimen.junk[part] |= distance < 1.05
            x, y = x + 1.4 * radius * rng.normal(), y + 1.4 * radius * rng.normal()


def aggregates(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw denatured protein: networks and clumps without form, larger than a particle."""
    height, width = specimen.shape
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        step = rng.uniform(0.1, 0.4) * specimen.diameter / specimen.pixel_size
        strength = draw_log(rng, 0.5, 3)
        for _ in range(rng.integers(10, 60)):
            radius = step * rng.uniform(0.5, 1.5)
            part, profile, distance = lump(specimen, rng, x, y, radius, 0.3)
            if distance.size:
                specimen.potential[part] += _PROTEIN * strength * profile * specimen.pixel_size * rng.uniform(0.3, 1)
                specimen.junk[part] |= distance < 1.2
            x, y = x + 1.3 * step * rng.normal(), y + 1.3 * step * rng.normal()


def filaments(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw threads, thinner than the particle, such as nucleic acid or free polymers."""
    height, width = specimen.shape
    drawn = np.zeros(specimen.shape, dtype=np.float32)
    for _ in range(rng.integers(1, 8)):
        length = int(rng.uniform(1, 12) * specimen.diameter / specimen.pixel_size)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(size=length) * rng.uniform(0.01, 0.15))
        x = (rng.uniform(0, width) + np.cumsum(np.cos(heading))).astype(int)
        y = (rng.uniform(0, height) + np.cumsum(np.sin(heading))).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        drawn[y[inside], x[inside]] = 1
    width_px = rng.uniform(0.03, 0.15) * specimen.diameter / specimen.pixel_size
    smooth = ndimage.gaussian_filter(drawn, max(0.5, width_px))
    specimen.potential += (
        smooth / (smooth.max() + 1e-9) * _PROTEIN * draw_log(rng, 0.3, 2) * width_px * 4 * specimen.pixel_size
    ).astype(np.float32)


def cracks(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw bright tears in the ice."""
    height, width = specimen.shape
    torn = np.zeros(specimen.shape, dtype=np.float32)
    for _ in range(rng.integers(1, 4)):
        length = int(rng.uniform(0.2, 1.5) * max(height, width))
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(size=length) * 0.05)
        x = (rng.uniform(0, width) + np.cumsum(np.cos(heading))).astype(int)
        y = (rng.uniform(0, height) + np.cumsum(np.sin(heading))).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        torn[y[inside], x[inside]] = 1
    smooth = ndimage.gaussian_filter(torn, max(0.7, draw_log(rng, 5, 60) / specimen.pixel_size))
    smooth /= smooth.max() + 1e-9
    specimen.absorption -= (rng.uniform(0.1, 0.6) * smooth).astype(np.float32)
    specimen.potential -= (rng.uniform(100, 800) * smooth).astype(np.float32)
    specimen.junk |= smooth > 0.3


def crystalline(specimen: Specimen, rng: np.random.Generator) -> None:
    """Turn the whole film into crystalline ice: domains with dark borders and mottled contrast."""
    height, width = specimen.shape
    size = draw_log(rng, 60, 600) / specimen.pixel_size
    seeds = rng.uniform((0, 0), (height, width), size=(max(4, int(height * width / size**2)), 2))
    marked = np.ones(specimen.shape, dtype=bool)
    marked[tuple(seeds.astype(int).T)] = False
    nearest = ndimage.distance_transform_edt(marked, return_distances=False, return_indices=True)
    identity = (nearest[0] * 7919 + nearest[1]) % 1009
    borders = (identity != np.roll(identity, 1, 0)) | (identity != np.roll(identity, 1, 1))
    lines = ndimage.gaussian_filter(borders.astype(np.float32), max(0.6, 8 / specimen.pixel_size))
    clouds = random_field(specimen.shape, rng.uniform(1.5, 3.5), size * rng.uniform(0.2, 1), rng)
    blotches = np.maximum(clouds - rng.uniform(0.5, 1.5), 0)
    specimen.absorption += (rng.uniform(0, 0.2) * lines + rng.uniform(0.02, 0.15) * clouds).astype(np.float32)
    specimen.absorption += (rng.uniform(0, 0.3) * blotches).astype(np.float32)
    tone = rng.normal(size=1009)[identity]
    specimen.potential += (300 * rng.uniform() * lines + 150 * rng.uniform() * tone).astype(np.float32)
    specimen.junk[:] = True


def whole_film(specimen: Specimen, rng: np.random.Generator) -> None:
    """Cover the whole micrograph with carbon."""
    _film(specimen, rng, np.ones(specimen.shape, dtype=np.float32))


KINDS: dict[str, tuple[float, Callable[[Specimen, np.random.Generator], None]]] = {
    "ethane": (0.3, ethane),
    "crystals": (0.25, crystals),
    "carbon": (0.25, carbon),
    "gold": (0.1, gold),
    "debris": (0.7, debris),
    "drops": (0.4, drops),
    "aggregates": (0.25, aggregates),
    "filaments": (0.2, filaments),
    "cracks": (0.1, cracks),
}
"""Contamination by name: how often a contaminated micrograph has it, and how it is drawn."""
