"""Topaz in an environment of its own.

The environment is made once, in the work folder, with the very version of PyTorch that DeepPicker runs on. Topaz names
torchvision as a requirement, but the usual torchvision is built for graphics cards and cannot be imported beside a
PyTorch for processors only. Only the augmentation of training calls it, to turn and mirror images, so a stand-in that
does just that takes its place; that makes the start of Topaz faster, not slower.

Scale and radius follow Topaz's quick start guide (tutorial/01_quick_start_guide in its repository): the pretrained
models "assume that micrographs are downsampled to the 4-8 Å per pixel range", about 4 Å for small and medium
particles, about 8 Å for large ones of 300 Å and more; the radius is that of the particle in pixels of the smaller
image. At 1.77 Å per pixel a factor of 3 gives 5.3 Å, the least in that range, and 4 gives 7.1 Å, the fastest in it.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import torch

from timing.bench import DIAMETER, PIXEL_SIZE

VERSION = "0.3.20"
SCALES = {3: "recommended for a particle of this size", 4: "the fastest recommended scale"}
_NEEDS = ("h5py", "numpy", "pandas", "pillow", "psutil", "scikit-learn", "scipy", "setuptools<81", "tqdm", "future")
_OLDER = ("numpy<2", "pandas<3", "scikit-learn<1.6", "scipy<1.14")  # for versions before 0.3
_STAND_IN = '''"""In place of torchvision: what the augmentation of training calls."""

import torch
from scipy import ndimage


def rotate(image, angle):
    """Turn an image (..., y, x) counterclockwise by degrees, to the nearest pixel."""
    turned = ndimage.rotate(image.numpy(), angle, axes=(-1, -2), reshape=False, order=0)
    return torch.from_numpy(turned)


def hflip(image):
    return image.flip(-1)


def vflip(image):
    return image.flip(-2)
'''


def installed(work: Path, version: str = VERSION) -> list[str | Path] | None:
    """Return the command that starts ``topaz``, or None where it is not installed."""
    folder = _folder(work, version)
    ready = (folder / ".ready").exists()
    return [folder / "bin" / "python", "-E", folder / "bin" / "topaz"] if ready else None  # -E: ignore PYTHONPATH


def install(work: Path, version: str = VERSION) -> list[str | Path] | None:
    """Return the command that starts ``topaz``, or None with the reason why there is none."""
    known = installed(work, version)
    if known:
        return known
    if sys.version_info >= (3, 14):
        print("Topaz needs Python 3.13 or older; it is left out")
        return None
    folder = _folder(work, version)
    print(f"making an environment for Topaz in {folder}", flush=True)
    try:
        _make(folder, version)
    except subprocess.CalledProcessError:
        print("Topaz cannot be installed here; it is left out")
    return installed(work, version)


def _folder(work: Path, version: str) -> Path:
    return work.resolve() / ("topaz" if version == VERSION else f"topaz-{version}")


def _make(folder: Path, version: str) -> None:
    venv.create(folder, clear=True, with_pip=True)
    python = [folder / "bin" / "python", "-E"]
    pip = [*python, "-m", "pip", "install", "--quiet"]
    needs = (*_NEEDS, *_OLDER) if version.startswith("0.2") else _NEEDS
    subprocess.run([*pip, f"torch=={torch.__version__.partition('+')[0]}", *needs], check=True)
    subprocess.run([*pip, "--no-deps", f"topaz-em=={version}"], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    package = packages / "torchvision" / "transforms"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("from . import transforms\n")
    (package / "__init__.py").write_text("from . import functional\n")
    (package / "functional.py").write_text(_STAND_IN)
    subprocess.run([*python, folder / "bin" / "topaz", "--version"], check=True)
    (folder / ".ready").touch()


def commands(
    program: list[str | Path],
    micrographs: list[Path],
    output: Path,
    scale: int,
    workers: int,
    across: float = DIAMETER / PIXEL_SIZE,
) -> list[list[str | Path]]:
    """Return the two commands that pick micrographs, whose particles are so many pixels across, in some processes.

    Topaz chooses its threads, except that processes which share the work get one each: with more threads than cores,
    each would wait for the others.
    """
    small = output / "small"
    radius = round(0.5 * across / scale)
    parallel = ["--num-workers", str(workers)] if len(micrographs) > 1 else []
    single = ["--num-threads", "1"] if parallel else []
    preprocess = [*program, "preprocess", "-s", str(scale), *parallel, *single, "-o", f"{small}/", *micrographs]
    extract = [*program, "extract", "-r", str(radius), "-x", str(scale), "-d", "-1", *parallel]
    extract += ["-o", output / "picks.txt", *(small / path.name for path in micrographs)]
    return [preprocess, extract]
