"""Picks in files of every supported format: `read_picks` and `write_picks`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from deeppicker.core import Picks
from deeppicker.errors import FormatError, InputError
from deeppicker.formats import box, csv_table, star, topaz
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.names import distinct_keys, merge
from deeppicker.formats.text import files_in, is_file, one_line

FolderFormat = Literal["star", "box"]

_AUTOPICK = "autopick.star"
_SUPPORTED = ".star (RELION), .box (EMAN), .csv, .tsv or .txt (Topaz)"
# A .txt is as likely a note as a Topaz table, so a folder's count only if it has nothing better.
_FOLDER_KINDS = (".star", ".box", ".csv", ".tsv", ".txt")


def read_picks(path: str | Path, *, y_direction_known: bool = False) -> list[Picks]:
    """Read a coordinate file, or all those of a folder.

    Parameters
    ----------
    path : path
        The extension tells the format: ``.star``, ``.box``, ``.csv``, ``.tsv`` or ``.txt``. In a folder,
        ``autopick.star`` is preferred; otherwise all its coordinate files must be of one format.
    y_direction_known : bool
        Whether the user has said from which end y counts (see `csv_table.read`).

    Returns
    -------
    list of Picks
        One a micrograph, in order of first appearance.

    Raises
    ------
    FormatError
        If a file is not what its extension says.
    InputError
        If a file cannot be opened, or a folder holds no coordinate files or several kinds of them.
    """
    path = Path(path)
    if not os.path.isdir(path):  # noqa: PTH112 - False where Path.is_dir raises
        return _read_file(path, y_direction_known)
    if is_file(path / _AUTOPICK):
        return star.read(path / _AUTOPICK)
    return merge(item for file in _files_of(path) for item in _read_file(file, y_direction_known))


def write_picks(
    path: str | Path,
    picks: Sequence[Picks],
    *,
    pixel_size: float | Mapping[str, float] | None = None,
    box_size: int | None = None,
    folder_format: FolderFormat = "star",
) -> None:
    """Write picks in the format that the extension of ``path`` tells; without an extension, to a folder.

    Parameters
    ----------
    path : path
        ``.star``: one particles table; ``.box``: the picks of a single micrograph; ``.csv``; ``.tsv`` or
        ``.txt``: Topaz; none: a folder, created if need be, with one file a micrograph.
    picks : sequence of Picks
        In a single file a micrograph without picks leaves no trace; in a folder it has a file.
    pixel_size : float or mapping of str to float, optional
        Å per pixel, of all or by micrograph name; makes the optics groups of a particles table.
    box_size : int, optional
        In pixels, needed for ``.box``.
    folder_format : {"star", "box"}
        What a folder is filled with; ``star`` adds ``autopick.star``.

    Raises
    ------
    InputError
        If the format is unknown, cannot hold several micrographs, or needs a box size.
    OutputError
        If the files cannot be written.
    """
    path, picks = Path(path), merge(picks)
    match path.suffix.lower():
        case ".star":
            star.write_particles(path, picks, _by_name(picks, pixel_size))
        case ".csv":
            csv_table.write(path, picks)
        case ".tsv" | ".txt":
            topaz.write(path, picks)
        case ".box" if len(picks) == 1:
            box.write(path, picks[0], _known_box_size(box_size))
        case ".box":
            raise InputError(
                one_line(
                    f"{path}: a .box file holds one micrograph, not {len(picks)}; "
                    "give a folder as OUTPUT with --folder-format box"
                )
            )
        case "":
            _write_folder(path, picks, box_size, folder_format)
        case _:
            raise InputError(one_line(f"{path} has an unknown extension; write {_SUPPORTED}, or a folder without any"))


def _read_file(path: Path, y_direction_known: bool) -> list[Picks]:
    match path.suffix.lower():
        case ".star":
            return star.read(path)
        case ".box":
            return box.read(path)
        case ".csv":
            return csv_table.read(path, y_direction_known=y_direction_known)
        case ".tsv" | ".txt":
            return topaz.read(path)
    raise FormatError(one_line(f"{path} is no known coordinate file; supported are {_SUPPORTED}"))


def _files_of(folder: Path) -> list[Path]:
    files = files_in(folder)
    by_kind = {kind: [file for file in files if file.suffix.lower() == kind] for kind in _FOLDER_KINDS}
    notes = by_kind.pop(".txt")
    found = {kind: matches for kind, matches in by_kind.items() if matches}
    if len(found) > 1:
        raise InputError(one_line(f"{folder} holds {' and '.join(found)} files; give one kind, or a single file"))
    chosen = next(iter(found.values()), notes)
    if not chosen:
        raise InputError(one_line(f"{folder} holds no coordinate files; supported are {_SUPPORTED}"))
    return chosen


def _write_folder(folder: Path, picks: Sequence[Picks], box_size: int | None, folder_format: FolderFormat) -> None:
    distinct_keys(picks)
    if folder_format == "box":
        size = _known_box_size(box_size)
        make_folder(folder)
        for item in picks:
            box.write(folder / f"{item.key}.box", item, size)
        return
    make_folder(folder)
    files = [folder / f"{item.key}_autopick.star" for item in picks]
    for file, item in zip(files, picks, strict=True):
        star.write_coordinates(file, item)
    star.write_autopick(folder / _AUTOPICK, [(p.micrograph, str(f)) for f, p in zip(files, picks, strict=True)])


def _by_name(picks: Sequence[Picks], pixel_size: float | Mapping[str, float] | None) -> Mapping[str, float] | None:
    if pixel_size is None or isinstance(pixel_size, Mapping):
        return pixel_size
    return {item.micrograph: pixel_size for item in picks}


def _known_box_size(box_size: int | None) -> int:
    if box_size is None:
        raise InputError("a .box file needs the size of the boxes; set --box-size in pixels")
    return box_size
