"""The output folder of `deeppicker classify`, written whole or not at all. No torch.

Layout::

    DIR/classes.mrcs    the averages, best first; particles bright
    DIR/classes.png     the same as a picture, with number, members and quality
    DIR/classes.csv     what is known of each class, and whether it is kept
    DIR/particles.csv   class, rotation and shift of each pick
    DIR/run.json        diameter and the like, for the commands that read particles.csv or kept
    DIR/kept/           with --reject, --keep or --drop: the picks of the classes that are kept
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import numpy as np
from PIL import Image

from deeppicker.core import Picks
from deeppicker.errors import FormatError, InputError, OutputError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.coordinates import csv_table
from deeppicker.formats.provenance import record_inputs
from deeppicker.formats.recorded import AUTOPICK, INPUTS, PICKS, RUN, file_of
from deeppicker.formats.relion import star
from deeppicker.formats.text import number, one_line
from deeppicker.particles.classify.results import Quality, Report
from deeppicker.particles.classify.sheet import contact_sheet

KEPT = "kept"
CLASSES, PICTURE, _PARTICLES, _AVERAGES = "classes.csv", "classes.png", "particles.csv", "classes.mrcs"
_OF_QUALITY = {  # columns of classes.csv, and what they hold
    "quality": "quality",
    "strength": "strength",
    "detail": "detail",
    "offset": "offset",
    "outside": "outside",
    "places": "places",
    "mass": "mass",
    "brightness": "brightness",
}
_RESOLUTION = "resolution_angstrom"  # with a mark where only the pixels set the limit
_LIMITED = "<"
_PARTICLE_COLUMNS = (
    *("micrograph", "x", "y", "score", "class", "rotation", "shift_x_angstrom", "shift_y_angstrom"),
    *("probability", "strength", "kept"),
)


def check(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something.

    Raises
    ------
    InputError
        If it does, and is not to be overwritten or was not written by this command.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (overwrite and (folder / CLASSES).is_file())):
        raise InputError(
            one_line(f"{folder} already exists; choose another --output, or set --overwrite if it holds classes")
        )


def write(folder: Path, report: Report, settings: Mapping[str, object], tables: Sequence[Path], *, kept: bool) -> None:
    """Write the output folder, with the settings that `deeppicker adapt` looks for, and perhaps with the kept picks.

    ``tables`` are the STAR files of the micrographs, if these are known.

    Raises
    ------
    OutputError
        If it cannot be written; what was there before is then still there.
    """
    with _replacing(folder) as new:
        with mrcfile.new(new / _AVERAGES, report.averages) as file:
            file.set_image_stack()
            file.voxel_size = report.pixel_size
        (new / RUN).write_text(json.dumps(dict(settings), indent=2) + "\n", encoding="utf-8")
        record_inputs(new, [str(table) for table in tables])
        _write_tables(new, report)
        if kept:
            (new / KEPT).mkdir()
            _write_kept(new / KEPT, folder / KEPT, report, new)


def choose_classes(folder: str | Path, *, keep: Collection[int] | None = None, drop: Collection[int] = ()) -> Report:
    """Choose by hand which classes are kept, in a finished folder of `deeppicker classify`; nothing is classified anew.

    The folder's ``kept``, tables and picture are written again. Each choice starts from the same classes, whatever was
    chosen before; only the last one counts.

    Parameters
    ----------
    folder : path
        The output folder.
    keep : collection of int, optional
        Numbers of the classes to keep, from 1 as in ``classes.png``. Default: those judged good.
    drop : collection of int
        Numbers of those that are not kept.

    Returns
    -------
    Report
        With ``chosen``, what is kept of the classes, and ``kept``, of the picks.

    Raises
    ------
    InputError
        If it is no such folder, there is no such class, or no pick would be left.
    OutputError
        If the folder cannot be written.
    """
    folder = Path(folder)
    report = read(folder).choosing(keep, drop)
    with _replacing(folder / KEPT) as new:
        _write_kept(new, folder / KEPT, report, folder)
    _write_tables(folder, report)
    return report


def read(folder: Path) -> Report:
    """Read what `write` has written.

    Raises
    ------
    InputError
        If the folder is not one of this command.
    FormatError
        If a file in it was changed or damaged.
    """
    missing = [name for name in (CLASSES, _PARTICLES, _AVERAGES, RUN) if not (folder / name).is_file()]
    if missing:
        raise InputError(one_line(f"{folder} has no {missing[0]}; give a finished folder of deeppicker classify"))
    try:
        return _read(folder)
    except (KeyError, ValueError, OSError) as error:
        raise FormatError(one_line(f"{folder} cannot be read as classes ({error}); classify again")) from error


def _read(folder: Path) -> Report:
    classes, particles = _columns(folder / CLASSES), _columns(folder / _PARTICLES)
    with mrcfile.open(folder / _AVERAGES, permissive=True) as file:
        averages, pixel_size = np.array(file.data, dtype=np.float32), float(file.voxel_size.x)
    quality = {field: np.array(classes[name], dtype=np.float64) for name, field in _OF_QUALITY.items()}
    quality["resolution"] = np.array([text.removeprefix(_LIMITED) for text in classes[_RESOLUTION]], dtype=np.float64)
    quality["limited"] = np.array([text.startswith(_LIMITED) for text in classes[_RESOLUTION]], dtype=bool)
    found = {name: np.array(particles[name], dtype=np.float64) for name in _PARTICLE_COLUMNS[4:10]}
    return Report(
        averages=averages.reshape(-1, *averages.shape[-2:]),
        members=np.array(classes["members"], dtype=np.int64),
        quality=Quality(**quality),
        good=np.array(classes["good"]) == "yes",
        chosen=np.array(classes["kept"]) == "yes",
        pixel_size=pixel_size,
        picks=csv_table.read(folder / _PARTICLES),
        label=found["class"].astype(np.int64) - 1,
        angle=found["rotation"],
        shift=np.column_stack([found["shift_x_angstrom"], found["shift_y_angstrom"]]),
        probability=found["probability"],
        strength=found["strength"],
    )


def _columns(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``folder`` at the end.

    Raises
    ------
    OutputError
        If it cannot be written; what was there before is then still there.
    """
    make_folder(folder.absolute().parent)
    mark = secrets.token_hex(4)
    new, old = (folder.absolute().with_name(f".{folder.name}-{mark}.{kind}") for kind in ("tmp", "old"))
    try:
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise OutputError(
            one_line(f"{folder} cannot be written: {error.strerror or error}; check free space")
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def _write_kept(new: Path, final: Path, report: Report, whole: Path) -> None:
    """Fill a folder that will be ``final`` with the kept picks, and with what the whole folder records."""
    listed = []
    for item in report.kept_picks():
        file = file_of(new, PICKS, item.micrograph)
        star.write_coordinates(file, item)
        listed.append((item.micrograph, str(final / file.name)))
    star.write_autopick(new / AUTOPICK, listed)
    for name in (RUN, INPUTS):
        if (whole / name).is_file():
            shutil.copyfile(whole / name, new / name)


def _write_tables(folder: Path, report: Report) -> None:
    """Write what depends on which classes are kept, except the picks."""
    picture = io.BytesIO()
    sheet = contact_sheet(report.averages, report.members, report.quality.quality, report.chosen)
    Image.fromarray(sheet).save(picture, "png")
    atomic_write(folder / PICTURE, picture.getvalue())
    atomic_write(folder / _PARTICLES, _table(_PARTICLE_COLUMNS, _particles(report)))
    columns = ("class", "members", *_OF_QUALITY, _RESOLUTION, "good", "kept")
    atomic_write(folder / CLASSES, _table(columns, _classes(report)))


def _classes(report: Report) -> Iterator[Sequence[object]]:
    values = np.column_stack([getattr(report.quality, field) for field in _OF_QUALITY.values()])
    for k, row in enumerate(values.tolist()):
        marks = ("yes" if mark[k] else "no" for mark in (report.good, report.chosen))
        yield (k + 1, report.members[k], *(f"{value:.3f}" for value in row), _resolution(report.quality, k), *marks)


def _resolution(quality: Quality, k: int) -> str:
    return f"{_LIMITED if quality.limited[k] else ''}{quality.resolution[k]:.2f}"


def _particles(report: Report) -> Iterator[Sequence[object]]:
    places = [(item.micrograph, *row) for item in report.picks for row in _places(item)]
    columns = (report.label, report.angle, report.shift, report.probability, report.strength, report.kept)
    for place, label, angle, (dx, dy), probability, strength, keep in zip(places, *columns, strict=True):
        alignment = (label + 1, f"{angle:.2f}", f"{dx:.2f}", f"{dy:.2f}", f"{probability:.3f}", f"{strength:.4f}")
        yield (*place, *alignment, "yes" if keep else "no")


def _places(item: Picks) -> Iterator[Sequence[str]]:
    for (x, y), score in zip(item.positions.tolist(), item.scores.tolist(), strict=True):
        yield number(x), number(y), number(score) if score == score else ""


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()
