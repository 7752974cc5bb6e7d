"""How well picks agree with reference particles (paper, sections 4.4 and 2.2). NumPy and SciPy only.

The rules, all from the paper unless said otherwise:

* A pick agrees with a reference particle when their centres lie within 0.2 box of each other (inclusive);
  the box is 1.5 particle diameters. Agreement is one to one, so a second pick on one particle is false (the
  paper does not say).
* Picks and references closer than half a diameter to the edge of the micrograph are left out *before*
  matching, each by its own position: a pick just outside that zone is false even when its reference lies
  just inside it. That is simple, the same for every picker, and what our benchmarks of other programs do.
* Precision, recall and F1 come from a maximum matching; among maximum matchings, from one of least total
  distance, which also gives the centre error. A micrograph with references and no picks scores 0.
* The sweep over thresholds uses a maximum matching at every cut, so it agrees with the numbers above.
  Average precision follows the usual rule of object detection instead: from the highest score down, each
  pick takes the nearest reference that is still free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.agreement import evaluate_micrograph
from deeppicker.evaluation.ranking import (
    Ranked,
    Rates,
    average_precision,
    best_threshold,
    mean_rates,
    merge,
    picks_curve,
    rates_of,
)
from deeppicker.evaluation.results import DefocusBin, EvaluateConfig, Evaluation, MicrographInfo, MicrographResult

_RATES = ("precision", "recall", "f1", "average_precision", "centre_error")
_NAMES_SHOWN = 3


def evaluate_picks(
    picks: Sequence[Picks],
    reference: Sequence[Picks],
    config: EvaluateConfig,
    info: Mapping[str, MicrographInfo],
) -> Evaluation:
    """Compare picks with reference particles, micrograph by micrograph.

    Parameters
    ----------
    picks, reference : sequence of Picks
        At most one entry per micrograph each; micrographs are recognised by `micrograph_key`.
    config : EvaluateConfig
        Particle diameter and rules.
    info : mapping
        Pixel size, size and defocus of each micrograph of the reference, by `micrograph_key`.

    Raises
    ------
    InputError
        When the reference is empty, a micrograph occurs twice or has no pixel size, no micrograph of the
        picks is in the reference, or a threshold is asked of picks without scores.
    """
    picks_of = _by_key(picks, "picks")
    reference_of = _by_key(reference, "reference")
    keys = sorted(reference_of)
    _check(picks_of, reference_of, config, info)
    scored = any(picks_of[key].has_scores for key in keys if key in picks_of)
    outcomes = []
    for key in keys:
        found = picks_of.get(key) or Picks.unscored(reference_of[key].micrograph, np.zeros((0, 2)))
        outcomes.append(evaluate_micrograph(found, reference_of[key], info[key], config, scored))
    results = tuple(result for result, _ in outcomes)
    ranked = [r for _, r in outcomes if r is not None]
    merged = merge(ranked) if ranked else None
    chances = [result.chance for result in results if result.chance is not None]
    return Evaluation(
        config=config,
        micrographs=results,
        macro=mean_rates([result.rates for result in results]),
        intervals=_intervals([result.rates for result in results], config),
        pooled=_pooled(results, merged),
        chance=mean_rates(chances) if chances else None,
        best=best_threshold(ranked) if ranked else None,
        curve=picks_curve(merged) if merged else None,
        defocus=_defocus_bins(results, config.defocus_bin),
        notes=_notes(picks_of, reference_of, info, scored),
    )


def _by_key(entries: Sequence[Picks], what: str) -> dict[str, Picks]:
    by_key: dict[str, Picks] = {}
    for entry in entries:
        other = by_key.setdefault(entry.key, entry)
        if other is not entry:
            raise InputError(
                f"the {what} name micrograph '{entry.key}' twice ({other.micrograph}, {entry.micrograph}); "
                "give files in which every micrograph occurs once"
            )
    return by_key


def _check(
    picks: Mapping[str, Picks],
    reference: Mapping[str, Picks],
    config: EvaluateConfig,
    info: Mapping[str, MicrographInfo],
) -> None:
    if not reference:
        raise InputError("the reference names no micrographs; give a file with reference particles")
    if not set(picks) & set(reference):
        raise InputError(
            f"no micrograph of the picks ({_some(picks)}) is in the reference ({_some(reference)}); "
            "names must agree except for folder and extension"
        )
    for key in reference:
        if key not in info or not info[key].pixel_size > 0:
            raise InputError(f"the pixel size of micrograph '{key}' is not known; set --pixel-size")
    unscored = any(map(len, picks.values())) and not any(entry.has_scores for entry in picks.values())
    if config.threshold is not None and unscored:
        raise InputError(
            f"the picks have no scores, so the threshold {config.threshold:g} cannot be applied; leave it out"
        )


def _some(names: Mapping[str, Any] | Sequence[str]) -> str:
    shown = sorted(names)[:_NAMES_SHOWN]
    return (", ".join(shown) or "none") + (", …" if len(names) > len(shown) else "")


def _notes(
    picks: Mapping[str, Picks],
    reference: Mapping[str, Picks],
    info: Mapping[str, MicrographInfo],
    scored: bool,
) -> tuple[str, ...]:
    extra = [key for key in picks if key not in reference]
    without = [key for key in reference if key not in picks]
    unsized = [key for key in reference if info[key].size is None]
    notes = []
    if extra:
        notes.append(f"{len(extra)} micrographs with picks are not in the reference and are left out: {_some(extra)}")
    if without:
        notes.append(f"{len(without)} micrographs of the reference have no picks and count as 0: {_some(without)}")
    if unsized:
        notes.append(
            f"the size of {len(unsized)} micrographs is not known, so nothing is left out at their border "
            f"and they have no chance level; give the images with --micrographs: {_some(unsized)}"
        )
    if not scored:
        notes.append("average precision, curves and best threshold need picks with scores")
    return tuple(notes)


def _pooled(results: Sequence[MicrographResult], merged: Ranked | None) -> Rates:
    matched = sum(r.true_positives for r in results)
    rates = rates_of(sum(r.picks for r in results), sum(r.references for r in results), matched)
    errors = sum(r.rates.centre_error * r.true_positives for r in results if r.rates.centre_error is not None)
    precision = average_precision(merged.scores, merged.hits, merged.references) if merged else None
    return Rates(rates.precision, rates.recall, rates.f1, precision, errors / matched if matched else None)


def _intervals(rates: Sequence[Rates], config: EvaluateConfig) -> dict[str, tuple[float, float] | None]:
    """Return 95 % intervals of the mean over micrographs; None where fewer than two are defined."""
    generator = np.random.default_rng(config.seed)
    chosen = generator.integers(len(rates), size=(config.resamples, len(rates)))
    intervals: dict[str, tuple[float, float] | None] = {}
    for name in _RATES:
        values = np.array([getattr(r, name) for r in rates], dtype=np.float64)  # None becomes NaN
        defined = np.isfinite(values)
        counts = defined[chosen].sum(axis=1)
        sums = np.where(defined, values, 0.0)[chosen].sum(axis=1)
        means = sums[counts > 0] / counts[counts > 0]
        if defined.sum() < 2 or len(means) == 0:
            intervals[name] = None
            continue
        low, high = np.percentile(means, [2.5, 97.5])
        intervals[name] = (float(low), float(high))
    return intervals


def _defocus_bins(results: Sequence[MicrographResult], width: float) -> tuple[DefocusBin, ...]:
    members: dict[int, list[MicrographResult]] = {}
    for result in results:
        if result.defocus is not None and math.isfinite(result.defocus) and result.references:
            members.setdefault(math.floor(result.defocus / width), []).append(result)
    bins = []
    for index, group in sorted(members.items()):
        references = sum(r.references for r in group)
        recall = sum(r.true_positives for r in group) / references
        bins.append(DefocusBin(index * width, (index + 1) * width, len(group), references, recall))
    return tuple(bins)
