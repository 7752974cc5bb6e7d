"""Folders of simulated micrographs with their truth, in the formats that training and evaluation read.

Layout, one folder for each particle::

    DIR/<particle>/micrographs/<particle>_0001.mrc   32-bit floating point, pixel size in the header
    DIR/<particle>/masks/<particle>_0001.png         white where contamination covers the image
    DIR/<particle>/particles.star                    RELION: centres, defocus, angles, species as class number
    DIR/<particle>/micrographs.star                  RELION: defocus of each; every other parameter in a second table
    DIR/<particle>/dataset.json                      diameter, counts, settings; written last, so it marks what is done
"""

from __future__ import annotations

import json
import math
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import mrcfile
import numpy as np
import torch
from jaxtyping import Float32

from deeppicker.core import micrograph_key
from deeppicker.device import torch_device
from deeppicker.errors import DeepPickerError, FormatError, InputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.images import raster
from deeppicker.formats.recorded import DATASET, DATASET_DIAMETER
from deeppicker.formats.relion.simulated import SimulatedMicrograph, write_truth
from deeppicker.formats.sealed import read_json
from deeppicker.parallel.jobs import here
from deeppicker.parallel.memory import give_memory_back
from deeppicker.parallel.processes import processes
from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.scene import Scene, simulate_micrograph
from deeppicker.simulate.shapes import invent
from deeppicker.simulate.volumes import STRUCTURE_EXTENSIONS, Volume, read_structure

_SHAPE_DIAMETERS = (70.0, 400.0)  # Å; range of single particles
_COMPANIONS = 8  # particles from which a second species is chosen


@dataclass(frozen=True)
class Plan:
    """One folder to make; the same plan gives the same files, on the processor."""

    particle: Volume
    others: tuple[Volume, ...]
    folder: Path
    number: int
    config: SimulateConfig
    seed: int
    device: str = "cpu"


def find_structures(inputs: Sequence[Path]) -> list[Path]:
    """Return structure files: those given, and those in folders that are given.

    Raises
    ------
    InputError
        If there is none, or two would make the same folder.
    """
    paths: list[Path] = []
    for item in inputs:
        inside = (
            sorted(p for p in item.iterdir() if p.name.lower().endswith(STRUCTURE_EXTENSIONS))
            if item.is_dir()
            else [item]
        )
        if not inside:
            raise InputError(f"{item} holds no structure; supported are {', '.join(STRUCTURE_EXTENSIONS)}")
        paths.extend(inside)
    return paths


def invent_shapes(number: int, seed: int) -> list[Volume]:
    """Return so many invented particles of 70 to 400 Å, named ``shape_001_ring`` and so on."""
    shapes = []
    for index in range(number):
        rng = np.random.default_rng([seed, index, 1])
        volume = invent(rng, float(np.exp(rng.uniform(*np.log(_SHAPE_DIAMETERS)))))
        shapes.append(
            Volume(f"shape_{index + 1:03d}_{volume.name}", volume.density, volume.voxel_size, volume.diameter)
        )
    return shapes


def plan_folders(
    particles: Sequence[Volume], output: Path, number: int, config: SimulateConfig, seed: int, device: str = "cpu"
) -> list[Plan]:
    """Return the plan of a folder for each particle; second species come from the other particles.

    Raises
    ------
    InputError
        If two particles have the same name, or one does not fit into a micrograph.
    """
    names = [particle.name for particle in particles]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two structures are named {name}; give them different file names")
    for particle in particles:
        if config.pixel_size and particle.diameter > config.pixel_size * min(config.size):
            raise InputError(
                f"{particle.name} has a diameter of {particle.diameter:.0f} Å, larger than a micrograph of "
                f"{config.size[0]}×{config.size[1]} px at {config.pixel_size:g} Å; set --size or --pixel-size"
            )
    return [Plan(p, _similar(p, particles), output / p.name, number, config, seed, device) for p in particles]


def _similar(particle: Volume, particles: Sequence[Volume]) -> tuple[Volume, ...]:
    """Return the particles of the most similar size, of which one may share a micrograph with this one."""
    others = [other for other in particles if other is not particle]
    others.sort(key=lambda other: abs(math.log(other.diameter / particle.diameter)))
    return tuple(others[:_COMPANIONS])


def run(plans: Sequence[Plan], workers: int = 1) -> Iterator[str]:
    """Make the folders, some at a time in processes of their own; yield the names as they are done.

    Raises
    ------
    DeepPickerError
        If one cannot be made.
    """
    with processes(workers, math.inf) if workers > 1 else nullcontext(here) as mapper:
        for _, outcome in mapper(make if workers == 1 else _make_in_worker)(plans):
            if isinstance(outcome, DeepPickerError):
                raise outcome
            yield outcome


def _make_in_worker(plan: Plan) -> str:
    give_memory_back()  # else a worker keeps a gigabyte more after each folder of large micrographs
    return make(plan)


def read_all(paths: Sequence[Path]) -> list[Volume]:
    """Return the structures in these files."""
    return [read_structure(path) for path in paths]


def make(plan: Plan) -> str:
    """Simulate the micrographs of one particle, unless the folder holds them already; return its name."""
    settings = json.loads(json.dumps({"simulate": asdict(plan.config), "seed": plan.seed, "micrographs": plan.number}))
    description = plan.folder / DATASET
    with suppress(OSError, FormatError):  # what is damaged is made again
        if read_json(description).get("settings") == settings:
            return plan.particle.name
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scenes = {name: simulated(plan, index) for index, name in enumerate(_names(plan))}
    finally:
        torch.set_num_threads(threads)
    make_folder(plan.folder / "micrographs")
    make_folder(plan.folder / "masks")
    for name, scene in scenes.items():
        atomic_write(plan.folder / name, mrc_bytes(scene.image, scene.pixel_size))
        raster.write_mask(plan.folder / "masks" / f"{micrograph_key(name)}.png", scene.junk)
    write_truth(plan.folder, [_truth(name, scene) for name, scene in scenes.items()])
    content = {
        "name": plan.particle.name,
        DATASET_DIAMETER: round(plan.particle.diameter, 1),
        "num_micrographs": len(scenes),
        "num_particles": sum(len(scene.positions) for scene in scenes.values()),
        "settings": settings,
    }
    atomic_write(description, json.dumps(content, indent=1) + "\n")
    return plan.particle.name


def simulated(plan: Plan, index: int) -> Scene:
    """Return one micrograph of a folder; it depends on the seed, the particle's name and the index only."""
    rng = np.random.default_rng([plan.seed, zlib.crc32(plan.particle.name.encode()), index])
    return simulate_micrograph(plan.particle, plan.others, plan.config, rng, torch_device(plan.device))


def mrc_bytes(image: Float32[np.ndarray, "height width"], pixel_size: float) -> bytes:
    """Return an MRC file as bytes that depend on nothing but the image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.mrc"
        with mrcfile.new(path, image) as file:
            file.voxel_size = pixel_size
            file.header.label[0] = b"Simulated by DeepPicker"  # in place of the time
        return path.read_bytes()


def _names(plan: Plan) -> list[str]:
    return [f"micrographs/{plan.particle.name}_{index + 1:04d}.mrc" for index in range(plan.number)]


def _truth(name: str, scene: Scene) -> SimulatedMicrograph:
    return SimulatedMicrograph(
        name=name,
        pixel_size=scene.pixel_size,
        ctf=scene.optics.ctf,
        positions=scene.positions,
        species=scene.species,
        angles=scene.angles,
        parameters=scene.parameters,
    )
