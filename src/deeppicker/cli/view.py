"""``deeppicker view``: draw picks over their micrograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from deeppicker.cli._shared.types import Length, OptionalFile, Probability
from deeppicker.config.limits import positive
from deeppicker.core import Picks, micrograph_key
from deeppicker.errors import InputError
from deeppicker.evaluation.agreement import Agreement, agree
from deeppicker.evaluation.known import particle_diameter
from deeppicker.evaluation.results import EvaluateConfig, MicrographInfo
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.recorded import Recorded
from deeppicker.formats.text import one_line

_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw picks over their micrograph as a PNG file; with a reference, show right, false and missed picks."""

    micrograph: tyro.conf.Positional[Path]
    """The micrograph's image."""
    picks: Path
    """File or folder of picks, in any supported format."""
    overlay: Path
    """The PNG file to write."""
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
    from deeppicker.evaluation.overlays import overlay, overlay_agreement

    key = micrograph_key(options.micrograph)
    diameter = particle_diameter(options.diameter, options.picks, options.reference)
    config = EvaluateConfig(particle_diameter=diameter)
    sources = [path for path in (options.reference, options.picks) if path is not None]
    contents = [read_picks(path) for path in sources]
    found = [_of(key, content, path) for content, path in zip(contents, sources, strict=True)]
    micrograph = read_micrograph(options.micrograph, pixel_size=_pixel_size(options, sources, contents))
    picks = _scored_above(found[-1], options.threshold, options.picks)
    if options.reference is None:
        atomic_write(options.overlay, overlay(micrograph, picks, diameter))
        print(f"{key}: {len(picks)} picks")
        return 0
    height, width = micrograph.image.shape
    info = MicrographInfo(pixel_size=micrograph.pixel_size, size=(height, width))
    agreement = agree(picks, found[0], info, config)
    atomic_write(options.overlay, overlay_agreement(micrograph, agreement, diameter))
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


def _pixel_size(options: Options, sources: Sequence[Path], contents: Sequence[Sequence[Picks]]) -> float | None:
    """Return the pixel size given, of the run, or of the STAR files; None leaves it to the image's header."""
    size = options.pixel_size if options.pixel_size is not None else Recorded(options.picks).pixel_size
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
