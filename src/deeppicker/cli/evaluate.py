"""``deeppicker evaluate``: compare picks, of any program, with reference particles."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deeppicker.cli._shared.types import Length, OptionalFile, OptionalFolder, Probability, Where
from deeppicker.config.limits import positive
from deeppicker.core import MicrographEntry, Picks, micrograph_key
from deeppicker.evaluation.agreement import agree
from deeppicker.evaluation.evaluate import evaluate_picks
from deeppicker.evaluation.known import micrograph_info, particle_diameter
from deeppicker.evaluation.ranking import Rates
from deeppicker.evaluation.results import EvaluateConfig, Evaluation, MicrographInfo
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.inputs import find_micrographs
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.recorded import AUTOPICK, CANDIDATES, Recorded, file_of
from deeppicker.formats.relion import star
from deeppicker.formats.writable import refuse_unwritable_file, refuse_unwritable_folder

_ROWS_SHOWN = 24
_COLUMNS = ("Picks", "Ref.", "Agree", "Prec.", "Recall", "F1", "AP", "Error\n/ box", "Chance\nF1")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare picks with reference particles: precision, recall, F1, average precision, centre error.

    The picks may come from any program, in any supported format. A pick agrees with a reference particle when their
    centres lie within 0.2 box (0.3 diameters) of each other, one to one.
    """

    picks: Path
    """File or folder of the picks to judge."""
    reference: Path
    """File or folder of the reference particles. Only micrographs named here count."""
    diameter: Length = None
    """Particle diameter in Å; default: from the reference's dataset.json or the picks' run.json."""
    pixel_size: Length = None
    """Å per pixel, for all micrographs; default: from the STAR files or the micrographs."""
    micrographs: Where = None
    """Folder, pattern, file or STAR file of the micrographs: for their size and for overlays; default: as named in the
    STAR files."""
    threshold: Probability = None
    """Least score of the picks to judge; curves and average precision still use all."""
    border: Length = None
    """Leave out picks and references closer than this to the edge, in Å; default: half a diameter."""
    json: OptionalFile = None
    """Write all numbers to this JSON file."""
    plots: OptionalFolder = None
    """Draw curves, a histogram of the scores and overlays as PNG files in this folder (made if needed)."""
    overlays: int = 6
    """Number of micrographs to draw among the plots, evenly from the lowest F1 to the highest."""

    def __post_init__(self) -> None:
        positive(self, "diameter", "pixel_size")


