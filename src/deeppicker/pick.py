"""The picking module of the paper (Fig. 1), its steps in order: scoring, cleaning, filtering, sorting."""

from __future__ import annotations

from deeppicker.clean import clean, smooth
from deeppicker.config import PeaksConfig, PickConfig
from deeppicker.core import Micrograph, Picks, Prepared
from deeppicker.model import Model
from deeppicker.peaks import extreme_fraction, find_peaks, unusual, within_edge
from deeppicker.prepare import box_pixels, prepare
from deeppicker.score import score


def pick(micrograph: Micrograph, model: Model, diameter: float, config: PickConfig = PickConfig()) -> Picks:
    """Return all candidates of a micrograph above ``config.peaks.floor``, best first.

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
    prepared = prepare(micrograph, diameter, model.prepare)
    box = box_pixels(diameter, micrograph.pixel_size, model.prepare)
    distance = 0.5 * config.peaks.peak_window * box
    scores = score(model, prepared, config.score)
    places = clean(smooth(scores, config.smooth * box), distance, config.clean)
    candidates = find_peaks(places, scores, distance, config.peaks.floor, micrograph.name)
    margin = config.peaks.edge * diameter / micrograph.pixel_size
    candidates = candidates.where(within_edge(candidates.positions, micrograph.image.shape, margin))
    return without_extremes(candidates, prepared, model.prepare.window, config.peaks)


def without_extremes(candidates: Picks, prepared: Prepared, window: int, config: PeaksConfig) -> Picks:
    """Return the candidates whose window does not hold unusually many extreme pixels (Sections 2.1 and 4.5)."""
    fractions = extreme_fraction(prepared, candidates.positions, window, config.extreme_sigmas)
    return candidates.where(~unusual(fractions, candidates.scores, config.max_extreme))
