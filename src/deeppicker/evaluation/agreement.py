"""The agreement of picks with reference particles in one micrograph (rules: see `evaluation.evaluate`)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from deeppicker.core import Picks
from deeppicker.evaluation.matching import count_matches, greedy_hits, match, matching_gains, partners_of
from deeppicker.evaluation.ranking import Ranked, Rates, average_precision, rates_of
from deeppicker.evaluation.results import EvaluateConfig, MicrographInfo, MicrographResult


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


def evaluate_micrograph(
    picks: Picks, reference: Picks, info: MicrographInfo, config: EvaluateConfig, scored: bool
) -> tuple[MicrographResult, Ranked | None]:
    """Return the agreement in one micrograph and, if the picks are ``scored``, their ranking."""
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
