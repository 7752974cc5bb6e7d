"""``deeppicker convert``: coordinates from one program's format to another's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from deeppicker.cli._shared.types import Length, Probability, Where
from deeppicker.config.limits import positive
from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats import (
    find_micrographs,
    read_header,
    read_picks,
    write_picks,
)
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.coordinates.picks import FolderFormat
from deeppicker.formats.inputs import size_of
from deeppicker.formats.names import match_names, merge, without_uid
from deeppicker.formats.orientation import Orientation, turned
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.relion import star
from deeppicker.formats.text import is_file, one_line
from deeppicker.formats.writable import refuse_unwritable_file, refuse_unwritable_folder


@dataclass(frozen=True, kw_only=True)
class Options:
    """Convert particle coordinates between RELION, cryoSPARC, crYOLO, EMAN, Topaz, Gautomatch, Scipion and CSV.

    Extensions determine the formats: .star (RELION; Gautomatch if the name ends in _automatch.star), .cs (cryoSPARC),
    .cbox (crYOLO), .box (EMAN), _info.json (EMAN2), .pos (Scipion), .csv, .tsv or .txt (Topaz).
    """

    input: Annotated[Positional[Path], arg(metavar="INPUT")]
    """Coordinate file, or a folder of them (its autopick.star if it has one)."""

    output: Annotated[Positional[Path], arg(metavar="OUTPUT")]
    """File to write; without an extension, a folder with one file per micrograph (see --folder-format)."""

    pixel_size: Length = None
    """Å per pixel, for the optics table of a RELION particle file; default: from INPUT or --micrographs."""

    box_size: int | None = None
    """Width of the boxes in pixels; .box and .cbox files need it."""

    micrographs: Where = None
    """Images of the coordinates: a file, a folder, a quoted pattern, a STAR file, or cryoSPARC's .cs file of its
    micrographs. They provide the names in OUTPUT, the heights for --flip-y and the sizes for a .cs file."""

    flip_y: FlagCreatePairsOff[bool] = False
    """Count y from the other end of the image (CryoPPP counts from the bottom): y becomes height - 1 - y. Needs
    --micrographs, unless INPUT is a .cs file or names images that are there."""

    keep_y: FlagCreatePairsOff[bool] = False
    """Keep y even if the columns are CryoPPP's."""

    flip_x: FlagCreatePairsOff[bool] = False
    """Count x from the other end of the image; likewise. x becomes width - 1 - x."""

    swap_xy: FlagCreatePairsOff[bool] = False
    """Exchange x and y, before anything is flipped."""

    min_score: Probability = None
    """Leave out picks with a lower score or none."""

    folder_format: FolderFormat = "star"
    """Files in the folder: RELION's autopick.star and its coordinate files, EMAN's .box files, crYOLO's .cbox, EMAN2's
    _info.json, Scipion's .pos, or Gautomatch's _automatch.star."""

    uid_prefix: Literal["keep", "strip"] = "keep"
    """cryoSPARC's own names begin with 21 digits and an underscore: keep this prefix for cryoSPARC's import, or strip
    it for other programs. With --micrographs, names with and without them agree."""

    relion: Literal["3.0", "3.1"] = "3.1"
    """RELION version of a particle table in a .star file: 3.1, which later versions read, or 3.0, without optics
    groups."""


def run(options: Options) -> int:
    """Convert, print one line, and return the exit status.

    Raises
    ------
    DeepPickerError
        If a file or a combination of options cannot be used.
    """
    _check(options)
    (refuse_unwritable_file if options.output.suffix else refuse_unwritable_folder)(options.output)
    picks = read_picks(options.input, y_direction_known=options.flip_y or options.keep_y)
    entries = find_micrographs([str(options.micrographs)]) if options.micrographs else []
    matched = match_names(picks, entries)
    orientation = Orientation(options.swap_xy, options.flip_x, options.flip_y)
    sources = {**_sized(options.input), **matched}
    picks = [turned(item, orientation, sources.get(item.micrograph)) for item in picks]
    if options.min_score is not None:
        picks = _at_least(picks, options.min_score, options.input)
    sizes = _pixel_sizes(options, picks, matched) if options.output.suffix.lower() == ".star" else None
    named = [replace(item, micrograph=_new_name(item, matched, options.uid_prefix)) for item in picks]
    new_names = {old.micrograph: new.micrograph for old, new in zip(picks, named, strict=True)}
    if sizes is not None:
        sizes = {new_names[old]: size for old, size in sizes.items()}
    if options.relion == "3.0":
        star.write_particles_3_0(options.output, merge(named), sizes)
    else:
        write_picks(
            options.output,
            named,
            pixel_size=sizes,
            box_size=options.box_size,
            folder_format=options.folder_format,
            sizes=_image_sizes(options, picks, matched, new_names),
        )
    picked = _count(sum(map(len, named)), "pick")
    print(f"Wrote {picked} in {_count(len(named), 'micrograph')} to {options.output}")
    return 0


