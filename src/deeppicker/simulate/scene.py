"""One simulated micrograph: draw its parameters, build the specimen, image it, process it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from scipy import ndimage

from deeppicker.core import Ctf, Microscope
from deeppicker.simulate import contamination, ice
from deeppicker.simulate.config import SimulateConfig, between, logarithmic
from deeppicker.simulate.contamination import Specimen
from deeppicker.simulate.optics import Optics, image_of, random_field, record
from deeppicker.simulate.placement import orient, pack, place
from deeppicker.simulate.processing import bordered, process
from deeppicker.simulate.shapes import in_membrane, oligomer
from deeppicker.simulate.volumes import Volume, project_to

_CPU = torch.device("cpu")
_PROTEIN = 2.5  # V; mean inner potential of protein against vitreous ice (Vulović et al., J. Struct. Biol. 183, 2013)
# Deviation of the phase of vitreous ice at 300 kV in rad·Å, for 400 Å of ice: water's 0.031 molecules/Å³ of 145 V·Å³
# each, times the square root of its structure factor at low frequency, 0.06.
_SOLVENT_PHASE = 0.08
_CROWDED_COVERAGE, _CROWDED_SPACING = (0.3, 0.9), (0.45, 0.8)
_PAD = 48  # pixels around the image, so that what leaves on one side does not enter on the other
_HOT = 1e-5  # fraction of hot pixels
_PACKED_SPACING = (0.8, 1.25)
_WHOLE = {"crystalline": 0.25, "film": 0.12, "textured": 0.25, "vacuum": 0.08}  # share of the empty micrographs
_VACUUM = (10.0, 0.01)  # Å of ice, and its noise in relation to water's


@dataclass(frozen=True)
class Scene:
    """A simulated micrograph and its truth.

    Parameters
    ----------
    image : float32 array, (height, width)
        As stored; particles dark.
    pixel_size : float
        Å.
    positions : int array, (n, 2)
        Centres (x, y) of mass in pixels.
    species : int array, (n,)
        0 for the particle itself, 1 for the second species.
    angles : float array, (n, 3)
        Rot, tilt and psi in degrees, RELION's convention (ZYZ).
    diameter : float
        Of the particle, Å, with its membrane if it has one.
    optics : Optics
        The microscope.
    junk : bool array, (height, width)
        Where contamination covers the image.
    parameters : mapping
        Everything else that was drawn, for the record.
    """

    image: Float32[np.ndarray, "height width"]
    pixel_size: float
    positions: Int[np.ndarray, "n 2"]
    species: Int[np.ndarray, " n"]
    angles: Float[np.ndarray, "n 3"]
    diameter: float
    optics: Optics
    junk: Bool[np.ndarray, "height width"]
    parameters: dict[str, float | str]


def simulate_micrograph(
    particle: Volume,
    others: Sequence[Volume],
    config: SimulateConfig,
    rng: np.random.Generator,
    device: torch.device = _CPU,
) -> Scene:
    """Return one micrograph of a particle.

    Parameters
    ----------
    particle : Volume
        The particle, at any voxel size.
    others : sequence of Volume
        From these a second species may be taken; they should be of similar size.
    config : SimulateConfig
        Ranges of all parameters.
    rng : Generator
        The same state gives the same micrograph.
    device : torch.device
        Where the projections of the particles are made.
    """
    empty = rng.random() < config.empty
    if rng.random() < config.membranes:
        particle = in_membrane(rng, particle)
    pixel_size = config.pixel_size or particle.diameter / between(rng, config.pixels_across)
    species = _species(particle, others, config, rng)
    fine = pixel_size / config.binning
    optics = _optics(fine, config, rng)
    width, height = (config.binning * side for side in config.size)
    shape = (height + 2 * _PAD, width + 2 * _PAD)
    specimen = Specimen(
        np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool), fine, particle.diameter
    )
    drawn = _contaminate(specimen, empty, config, rng)
    contrast = logarithmic(rng, config.contrast)
    positions = _positions(specimen, empty, config, rng)
    kinds = (rng.random(len(positions)) < rng.uniform(0.2, 0.7)).astype(np.int64) * (len(species) - 1)
    angles = _add_particles(specimen, species, positions, kinds, contrast, config, rng, device)
    thickness = between(rng, config.ice)
    solvent = logarithmic(rng, config.solvent)
    if "vacuum" in drawn:
        thickness, solvent = _VACUUM
    image = _expose(specimen, optics, thickness, solvent, rng)
    image = _binned(image[_PAD : _PAD + height, _PAD : _PAD + width], config.binning)
    covered = _binned(specimen.junk[_PAD : _PAD + height, _PAD : _PAD + width].astype(np.float32), config.binning)
    image, border, steps = _processed(image, particle.diameter / pixel_size, config, rng)
    positions = positions - _PAD
    inside = np.flatnonzero(((positions >= 0) & (positions < [width, height])).all(axis=1))
    positions = positions // config.binning
    inside = inside[~border[positions[inside, 1], positions[inside, 0]]]
    parameters: dict[str, float | str] = {
        "Contrast": contrast,
        "IceThickness": thickness,
        "SolventNoise": solvent,
        "Dose": optics.dose,
        "BFactor": optics.b_factor,
        "Diameter": particle.diameter,
        "Contamination": drawn,
        "Processing": steps,
    }
    return Scene(
        np.ascontiguousarray(image, dtype=np.float32),
        pixel_size,
        positions[inside],
        kinds[inside],
        angles[inside],
        particle.diameter,
        optics,
        (covered >= 0.5) | border,
        parameters,
    )


def _species(
    particle: Volume, others: Sequence[Volume], config: SimulateConfig, rng: np.random.Generator
) -> list[Volume]:
    """Return the particle, and the species that shares the micrograph with it, if one does."""
    species = [particle]
    if len(others) and rng.random() < config.mixed:
        species.append(others[int(rng.integers(len(others)))])
    if config.oligomers and rng.random() < config.oligomers:
        species = [particle, oligomer(rng, particle)]
    return species


def _processed(
    image: Float32[np.ndarray, "height width"], diameter: float, config: SimulateConfig, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "height width"], Bool[np.ndarray, "height width"], str]:
    """Return the image as programs hand it on, where its edges are not part of it, and the names of the steps."""
    border, steps = np.zeros(image.shape, dtype=bool), "none"
    if rng.random() < config.borders:
        image, border = bordered(image, rng)
    if rng.random() < config.processed:
        image, steps = process(image, diameter, rng)
    return image, border, steps


def _binned(image: Float32[np.ndarray, "height width"], factor: int) -> Float32[np.ndarray, "rows columns"]:
    """Return the means of blocks of ``factor`` pixels along each side."""
    height, width = (side // factor for side in image.shape)
    return np.asarray(image.reshape(height, factor, width, factor).mean(axis=(1, 3)))


def _optics(pixel_size: float, config: SimulateConfig, rng: np.random.Generator) -> Optics:
    defocus = between(rng, config.defocus)
    half = 0.5 * rng.uniform(0, config.astigmatism)
    plate = rng.random() < config.phase_plates
    amplitude_contrast, angle = between(rng, config.amplitude_contrast), float(rng.uniform(0, 180))
    microscope = Microscope(
        voltage=config.voltage,
        spherical_aberration=config.cs,
        amplitude_contrast=amplitude_contrast,
        phase_shift=float(rng.uniform(30, 130)) if plate else 0.0,
    )
    return Optics(
        pixel_size=pixel_size,
        ctf=Ctf(defocus_u=defocus + half, defocus_v=defocus - half, angle=angle, microscope=microscope),
        b_factor=between(rng, config.b_factor),
        dose=between(rng, config.dose),
    )


def _contaminate(specimen: Specimen, empty: bool, config: SimulateConfig, rng: np.random.Generator) -> str:
    """Draw contamination and return its names; an empty micrograph may be nothing else."""
    names = []
    if empty and config.contamination > 0:
        names += _whole(specimen, rng)
    if rng.random() < 2 * config.contamination - config.contamination**2:
        for name, (frequency, draw) in (contamination.KINDS | ice.KINDS).items():
            if rng.random() < frequency * 2 * config.contamination:
                draw(specimen, rng)
                names.append(name)
    return "+".join(names) or "none"


def _whole(specimen: Specimen, rng: np.random.Generator) -> list[str]:
    """Turn the film into something that holds no particle, or leave it; return the name of what was done."""
    draws = {"crystalline": contamination.crystalline, "film": contamination.whole_film, "textured": ice.textured}
    names = [*_WHOLE, ""]
    name = str(rng.choice(names, p=[*_WHOLE.values(), 1 - sum(_WHOLE.values())]))
    if name in draws:
        draws[name](specimen, rng)
    return [name] if name else []


def _positions(
    specimen: Specimen, empty: bool, config: SimulateConfig, rng: np.random.Generator
) -> Int[np.ndarray, "n 2"]:
    diameter = specimen.diameter / specimen.pixel_size
    clusters = int(rng.integers(2, 9)) if rng.random() < config.clustered else 0
    coverage, spacing = logarithmic(rng, config.coverage), between(rng, config.spacing)
    if rng.random() < config.crowded:
        coverage, spacing = between(rng, _CROWDED_COVERAGE), between(rng, _CROWDED_SPACING)
    if empty:
        return np.zeros((0, 2), dtype=np.int64)
    number = math.ceil(coverage * specimen.junk.size / (0.25 * math.pi * diameter**2))
    free = ndimage.distance_transform_edt(~specimen.junk) > 0.25 * diameter if specimen.junk.any() else ~specimen.junk
    if rng.random() < config.packed:
        return pack(free, between(rng, _PACKED_SPACING) * diameter, rng)
    return place(free, number, spacing * diameter, clusters, rng)


def _add_particles(
    specimen: Specimen,
    species: Sequence[Volume],
    positions: Int[np.ndarray, "n 2"],
    kinds: Int[np.ndarray, " n"],
    contrast: float,
    config: SimulateConfig,
    rng: np.random.Generator,
    device: torch.device,
) -> Float[np.ndarray, "n 3"]:
    """Add the projections of the particles; return their angles."""
    angles = np.zeros((len(positions), 3))
    preferred = rng.random() < config.preferred
    for kind, volume in enumerate(species):
        mine = np.flatnonzero(kinds == kind)
        if len(mine) == 0:
            continue
        rotations = orient(len(mine), preferred, rng)
        angles[mine] = rotations.as_euler("ZYZ", degrees=True)
        images = project_to(volume, rotations, specimen.pixel_size, device)
        for image, (x, y) in zip(images, positions[mine].tolist(), strict=True):
            _add(specimen.potential, image * np.float32(_PROTEIN * contrast), x, y)
    return angles


def _add(target: Float32[np.ndarray, "height width"], image: Float32[np.ndarray, "side side"], x: int, y: int) -> None:
    """Add a small image whose centre, pixel ``side // 2``, comes to lie at (x, y)."""
    side = len(image)
    top, left = y - side // 2, x - side // 2
    rows = slice(max(0, -top), min(side, target.shape[0] - top))
    columns = slice(max(0, -left), min(side, target.shape[1] - left))
    target[rows.start + top : rows.stop + top, columns.start + left : columns.stop + left] += image[rows, columns]


