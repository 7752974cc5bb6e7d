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

import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from deeppicker.core import Picks
from deeppicker.errors import InputError

_RATES = ("precision", "recall", "f1", "average_precision", "centre_error")
_CURVE_POINTS = 500
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
class Rates:
    """Fractions of 0-1, the centre error in boxes; None where a number is undefined."""

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    average_precision: float | None = None
    centre_error: float | None = None


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
class BestThreshold:
    """The one threshold with the highest mean F1: optimistic, as it was chosen with the reference in hand."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True)
class PicksCurve:
    """Precision and recall of the best-scored picks of the whole set against their number (Fig. 2c-e, 5c-e).

    Each field has one value per cut: the score of the lowest pick kept, the number of picks kept over the
    number of references, and the precision and recall of those picks, all micrographs together.
    """

    threshold: tuple[float, ...]
    ratio: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]


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
class _Ranked:
    """The picks of one micrograph from the highest score down, and whether each adds a true positive."""

    scores: Float[np.ndarray, " n"]
    gains: Bool[np.ndarray, " n"]
    hits: Bool[np.ndarray, " n"]
    references: int


@dataclass(frozen=True)
class _Inside:
    """The picks and references of one micrograph without the border zone; ``area`` is (x0, y0, x1, y1)."""

    picks: Picks
    reference: Picks
    radius: float
    area: tuple[float, float, float, float] | None


# --- matching -------------------------------------------------------------------------------------


def match(
    picks: Float[np.ndarray, "n 2"], reference: Float[np.ndarray, "m 2"], radius: float
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Pair picks and references one to one: as many pairs as possible, and then the closest.

    Parameters
    ----------
    picks, reference : float array, (n, 2) and (m, 2)
        Positions in one unit.
    radius : float
        Largest distance of a pair, inclusive, in the same unit.

    Returns
    -------
    pick_index, reference_index : int array, (k,)
        The pairs, by increasing ``pick_index``.
    """
    if len(picks) > len(reference):
        reference_index, pick_index = match(reference, picks, radius)
        order = np.argsort(pick_index)
        return pick_index[order], reference_index[order]
    first, second, distance = _neighbours(picks, reference, radius)
    if len(first) == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    # A full matching always exists once every pick may also take a stand-in reference of its own. Stand-ins
    # cost more than all true pairs together, so as few as possible are taken. Every pick takes exactly one
    # partner, so the 1 that keeps costs off zero (an edge of no weight is no edge) changes nothing.
    n, m = len(picks), len(reference)
    cost = np.concatenate([1.0 + distance / (radius or 1.0), np.full(n, n + 2.0)])
    rows = np.concatenate([first, np.arange(n)])
    columns = np.concatenate([second, m + np.arange(n)])
    graph = sparse.csr_array((cost, (rows, columns)), shape=(n, m + n))
    row, column = min_weight_full_bipartite_matching(graph)
    real = column < m
    return row[real].astype(np.intp), column[real].astype(np.intp)


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


