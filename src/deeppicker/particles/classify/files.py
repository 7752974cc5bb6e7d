"""The output folder of `deeppicker classify`, written whole or not at all.

Layout::

    DIR/classes.mrcs    the averages, best first; particles bright
    DIR/classes.png     the same as a picture, with number, members and quality
    DIR/classes.csv     what is known of each class
    DIR/particles.csv   class, rotation and shift of each pick
    DIR/kept/           with --reject: the picks of good classes, for `deeppicker adapt --picks` and RELION
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from deeppicker.core import Picks
from deeppicker.errors import InputError, OutputError
from deeppicker.formats.atomic import make_folder
from deeppicker.formats.recorded import AUTOPICK, PICKS, RUN, file_of
from deeppicker.formats.relion import star
from deeppicker.formats.text import one_line
from deeppicker.particles.classify.quality import Quality

KEPT = "kept"
_TILE = 112  # pixels of a class in the picture
_LABEL = 14  # pixels of the line under it
_COLUMNS = 10
_SHADES = (1.0, 99.7)  # percentiles that are drawn black and white


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is written; classes in the order of their numbers, from the best.

    Parameters
    ----------
    averages : float32 array, (classes, side, side)
        Particles bright.
    members : int array, (classes,)
        Number of picks.
    quality : Quality
        In the same order.
    least : float
        Quality below which a class is junk.
    pixel_size : float
        Å, of the averages.
    picks : sequence of Picks
        By micrograph.
    label : int array, (n,)
        Class of each pick, from 0, micrograph by micrograph.
    angle : float array, (n,)
        Degrees by which the average is turned, from x towards y.
    shift : float array, (n, 2)
        Å from the pick to the particle's centre, (x, y).
    probability, strength : float array, (n,)
        Of the class; agreement with the others in it.
    kept : bool array, (n,)
        Whether the pick is taken for a particle.
    """

    averages: Float32[np.ndarray, "classes side side"]
    members: Int[np.ndarray, " classes"]
    quality: Quality
    least: float
    pixel_size: float
    picks: Sequence[Picks]
    label: Int[np.ndarray, " n"]
    angle: Float[np.ndarray, " n"]
    shift: Float[np.ndarray, "n 2"]
    probability: Float[np.ndarray, " n"]
    strength: Float[np.ndarray, " n"]
    kept: Bool[np.ndarray, " n"]

    def kept_picks(self) -> list[Picks]:
        """Return the picks that are taken for particles, of every micrograph."""
        ends = np.cumsum([len(item) for item in self.picks])[:-1]
        return [item.where(keep) for item, keep in zip(self.picks, np.split(self.kept, ends), strict=True)]


def check(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something.

    Raises
    ------
    InputError
        If it does, and is not to be overwritten or was not written by this command.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (overwrite and (folder / "classes.csv").is_file())):
        raise InputError(
            one_line(f"{folder} already exists; choose another --output, or set --overwrite if it holds classes")
        )


def write(folder: Path, report: Report, settings: Mapping[str, object] | None) -> None:
    """Write the output folder; with ``settings`` (those that `deeppicker adapt` looks for) also the kept picks.

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
        _fill(new, folder, report, settings)
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


def _fill(new: Path, final: Path, report: Report, settings: Mapping[str, object] | None) -> None:
    with mrcfile.new(new / "classes.mrcs", report.averages) as file:
        file.set_image_stack()
        file.voxel_size = report.pixel_size
    quality = report.quality
    good = quality.quality >= report.least
    Image.fromarray(contact_sheet(report.averages, report.members, quality.quality, good)).save(new / "classes.png")
    columns = [report.members, quality.quality, quality.strength, quality.detail, quality.offset]
    columns += [quality.outside, quality.resolution]
    rows: Iterable[Sequence[object]] = (
        [number, int(values[0]), *(f"{value:.3f}" for value in values[1:]), "yes" if keep else "no"]
        for number, (keep, *values) in enumerate(zip(good, *columns, strict=True), start=1)
    )
    names = ("class", "members", "quality", "strength", "detail", "offset", "outside", "resolution_angstrom", "good")
    (new / "classes.csv").write_text(_table(names, rows), encoding="utf-8")
    (new / "particles.csv").write_text(_particles(report), encoding="utf-8")
    if settings is None:
        return
    kept = new / KEPT
    kept.mkdir()
    listed = []
    for item in report.kept_picks():
        file = file_of(kept, PICKS, item.micrograph)
        star.write_coordinates(file, item)
        listed.append((item.micrograph, str(final / KEPT / file.name)))
    star.write_autopick(kept / AUTOPICK, listed)
    (kept / RUN).write_text(json.dumps(dict(settings), indent=2) + "\n", encoding="utf-8")


def _particles(report: Report) -> str:
    names = ("micrograph", "x", "y", "score", "class", "rotation", "shift_x_angstrom", "shift_y_angstrom")
    places = [(item.micrograph, *xy, score) for item in report.picks for xy, score in _rows(item)]
    columns = (report.label, report.angle, report.shift, report.probability, report.strength, report.kept)
    rows: list[Sequence[object]] = []
    for (name, x, y, score), *found in zip(places, *columns, strict=True):
        label, angle, (dx, dy), probability, strength, keep = found
        place = (name, f"{x:.2f}", f"{y:.2f}", f"{score:.5f}")
        alignment = (label + 1, f"{angle:.2f}", f"{dx:.2f}", f"{dy:.2f}", f"{probability:.3f}", f"{strength:.2f}")
        rows.append((*place, *alignment, "yes" if keep else "no"))
    return _table((*names, "probability", "strength", "kept"), rows)


def _rows(item: Picks) -> list[tuple[list[float], float]]:
    return list(zip(item.positions.tolist(), item.scores.tolist(), strict=True))


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def contact_sheet(
    averages: Float32[np.ndarray, "classes side side"],
    members: Int[np.ndarray, " classes"],
    quality: Float[np.ndarray, " classes"],
    good: Bool[np.ndarray, " classes"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Return all averages that have members in one picture; green marks good classes, red junk."""
    shown = np.flatnonzero(members > 0)
    columns = min(_COLUMNS, max(1, len(shown)))
    rows = -(-max(1, len(shown)) // columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * (_TILE + _LABEL)))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for place, k in enumerate(shown.tolist()):
        left, top = place % columns * _TILE, place // columns * (_TILE + _LABEL)
        low, high = np.percentile(averages[k], _SHADES)
        grey = np.clip((averages[k] - low) / (high - low + 1e-12) * 255, 0, 255).astype(np.uint8)
        size = (_TILE - 2, _TILE - 2)
        sheet.paste(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC), (left + 1, top + 1))
        colour = (120, 230, 120) if good[k] else (255, 110, 110)
        draw.text((left + 3, top + _TILE), f"{k + 1}: {members[k]}, q {quality[k]:.2f}", fill=colour, font=font)
    return np.asarray(sheet)