def _expose(
    specimen: Specimen, optics: Optics, ice: float, solvent: float, rng: np.random.Generator
) -> Float32[np.ndarray, "height width"]:
    """Return the counts of the detector for a specimen in ice of uneven thickness."""
    shape = specimen.shape
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    slope = rng.normal(scale=0.12, size=3)
    uneven = 1 + slope[0] * rows[:, None] + slope[1] * columns + slope[2] * (rows[:, None] ** 2 + columns**2)
    uneven = np.clip(uneven + 0.05 * random_field(shape, 3.0, 60, rng), 0.5, 1.5)
    deviation = _SOLVENT_PHASE * solvent / optics.pixel_size * optics.interaction / 6.53e-4
    water = random_field(shape, rng.uniform(0, 0.8), 0.3, rng) * np.sqrt(uneven * ice / 400) * np.float32(deviation)
    phase = specimen.potential * np.float32(optics.interaction) + water
    absorption = specimen.absorption + uneven * np.float32(ice / 3000)  # mean free path of about 3000 Å
    intensity = image_of(phase.astype(np.float32), absorption.astype(np.float32), optics)
    counts = record(intensity, optics, rng.uniform(0, 0.5), rng)
    hot = rng.random(shape) < _HOT
    counts[hot] = counts.max() * rng.uniform(1, 5)
    return counts