def _check(options: Options) -> None:
    if options.flip_y and options.keep_y:
        raise InputError("--flip-y and --keep-y exclude each other; set one of them")
    flips = options.flip_x or options.flip_y
    if flips and options.micrographs is None and not _sized(options.input):
        option, sides = ("--flip-y", "heights") if options.flip_y else ("--flip-x", "widths")
        raise InputError(f"{option} needs the {sides} of the images; set --micrographs")
    positive(options, "pixel_size", "box_size")
    if options.relion == "3.0" and options.output.suffix.lower() != ".star":
        raise InputError(one_line(f"--relion 3.0 is for a particle table; {options.output} is not a .star file"))


def _new_name(picks: Picks, matched: Mapping[str, MicrographEntry], uid_prefix: str) -> str:
    name = matched[picks.micrograph].name if picks.micrograph in matched else picks.micrograph
    return without_uid(name) if uid_prefix == "strip" else name


def _image_sizes(
    options: Options, picks: Sequence[Picks], matched: Mapping[str, MicrographEntry], new_names: Mapping[str, str]
) -> dict[str, MicrographSize]:
    """Return what a .cs file says about its micrographs, by their new names; of the images, else of INPUT."""
    if options.output.suffix.lower() != ".cs":
        return {}
    given = _sized(options.input)
    sizes = {}
    for item in picks:
        entry = matched.get(item.micrograph) or given.get(item.micrograph)
        if entry is not None:
            sizes[new_names[item.micrograph]] = size_of(entry)
    unknown = [name for name, size in sizes.items() if size.uid is None]
    if unknown:
        print(
            f"cryoSPARC's UID of {unknown[0]} is not known, so cryoSPARC cannot find the micrograph by it; give "
            "cryoSPARC's own names or .cs file of micrographs with --micrographs, or import a .star file",
            file=sys.stderr,
        )
    return sizes


def _at_least(picks: Sequence[Picks], min_score: float, path: Path) -> list[Picks]:
    if any(len(item) for item in picks) and not any(item.has_scores for item in picks):
        raise InputError(one_line(f"{path} has no scores; leave out --min-score"))
    return [item.where(item.scores >= min_score) for item in picks]


def _pixel_sizes(
    options: Options, picks: Sequence[Picks], matched: Mapping[str, MicrographEntry]
) -> dict[str, float] | None:
    """Return Å per pixel by micrograph, of the option, images, or INPUT; None, and say so, if one lacks."""
    if options.pixel_size is not None:
        return {item.micrograph: options.pixel_size for item in picks}
    named = {entry.name: entry for entry in _entries_of(options.input)}
    sizes = {}
    for item in picks:
        size = _pixel_size_of(matched.get(item.micrograph)) or _pixel_size_of(named.get(item.micrograph))
        if size is None:
            print(
                f"The pixel size of {item.micrograph} is not known, so {options.output} has no optics table; "
                "set --pixel-size if RELION 3.1 or later is to read it",
                file=sys.stderr,
            )
            return None
        sizes[item.micrograph] = size
    return sizes


def _pixel_size_of(entry: MicrographEntry | None) -> float | None:
    if entry is None or entry.pixel_size is not None:
        return entry.pixel_size if entry else None
    return read_header(entry.path).pixel_size if is_file(entry.path) else None


def _entries_of(path: Path) -> list[MicrographEntry]:
    """Return what INPUT and its run say about its micrographs; only STAR and .cs files name any."""
    try:
        return named_micrographs(path, ())
    except DeepPickerError:  # bare coordinates: no names, no pixel sizes
        return []


def _sized(path: Path) -> dict[str, MicrographEntry]:
    """Return by name the micrographs of INPUT whose size it says, or whose images are there."""
    return {entry.name: entry for entry in _entries_of(path) if entry.shape is not None or is_file(entry.path)}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
