"""Show what this computer offers, which device is used and why, and how fast it picks."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil

from deeppicker.config import DEFAULT_MODEL
from deeppicker.errors import OutputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.parallel.processes import sensible_workers, usable_cores

_PACKAGES = ("torch", "numpy", "scipy", "mrcfile", "gemmi", "tifffile", "distributed", "dask-jobqueue")
_SIDE, _PIXEL_SIZE, _DIAMETER = 4096, 1.77, 180.0  # of the micrograph that is timed
_LITTLE = 2e9  # bytes of memory or disk


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker doctor`."""

    model: str = DEFAULT_MODEL
    """Name of a model in the package, or a model file."""

    folder: Path = Path()
    """Folder on the disk to which results would be written."""

    no_speed: bool = False
    """Skip the measurement of speed, which takes some seconds."""


def run(options: Options) -> int:
    """Print what was found; return 1 if something prevents picking."""
    print(f"DeepPicker {version('deeppicker')}, Python {platform.python_version()}, {platform.platform()}")
    print("packages   " + ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    problems = [*_memory(), *_disk(options.folder), *_device()]
    if not options.no_speed:
        _speed(options.model)
    for problem in problems:
        print(f"problem    {problem}")
    print("no problem was found" if not problems else f"{len(problems)} problems were found")
    return int(bool(problems))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _memory() -> list[str]:
    memory = psutil.virtual_memory()
    cores = usable_cores()
    print(
        f"processor  {cores} of {psutil.cpu_count()} cores are usable; `pick` starts {sensible_workers(cores)} workers"
    )
    print(f"memory     {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB are free; a worker takes up to 1.5")
    return [] if memory.available > _LITTLE else [f"only {memory.available / 1e9:.1f} GB of memory are free"]


def _disk(folder: Path) -> list[str]:
    try:
        free = shutil.disk_usage(folder).free
        atomic_write(folder / ".deeppicker-doctor", "")
        (folder / ".deeppicker-doctor").unlink()
    except (OSError, OutputError) as error:
        return [f"{error}; give another --folder"]
    print(f"disk       {free / 1e9:.1f} GB are free in {folder.resolve()}")
    return [] if free > _LITTLE else [f"only {free / 1e9:.1f} GB are free in {folder.resolve()}"]


def _device() -> list[str]:
    import torch

    from deeppicker.device import choose, offered

    build = torch.version.cuda or torch.version.hip
    print(f"PyTorch    {torch.__version__}, {'built for CUDA ' + build if build else 'built for the processor only'}")
    offer = offered()
    for number, card in enumerate(offer.cards):
        memory = f"{card.free / 1e9:.1f} of {card.total / 1e9:.1f} GB are free"
        print(f"graphics   cuda:{number}, {card.name}; {card.fault or memory}")
    if offer.apple:
        print("graphics   mps, Apple's; used only with --device mps, since nobody has measured it")
    print(f"device     computing {choose('auto', offer)}")
    problems = [f"{card.problem}; update its driver, or PyTorch" for card in offer.cards if card.fault]
    return [*problems, f"{offer.lack}; install the PyTorch that fits it"] if offer.misfit else problems


def _speed(model_name: str) -> None:
    import mrcfile
    import torch

    from deeppicker.formats import read_micrograph
    from deeppicker.networks.model import load_model
    from deeppicker.picking.pipeline import pick_micrograph

    model = load_model(model_name).on("auto")  # as `pick` uses it
    torch.set_num_threads(usable_cores())
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.mrc"
        with mrcfile.new(path, rng.normal(size=(_SIDE, _SIDE)).astype(np.float32)) as file:
            file.voxel_size = _PIXEL_SIZE
        times = []
        for _ in range(3):
            start = time.perf_counter()
            pick_micrograph(read_micrograph(path), model, _DIAMETER)
            times.append(time.perf_counter() - start)
    seconds = min(times)
    print(
        f"speed      {seconds:.2f} s for a micrograph of {_SIDE}x{_SIDE} pixels with particles of {_DIAMETER:g} Å "
        f"(model {model_name}, {usable_cores()} threads): {3600 / seconds:,.0f} per hour"
    )
    sys.stdout.flush()
