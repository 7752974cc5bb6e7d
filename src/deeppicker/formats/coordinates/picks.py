"""Picks in files of every supported format: `read_picks` and `write_picks`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from deeppicker.core import Picks
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.coordinates import box, cbox, cryosparc, csv_table, eman_json, scipion, topaz
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.names import distinct_keys, merge
from deeppicker.formats.recorded import AUTOPICK, PICKS_SUFFIX, TABLES
from deeppicker.formats.relion import star
from deeppicker.formats.room import refuse_special
from deeppicker.formats.text import files_in, is_file, one_line

FolderFormat = Literal["star", "box", "cbox", "json", "pos", "automatch"]

_AUTOMATCH = "_automatch.star"
_SUPPORTED = (
    ".star (RELION, Gautomatch), .cs (cryoSPARC), .cbox (crYOLO), .box (EMAN), _info.json (EMAN2), .pos (Scipion), "
    ".csv, .tsv or .txt (Topaz)"
)
# A .txt is as likely a note as a Topaz table, so a folder's count only if it has nothing better.
_FOLDER_KINDS = (".star", ".cs", ".cbox", ".box", eman_json.SUFFIX, ".pos", ".csv", ".tsv", ".txt")
# What a folder's files are called after the micrograph's name.
_FOLDER_SUFFIXES: dict[FolderFormat, str] = {
    "star": PICKS_SUFFIX,
    "automatch": _AUTOMATCH,
    "box": ".box",
    "cbox": ".cbox",
    "json": eman_json.SUFFIX,
    "pos": ".pos",
}


def read_picks(path: str | Path, *, y_direction_known: bool = False) -> list[Picks]:
    """Read a coordinate file, or all those of a folder.

    Parameters
    ----------
    path : path
        The extension tells the format: ``.star``, ``.cs``, ``.cbox``, ``.box``, ``.json``, ``.pos``, ``.csv``,
        ``.tsv`` or ``.txt``. In a folder, ``autopick.star`` is preferred, then ``particles.star``, then Gautomatch's
        ``_automatch.star`` files (not those it has rejected); otherwise all its coordinate files must be of one format.
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
    for table in TABLES:
        if is_file(path / table):
            return star.read(path / table)
    return merge(item for file in _files_of(path) for item in _read_file(file, y_direction_known))


def write_picks(
    path: str | Path,
    picks: Sequence[Picks],
    *,
    pixel_size: float | Mapping[str, float] | None = None,
    box_size: int | None = None,
    folder_format: FolderFormat = "star",
    sizes: Mapping[str, MicrographSize] | None = None,
) -> None:
    """Write picks in the format that the extension of ``path`` tells; without an extension, to a folder.

    Parameters
    ----------
    path : path
        ``.star``: one particles table, but Gautomatch's coordinates if the name ends in ``_automatch.star``;
        ``.cs``: cryoSPARC; ``.csv``; ``.tsv`` or ``.txt``: Topaz; ``.box``, ``.cbox``, ``.json``, ``.pos``: the
        picks of a single micrograph; none: a folder, created if need be, with one file a micrograph.
    picks : sequence of Picks
        In a single file of many micrographs, one without picks leaves no trace; in a folder it has a file.
    pixel_size : float or mapping of str to float, optional
        Å per pixel, of all or by micrograph name; makes the optics groups of a particles table.
    box_size : int, optional
        In pixels, needed for ``.box`` and ``.cbox``.
    folder_format : {"star", "box", "cbox", "json", "pos", "automatch"}
        What a folder is filled with; ``star`` adds ``autopick.star``.
    sizes : mapping of str to MicrographSize, optional
        By micrograph name, needed for ``.cs``.

    Raises
    ------
    InputError
        If the format is unknown, cannot hold several micrographs, or needs a box size or sizes of micrographs.
    OutputError
        If the files cannot be written.
    """
    path, picks = Path(path), merge(picks)
    kind = path.suffix.lower()
    match kind:
        case ".star" if path.name.lower().endswith(_AUTOMATCH) and len(picks) == 1:
            atomic_write(path, star.coordinates_text(picks[0]))
        case ".star":
            star.write_particles(path, picks, _by_name(picks, pixel_size))
        case ".cs":
            cryosparc.write(path, picks, sizes or {})
        case ".csv":
            csv_table.write(path, picks)
        case ".tsv" | ".txt":
            topaz.write(path, picks)
        case ".box" | ".cbox" | ".json" | ".pos" if len(picks) == 1:
            atomic_write(path, _text(kind, path, picks[0], box_size))
        case ".box" | ".cbox" | ".json" | ".pos":
            raise InputError(
                one_line(
                    f"{path}: a {kind} file holds one micrograph, not {len(picks)}; "
                    f"give a folder as OUTPUT with --folder-format {kind[1:]}"
                )
            )
        case "":
            _write_folder(path, picks, box_size, folder_format)
        case _:
            raise InputError(
                one_line(f"{path} has an unknown extension; write {_SUPPORTED}, or a folder (no extension)")
            )


