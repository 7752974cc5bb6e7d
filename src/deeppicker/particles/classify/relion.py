"""Class averages by RELION's relion_refine, where it is installed, from the same windows."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deeppicker.config import ClassifyConfig
from deeppicker.errors import InputError
from deeppicker.formats.relion import classes
from deeppicker.formats.text import one_line
from deeppicker.particles.classify.em import Alignment
from deeppicker.particles.classify.search import number_of_classes
from deeppicker.particles.classify.windows import BOX, MASK, Windows

_PROGRAM = "relion_refine"
_ITERATIONS = 25  # as the job Class2D
_REGULARISATION = 2  # likewise, --tau2_fudge


def classify(
    windows: Windows, diameter: float, config: ClassifyConfig
) -> tuple[Float[Tensor, "classes side side"], Alignment]:
    """Return RELION's class averages and alignment; its temporary files are removed.

    Parameters
    ----------
    windows : Windows
        The particles, phases flipped already, so RELION is not to correct anything.
    diameter : float
        Å.
    config : ClassifyConfig
        Number of classes, shifts and seed; the rest as in RELION's job Class2D.

    Raises
    ------
    InputError
        If RELION is not installed, or fails.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise InputError(f"{_PROGRAM} is not installed (not on the PATH); leave out --relion")
    pixel_size = BOX * diameter / config.side
    reach = max(1, math.ceil(config.shift * config.side / BOX))
    with tempfile.TemporaryDirectory(prefix="deeppicker-") as name:
        folder = Path(name)
        with mrcfile.new(folder / "windows.mrcs", windows.images) as file:
            file.set_image_stack()
            file.voxel_size = pixel_size
        classes.write_windows(folder / "windows.star", len(windows), config.side, pixel_size)
        number = number_of_classes(config, len(windows))
        arguments = (
            f"--o out/run --i windows.star --dont_combine_weights_via_disc --no_parallel_disc_io --preread_images "
            f"--pool 30 --pad 2 --iter {_ITERATIONS} --tau2_fudge {_REGULARISATION} "
            f"--particle_diameter {2 * MASK * diameter:.1f} --K {number} --flatten_solvent --zero_mask "
            f"--oversampling 1 --psi_step 12 --offset_range {reach} --offset_step 2 --norm --scale --j 2 "
            f"--random_seed {config.seed + 1}"
        )
        (folder / "out").mkdir()
        done = subprocess.run([program, *arguments.split()], cwd=folder, capture_output=True, text=True, check=False)
        last = f"out/run_it{_ITERATIONS:03d}"
        if done.returncode or not (folder / f"{last}_data.star").is_file():
            gist = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise InputError(one_line(f"{_PROGRAM} failed: {gist[0]}; leave out --relion"))
        found = classes.read_alignment(folder / f"{last}_data.star", pixel_size)
        with mrcfile.open(folder / f"{last}_classes.mrcs", permissive=True) as file:
            averages = np.array(file.data, dtype=np.float32)
    # RELION moves a particle by its origin, then turns it onto the average, counting psi from y towards x.
    return torch.from_numpy(averages), Alignment(
        torch.from_numpy(found.label),
        torch.from_numpy(-found.psi.astype(np.float32)),
        torch.from_numpy(-found.origin.astype(np.float32)),
        torch.from_numpy(found.probability.astype(np.float32)),
    )