def _neighbours(
    a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"], radius: float
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return all pairs within the radius: indices into ``a`` and ``b``, and the distance."""
    if len(a) == 0 or len(b) == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), np.zeros(0)
    reach = radius * (1 + 1e-9)  # a distance that equals the radius but for rounding is within it
    pairs = cKDTree(a).sparse_distance_matrix(cKDTree(b), reach, output_type="ndarray")
    return pairs["i"], pairs["j"], pairs["v"]


def _count_matches(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"], radius: float) -> int:
    """Return the size of a maximum matching; faster than `match` where the pairs do not matter."""
    first, second, _ = _neighbours(a, b, radius)
    graph = sparse.csr_array((np.ones(len(first)), (first, second)), shape=(len(a), len(b)))
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum()) if len(first) else 0


def _partners(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"], radius: float) -> list[list[int]]:
    """Return for each point of ``a`` the indices of ``b`` within the radius, nearest first."""
    first, second, distance = _neighbours(a, b, radius)
    order = np.lexsort((second, distance, first))
    ends = np.searchsorted(first[order], np.arange(len(a) + 1))
    near = second[order].tolist()
    return [near[start:end] for start, end in itertools.pairwise(ends.tolist())]


def _greedy_hits(partners: Sequence[Sequence[int]]) -> Bool[np.ndarray, " n"]:
    """Return for each pick, in this order, whether it finds a free reference; it takes the nearest."""
    taken: set[int] = set()
    hits = np.zeros(len(partners), dtype=bool)
    for i, near in enumerate(partners):
        free = next((j for j in near if j not in taken), None)
        if free is not None:
            taken.add(free)
            hits[i] = True
    return hits


def _matching_gains(partners: Sequence[Sequence[int]]) -> Bool[np.ndarray, " n"]:
    """Return for each pick, in this order, whether it enlarges the maximum matching of the picks so far.

    Their cumulative sum is the size of a maximum matching of the first 1, 2, … picks: one search each.
    """
    owner: dict[int, int] = {}  # reference -> pick
    held: dict[int, int] = {}  # pick -> reference
    closed: set[int] = set()  # references from which no free one can be reached, now or later
    gains = np.zeros(len(partners), dtype=bool)
    for start in range(len(partners)):
        came_from: dict[int, int] = {}  # reference -> pick from which the search reached it
        queue = [start]
        end: int | None = None
        while queue and end is None:
            pick = queue.pop()
            for j in partners[pick]:
                if j in closed or j in came_from:
                    continue
                came_from[j] = pick
                if j not in owner:
                    end = j
                    break
                queue.append(owner[j])
        if end is None:
            closed.update(came_from)
            continue
        gains[start] = True
        while end is not None:
            pick = came_from[end]
            before = held.get(pick)
            owner[end], held[pick] = pick, end
            end = before
    return gains


# --- one micrograph -------------------------------------------------------------------------------


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


def _rates(picks: int, references: int, matched: int | float) -> Rates:
    """Return precision, recall and F1 of counts: 0 for no picks, None where nothing was to be found."""
    if picks == 0 and references == 0:
        return Rates()
    precision = matched / picks if picks else 0.0
    recall = matched / references if references else None
    return Rates(precision, recall, 2 * matched / (picks + references))


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
        _count_matches(generator.uniform((x0, y0), (x1, y1), (picks, 2)), reference, inside.radius)
        for _ in range(config.chance_repeats)
    ]
    return _rates(picks, len(reference), float(np.mean(matched)))


def _rank(inside: _Inside) -> _Ranked:
    picks = inside.picks.sorted()
    partners = _partners(picks.positions, inside.reference.positions, inside.radius)
    scores = np.where(np.isfinite(picks.scores), picks.scores, -np.inf)  # no score counts as the lowest
    return _Ranked(scores, _matching_gains(partners), _greedy_hits(partners), len(inside.reference))


def _evaluate_micrograph(
    picks: Picks, reference: Picks, info: MicrographInfo, config: EvaluateConfig, scored: bool
) -> tuple[MicrographResult, _Ranked | None]:
    inside = _inside(picks, reference, info, config)
    ranked = _rank(inside) if scored else None
    kept = inside.picks
    if config.threshold is not None:
        kept = kept.where(kept.scores >= config.threshold)
    pick_index, reference_index = match(kept.positions, inside.reference.positions, inside.radius)
    offsets = kept.positions[pick_index] - inside.reference.positions[reference_index]
    rates = _rates(len(kept), len(inside.reference), len(pick_index))
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
            None if ranked is None else _average_precision(ranked.scores, ranked.hits, ranked.references),
            None if error is None else error * info.pixel_size / config.box,
        ),
        chance=_chance(inside, len(kept), reference.key, config),
        picks_at_border=len(picks) - len(inside.picks),
        references_at_border=len(reference) - len(inside.reference),
        pixel_size=info.pixel_size,
        defocus=info.defocus,
    )
    return result, ranked


# --- the ranking of the whole set -----------------------------------------------------------------


def _cuts(scores: Float[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Return the index of the last pick of each run of equal scores: only there can a threshold cut."""
    return np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.intp)


def _average_precision(scores: Float[np.ndarray, " n"], hits: Bool[np.ndarray, " n"], references: int) -> float | None:
    """Return the sum over cuts of precision × gain in recall, without interpolation; scores must descend."""
    if references == 0:
        return None
    cuts = _cuts(scores)
    found = np.cumsum(hits)[cuts]
    gained = np.diff(found, prepend=0)
    return float(np.sum(gained * found / (cuts + 1)) / references)


