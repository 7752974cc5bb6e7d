"""Corrected picks as files: automatic ones that stay, and manual ones, told apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeppicker.config import SelectConfig
from deeppicker.core import Picks, box_size
from deeppicker.errors import InputError
from deeppicker.formats import MicrographSize, write_picks
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.coordinates.picks import FolderFormat
from deeppicker.gui.edits import REMOVED
from deeppicker.gui.project import Project
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.state import read_state

CORRECTED = "corrected"
_KINDS = ("all", "automatic", "manual", "removed")
_FILES = ("star", "cs", "csv", "tsv")
_FOLDERS: dict[str, FolderFormat] = {
    "relion": "star", "box": "box", "cbox": "cbox", "json": "json", "pos": "pos", "automatch": "automatch"
}  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """What to export.

    Parameters
    ----------
    what : str
        ``all`` picks, the ``automatic`` ones that stay, the ``manual`` ones, or what was ``removed``.
    format : str
        The extension of a file, or the name of a folder's format.
    box_size : int
        In pixels, for formats that need one; 0 for 1.5 diameters.
    complete : bool
        Only micrographs that are marked as complete.
    """

    what: str
    format: str
    box_size: int = 0
    complete: bool = False

    def __post_init__(self) -> None:
        if self.what not in _KINDS or self.format not in (*_FILES, *_FOLDERS):
            raise InputError(
                f"{self.what} as {self.format} cannot be exported; "
                f"choose one of {', '.join(_KINDS)} as one of {', '.join((*_FILES, *_FOLDERS))}"
            )


def export(project: Project, wish: Wish, folder: Path) -> Path:
    """Write picks of all micrographs into a folder, and return the file; a ZIP archive if there are many."""
    picks = list(_picks(project, wish))
    if not picks:
        raise InputError("there are no micrographs to export")
    name = f"{project.folder.resolve().name}-{wish.what}"
    box = wish.box_size or _box_size(project)
    headers = {item.micrograph: project.header(project.index(item.key)) for item in picks}
    known = {key: header.pixel_size for key, header in headers.items() if header.pixel_size is not None}
    sizes = known if len(known) == len(headers) else None
    if wish.format in _FOLDERS:
        target = folder / name
        write_picks(target, picks, pixel_size=sizes, box_size=box, folder_format=_FOLDERS[wish.format])
        return Path(shutil.make_archive(str(target), "zip", folder, name))
    target = folder / f"{name}.{wish.format}"
    shapes = {key: MicrographSize(h.height, h.width, h.pixel_size) for key, h in headers.items()}
    write_picks(target, picks, pixel_size=sizes, box_size=box, sizes=shapes if wish.format == "cs" else None)
    return target


def save(project: Project) -> Path:
    """Write the corrected picks into the run folder, as RELION reads them; by origin too. Return the folder.

    ``corrected`` has the layout of other coordinate folders; ``corrected/manual`` and ``corrected/removed`` tell what
    was done by hand, and ``corrected/complete.json`` in which micrographs all particles are picked.
    """
    folder = make_folder(project.writable / CORRECTED)
    indices = range(len(project.entries))
    final = [project.final(index, project.select) for index in indices]
    write_picks(folder, [together(kept, manual) for kept, manual in final])
    write_picks(folder / "manual", [manual for _, manual in final])
    write_picks(folder / "removed", list(_picks(project, Wish("removed", "star"))))
    complete = [project.entries[index].name for index in indices if project.marks(index).complete]
    about = {"complete": complete, "diameter": project.diameter, "threshold": project.threshold}
    atomic_write(folder / "complete.json", json.dumps(about, indent=1) + "\n")
    return folder


def apply(project: Project, select: SelectConfig) -> None:
    """Rewrite the files of a run with another selection of its candidates as picks.

    Raises
    ------
    InputError
        If there is no run.
    """
    state = read_state(project.folder)
    if state is None or project.wanted.picks is not None:
        raise InputError("only the threshold of a run can be changed; export these picks instead")
    folder = RunFolder(project.folder, state.settings, select)
    folder.finish([row.micrograph for row in folder.rows])


def _picks(project: Project, wish: Wish) -> Iterator[Picks]:
    for index, entry in enumerate(project.entries):
        marks = project.marks(index)
        if wish.complete and not marks.complete:
            continue
        if wish.what == "removed":
            yield Picks.unscored(entry.name, marks.positions(REMOVED))
            continue
        kept, manual = project.final(index, project.select)
        yield {"all": together(kept, manual), "automatic": kept, "manual": manual}[wish.what]


def together(kept: Picks, manual: Picks) -> Picks:
    """Return both; manual picks are those without a score."""
    positions = np.concatenate([kept.positions, manual.positions])
    return Picks(kept.micrograph, positions, np.concatenate([kept.scores, manual.scores]))


def _box_size(project: Project) -> int | None:
    size = project.header(0).pixel_size
    return box_size(project.diameter, size) if size and project.diameter else None
