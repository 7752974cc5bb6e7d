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
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.evaluation.matching import count_matches, greedy_hits, match, matching_gains, partners_of
from deeppicker.evaluation.ranking import (
    BestThreshold,
    PicksCurve,
    Ranked,
    Rates,
    average_precision,
    best_threshold,
    mean_rates,
    merge,
    picks_curve,
    rates_of,
)

_RATES = ("precision", "recall", "f1", "average_precision", "centre_error")
_NAMES_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What counts as agreement, and what is left out."""

    particle_diameter: float
    """Å. Diameter of the particle; every length below follows from it."""
    box_diameters: float = 1.5
    """Particle diameters. Size of the box, the paper's sliding window (section 4.5: 180 pixels for TRPV1,
    about 1.5 of its diameters)."""
    match_boxes: float = 0.2
    """Boxes. A pick within this distance of a reference particle agrees with it (section 4.4)."""
    border: float | None = None
    """Å. Picks and references closer than this to the edge are left out; half a diameter when not given. The
    paper does not say; a particle nearer than that is cut by the edge, and experts label such or do not."""
    threshold: float | None = None
    """Score. Only picks scored at least this count in precision, recall and F1; the lower ones still count in
    average precision and the curves, which look at all thresholds. All picks when not given; the paper
    reports recall above 0.5 (Fig. 2b)."""
    resamples: int = 1000
    """Bootstrap resamples of the micrographs for the 95 % intervals."""
    chance_repeats: int = 20
    """How many sets of random picks the chance level averages over."""
    defocus_bin: float = 5000.0
    """Å. Width of a defocus range in the table of recall against defocus (Fig. 6a-c)."""
    seed: int = 0
    """Seed of the bootstrap and of the random picks."""

    def __post_init__(self) -> None:
        for name in ("particle_diameter", "box_diameters", "match_boxes", "defocus_bin"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; it must be a positive number")
        if self.border is not None and not (math.isfinite(self.border) and self.border >= 0):
            raise InputError(f"border is {self.border} Å; it must be 0 or more")

    @property
    def box(self) -> float:
        """Box size in Å."""
        return self.box_diameters * self.particle_diameter

    @property
    def match_radius(self) -> float:
        """Match radius in Å."""
        return self.match_boxes * self.box

    @property
    def border_angstrom(self) -> float:
        """Width in Å of the zone along the edge that is left out."""
        return self.particle_diameter / 2 if self.border is None else self.border


@dataclass(frozen=True, kw_only=True)
class MicrographInfo:
    """What the evaluation needs to know about one micrograph besides the particles."""

    pixel_size: float
    """Å per pixel."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; without it nothing is left out at the border, and chance is unknown."""
    defocus: float | None = None
    """Å, mean of both axes."""


@dataclass(frozen=True)
class MicrographResult:
    """The agreement in one micrograph; counts are those after the border zone is left out."""

    micrograph: str
    picks: int
    references: int
    true_positives: int
    rates: Rates
    chance: Rates | None
    picks_at_border: int
    references_at_border: int
    pixel_size: float
    defocus: float | None


@dataclass(frozen=True)
class DefocusBin:
    """Recall in the micrographs of one defocus range (Fig. 6a-c); ``low`` <= defocus < ``high``, in Å."""

    low: float
    high: float
    micrographs: int
    references: int
    recall: float


