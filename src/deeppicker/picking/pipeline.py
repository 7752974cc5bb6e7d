"""The picking module of the paper (Fig. 1), its steps in order: scoring, cleaning, filtering, sorting."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from deeppicker.config import PickConfig
from deeppicker.core import Found, Micrograph, Picks, Prepared, ScoreMap
from deeppicker.networks.calibration import confidence
from deeppicker.networks.model import Model
from deeppicker.picking.borders import Borders, find_borders
from deeppicker.picking.clean import oversized, smooth
from deeppicker.picking.contrast import contrasts
from deeppicker.picking.peaks import extreme_fraction, find_peaks, unusual
from deeppicker.picking.prepare import box_pixels, prepare
from deeppicker.picking.score import score

JUNK = "contamination"
REGION = "region too large for a particle"
EXTREME = "extreme pixels"
EDGE = "cut by the edge"
_JUNK_THRESHOLD = 0.5  # probability
_TOUCHING = 0.25  # diameters; a centre closer to contamination than this belongs to a particle that is covered by it
_RAW_FLOOR = 0.005  # candidates below this score before calibration are not looked at


@dataclass(frozen=True)
class Ready:
    """All that picking needs of a micrograph; the image itself, which is larger, need not be kept.

    Parameters
    ----------
    name : str
        Of the micrograph.
    pixel_size : float
        Å per pixel.
    prepared : Prepared
        The image as the network sees it.
    borders : Borders
        Where it is blank.
    """

    name: str
    pixel_size: float
    prepared: Prepared
    borders: Borders

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the micrograph."""
        return len(self.borders.left), len(self.borders.top)


def pick_micrograph(micrograph: Micrograph, model: Model, diameter: float, config: PickConfig = PickConfig()) -> Picks:
    """Return all candidates of a micrograph above ``config.peaks.floor``, best first; see `find`."""
    return find(micrograph, model, diameter, config).candidates


def find(micrograph: Micrograph, model: Model, diameter: float, config: PickConfig = PickConfig()) -> Found:
    """Return candidates of a micrograph, what was rejected and why, and the mask of contamination.

    Parameters
    ----------
    micrograph : Micrograph
        Particles dark on a brighter background.
    model : Model
        The network and its preparation.
    diameter : float
        Particle diameter in Å.
    config : PickConfig
        Settings of the steps.

    Raises
    ------
    InputError
        If the diameter cannot be used.
    """
    return find_in(make_ready(micrograph, model, diameter), model, diameter, config)


def make_ready(micrograph: Micrograph, model: Model, diameter: float) -> Ready:
    """Return a micrograph ready for `find_in`; the rest is as in `find`."""
    prepared = prepare(micrograph, diameter, model.prepare)
    return Ready(micrograph.name, micrograph.pixel_size, prepared, find_borders(micrograph.image))


def find_in(ready: Ready, model: Model, diameter: float, config: PickConfig = PickConfig()) -> Found:
    """Return what `find` does, without the image."""
    prepared = ready.prepared
    box = box_pixels(diameter, ready.pixel_size, model.prepare)
    distance = 0.5 * (config.peaks.peak_window or model.network.peak_window) * box
    scores = score(model, prepared, config.score)
    places = smooth(scores, config.smooth * box)
    found = find_peaks(places, scores, distance, min(_RAW_FLOOR, config.peaks.floor), ready.name)
    contaminated = _contaminated(scores, _TOUCHING * diameter / ready.pixel_size)
    regions = oversized(places.logits, distance / places.grid.step, config.clean)
    margin = config.peaks.edge * diameter / ready.pixel_size
    tests = {
        EDGE: ~ready.borders.inside(found.positions, margin),
        JUNK: _under(contaminated, scores, found),
        REGION: _under(regions, scores, found),
    }
    plausible = ~np.any(list(tests.values()), axis=0)
    extreme = np.zeros(len(found), dtype=bool)
    extreme[plausible] = _extreme(found.where(plausible), prepared, model.prepare.window, config)
    tests[EXTREME] = extreme
    reason = np.full(len(found), "", dtype=object)
    for name, failed in reversed(tests.items()):  # the first test that fails gives the reason
        reason[failed] = name
    good = reason == ""
    calibrated = model.calibration(found.scores, confidence(found.scores[good]))
    found = replace(found, scores=calibrated)
    good_ones = found.where(good & (calibrated > config.peaks.floor))
    there = prepared.grid.indices(good_ones.positions)
    good_ones = replace(good_ones, contrast=contrasts(prepared.image, there, model.prepare.diameter_pixels))
    bad = ~good & found.inside(ready.shape)  # beyond the edge is a mirror image
    return Found(good_ones, found.where(bad), tuple(reason[bad].tolist()), contaminated | regions, scores.grid)


def _contaminated(scores: ScoreMap, margin: float) -> Bool[np.ndarray, "rows columns"]:
    """Return where contamination is, or closer than ``margin`` micrograph pixels."""
    if scores.junk is None or not (scores.junk > _JUNK_THRESHOLD).any():
        return np.zeros(scores.logits.shape, dtype=bool)
    distance = ndimage.distance_transform_edt(scores.junk <= _JUNK_THRESHOLD)
    return np.asarray(distance * scores.grid.step <= margin)


def _under(mask: Bool[np.ndarray, "rows columns"], scores: ScoreMap, found: Picks) -> Bool[np.ndarray, " n"]:
    """Return which positions lie on the mask."""
    columns, rows = np.rint(scores.grid.indices(found.positions)).astype(np.int64).T
    return np.asarray(mask[np.clip(rows, 0, mask.shape[0] - 1), np.clip(columns, 0, mask.shape[1] - 1)])


def _extreme(found: Picks, prepared: Prepared, window: int, config: PickConfig) -> Bool[np.ndarray, " n"]:
    """Return which candidates have unusually many extreme pixels in their window (Sections 2.1 and 4.5)."""
    fractions: Float[np.ndarray, " n"] = extreme_fraction(
        prepared, found.positions, window, config.peaks.extreme_sigmas
    )
    return unusual(fractions, found.scores, config.peaks.max_extreme)
