"""What `deeppicker pick` and `deeppicker watch` have in common: the model, the diameter, the run folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deeppicker.cli._shared.show import Show
from deeppicker.cli._shared.types import Length
from deeppicker.config import DEFAULT_MODEL, LEAST_COVERAGE, DiameterConfig
from deeppicker.core import MicrographEntry
from deeppicker.errors import DeepPickerError, InputError

if TYPE_CHECKING:
    from deeppicker.networks.model import Model
    from deeppicker.parallel.staff import Staff
    from deeppicker.picking.diameter import Diameter
    from deeppicker.runs.pick_job import Source

CHECKED = 3  # micrographs by which a diameter that is given is checked
_NOTICED = 1.3  # factor by which it must be wrong to be noticed
_SURE = 0.5  # confidence of the estimate


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is picked, and how."""

    diameter: Length = None
    """Particle diameter in Å. Default: that of the model, if it was trained on one molecule, or of the picks in the
    output folder; else it is estimated from some of the micrographs."""

    pixel_size: Length = None
    """Å per pixel; default: what the STAR file or the image header says."""

    model: str = DEFAULT_MODEL
    """Name of a model in the package, or a model file."""

    invert: bool = False
    """The particles are bright on a darker background."""


class Size(NamedTuple):
    """A diameter in Å, whether it was estimated just now, and whether particles are in sight."""

    value: float
    estimated: bool = False
    seen: bool = True


def kept_diameter(subject: Subject, model: Model, earlier: float | None) -> Size | None:
    """Return the diameter of the picks in the run folder, in Å, unless another one is asked for."""
    asked = next((d for d in (subject.diameter, model.diameter) if d is not None), earlier)
    return Size(earlier) if earlier is not None and asked == earlier else None


def settle_diameter(
    subject: Subject, config: DiameterConfig, model: Model, entries: Sequence[MicrographEntry], crew: tuple[Staff, Show]
) -> Size:
    """Return the diameter that is given, known or estimated; say what the micrographs show of it.

    Parameters
    ----------
    subject : Subject
        May give the diameter.
    config : DiameterConfig
        How it is estimated.
    model : Model
        May know it, or can estimate it.
    entries : sequence of MicrographEntry
        The micrographs.
    crew : (Staff, Show)
        Who looks at the micrographs, and who tells of it.

    Raises
    ------
    InputError
        If the diameter is not known and cannot be estimated.
    """
    from deeppicker.picking.diameter import can_estimate, combine
    from deeppicker.runs.pick_job import LookJob, Source

    staff, show = crew
    known = subject.diameter if subject.diameter is not None else model.diameter
    if known is not None and not (0 < known < math.inf and can_estimate(model)):
        return Size(known)
    if not can_estimate(model):
        raise InputError("this model cannot tell the particle diameter; set --diameter (in Å)")
    if known is not None:
        config = replace(config, looked_at=min(CHECKED, config.looked_at))
    chosen = [entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, config.looked_at).round().astype(int))]
    job = LookJob(model, config, Source(subject.pixel_size, subject.invert), staff.threads)
    with staff.hire(job) as each:
        pairs = show.track(each(staff.reach(chosen)), "looking for the particle diameter", len(chosen))
        outcomes = {entry.name: outcome for entry, outcome in pairs}
    in_order = [outcomes[entry.name] for entry in chosen]  # so that the sums do not depend on who was faster
    evidence = [outcome for outcome in in_order if not isinstance(outcome, DeepPickerError)]
    if known is not None:
        warning = misfit(known, combine(evidence, config)) if evidence else None
        if warning:
            show.warn(f"warning: {warning}")
        return Size(known)
    if not evidence:
        raise InputError(f"the diameter cannot be estimated from any of {len(chosen)} micrographs: {in_order[0]}")
    found = combine(evidence, config)
    show.say(
        f"particle diameter: {found.value:.0f} Å, estimated from {len(evidence):,} of the micrographs "
        f"({found.low:.0f}-{found.high:.0f} Å with 90 %; within 15 % with {100 * found.confidence:.0f} %)",
        "diameter",
        value=round(found.value, 1),
        low=round(found.low, 1),
        high=round(found.high, 1),
        confidence=round(found.confidence, 3),
    )
    return Size(round(found.value, 1), True, found.coverage >= LEAST_COVERAGE)


def source_of(subject: Subject) -> Source:
    """Return how the micrographs are read."""
    from deeppicker.runs.pick_job import Source

    return Source(subject.pixel_size, subject.invert)


def misfit(given: float, found: Diameter) -> str | None:
    """Return a warning if micrographs clearly show particles of another diameter (Å) than the one given."""
    far = abs(math.log(found.value / given)) > math.log(_NOTICED)
    if not (far and found.coverage >= LEAST_COVERAGE and found.confidence > _SURE):
        return None
    return (
        f"--diameter {given:g} Å, but the particles look {found.value:.0f} Å large "
        f"({found.low:.0f}-{found.high:.0f} Å); leave it out to use that"
    )
