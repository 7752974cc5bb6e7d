"""Particles in three dimensions: read from maps and atomic models, measured, resampled, projected."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import torch
from jaxtyping import Float32
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch_fourier_slice import project_3d_to_2d

from deeppicker.device import in_parts
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.room import refuse_special
from deeppicker.formats.text import one_line

MAP_EXTENSIONS = (".mrc", ".map", ".mrc.gz", ".map.gz", ".mrc.bz2", ".map.bz2", ".ccp4")
MODEL_EXTENSIONS = (".pdb", ".cif", ".ent", ".mmcif", ".pdb.gz", ".cif.gz", ".ent.gz", ".mmcif.gz")
STRUCTURE_EXTENSIONS = MAP_EXTENSIONS + MODEL_EXTENSIONS

_ENCLOSED = 0.95  # fraction of the mass within half a diameter; 130-146 Å for apoferritin and TRPV1 in nanodiscs
_SOLVENT_LEVEL = 0.05  # of a map's 99.9th percentile; less is solvent or noise of the map
_ATOM_VOXEL = 4.0  # Å; maps from atoms are made at this voxel size ...
_ATOM_SIGMA = 3.0  # Å; ... each atom a Gaussian of this width
_CPU = torch.device("cpu")
_PARTS = (256, 8)  # projections that are made at once; the least if a card has little memory
_LARGE = 192  # voxels along a cube; the transform of one twice as long takes nearly 1 GB
_MARGIN = 1.15  # side of the cube in which a particle turns, in its largest diameters


@dataclass(frozen=True)
class Volume:
    """The density of a particle against the solvent.

    Parameters
    ----------
    name : str
        How files and messages name it.
    density : float32 array, (side, side, side)
        About 1 inside the particle and 0 in the solvent; the centre of mass lies at index ``side // 2``.
    voxel_size : float
        Å.
    diameter : float
        Å; of the sphere around the centre of mass that holds 95 % of the mass. This is close to what people enter as
        the diameter of a round particle, and to the length of a long one.
    """

    name: str
    density: Float32[np.ndarray, "side side side"]
    voxel_size: float
    diameter: float


def read_structure(path: Path) -> Volume:
    """Read a density map (MRC, CCP4) or an atomic model (PDB, mmCIF), also compressed.

    Of an atomic model, the first biological assembly is built if the file describes one.

    Raises
    ------
    InputError
        If the file cannot be opened or has an unknown extension.
    FormatError
        If it cannot be read, or holds nothing.
    """
    lower = path.name.lower()
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names too long
        raise InputError(one_line(f"{path} does not exist; give a density map or an atomic model"))
    refuse_special(path)
    name = path.name
    for extension in sorted(STRUCTURE_EXTENSIONS, key=len, reverse=True):
        if lower.endswith(extension):
            name = path.name[: -len(extension)]
            break
    else:
        raise InputError(f"{path} is neither a map nor a model; supported are {', '.join(STRUCTURE_EXTENSIONS)}")
    density, voxel_size = _read_map(path) if lower.endswith(MAP_EXTENSIONS) else _read_model(path)
    return from_density(name, density, voxel_size, str(path))


def from_density(name: str, density: Float32[np.ndarray, "z y x"], voxel_size: float, source: str = "") -> Volume:
    """Return a volume centred on its mass and scaled to about 1 inside; negative and solvent density is dropped.

    Raises
    ------
    FormatError
        If there is no positive density.
    """
    density = np.nan_to_num(np.asarray(density, dtype=np.float32), posinf=0, neginf=0)
    top = float(np.percentile(density, 99.9)) if density.size else 0.0
    top = top if top > 0 else float(density.max(initial=0.0))
    if top <= 0:
        raise FormatError(f"{source or name} holds no positive density; give a map whose particle is positive")
    density = np.where(density > _SOLVENT_LEVEL * top, np.minimum(density, top), 0)
    inside = density[density > 0.3 * top]
    return _resampled(name, density / inside.mean(), voxel_size, voxel_size)


def resample(volume: Volume, voxel_size: float) -> Volume:
    """Return the volume at another voxel size, low-passed if that is larger."""
    return _resampled(volume.name, volume.density, volume.voxel_size, voxel_size)


def project(volume: Volume, rotations: Rotation, device: torch.device = _CPU) -> Float32[np.ndarray, "n side side"]:
    """Return projections along z of the turned volume: density times Å. Their centre is pixel ``side // 2``.

    They agree within rounding on all devices.
    """
    matrices = torch.from_numpy(np.atleast_3d(rotations.as_matrix()).astype(np.float32)).reshape(-1, 3, 3).to(device)
    density = torch.from_numpy(volume.density).to(device)

    def projected(size: int) -> torch.Tensor:
        return torch.cat([project_3d_to_2d(density, part).cpu() for part in torch.split(matrices, size)])

    with torch.inference_mode():
        result: Float32[np.ndarray, "n side side"] = in_parts(projected, *_PARTS).numpy()
    return result * np.float32(volume.voxel_size)


def project_to(
    volume: Volume, rotations: Rotation, pixel_size: float, device: torch.device = _CPU
) -> Float32[np.ndarray, "n side side"]:
    """Return projections as `project`, in pixels of a size in Å.

    Where pixels are smaller than voxels and the images large, the volume is projected as it is, and the images are
    enlarged: a cube with voxels of that size would show no more, and take gigabytes and half a minute.
    """
    if pixel_size >= volume.voxel_size or len(volume.density) * volume.voxel_size / pixel_size <= _LARGE:
        return project(resample(volume, pixel_size), rotations, device)
    images, factor = project(volume, rotations, device), pixel_size / volume.voxel_size
    middle = images.shape[1] // 2
    reach = math.ceil(middle / factor)
    offset = np.full(2, middle - factor * reach)
    return np.stack(
        [
            ndimage.affine_transform(image, np.full(2, factor), offset, (2 * reach,) * 2, output=np.float32)
            for image in images
        ]
    )


def measure_diameter(density: Float32[np.ndarray, "z y x"], voxel_size: float) -> float:
    """Return the diameter in Å of the sphere around the centre of mass that holds 95 % of the mass."""
    radius = _radii(density, _centre(density)).ravel()
    order = np.argsort(radius)
    mass = np.cumsum(density.ravel()[order], dtype=np.float64)
    return float(2 * voxel_size * radius[order][np.searchsorted(mass, _ENCLOSED * mass[-1])])


def _centre(density: Float32[np.ndarray, "z y x"]) -> np.ndarray:
    return np.array(ndimage.center_of_mass(density))


def _radii(density: Float32[np.ndarray, "z y x"], centre: np.ndarray) -> Float32[np.ndarray, "z y x"]:
    axes = [
        (np.arange(side, dtype=np.float32) - np.float32(c)) ** 2 for side, c in zip(density.shape, centre, strict=True)
    ]
    radii: Float32[np.ndarray, "z y x"] = np.sqrt(axes[0][:, None, None] + axes[1][None, :, None] + axes[2])
    return radii


def _resampled(name: str, density: Float32[np.ndarray, "z y x"], old: float, new: float) -> Volume:
    """Return a centred cube at the new voxel size with room for every orientation."""
    diameter = measure_diameter(density, old)
    centre = _centre(density)
    reach = float(_radii(density, centre)[density > 0].max()) + 1  # voxels
    factor = new / old
    side = 2 * math.ceil(0.5 * _MARGIN * 2 * reach / factor) + 2
    if factor > 1:
        density = ndimage.gaussian_filter(density, 0.5 * math.sqrt(factor**2 - 1))
    offset = centre - factor * (side // 2)
    cube = ndimage.affine_transform(density, np.full(3, factor), offset, (side,) * 3, order=1, output=np.float32)
    return Volume(name, cube, new, diameter)


def _read_map(path: Path) -> tuple[Float32[np.ndarray, "z y x"], float]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mrcfile complains of headers that it can read all the same
            with mrcfile.open(path, permissive=True) as file:
                if file.data is None:
                    raise ValueError("damaged or truncated")
                density = np.asarray(file.data, dtype=np.float32)
                sizes = [float(file.voxel_size[axis]) for axis in "xyz"]
    except (OSError, ValueError, EOFError, RuntimeError) as error:
        raise FormatError(
            f"{path} cannot be read as a density map ({_gist(error)}); give an MRC or CCP4 file"
        ) from error
    if density.ndim != 3 or min(density.shape) < 3:
        raise FormatError(f"{path} has shape {density.shape}, which is not a volume; give a three-dimensional map")
    if not all(math.isfinite(size) and size > 0 for size in sizes) or max(sizes) > 1.01 * min(sizes):
        raise FormatError(
            f"{path} has voxel sizes {sizes} Å; write a positive one, the same along all axes, to its header"
        )
    return density, sizes[0]


def _read_model(path: Path) -> tuple[Float32[np.ndarray, "z y x"], float]:
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise FormatError(f"{path} cannot be read as an atomic model ({_gist(error)}); give PDB or mmCIF") from error
    structure.remove_waters()
    if len(structure) and structure.assemblies:
        structure.transform_to_assembly(structure.assemblies[0].name, gemmi.HowToNameCopiedChain.AddNumber)
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise FormatError(f"{path} holds no atoms; give a PDB or mmCIF file with coordinates")
    sites = [(*atom.atom.pos.tolist(), atom.atom.element.atomic_number * atom.atom.occ) for atom in structure[0].all()]
    table = np.array(sites)
    low = table[:, :3].min(axis=0) - 4 * _ATOM_SIGMA
    voxels = np.rint((table[:, 2::-1] - low[::-1]) / _ATOM_VOXEL).astype(np.int64)
    density = np.zeros(voxels.max(axis=0) + 4, dtype=np.float32)
    np.add.at(density, tuple(voxels.T), table[:, 3])
    return ndimage.gaussian_filter(density, _ATOM_SIGMA / _ATOM_VOXEL), _ATOM_VOXEL


def _gist(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
