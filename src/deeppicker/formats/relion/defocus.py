"""Contrast transfer of micrographs in files: RELION's STAR files and CTFFIND4's text, in; RELION's, out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from deeppicker.core import Ctf, Microscope, micrograph_key
from deeppicker.errors import FormatError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.star_table import Table, format_table, read_tables
from deeppicker.formats.text import files_in, number, one_line, read_text

_NAME = "rlnMicrographName"
_GROUP = "rlnOpticsGroup"
_U, _V, _ANGLE = "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"
_SHIFT, _FIT = "rlnPhaseShift", "rlnCtfFigureOfMerit"
_VOLTAGE, _ABERRATION, _AMPLITUDE = "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"
_SETTINGS = {  # of a `Microscope`
    "phase_shift": _SHIFT,
    "voltage": _VOLTAGE,
    "spherical_aberration": _ABERRATION,
    "amplitude_contrast": _AMPLITUDE,
}
_PIXEL_SIZES = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
POOR_FIT = 0.4
"""Correlation of rings and estimate below which an estimate of ours is unreliable (docs/classification.md)."""
_OURS = f"# deeppicker ctf: a rlnCtfFigureOfMerit below {POOR_FIT:g} is unreliable"  # other programs have other scales
ANGSTROM = 1e4
"""In a µm: RELION and CTFFIND4 give defocus in Å."""


def read(path: Path, microscope: Microscope = Microscope()) -> dict[str, Ctf]:
    """Return the contrast transfer by micrograph key.

    Parameters
    ----------
    path : Path
        A STAR file of micrographs or particles, a text file of CTFFIND4, or a folder of these texts.
    microscope : Microscope
        Its settings where the file does not tell.

    Raises
    ------
    FormatError
        If a file is not what its extension says, or tells no defocus.
    InputError
        If it cannot be opened.
    """
    if path.is_dir():
        texts = [file for file in files_in(path) if file.suffix == ".txt" and not file.stem.endswith("_avrot")]
        if not texts:
            raise FormatError(one_line(f"{path} holds no CTFFIND4 text files (.txt); give these, or a STAR file"))
        return dict(_read_text(file) for file in texts)
    if path.suffix.lower() == ".txt":
        return dict([_read_text(path)])
    found = _read_star(path, microscope)
    if not found:
        raise FormatError(one_line(f"{path} holds no defocus: needs {_NAME}, {_U} and {_V}; estimate it"))
    return found


def read_known(path: Path, microscope: Microscope = Microscope()) -> dict[str, Ctf]:
    """Return what a STAR file says of the contrast transfer, by micrograph key; empty if it says nothing."""
    return _read_star(path, microscope)


def known_in(tables: Iterable[Path]) -> dict[str, Ctf]:
    """Return what those of some tables say that are STAR files and there, by micrograph key; later ones count."""
    known: dict[str, Ctf] = {}
    for path in tables:
        if path.suffix.lower() == ".star" and path.is_file():
            known |= read_known(path)
    return known


def write(path: Path, rows: Sequence[tuple[str, float, Ctf]], *, ours: bool) -> None:
    """Write micrographs (name, pixel size in Å, contrast transfer) as RELION's CTF estimation does.

    Parameters
    ----------
    path : Path
        The file.
    rows : sequence of (str, float, Ctf)
        The micrographs.
    ours : bool
        Whether all were estimated by us, so that the file can say what a poor fit is.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    keys = [_optics_of(size, ctf.microscope) for _, size, ctf in rows]
    groups = {key: index for index, key in enumerate(dict.fromkeys(keys), start=1)}
    optics = {
        "rlnOpticsGroupName": [f"opticsGroup{index}" for index in groups.values()],
        _GROUP: [str(index) for index in groups.values()],
        **{label: [number(key[0]) for key in groups] for label in _PIXEL_SIZES},
        _VOLTAGE: [number(key[1]) for key in groups],
        _ABERRATION: [number(key[2]) for key in groups],
        _AMPLITUDE: [number(key[3]) for key in groups],
    }
    table = {
        _NAME: [name for name, _, _ in rows],
        _GROUP: [str(groups[key]) for key in keys],
        _U: [f"{ANGSTROM * item.defocus_u:.1f}" for _, _, item in rows],
        _V: [f"{ANGSTROM * item.defocus_v:.1f}" for _, _, item in rows],
        _ANGLE: [f"{item.angle:.2f}" for _, _, item in rows],
        "rlnCtfAstigmatism": [f"{ANGSTROM * (item.defocus_u - item.defocus_v):.1f}" for _, _, item in rows],
        _SHIFT: [f"{item.microscope.phase_shift:.2f}" for _, _, item in rows],
        _FIT: [f"{0.0 if math.isnan(item.fit) else item.fit:.4f}" for _, _, item in rows],
    }
    mark = f"{_OURS}\n" if ours else ""
    atomic_write(path, mark + format_table("optics", optics) + format_table("micrographs", table))


