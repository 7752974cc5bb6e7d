"""``deeppicker view``: draw picks over their micrograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deeppicker.cli._shared.types import Length, OptionalFile, OptionalPath, Probability
from deeppicker.config.limits import positive
from deeppicker.core import Picks, micrograph_key
from deeppicker.errors import InputError
from deeppicker.evaluation.agreement import Agreement, agree
from deeppicker.evaluation.figures import KINDS, kind_of
from deeppicker.evaluation.known import particle_diameter
from deeppicker.evaluation.results import EvaluateConfig, MicrographInfo
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.recorded import Recorded
from deeppicker.formats.text import is_file, one_line
from deeppicker.formats.writable import refuse_unwritable_file, refuse_unwritable_folder

_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw picks over their micrograph; with a reference, show right, false and missed picks.

    Of the output folder of `deeppicker pick`, draw the micrographs with the worst, the median and the best picks, and a
    contact sheet of the picks.
    """

    micrograph: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MICROGRAPH")]
    """The micrograph's image, or the output folder of a run."""
    picks: OptionalPath = None
    """File or folder of picks, in any supported format; not needed for a run."""
    overlay: OptionalPath = None
    """The picture to write: .png, .jpg, .pdf or .svg; of a run the folder for pictures."""
    montage: OptionalFile = None
    """Of a run: a contact sheet of the best picks, those at the threshold, what was rejected, and random ones."""
    all: bool = False
    """Of a run: draw all micrographs."""
    reference: OptionalFile = None
    """File or folder of reference particles."""
    diameter: Length = None
    """Particle diameter in Å; default: from the picks' run.json or the reference's dataset.json."""
    pixel_size: Length = None
    """Å per pixel; default: that of the run, of the STAR files, or of the image."""
    threshold: Probability = None
    """Least score of the picks to draw."""

    def __post_init__(self) -> None:
        positive(self, "diameter", "pixel_size")


def run(options: Options) -> int:
    """Draw the overlay, print the counts, and return the exit status.

    Raises
    ------
    DeepPickerError
        For input that cannot be used, output that cannot be written, or a missing diameter or pixel size.
    """
    if options.micrograph.is_dir():
        return _view_run(options)
    if options.picks is None or options.overlay is None or options.montage is not None or options.all:
        raise InputError("give --picks and --overlay for a micrograph; --montage and --all are for a run's folder")
    return _view(options, options.picks, options.overlay)


def _view_run(options: Options) -> int:
    from deeppicker.cli._shared.view_run import draw_montage, draw_overlays, open_run

    if options.picks is not None or options.reference is not None or options.threshold is not None:
        raise InputError("--picks, --reference and --threshold are for a single micrograph; give its image")
    if options.overlay is None and options.montage is None:
        raise InputError("--overlay or --montage must be given; see deeppicker view --help")
    if options.overlay is not None and options.overlay.suffix.lower().removeprefix(".") in KINDS:
        raise InputError(
            one_line(f"--overlay {options.overlay} is one picture, but a run has several; give a folder for them")
        )
    refuse_unwritable_file(options.montage)
    refuse_unwritable_folder(options.overlay)
    run = open_run(options.micrograph, options.diameter, options.pixel_size)
    if options.overlay is not None:
        drawn = draw_overlays(run, options.overlay, options.all)
        what = "all" if options.all else "worst to best: " + ", ".join(drawn)
        print(f"{len(drawn):,} of {len(run.items):,} micrographs ({what}) -> {options.overlay}")
    if options.montage is not None:
        draw_montage(run, options.montage)
        print(f"contact sheet -> {options.montage}")
    return 0


def _view(options: Options, source: Path, target: Path) -> int:
    from deeppicker.evaluation.overlays import overlay, overlay_agreement

    if not is_file(options.micrograph):
        raise InputError(one_line(f"{options.micrograph} does not exist; give a micrograph, or the folder of a run"))
    refuse_unwritable_file(target)
    kind = kind_of(target)
    key = micrograph_key(options.micrograph)
    diameter = particle_diameter(options.diameter, source, options.reference)
    config = EvaluateConfig(particle_diameter=diameter)
    sources = [path for path in (options.reference, source) if path is not None]
    contents = [read_picks(path) for path in sources]
    found = [_of(key, content, path) for content, path in zip(contents, sources, strict=True)]
    micrograph = read_micrograph(options.micrograph, pixel_size=_pixel_size(options, source, sources, contents))
    picks = _scored_above(found[-1], options.threshold, source)
    if options.reference is None:
        atomic_write(target, overlay(micrograph, picks, diameter, kind))
        print(f"{key}: {len(picks)} picks")
        return 0
    height, width = micrograph.image.shape
    info = MicrographInfo(pixel_size=micrograph.pixel_size, size=(height, width))
    agreement = agree(picks, found[0], info, config)
    atomic_write(target, overlay_agreement(micrograph, agreement, diameter, kind))
    print(f"{key}: {_summary(agreement)}")
    return 0


def _of(key: str, content: Sequence[Picks], path: Path) -> Picks:
    """Return the entry of one micrograph."""
    entry = next((item for item in content if item.key == key), None)
    if entry is not None:
        return entry
    names = [item.key for item in content]
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
    raise InputError(one_line(f"{path} does not hold micrograph '{key}'; it names {shown or 'none'}"))


def _scored_above(picks: Picks, threshold: float | None, path: Path) -> Picks:
    if threshold is None:
        return picks
    if len(picks) and not picks.has_scores:
        raise InputError(
            one_line(f"{path} has no scores, so --threshold {threshold:g} cannot be applied; leave it out")
        )
    return picks.where(picks.scores >= threshold)


def _pixel_size(
    options: Options, picks: Path, sources: Sequence[Path], contents: Sequence[Sequence[Picks]]
) -> float | None:
    """Return the pixel size given, of the run, or of the STAR files; None leaves it to the image's header."""
    size = options.pixel_size if options.pixel_size is not None else Recorded(picks).pixel_size
    if size is not None:
        return size
    key = micrograph_key(options.micrograph)
    for path, content in zip(sources, contents, strict=True):
        for entry in named_micrographs(path, content):
            if micrograph_key(entry.name) == key and entry.pixel_size is not None:
                return entry.pixel_size
    return None


def _summary(agreement: Agreement) -> str:
    agreed, false, missed = len(agreement.matched), len(agreement.false), len(agreement.missed)
    counts = f"{agreed + false} picks, {agreed + missed} references: {agreed} agree, {false} without reference, "
    rates = ""
    if agreed + false and agreed + missed:
        rates = f"; precision {agreed / (agreed + false):.3f}, recall {agreed / (agreed + missed):.3f}"
    return f"{counts}{missed} references missed, {len(agreement.left_out)} at the border left out{rates}"