def _merge(ranked: Sequence[_Ranked]) -> _Ranked:
    """Return the ranking of the picks of all micrographs together."""
    scores = np.concatenate([r.scores for r in ranked])
    order = np.argsort(-scores, kind="stable")
    gains = np.concatenate([r.gains for r in ranked])[order]
    hits = np.concatenate([r.hits for r in ranked])[order]
    return _Ranked(scores[order], gains, hits, sum(r.references for r in ranked))


def _f1_steps(ranked: _Ranked) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return by how much each next pick changes the micrograph's F1, and the number of defined F1 values."""
    kept = np.arange(1, len(ranked.scores) + 1)
    f1 = 2 * np.cumsum(ranked.gains) / (kept + ranked.references)
    # A micrograph without references has no F1 until its first pick, which is false.
    return np.diff(f1, prepend=0.0), ((kept == 1) & (ranked.references == 0)).astype(float)


def _best_threshold(ranked: Sequence[_Ranked]) -> BestThreshold | None:
    """Return the threshold with the highest mean F1, the higher of equals; one pass over all picks."""
    scores = np.concatenate([r.scores for r in ranked])
    steps = [_f1_steps(r) for r in ranked]
    order = np.argsort(-scores, kind="stable")
    total = np.cumsum(np.concatenate([step for step, _ in steps])[order])
    defined = np.cumsum(np.concatenate([new for _, new in steps])[order])
    defined += sum(r.references > 0 for r in ranked)
    cuts = _cuts(scores[order])
    cuts = cuts[np.isfinite(scores[order][cuts])]
    if len(cuts) == 0:
        return None
    mean = total[cuts] / defined[cuts]
    best = int(np.argmax(np.round(mean, 12)))
    threshold = float(scores[order][cuts[best]])
    rates = [
        _rates(kept, r.references, int(r.gains[:kept].sum()))
        for r, kept in ((r, int((r.scores >= threshold).sum())) for r in ranked)
    ]
    mean_of = _macro(rates)
    return BestThreshold(threshold, mean_of.precision, mean_of.recall, mean_of.f1 or 0.0)


def _curve(merged: _Ranked) -> PicksCurve | None:
    cuts = _cuts(merged.scores)
    cuts = cuts[np.isfinite(merged.scores[cuts])]
    if merged.references == 0 or len(cuts) == 0:
        return None
    if len(cuts) > _CURVE_POINTS:
        cuts = cuts[np.round(np.linspace(0, len(cuts) - 1, _CURVE_POINTS)).astype(int)]
    found = np.cumsum(merged.gains)[cuts]
    columns = (
        merged.scores[cuts],
        (cuts + 1) / merged.references,
        found / (cuts + 1),
        found / merged.references,
    )
    return PicksCurve(*(tuple(column.tolist()) for column in columns))


# --- the whole set --------------------------------------------------------------------------------


def evaluate(
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
    merged = _merge(ranked) if ranked else None
    chances = [result.chance for result in results if result.chance is not None]
    return Evaluation(
        config=config,
        micrographs=results,
        macro=_macro([result.rates for result in results]),
        intervals=_intervals([result.rates for result in results], config),
        pooled=_pooled(results, merged),
        chance=_macro(chances) if chances else None,
        best=_best_threshold(ranked) if ranked else None,
        curve=_curve(merged) if merged else None,
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
    if config.threshold is not None and not any(entry.has_scores for entry in picks.values()):
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


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _macro(rates: Sequence[Rates]) -> Rates:
    return Rates(*(_mean([getattr(r, name) for r in rates]) for name in _RATES))


def _pooled(results: Sequence[MicrographResult], merged: _Ranked | None) -> Rates:
    matched = sum(r.true_positives for r in results)
    rates = _rates(sum(r.picks for r in results), sum(r.references for r in results), matched)
    errors = sum(r.rates.centre_error * r.true_positives for r in results if r.rates.centre_error is not None)
    precision = _average_precision(merged.scores, merged.hits, merged.references) if merged else None
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
