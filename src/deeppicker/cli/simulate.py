"""Simulate micrographs with known particles from density maps, atomic models and invented shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deeppicker.cli._shared.progress import track
from deeppicker.config import DeviceConfig
from deeppicker.errors import InputError
from deeppicker.formats.writable import refuse_unwritable_folder
from deeppicker.simulate.config import SimulateConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker simulate`."""

    structure: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="STRUCTURE..."), tyro.conf.Positional] = ()
    """Density maps (MRC, CCP4), atomic models (PDB, mmCIF), or folders of them; also compressed."""

    output: Path
    """Folder for the results, with a folder for each particle; a second run makes only missing files."""

    shapes: int = 0
    """Number of additional invented particles: shells, rings, barrels, rods, discs, domains."""

    micrographs: int = 10
    """Number of micrographs of each particle."""

    seed: int = 0
    """Seed of every random choice: the same seed and structures give the same files."""

    workers: int = 1
    """Number of particles to simulate at the same time."""

    device: str = "cpu"
    """Where projections are made: ``cpu``, ``auto``, ``cuda[:N]`` or ``mps``. A graphics card saves at most half of the
    time; the particles are the same, the noise is not."""

    simulate: SimulateConfig = SimulateConfig()


def run(options: Options) -> int:
    """Simulate; a folder for each particle."""
    from deeppicker.device import settle
    from deeppicker.simulate import dataset

    if not options.structure and options.shapes < 1:
        raise InputError("no structure is given; give density maps or atomic models, or set --shapes")
    if options.micrographs < 1 or options.workers < 1 or options.seed < 0 or options.shapes < 0:
        raise InputError("--micrographs and --workers must be 1 or more, --seed and --shapes 0 or more")
    refuse_unwritable_folder(options.output)
    particles = dataset.read_all(dataset.find_structures(options.structure))
    particles += dataset.invent_shapes(options.shapes, options.seed)
    place = settle(DeviceConfig(device=options.device).device)
    plans = dataset.plan_folders(
        particles, options.output, options.micrographs, options.simulate, options.seed, place.device
    )
    if options.device != "cpu":
        print(f"computing {place}")
    for plan in plans[:10]:
        print(f"{plan.particle.name}: diameter {plan.particle.diameter:.0f} Å")
    for _ in track(dataset.run(plans, options.workers), "simulating", total=len(plans)):
        pass
    print(f"{options.micrographs * len(plans):,} micrographs of {len(plans):,} particles -> {options.output}")
    return 0
