"""Tell whether coordinates are flipped or swapped against their micrographs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from deeppicker.cli._shared.progress import track
from deeppicker.cli._shared.types import Length, Where
from deeppicker.config.limits import positive, within
from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.known import particle_diameter
from deeppicker.formats import find_micrographs, read_micrograph, read_picks
from deeppicker.formats.names import match_names
from deeppicker.formats.orientation import ORIENTATIONS
from deeppicker.formats.provenance import named_micrographs
from deeppicker.particles.orientation import Profiles, Verdict, judge, profiles

UNKNOWN = 3
"""Exit status if the orientation cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare the eight flips and swaps of coordinates by what the micrographs show at the picks.

    Programs count x and y from different corners, and some exchange them. In the right orientation, picks look alike
    and differ from random positions. Exit status 0 if the given one fits clearly best, 1 if another one does, 3 if
    that cannot be told.
    """

    coordinates: Annotated[Positional[Path], arg(metavar="COORDINATES")]
    """Coordinate file, or a folder of them."""

    micrographs: Where = None
    """Images of the coordinates: a file, a folder, a quoted pattern or a STAR file. Default: as named by the
    coordinates."""

    diameter: Length = None
    """Particle diameter in Å; it may be a third too large, or a fifth too small. Default: that of the run."""

    pixel_size: Length = None
    """Å per pixel; default: that of the run, from the STAR file or the image header."""

    most: int = 20
    """Largest number of micrographs to examine, spread over all."""


def run(options: Options) -> int:
    """Print the comparison; return 1 if another orientation fits clearly better, 3 if nothing can be told.

    Raises
    ------
    DeepPickerError
        If a file cannot be read, or there is nothing to compare.
    """
    positive(options, "diameter", "pixel_size")
    within(options, most=(1, math.inf))
    picks = [item for item in read_picks(options.coordinates, y_direction_known=True) if len(item)]
    diameter = particle_diameter(options.diameter, options.coordinates, None)
    matched = match_names(picks, _micrographs(options, picks))
    both = [(matched[item.micrograph], item) for item in picks if item.micrograph in matched]
    if not both:
        raise InputError(
            f"no micrograph in {options.micrographs or 'its own list'} belongs to coordinates in "
            f"{options.coordinates}; compare the names, or set --micrographs"
        )
    chosen = np.unique(np.linspace(0, len(both) - 1, options.most).round().astype(int)).tolist()
    looked_at = track([both[index] for index in chosen], "looking")
    measured = [_measure(entry, item, diameter, options.pixel_size) for entry, item in looked_at]
    verdict = judge(measured)
    _show(verdict)
    return _conclude(verdict, len(chosen))


def _micrographs(options: Options, picks: Sequence[Picks]) -> list[MicrographEntry]:
    if options.micrographs is not None:
        return find_micrographs([options.micrographs])
    named = named_micrographs(options.coordinates, picks)
    if not named:
        raise InputError(f"{options.coordinates} does not name its micrographs; set --micrographs")
    return named


def _measure(entry: MicrographEntry, picks: Picks, diameter: float, pixel_size: float | None) -> Profiles:
    size = pixel_size if pixel_size is not None else entry.pixel_size
    micrograph = read_micrograph(entry.path, name=entry.name, pixel_size=size)
    return profiles(micrograph, picks.positions, diameter, np.random.default_rng(0))


def _show(verdict: Verdict) -> None:
    table = Table("orientation", "contrast", "against chance", "outside", box=None)
    for index, orientation in enumerate(ORIENTATIONS):
        table.add_row(
            orientation.options or "as they are",
            f"{verdict.contrast[index]:.2f}",
            f"{verdict.against_chance[index]:.1f}",
            f"{100 * verdict.outside[index]:.0f} %",
            style="bold" if index in verdict.alike and verdict.certain else None,
        )
    Console().print(table, highlight=False)


def _conclude(verdict: Verdict, micrographs: int) -> int:
    """Say what follows; return the exit status."""
    seen = f"{verdict.number:,} picks in {micrographs:,} micrographs"
    if verdict.wrong:
        options = ORIENTATIONS[verdict.best].options
        print(
            f"warning: another orientation fits clearly better ({verdict.behind[0]:.1f} standard errors, {seen}); "
            f"correct the coordinates with: deeppicker convert {options} --micrographs ..."
        )
        return 1
    if verdict.right:
        print(f"the orientation is right ({seen})")
        return 0
    if not verdict.certain:
        print(f"cannot tell: no orientation has clearly more contrast than random positions ({seen})")
        return UNKNOWN
    alike = " and ".join(ORIENTATIONS[index].options or "as they are" for index in sorted({0, *verdict.alike}))
    print(f"cannot tell apart: {alike} ({seen}); are the coordinates symmetric? Give more micrographs")
    return UNKNOWN
