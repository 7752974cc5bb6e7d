"""Settle the particle diameter of a run: given, known to the model, kept from the folder, or estimated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deeppicker.config import LEAST_COVERAGE, DiameterConfig
from deeppicker.core import MicrographEntry
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.networks.model import Model
from deeppicker.picking.diameter import Diameter, Evidence, can_estimate, combine
from deeppicker.runs.events import LOOKING, DiameterFound, Progressed, Warned
from deeppicker.runs.pick_job import LookJob
from deeppicker.runs.session import Session, spread

CHECKED = 3  # micrographs by which a diameter that is given is checked
_NOTICED = 1.3  # factor by which it must be wrong to be noticed
_SURE = 0.5  # confidence of the estimate


@dataclass(frozen=True)
class Size:
    """A diameter in Å, whether it was estimated just now, and whether particles are in sight."""

    value: float
    estimated: bool = False
    seen: bool = True


def micrographs_needed(session: Session, model: Model) -> int:
    """Return how many micrographs must be there before the diameter can be settled."""
    asked = _asked(session, model)
    return 1 if asked is not None or session.earlier_diameter() is not None else session.config.size.looked_at


def settle_diameter(session: Session, model: Model, entries: Sequence[MicrographEntry]) -> Size:
    """Return the diameter that is given, known, kept or estimated; tell what the micrographs show of it.

    Raises
    ------
    InputError
        If the diameter is not known and cannot be estimated.
    """
    asked, earlier = _asked(session, model), session.earlier_diameter()
    if earlier is not None and asked in (None, earlier):
        return Size(earlier)
    if asked is not None:
        _check(session, model, entries, asked)
        return Size(asked)
    if not can_estimate(model):
        raise InputError("this model cannot tell the particle diameter; set --diameter (in Å)")
    return _estimate(session, model, entries)


def _asked(session: Session, model: Model) -> float | None:
    given = session.config.subject.diameter
    return given if given is not None else model.diameter


def _check(session: Session, model: Model, entries: Sequence[MicrographEntry], given: float) -> None:
    """Warn if the micrographs clearly show particles of another diameter than the one given, in Å."""
    if not (0 < given < math.inf and can_estimate(model)):
        return
    config = replace(session.config.size, looked_at=min(CHECKED, session.config.size.looked_at))
    evidence, _ = _look(session, model, entries, config)
    warning = misfit(given, combine(evidence, config)) if evidence else None
    if warning:
        session.listener(Warned(f"warning: {warning}"))


def _estimate(session: Session, model: Model, entries: Sequence[MicrographEntry]) -> Size:
    config = session.config.size
    evidence, failures = _look(session, model, entries, config)
    if not evidence:
        raise InputError(f"the diameter cannot be estimated from any of {len(failures)} micrographs: {failures[0]}")
    found = combine(evidence, config)
    session.listener(DiameterFound(found.value, found.low, found.high, found.confidence, len(evidence)))
    if found.coverage >= LEAST_COVERAGE and found.confidence < _SURE:
        session.listener(Warned(f"warning: {unsure(found)}"))
    return Size(round(found.value, 1), True, found.coverage >= LEAST_COVERAGE)


def _look(
    session: Session, model: Model, entries: Sequence[MicrographEntry], config: DiameterConfig
) -> tuple[list[Evidence], list[DeepPickerError]]:
    """Return what some of the micrographs say of the diameter, and why others say nothing, in their order."""
    chosen = spread(entries, config.looked_at)
    pool = session.pool
    mapper = pool.mapper(LookJob(model, config, session.source, pool.threads))
    session.listener(Progressed(LOOKING, 0, len(chosen)))
    outcomes = {}
    for entry, outcome in mapper(pool.reachable(chosen)):
        outcomes[entry.name] = outcome
        session.listener(Progressed(LOOKING, len(outcomes), len(chosen)))
    in_order = [outcomes[entry.name] for entry in chosen]  # so that the sums do not depend on who was faster
    failures = [outcome for outcome in in_order if isinstance(outcome, DeepPickerError)]
    return [outcome for outcome in in_order if not isinstance(outcome, DeepPickerError)], failures


def unsure(found: Diameter) -> str:
    """Return what to do about an estimate (Å) that is rather wrong than right."""
    return (
        f"the diameter of {found.value:.0f} Å is uncertain; see with `deeppicker view` whether the circles fit the "
        f"particles, and if not, set --diameter to their longest side and --overwrite, such as "
        f"--diameter {found.low:.0f} or --diameter {found.high:.0f}"
    )


def misfit(given: float, found: Diameter) -> str | None:
    """Return a warning if micrographs clearly show particles of another diameter (Å) than the one given."""
    far = abs(math.log(found.value / given)) > math.log(_NOTICED)
    if not (far and found.coverage >= LEAST_COVERAGE and found.confidence > _SURE):
        return None
    return (
        f"--diameter {given:g} Å, but the particles look {found.value:.0f} Å large "
        f"({found.low:.0f}-{found.high:.0f} Å); leave it out to use that"
    )