def _optics_of(pixel_size: float, microscope: Microscope) -> tuple[float, float, float, float]:
    """Return what distinguishes an optics group."""
    return pixel_size, microscope.voltage, microscope.spherical_aberration, microscope.amplitude_contrast


def _read_star(path: Path, microscope: Microscope) -> dict[str, Ctf]:
    tables = read_tables(path)
    least = POOR_FIT if read_text(path).startswith(_OURS) else 0.0
    optics = next((table for table in tables if table.name == "optics"), None)
    table = next((t for t in tables if t is not optics and all(label in t for label in (_NAME, _U, _V))), None)
    if table is None:
        return {}
    u, v = table.numbers(_U) / ANGSTROM, table.numbers(_V) / ANGSTROM
    settings = {field: _column(table, optics, label, getattr(microscope, field)) for field, label in _SETTINGS.items()}
    angles, fits = _column(table, optics, _ANGLE, 0.0), _column(table, optics, _FIT, math.nan)
    found: dict[str, Ctf] = {}
    for row, name in enumerate(table.text(_NAME)):
        key = micrograph_key(name)
        if key not in found:
            found[key] = Ctf(
                defocus_u=float(u[row]),
                defocus_v=float(v[row]),
                angle=angles[row],
                microscope=Microscope(**{field: column[row] for field, column in settings.items()}),
                fit=fits[row],
                reliable=not 0 < fits[row] < least,  # 0 where none was known
            )
    return found


def _column(table: Table, optics: Table | None, label: str, default: float) -> list[float]:
    if label in table:
        return [float(value) for value in table.numbers(label)]
    if optics is not None and label in optics:
        values = [float(value) for value in optics.numbers(label)]
        if _GROUP not in table:
            return [values[0]] * len(table)
        by_group = dict(zip(optics.text(_GROUP), values, strict=True))
        return [by_group.get(group, default) for group in table.text(_GROUP)]
    return [default] * len(table)


def _read_text(path: Path) -> tuple[str, Ctf]:
    """Read what CTFFIND4 writes for one micrograph."""
    text = read_text(path)
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        values = [float(value) for value in rows[0]]
        _, u, v, angle, shift, fit = values[:6]
        told = [re.search(rf"{what}: *([-+.0-9eE]+)", text) for what in ("voltage", "aberration", "amplitude contrast")]
        voltage, aberration, amplitude = (float(item[1]) for item in told if item is not None)
    except (IndexError, ValueError) as error:
        raise FormatError(
            one_line(f"{path} is not CTFFIND4 output ({error}); give its text of one micrograph, or a STAR file")
        ) from error
    given = re.search(r"Input file: *(.+?) *;", text)
    stem = re.sub(r"_(ctffind[34]|diagnostic|ctf)$", "", path.stem)
    return micrograph_key(given[1] if given else stem), Ctf(
        defocus_u=u / ANGSTROM,
        defocus_v=v / ANGSTROM,
        angle=angle,
        microscope=Microscope(
            voltage=voltage,
            spherical_aberration=aberration,
            amplitude_contrast=amplitude,
            phase_shift=math.degrees(shift),
        ),
        fit=fit,
    )