@dataclass(frozen=True)
class Evaluation:
    """The agreement of a set of picks with a reference.

    ``macro`` is the mean over micrographs, ``intervals`` its 95 % bootstrap intervals, ``pooled`` counts all
    micrographs as one, ``chance`` is the macro level of as many uniformly random picks.
    """

    config: EvaluateConfig
    micrographs: tuple[MicrographResult, ...]
    macro: Rates
    intervals: Mapping[str, tuple[float, float] | None]
    pooled: Rates
    chance: Rates | None
    best: BestThreshold | None
    curve: PicksCurve | None
    defocus: tuple[DefocusBin, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the whole evaluation for the json module; undefined numbers are None, never NaN."""
        derived = {
            "box_angstrom": self.config.box,
            "match_radius_angstrom": self.config.match_radius,
            "border_angstrom": self.config.border_angstrom,
        }
        cleaned: dict[str, Any] = _without_nan(asdict(self) | derived)
        return cleaned


@dataclass(frozen=True)
class Agreement:
    """Which picks and references of one micrograph agree, for pictures; each field holds positions (x, y)."""

    matched: Float[np.ndarray, "a 2"]
    false: Float[np.ndarray, "b 2"]
    missed: Float[np.ndarray, "c 2"]
    left_out: Float[np.ndarray, "d 2"]


@dataclass(frozen=True)
class _Inside:
    """The picks and references of one micrograph without the border zone; ``area`` is (x0, y0, x1, y1)."""

    picks: Picks
    reference: Picks
    radius: float
    area: tuple[float, float, float, float] | None


# --- one micrograph -------------------------------------------------------------------------------


def agree(picks: Picks, reference: Picks, info: MicrographInfo, config: EvaluateConfig) -> Agreement:
    """Sort picks, whatever their score, and references into matched, false, missed and left out."""
    inside = _inside(picks, reference, info, config)
    a, b = inside.picks.positions, inside.reference.positions
    pick_index, reference_index = match(a, b, inside.radius)
    near_edge = [points.positions[~_in_area(points.positions, inside.area)] for points in (picks, reference)]
    return Agreement(
        matched=a[pick_index],
        false=np.delete(a, pick_index, axis=0),
        missed=np.delete(b, reference_index, axis=0),
        left_out=np.concatenate(near_edge),
    )


def _in_area(
    positions: Float[np.ndarray, "n 2"], area: tuple[float, float, float, float] | None
) -> Bool[np.ndarray, " n"]:
    if area is None:
        return np.ones(len(positions), dtype=bool)
    low, high = np.array(area[:2]), np.array(area[2:])
    return np.asarray(((positions >= low) & (positions <= high)).all(axis=1))


def _inside(picks: Picks, reference: Picks, info: MicrographInfo, config: EvaluateConfig) -> _Inside:
    """Leave out the border zone, whose width is counted from the outer edge of the outermost pixels."""
    area = None
    if info.size is not None:
        border = config.border_angstrom / info.pixel_size - 0.5
        height, width = info.size
        area = (border, border, width - 1 - border, height - 1 - border)
    return _Inside(
        picks.where(_in_area(picks.positions, area)),
        reference.where(_in_area(reference.positions, area)),
        config.match_radius / info.pixel_size,
        area,
    )


def _chance(inside: _Inside, picks: int, key: str, config: EvaluateConfig) -> Rates | None:
    """Return the rates of as many uniformly random picks in the same area, seeded by the name."""
    if inside.area is None or config.chance_repeats == 0:
        return None
    x0, y0, x1, y1 = inside.area
    if x1 <= x0 or y1 <= y0:
        return None
    generator = np.random.default_rng([config.seed, zlib.crc32(key.encode())])
    reference = inside.reference.positions
    matched = [
        count_matches(generator.uniform((x0, y0), (x1, y1), (picks, 2)), reference, inside.radius)
        for _ in range(config.chance_repeats)
    ]
    return rates_of(picks, len(reference), float(np.mean(matched)))


def _rank(inside: _Inside) -> Ranked:
    picks = inside.picks.sorted()
    partners = partners_of(picks.positions, inside.reference.positions, inside.radius)
    scores = np.where(np.isfinite(picks.scores), picks.scores, -np.inf)  # no score counts as the lowest
    return Ranked(scores, matching_gains(partners), greedy_hits(partners), len(inside.reference))


def _evaluate_micrograph(
    picks: Picks, reference: Picks, info: MicrographInfo, config: EvaluateConfig, scored: bool
) -> tuple[MicrographResult, Ranked | None]:
    inside = _inside(picks, reference, info, config)
    ranked = _rank(inside) if scored else None
    kept = inside.picks
    if config.threshold is not None:
        kept = kept.where(kept.scores >= config.threshold)
    pick_index, reference_index = match(kept.positions, inside.reference.positions, inside.radius)
    offsets = kept.positions[pick_index] - inside.reference.positions[reference_index]
    rates = rates_of(len(kept), len(inside.reference), len(pick_index))
    error = float(np.linalg.norm(offsets, axis=1).mean()) if len(offsets) else None
    result = MicrographResult(
        micrograph=reference.micrograph,
        picks=len(kept),
        references=len(inside.reference),
        true_positives=len(pick_index),
        rates=Rates(
            rates.precision,
            rates.recall,
            rates.f1,
            None if ranked is None else average_precision(ranked.scores, ranked.hits, ranked.references),
            None if error is None else error * info.pixel_size / config.box,
        ),
        chance=_chance(inside, len(kept), reference.key, config),
        picks_at_border=len(picks) - len(inside.picks),
        references_at_border=len(reference) - len(inside.reference),
        pixel_size=info.pixel_size,
        defocus=info.defocus,
    )
    return result, ranked


# --- the whole set --------------------------------------------------------------------------------


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
        outcomes.append(_evaluate_micrograph(found, reference_of[key], info[key], config, scored))
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
        raise InputError("the reference names no micrograph; give a file with reference particles")
    if not set(picks) & set(reference):
        raise InputError(
            f"no micrograph of the picks ({_some(picks)}) is in the reference ({_some(reference)}); "
            "names must agree up to folder and extension"
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


def _without_nan(value: Any) -> Any:
    """Return a value of dicts, sequences and numbers with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return value
