"""The truth of simulated micrographs as RELION STAR files: particles, and micrographs with all their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from deeppicker.core import Ctf
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.relion.defocus import ANGSTROM
from deeppicker.formats.star_table import format_table

_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


@dataclass(frozen=True, kw_only=True)
class SimulatedMicrograph:
    """What is known about a simulated micrograph.

    Parameters
    ----------
    name : str
        Its file, from the folder of the STAR files.
    pixel_size : float
        Å.
    ctf : Ctf
        Its defocus, and the microscope.
    positions : int array, (n, 2)
        Particle centres (x, y) in pixels.
    species : int array, (n,)
        Which particle it is, from 0.
    angles : float array, (n, 3)
        Rot, tilt and psi in degrees.
    parameters : mapping
        Everything else that was drawn.
    """

    name: str
    pixel_size: float
    ctf: Ctf
    positions: Int[np.ndarray, "n 2"]
    species: Int[np.ndarray, " n"]
    angles: Float[np.ndarray, "n 3"]
    parameters: Mapping[str, float | str]


def write_truth(folder: Path, micrographs: Sequence[SimulatedMicrograph]) -> None:
    """Write ``particles.star`` and ``micrographs.star``; each micrograph is an optics group of its own.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    numbered = list(enumerate(micrographs, start=1))
    optics = format_table("optics", _columns([_optics(number, item) for number, item in numbered]))
    particles = [row for number, item in numbered for row in _particles(number, item)]
    labels = [*_micrograph(0, micrographs[0]), "rlnCoordinateX", "rlnCoordinateY", "rlnClassNumber", *_ANGLES]
    atomic_write(
        folder / "particles.star",
        optics + format_table("particles", {label: [row[label] for row in particles] for label in labels}),
    )
    rows = [_micrograph(number, item) for number, item in numbered]
    drawn = [{"rlnMicrographName": item.name, **_drawn(item)} for item in micrographs]
    atomic_write(
        folder / "micrographs.star",
        optics + format_table("micrographs", _columns(rows)) + format_table("simulation", _columns(drawn)),
    )


def _optics(number: int, item: SimulatedMicrograph) -> dict[str, str]:
    return {
        "rlnOpticsGroupName": f"opticsGroup{number}",
        "rlnOpticsGroup": str(number),
        "rlnMicrographPixelSize": f"{item.pixel_size:.6f}",
        "rlnMicrographOriginalPixelSize": f"{item.pixel_size:.6f}",
        "rlnVoltage": f"{item.ctf.microscope.voltage:.1f}",
        "rlnSphericalAberration": f"{item.ctf.microscope.spherical_aberration:.2f}",
        "rlnAmplitudeContrast": f"{item.ctf.microscope.amplitude_contrast:.4f}",
    }


def _micrograph(number: int, item: SimulatedMicrograph) -> dict[str, str]:
    return {
        "rlnMicrographName": item.name,
        "rlnOpticsGroup": str(number),
        "rlnDefocusU": f"{ANGSTROM * item.ctf.defocus_u:.1f}",
        "rlnDefocusV": f"{ANGSTROM * item.ctf.defocus_v:.1f}",
        "rlnDefocusAngle": f"{item.ctf.angle:.2f}",
        "rlnPhaseShift": f"{item.ctf.microscope.phase_shift:.2f}",
    }


def _particles(number: int, item: SimulatedMicrograph) -> list[dict[str, str]]:
    return [
        {
            **_micrograph(number, item),
            "rlnCoordinateX": f"{x:.2f}",
            "rlnCoordinateY": f"{y:.2f}",
            "rlnClassNumber": str(kind + 1),
            **{label: f"{angle:.2f}" for label, angle in zip(_ANGLES, angles, strict=True)},
        }
        for (x, y), kind, angles in zip(
            item.positions.tolist(), item.species.tolist(), item.angles.tolist(), strict=True
        )
    ]


def _drawn(item: SimulatedMicrograph) -> dict[str, str]:
    return {
        f"deeppicker{key}": value if isinstance(value, str) else f"{value:.4f}"
        for key, value in item.parameters.items()
    }


def _columns(rows: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    return {label: [row[label] for row in rows] for label in rows[0]}
