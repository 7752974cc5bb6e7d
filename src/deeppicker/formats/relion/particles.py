"""The particles table of extracted images, as RELION 3.1 writes it and later versions and cryoSPARC read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deeppicker.core import Picks
from deeppicker.formats.atomic import atomic_path
from deeppicker.formats.star_table import Table, format_rows, format_table, read_tables
from deeppicker.formats.text import number

_NAME, _GROUP, _GROUP_NAME = "rlnMicrographName", "rlnOpticsGroup", "rlnOpticsGroupName"
VOLTAGE, CS, AMPLITUDE_CONTRAST = "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"
_OPTICS = (VOLTAGE, CS, AMPLITUDE_CONTRAST)  # in each row before RELION 3.1
_PER_MICROGRAPH = {  # what RELION's extraction takes over, and what it fills in where a CTF is known
    "rlnDefocusU": None,
    "rlnDefocusV": None,
    "rlnDefocusAngle": None,
    "rlnCtfBfactor": "0.0",
    "rlnCtfScalefactor": "1.0",
    "rlnPhaseShift": "0.0",
    "rlnCtfMaxResolution": None,
    "rlnCtfFigureOfMerit": None,
    "rlnBeamTiltX": None,
    "rlnBeamTiltY": None,
}
_SIZES = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize", "rlnImagePixelSize")


@dataclass(frozen=True)
class Acquisition:
    """What a table of micrographs says of how one of them was taken: STAR columns and their values.

    Parameters
    ----------
    optics : mapping of str to str
        Of its optics group.
    ctf : mapping of str to str
        Of the micrograph itself.
    """

    optics: Mapping[str, str] = field(default_factory=dict)
    ctf: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """What RELION needs of the microscope and the table does not say."""
        return tuple(label for label in _OPTICS if label not in self.optics)

    def completed(self, microscope: Mapping[str, float | None]) -> Acquisition:
        """Return the same with settings of the microscope, by column, where the table does not say."""
        known = {label: number(value) for label, value in microscope.items() if value is not None}
        return replace(self, optics={**known, **self.optics})


@dataclass(frozen=True)
class Stack:
    """The extracted particles of a micrograph.

    Parameters
    ----------
    picks : Picks
        Their centres in the micrograph; the micrograph's name is that of the table.
    file : str
        The stack of their images in the same order, as RELION finds it from its project folder.
    pixel_size : float
        Of the micrograph, in Å.
    acquisition : Acquisition
        How it was taken, if known.
    """

    picks: Picks
    file: str
    pixel_size: float
    acquisition: Acquisition = Acquisition()


def read_acquisitions(path: Path) -> dict[str, Acquisition]:
    """Read what a STAR file of micrographs says of each, by name.

    Raises
    ------
    FormatError
        If it is not a STAR file, or an optics group is missing.
    InputError
        If it cannot be opened.
    """
    tables = read_tables(path)
    optics = next((table for table in tables if table.name == "optics"), None)
    table = next((table for table in tables if _NAME in table and table.name != "optics"), None)
    if table is None:
        return {}
    groups = _groups(optics) if optics is not None else {}
    labels = [label for label in _PER_MICROGRAPH if label in table]
    filled = [label for label, value in _PER_MICROGRAPH.items() if value is not None and label not in table]
    known = {}
    for row, name in enumerate(table.text(_NAME)):
        ctf = {label: table.columns[label][row] for label in labels}
        if "rlnDefocusU" in ctf:
            ctf |= {label: str(_PER_MICROGRAPH[label]) for label in filled}
        old = {label: table.columns[label][row] for label in _OPTICS if label in table}
        group = table.columns[_GROUP][row] if _GROUP in table else next(iter(groups), "")
        known[name] = Acquisition(groups.get(group, old), ctf)
    return known


def write_particles(path: Path, stacks: Iterable[Stack], box_size: int, side: int) -> int:
    """Write the table of all images, micrograph by micrograph; return their number.

    Parameters
    ----------
    path : Path
        The file.
    stacks : iterable of Stack
        Gone through twice: not an iterator.
    box_size, side : int
        Side of the windows in pixels of the micrograph, and of the images in their own.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    groups: dict[tuple[tuple[str, str], ...], str] = {}
    labels: dict[str, None] = {}
    for stack in stacks:
        key = _key(stack)
        given = dict(key).get(_GROUP)
        groups.setdefault(key, given if given is not None and given not in groups.values() else "")
        labels |= dict.fromkeys(_columns(stack, ""))
    free = (str(i) for i in range(1, len(groups) + len(groups) + 1) if str(i) not in groups.values())
    groups = {key: number or next(free) for key, number in groups.items()}
    total = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(_format_optics(groups, box_size, side))
        file.write(format_table("particles", dict.fromkeys(labels, ())).removesuffix("\n"))
        for stack in stacks:
            columns = _columns(stack, groups[_key(stack)])
            missing = {label: ["0.0"] * len(stack.picks) for label in labels if label not in columns}
            every = columns | missing
            file.write(format_rows({label: every[label] for label in labels}))
            total += len(stack.picks)
        file.write("\n")
    return total


def _groups(optics: Table) -> dict[str, dict[str, str]]:
    numbers = optics.columns.get(_GROUP, [str(i + 1) for i in range(len(optics))])
    return {
        number: {_GROUP: number} | {label: column[row] for label, column in optics.columns.items()}
        for row, number in enumerate(numbers)
    }


def _key(stack: Stack) -> tuple[tuple[str, str], ...]:
    """Return what distinguishes an optics group."""
    optics = {label: value for label, value in stack.acquisition.optics.items() if label not in _SIZES}
    return (*optics.items(), (_SIZES[1], number(stack.pixel_size)))


def _format_optics(groups: Mapping[tuple[tuple[str, str], ...], str], box_size: int, side: int) -> str:
    rows = []
    for key, group in groups.items():
        row = dict(key) | {_GROUP: group}
        row.setdefault(_GROUP_NAME, f"opticsGroup{group}")
        row[_SIZES[2]] = number(float(row[_SIZES[1]]) * box_size / side)
        row |= {"rlnImageSize": str(side), "rlnImageDimensionality": "2"}
        rows.append(row)
    labels = dict.fromkeys((_GROUP_NAME, _GROUP, *(label for row in rows for label in row)))
    return format_table("optics", {label: [row.get(label, "0") for row in rows] for label in labels})


def _columns(stack: Stack, group: str) -> dict[str, Sequence[str]]:
    picks, count = stack.picks, len(stack.picks)
    columns: dict[str, Sequence[str]] = {
        "rlnCoordinateX": [repr(x) for x in picks.positions[:, 0].tolist()],
        "rlnCoordinateY": [repr(y) for y in picks.positions[:, 1].tolist()],
    }
    if picks.has_scores:
        columns["rlnAutopickFigureOfMerit"] = [repr(score) for score in picks.scores.tolist()]
    columns["rlnImageName"] = [f"{i:06d}@{stack.file}" for i in range(1, count + 1)]
    columns[_NAME] = [picks.micrograph] * count
    columns[_GROUP] = [group] * count
    return columns | {label: [value] * count for label, value in stack.acquisition.ctf.items()}