def _read_file(path: Path, y_direction_known: bool) -> list[Picks]:
    readers = {
        ".star": star.read,
        ".cs": cryosparc.read,
        ".cbox": cbox.read,
        ".box": box.read,
        ".json": eman_json.read,
        ".pos": scipion.read,
        ".tsv": topaz.read,
        ".txt": topaz.read,
    }
    kind = path.suffix.lower()
    if kind == ".csv":
        return csv_table.read(path, y_direction_known=y_direction_known)
    if kind in readers:
        return readers[kind](path)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names too long
        raise InputError(one_line(f"{path} does not exist; give a coordinate file, or a folder of them"))
    refuse_special(path)
    raise FormatError(one_line(f"{path} is not a known coordinate file; supported are {_SUPPORTED}"))


def _files_of(folder: Path) -> list[Path]:
    files = files_in(folder)
    by_kind = {kind: [file for file in files if file.name.lower().endswith(kind)] for kind in _FOLDER_KINDS}
    notes = by_kind.pop(".txt")
    by_kind[".star"] = [file for file in by_kind[".star"] if file.name.endswith(_AUTOMATCH)] or by_kind[".star"]
    found = {kind: matches for kind, matches in by_kind.items() if matches}
    if len(found) > 1:
        raise InputError(one_line(f"{folder} holds {' and '.join(found)} files; give one kind, or a single file"))
    chosen = next(iter(found.values()), notes)
    if not chosen:
        below = next((path for table in TABLES for path in sorted(folder.glob(f"*/{table}"))), None)
        hint = f"supported are {_SUPPORTED}" if below is None else f"give a folder in it, such as {below.parent}"
        raise InputError(one_line(f"{folder} holds no coordinate files; {hint}"))
    if len(by_kind[".cs"]) > 1:  # cryoSPARC writes the same particles several times
        raise InputError(one_line(f"{folder} holds {len(chosen)} .cs files; give the one with the picks"))
    return chosen


def _write_folder(folder: Path, picks: Sequence[Picks], box_size: int | None, folder_format: FolderFormat) -> None:
    """Write one file a micrograph; all of them are made before the first is written."""
    distinct_keys(picks)
    suffix = _FOLDER_SUFFIXES[folder_format]
    files = [folder / f"{item.key}{suffix}" for item in picks]
    texts = [_text(suffix, file, item, box_size) for file, item in zip(files, picks, strict=True)]
    contents = dict(zip(files, texts, strict=True))
    if folder_format == "star":
        rows = [(item.micrograph, str(file)) for file, item in zip(files, picks, strict=True)]
        contents[folder / AUTOPICK] = star.autopick_text(rows)
    make_folder(folder)
    for file, text in contents.items():
        atomic_write(file, text)


def _text(suffix: str, path: Path, picks: Picks, box_size: int | None) -> str:
    """Return the file of one micrograph's picks."""
    match suffix:
        case ".box":
            return box.text_of(picks, _known_box_size(box_size, suffix))
        case ".cbox":
            return cbox.text_of(picks, _known_box_size(box_size, suffix))
        case ".pos":
            return scipion.text_of(picks)
        case ".json" | eman_json.SUFFIX:
            return eman_json.text_of(picks, path)
    return star.coordinates_text(picks)


def _by_name(picks: Sequence[Picks], pixel_size: float | Mapping[str, float] | None) -> Mapping[str, float] | None:
    if pixel_size is None or isinstance(pixel_size, Mapping):
        return pixel_size
    return {item.micrograph: pixel_size for item in picks}


def _known_box_size(box_size: int | None, suffix: str) -> int:
    if box_size is None:
        raise InputError(f"a {suffix} file needs the size of the boxes; set --box-size in pixels")
    return box_size
