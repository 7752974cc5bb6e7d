"""Make the sample in ``sample/``: one small simulated micrograph whose particles are known.

    python recipes/make_sample.py [FOLDER]

The particle is invented: domains of Gaussian blobs, without symmetry, in random orientations. The micrograph has
the difficulties of real ones: the contrast transfer of the microscope, noise of solvent and detector, ice of uneven
thickness, hot pixels, and a lump of crystalline ice that is no particle. The same seed gives the same files.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from deeppicker.formats import atomic_write, make_folder
from deeppicker.formats.star_table import format_table

SEED = 2016
HEIGHT, WIDTH = 960, 1024
PIXEL_SIZE = 2.5  # Å
DIAMETER = 180.0  # Å
NUM_PARTICLES = 72
MICROGRAPH = "micrographs/sample_001.mrc.gz"

VOLTAGE = 300.0  # kV
WAVELENGTH = 0.0197  # Å, at 300 kV
CS = 2.7e7  # Å
DEFOCUS = 22_000.0  # Å, underfocus
AMPLITUDE_CONTRAST = 0.1
B_FACTOR = 250.0  # Å²

# Relative to the standard deviation of the projected particles, before the contrast transfer.
SOLVENT_NOISE = 0.35
DETECTOR_NOISE = 0.65
ICE_THICKNESS = 0.12
LUMP_CENTRE, LUMP_RADIUS = (792.0, 205.0), 230.0  # px, Å


@dataclass(frozen=True)
class Sample:
    """The image as it is stored, and the particle centres (x, y) in its pixels."""

    image: np.ndarray
    positions: np.ndarray


def simulate(seed: int = SEED) -> Sample:
    """Return the sample; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    centres, widths, weights = _particle(rng)
    positions = _place(rng)
    potential = np.zeros((HEIGHT, WIDTH))
    for x, y in positions:
        rotated = Rotation.random(rng=rng).apply(centres)[:, :2] / PIXEL_SIZE
        _add_blobs(potential, rotated + np.array([x, y]), widths / PIXEL_SIZE, weights)
    potential /= potential[potential > 0.05 * potential.max()].std()
    potential += SOLVENT_NOISE * rng.normal(size=potential.shape)
    potential += _lump(rng)
    image = _transfer(potential) + DETECTOR_NOISE * _detector_noise(rng) - ICE_THICKNESS * _unevenness(rng)
    image = np.clip(np.round(18 * (image - image.mean()) / image.std()), -127, 127)
    image[rng.integers(0, HEIGHT, 7), rng.integers(0, WIDTH, 7)] = 127  # hot pixels
    return Sample(image.astype(np.int8), positions)


def _particle(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centres (Å, from the centre of mass), standard deviations (Å) and weights of the particle's blobs."""
    domains = np.array([[0, 0, 0], [52, 14, -10], [-46, 28, 16], [8, -58, 20], [-16, 18, -58], [28, 42, 44]])
    radii = np.array([44.0, 32.0, 35.0, 26.0, 28.0, 20.0])  # Å
    numbers = np.array([60, 24, 30, 13, 16, 8])
    directions = [rng.normal(size=(n, 3)) for n in numbers]
    parts = zip(domains, radii, numbers, directions, strict=True)
    centres = np.concatenate(
        [
            d + r * rng.uniform(size=(n, 1)) ** (1 / 3) * u / np.linalg.norm(u, axis=1, keepdims=True)
            for d, r, n, u in parts
        ]
    )
    widths = rng.uniform(10.0, 15.0, len(centres))
    weights = rng.uniform(0.6, 1.4, len(centres))
    centres -= np.average(centres, axis=0, weights=weights)
    reach = np.quantile(np.linalg.norm(centres, axis=1) + widths, 0.97)
    return centres * (0.5 * DIAMETER / reach), widths, weights


def _place(rng: np.random.Generator) -> np.ndarray:
    """Return centres that neither overlap, nor lie on the lump of ice, nor are cut by the edge."""
    margin, distance = 0.55 * DIAMETER / PIXEL_SIZE, 1.02 * DIAMETER / PIXEL_SIZE
    forbidden = (LUMP_RADIUS * 1.25 + 0.5 * DIAMETER) / PIXEL_SIZE
    placed = np.empty((0, 2))
    while len(placed) < NUM_PARTICLES:
        new = rng.uniform((margin, margin), (WIDTH - 1 - margin, HEIGHT - 1 - margin))
        free = not len(placed) or cKDTree(placed).query(new)[0] >= distance
        if free and np.hypot(*(new - LUMP_CENTRE)) >= forbidden:
            placed = np.vstack([placed, new])
    return np.round(placed, 2)


def _add_blobs(image: np.ndarray, centres: np.ndarray, widths: np.ndarray, weights: np.ndarray) -> None:
    """Add the projections of spherical Gaussian blobs to an image; all lengths in pixels."""
    (left, top), reach = np.floor(centres.mean(axis=0)).astype(int), round(0.8 * DIAMETER / PIXEL_SIZE)
    rows = np.arange(max(0, top - reach), min(HEIGHT, top + reach))
    columns = np.arange(max(0, left - reach), min(WIDTH, left + reach))
    along_y = np.exp(-0.5 * ((rows - centres[:, 1:]) / widths[:, None]) ** 2)
    along_x = np.exp(-0.5 * ((columns - centres[:, :1]) / widths[:, None]) ** 2)
    image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += np.einsum("b,by,bx->yx", weights, along_y, along_x)


def _lump(rng: np.random.Generator) -> np.ndarray:
    """Return the projection of a thick, ragged lump of ice."""
    y, x = np.indices((HEIGHT, WIDTH))
    distance = np.hypot(x - LUMP_CENTRE[0], 1.25 * (y - LUMP_CENTRE[1])) * PIXEL_SIZE
    edge = LUMP_RADIUS * (1 + 0.17 * _smooth_noise(rng, 60 / PIXEL_SIZE))
    depth = np.clip(1 - (distance / edge) ** 2, 0, None) ** 0.5
    return 7.0 * depth * (1 + 0.12 * _smooth_noise(rng, 25 / PIXEL_SIZE))


def _transfer(potential: np.ndarray) -> np.ndarray:
    """Return the image that the microscope makes: dark where there is matter, with fringes of defocus."""
    padded = np.pad(potential, 64, mode="reflect")
    s2 = _squared_frequencies(padded.shape)
    phase = np.pi * WAVELENGTH * s2 * (DEFOCUS - 0.5 * CS * WAVELENGTH**2 * s2)
    ctf = np.sqrt(1 - AMPLITUDE_CONTRAST**2) * np.sin(phase) + AMPLITUDE_CONTRAST * np.cos(phase)
    filtered = np.fft.irfft2(np.fft.rfft2(padded) * -ctf * np.exp(-0.25 * B_FACTOR * s2), s=padded.shape)
    return filtered[64:-64, 64:-64]


def _detector_noise(rng: np.random.Generator) -> np.ndarray:
    """Return noise of unit deviation that falls off towards high frequencies, as detectors and binning make it."""
    noise = rng.normal(size=(HEIGHT, WIDTH))
    noise = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-6.0 * _squared_frequencies(noise.shape)), s=noise.shape)
    return noise / noise.std()


