"""What RELION's pipeline exchanges with the folder of an External job: marks, output nodes, coordinates by folder."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from deeppicker.errors import DeepPickerError, OutputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.recorded import AUTOPICK, PICKS_SUFFIX
from deeppicker.formats.star_table import format_table, read_tables
from deeppicker.formats.text import one_line

ABORT_NOW = "RELION_JOB_ABORT_NOW"
SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{how}" for how in ("SUCCESS", "FAILURE", "ABORTED"))
COORDINATES = "coordinates"  # folder in that of the job, for RELION 3.1

_NODES = "RELION_OUTPUT_NODES.star"
_PIPELINE = "default_pipeline.star"
_NODE, _TYPE, _LABEL = "rlnPipeLineNodeName", "rlnPipeLineNodeType", "rlnPipeLineNodeTypeLabel"
_MICROGRAPH, _COORDINATE_FILE = "rlnMicrographName", "rlnMicrographCoordinates"
# The node type "coordinates" in the three ways that RELION had to write it (its src/pipeline_jobs.h).
_TYPE_3 = "2"
_LABEL_4 = "MicrographsCoords.star.relion.autopick"
_LABEL_5 = "MicrographCoordsGroup.star.relion.autopick"
_JOB = re.compile(r"^.+?/job\d{3}[^/]*/")  # what RELION takes off a micrograph's name before it looks for coordinates


def mark_exit(folder: Path, how: str | None) -> None:
    """Leave the mark that tells RELION how the job ended, and no other; None: none, as the job begins.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    for name in (SUCCESS, FAILURE, ABORTED):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    if how is not None:
        atomic_write(folder / how, "")


def relion_of(project: Path) -> int:
    """Return the version of RELION that a project folder belongs to: 3 (3.1), 4 or 5; the latest if that is unknown."""
    try:
        tables = {table.name: table for table in read_tables(project / _PIPELINE)}
    except DeepPickerError:
        return 5
    nodes = tables.get("pipeline_nodes")
    if nodes is None or len(nodes) == 0:
        return 5
    if _LABEL not in nodes:
        return 3
    return 5 if any("Group" in label for label in nodes.text(_LABEL)) else 4


def write_output_nodes(folder: str, version: int) -> None:
    """Tell RELION which of the job's files holds the picks.

    Parameters
    ----------
    folder : str
        Of the job, from the project folder and with a slash at its end, as RELION gives it.
    version : int
        Of RELION, see `relion_of`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    if version == 3:
        columns = {_NODE: [f"{folder}{COORDINATES}/coords_suffix{PICKS_SUFFIX}"], _TYPE: [_TYPE_3]}
    else:
        columns = {_NODE: [folder + AUTOPICK], _LABEL: [_LABEL_4 if version == 4 else _LABEL_5]}
    atomic_write(Path(folder) / _NODES, format_table("output_nodes", columns))


def lay_out(folder: Path, micrographs: str) -> list[str]:
    """Lay the coordinate files out as RELION 3.1 expects them: under the folders of the micrographs' own names.

    The files are links to those that ``autopick.star`` lists, or copies where the file system has no links.

    Parameters
    ----------
    folder : Path
        Of the job.
    micrographs : str
        The STAR file that the job was given.

    Returns
    -------
    list of str
        Micrographs left out because their names point out of the project folder.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    table = next(table for table in read_tables(folder / AUTOPICK) if table.name == "coordinate_files")
    root = make_folder(folder / COORDINATES)
    atomic_write(root / f"coords_suffix{PICKS_SUFFIX}", micrographs + "\n")
    left_out = []
    for name, file in zip(table.columns.get(_MICROGRAPH, []), table.columns.get(_COORDINATE_FILE, []), strict=True):
        place = coordinate_file(name)
        if ".." in Path(place).parts:
            left_out.append(name)
            continue
        _link(folder / Path(file).name, root / place.lstrip("/"))
    return left_out


def coordinate_file(micrograph: str) -> str:
    """Return where RELION 3.1 looks for a micrograph's coordinates, from the folder of all.

    >>> coordinate_file("MotionCorr/job002/Movies/mic_001.mrc")
    'Movies/mic_001_autopick.star'
    """
    name = _JOB.sub("", micrograph)
    return (name.rpartition(".")[0] or name) + PICKS_SUFFIX


def _link(target: Path, link: Path) -> None:
    relative = os.path.relpath(target, make_folder(link.parent))
    try:
        if link.is_symlink() and os.readlink(link) == relative:  # noqa: PTH115 - the text, not a path
            return
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(relative)
        except (NotImplementedError, PermissionError):
            shutil.copyfile(target, link)
    except OSError as error:
        raise OutputError(one_line(f"{link} cannot be written: {error.strerror or error}")) from error
