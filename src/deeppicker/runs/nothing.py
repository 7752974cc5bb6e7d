"""Why a run has no picks: what to try, and whether the particles have the other contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deeppicker.core import MicrographEntry
from deeppicker.errors import DeepPickerError
from deeppicker.networks.model import Model
from deeppicker.picking.diameter import can_estimate, combine
from deeppicker.picking.threshold import choose_threshold
from deeppicker.runs.diameter import Size
from deeppicker.runs.pick_job import LookJob, Picker
from deeppicker.runs.results import Row
from deeppicker.runs.session import Session, spread

_TRIED = 3  # micrographs that are picked with the other contrast
_FEWEST = 3.0  # expected particles in each that tell


def advice_on_nothing(
    session: Session, model: Model, size: Size, entries: Sequence[MicrographEntry], rows: Sequence[Row]
) -> str:
    """Return in one line that there are no picks, and what to try.

    Parameters
    ----------
    session : Session
        Of the run.
    model : Model
        As it was before the run learnt.
    size : Size
        The diameter that was used.
    entries : sequence of MicrographEntry
        The micrographs.
    rows : sequence of Row
        What became of them.
    """
    subject, select = session.config.subject, session.config.select
    threshold, found = select.threshold, any(row.candidates for row in rows)
    if select.filtered and found:
        return (
            "no candidate passes --min-contrast and --max-contrast, so the coordinate files are empty; choose other "
            "limits, or leave them out"
        )
    if threshold is not None and found:
        return (
            f"no candidate reaches --threshold {threshold:g}, so the coordinate files are empty; choose a lower one, "
            "or leave it out"
        )
    nothing = f"no particles{'' if size.estimated else f' of {size.value:g} Å'} were found, so the coordinate files are"
    if _opposite(session, model, size, entries):
        look, change = ("dark", "leave out") if subject.invert else ("bright", "add")
        return f"{nothing} empty; the particles look {look}: {change} --invert, and add --overwrite"
    if size.estimated:
        return f"{nothing} empty; if there are some, set --diameter (in Å)"
    other = " or leave it out," if can_estimate(model) else ""
    return f"{nothing} empty; if there are some, check --pixel-size and set another --diameter,{other} with --overwrite"


def _opposite(session: Session, model: Model, size: Size, entries: Sequence[MicrographEntry]) -> bool:
    """Return whether particles are found when dark and bright are exchanged."""
    source = replace(session.source, invert=not session.source.invert)
    chosen = spread(entries, _TRIED)
    try:
        diameter = size.value
        if can_estimate(model):
            look = LookJob(model, session.config.size, source, session.pool.threads)
            diameter = combine([look(entry) for entry in chosen], session.config.size).value
        picker = Picker(model, diameter, source, session.config.steps)
        scores = np.concatenate([picker.find(entry)[0].candidates.scores for entry in chosen])
    except DeepPickerError:  # what cannot be read was told already
        return False
    right = scores[scores >= choose_threshold(scores)].sum() if len(scores) else 0.0
    return bool(right >= _FEWEST * len(chosen))