def _unevenness(rng: np.random.Generator) -> np.ndarray:
    """Return the thickness of the ice: a slope from one side to the other, and hills and valleys."""
    y, x = np.indices((HEIGHT, WIDTH))
    return 1.6 * (x / WIDTH + 0.6 * y / HEIGHT) + _smooth_noise(rng, 300 / PIXEL_SIZE)


def _smooth_noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), sigma, mode="reflect")
    return (noise - noise.mean()) / noise.std()


def _squared_frequencies(shape: tuple[int, ...]) -> np.ndarray:
    """Return 1/Å² for each coefficient of a real Fourier transform."""
    return np.fft.fftfreq(shape[0], PIXEL_SIZE)[:, None] ** 2 + np.fft.rfftfreq(shape[1], PIXEL_SIZE) ** 2


def write(sample: Sample, folder: Path) -> None:
    """Write the micrograph, its particles as RELION stores them, and their description."""
    make_folder(folder / "micrographs")
    atomic_write(folder / MICROGRAPH, gzip.compress(_mrc(sample.image), mtime=0))
    atomic_write(folder / "particles.star", _optics() + _particles(sample.positions))
    description = {
        "name": "sample",
        "pixel_size_angstrom": PIXEL_SIZE,
        "particle_diameter_angstrom": DIAMETER,
        "num_micrographs": 1,
        "num_particles": len(sample.positions),
    }
    atomic_write(folder / "dataset.json", json.dumps(description, indent=2) + "\n")


def _mrc(image: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.mrc"
        with mrcfile.new(path, image) as file:
            file.voxel_size = PIXEL_SIZE
            file.header.label[0] = b"Simulated; see recipes/make_sample.py"  # in place of the time
        return path.read_bytes()


def _optics() -> str:
    columns = {
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnOpticsGroup": 1,
        "rlnMicrographPixelSize": PIXEL_SIZE,
        "rlnMicrographOriginalPixelSize": PIXEL_SIZE,
        "rlnVoltage": VOLTAGE,
        "rlnSphericalAberration": CS / 1e7,
        "rlnAmplitudeContrast": AMPLITUDE_CONTRAST,
    }
    return format_table("optics", {label: [str(value)] for label, value in columns.items()})


def _particles(positions: np.ndarray) -> str:
    every = {
        "rlnMicrographName": MICROGRAPH,
        "rlnOpticsGroup": 1,
        "rlnDefocusU": DEFOCUS,
        "rlnDefocusV": DEFOCUS,
        "rlnDefocusAngle": 0.0,
    }
    columns = {label: [str(value)] * len(positions) for label, value in every.items()}
    for index, axis in enumerate("XY"):
        columns[f"rlnCoordinate{axis}"] = [f"{value:.2f}" for value in positions[:, index]]
    return format_table("particles", columns)


if __name__ == "__main__":
    write(simulate(), Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "sample")