def run(options: Options) -> int:
    """Evaluate, print the table, write what was asked for, and return the exit status.

    Raises
    ------
    DeepPickerError
        For input that cannot be used, output that cannot be written, or a missing diameter or pixel size.
    """
    refuse_unwritable_file(options.json)
    refuse_unwritable_folder(options.plots)
    picks, threshold = _all_candidates(options)
    reference = read_picks(options.reference)
    config = EvaluateConfig(
        particle_diameter=particle_diameter(options.diameter, options.picks, options.reference),
        border=options.border,
        threshold=threshold,
    )
    entries = _entries(options, picks, reference)
    size = options.pixel_size if options.pixel_size is not None else Recorded(options.picks).pixel_size
    info = {item.key: micrograph_info(entries.get(item.key, ()), size) for item in reference}
    known = {key: value for key, value in info.items() if value is not None}
    _warn_outside([*picks, *reference], known)
    evaluation = evaluate_picks(picks, reference, config, known)
    _print(evaluation, Console(width=None if sys.stdout.isatty() else 120, highlight=False))
    if options.json is not None:
        sources = {"picks": str(options.picks), "reference": str(options.reference)}
        numbers = sources | evaluation.to_json()
        atomic_write(options.json, json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if options.plots is not None:
        _draw_curves(evaluation, picks, make_folder(options.plots))
        _draw_overlays(evaluation, (picks, reference), entries, known, options)
    return 0


def _all_candidates(options: Options) -> tuple[list[Picks], float | None]:
    """Return all candidates that `deeppicker pick` stored, if it did, and the threshold that picks reach.

    Curves, average precision and the best threshold look at all candidates.
    """
    picks, recorded = read_picks(options.picks), Recorded(options.picks)
    if recorded.threshold is None or options.picks not in (recorded.folder, recorded.folder / AUTOPICK):
        return picks, options.threshold
    every = [_with_candidates(recorded.folder, item) for item in picks]
    return every, recorded.threshold if options.threshold is None else options.threshold


def _with_candidates(folder: Path, picks: Picks) -> Picks:
    path = file_of(folder, CANDIDATES, picks.micrograph)
    return replace(star.read_candidates(path)[0], micrograph=picks.micrograph) if path.is_file() else picks


def _warn_outside(picks: Sequence[Picks], info: Mapping[str, MicrographInfo]) -> None:
    for item in picks:
        size = info[item.key].size if item.key in info else None
        number = 0 if size is None else len(item.outside(size))
        if size is not None and number:
            pixels = f"{size[1]}×{size[0]} pixels"
            warnings.warn(
                f"{number} of {len(item)} positions in {item.micrograph} lie outside its {pixels}", stacklevel=2
            )


def _entries(options: Options, picks: Sequence[Picks], reference: Sequence[Picks]) -> dict[str, list[MicrographEntry]]:
    """Return by micrograph key what the reference, the picks and the images say, the most trusted first."""
    entries = named_micrographs(options.reference, reference) + named_micrographs(options.picks, picks)
    if options.micrographs is not None:
        entries += find_micrographs([options.micrographs])
    by_key: dict[str, list[MicrographEntry]] = {}
    for entry in entries:
        by_key.setdefault(micrograph_key(entry.name), []).append(entry)
    return by_key


# --- the table ----------------------------------------------------------------------------------


def _print(evaluation: Evaluation, console: Console) -> None:
    config = evaluation.config
    console.print(
        f"Particle diameter {config.particle_diameter:g} Å, match radius {config.match_radius:g} Å, "
        f"border {config.border_angstrom:g} Å"
        + (f", picks scored {config.threshold:g} or more" if config.threshold is not None else "")
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Micrograph", overflow="fold")
    for title in _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    _add_micrographs(table, evaluation)
    table.add_section()
    table.add_row("Mean over micrographs", "", "", "", *_numbers(evaluation.macro, evaluation.chance))
    for end, label in enumerate(("95 % interval from", "to")):
        ends = [None if pair is None else pair[end] for pair in evaluation.intervals.values()]
        table.add_row(f"  {label}", "", "", "", *("" if value is None else _number(value) for value in ends))
    counts = (
        sum(result.picks for result in evaluation.micrographs),
        sum(result.references for result in evaluation.micrographs),
        sum(result.true_positives for result in evaluation.micrographs),
    )
    table.add_row("All together", *(f"{count}" for count in counts), *_numbers(evaluation.pooled, None))
    if evaluation.chance is not None:
        table.add_row("As many random picks", "", "", "", *_numbers(evaluation.chance, None))
    console.print(table)
    if evaluation.best is not None:
        best = evaluation.best
        console.print(
            f"Best threshold {best.threshold:.4g}: F1 {best.f1:.3f}, precision {_number(best.precision)}, "
            f"recall {_number(best.recall)} (optimistic: chosen with the reference)"
        )
    for note in evaluation.notes:
        console.print(f"Note: {note}", markup=False)


def _add_micrographs(table: Table, evaluation: Evaluation) -> None:
    """Add one row per micrograph, or the lowest and the highest F1 where there are many."""
    results = list(evaluation.micrographs)
    half = _ROWS_SHOWN // 2
    hidden = len(results) - _ROWS_SHOWN
    if hidden > 0:
        results.sort(key=lambda result: result.rates.f1 or 0.0)
        results = results[:half] + results[-half:]
    for i, result in enumerate(results):
        if hidden > 0 and i == half:
            table.add_row(f"… {hidden} more, F1 between", *[""] * 9)
        counts = (result.picks, result.references, result.true_positives)
        name = escape(micrograph_key(result.micrograph))
        table.add_row(name, *(f"{count}" for count in counts), *_numbers(result.rates, result.chance))


def _numbers(rates: Rates, chance: Rates | None) -> list[str]:
    values = (rates.precision, rates.recall, rates.f1, rates.average_precision, rates.centre_error)
    return [_number(value) for value in values] + [_number(chance.f1) if chance else ""]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


# --- the pictures -------------------------------------------------------------------------------


def _draw_curves(evaluation: Evaluation, picks: Sequence[Picks], folder: Path) -> None:
    from deeppicker.evaluation import curves

    if evaluation.curve is not None:
        of_all = {"": evaluation.curve}
        atomic_write(folder / "precision_recall.png", curves.precision_recall_figure(of_all))
        atomic_write(folder / "picks_ratio.png", curves.picks_ratio_figure(of_all))
        scores = np.concatenate([item.scores for item in picks])
        atomic_write(folder / "scores.png", curves.score_histogram({"": scores}))
    if evaluation.defocus:
        atomic_write(folder / "recall_by_defocus.png", curves.defocus_figure(evaluation.defocus))


def _draw_overlays(
    evaluation: Evaluation,
    points: tuple[Sequence[Picks], Sequence[Picks]],
    entries: Mapping[str, Sequence[MicrographEntry]],
    info: Mapping[str, MicrographInfo],
    options: Options,
) -> None:
    """Draw some of the micrographs whose image is there, evenly from the lowest F1 to the highest."""
    from deeppicker.evaluation.overlays import overlay_agreement

    assert options.plots is not None
    picks, reference = ({item.key: item for item in side} for side in points)
    paths = {
        key: next((entry.path for entry in entries.get(key, ()) if entry.path.is_file()), None) for key in reference
    }
    ranked = sorted(evaluation.micrographs, key=lambda result: result.rates.f1 or 0.0)
    keys = [key for key in (micrograph_key(result.micrograph) for result in ranked) if paths[key] is not None]
    count = max(0, min(options.overlays, len(keys)))
    for index in np.round(np.linspace(0, len(keys) - 1, count)).astype(int).tolist():
        key = keys[index]
        path = paths[key]
        assert path is not None
        found = picks.get(key) or Picks.unscored(key, np.zeros((0, 2)))
        if evaluation.config.threshold is not None:
            found = found.where(found.scores >= evaluation.config.threshold)
        micrograph = read_micrograph(path, pixel_size=info[key].pixel_size)
        agreement = agree(found, reference[key], info[key], evaluation.config)
        picture = overlay_agreement(micrograph, agreement, evaluation.config.particle_diameter)
        atomic_write(options.plots / f"overlay_{key}.png", picture)
