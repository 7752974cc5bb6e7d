"""From an alignment to what is written: refined averages, judged and sorted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from deeppicker.config import ClassifyConfig
from deeppicker.core import Picks
from deeppicker.particles.classify.em import Alignment, as_numpy
from deeppicker.particles.classify.quality import judge
from deeppicker.particles.classify.refine import refine
from deeppicker.particles.classify.results import Quality, Report
from deeppicker.particles.classify.windows import BOX, Windows

_DECIMALS = 4  # of the strength in files, from which what is kept must follow again


def report_of(
    windows: Windows,
    picks: Sequence[Picks],
    start: Float[Tensor, "classes side side"],
    found: Alignment,
    diameter: float,
    config: ClassifyConfig,
) -> Report:
    """Refine the alignment, judge the classes and sort them by quality, then by members.

    Parameters
    ----------
    windows : Windows
        Of all picks.
    picks : sequence of Picks
        In the order of the windows.
    start, found
        Class averages of low resolution and how the particles lie in them.
    diameter : float
        Å.
    config : ClassifyConfig
        Its least quality decides which classes are good.
    """
    classes = refine(windows, start, found, config)
    pixel_size = BOX * diameter / config.side
    quality = judge(classes, pixel_size)
    members = as_numpy(classes.members)
    order = np.lexsort((-members, -np.round(quality.quality, 3)))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    alignment = classes.alignment
    good = quality.quality[order] >= config.least
    return Report(
        averages=np.ascontiguousarray(as_numpy(classes.averages)[order], dtype=np.float32),
        members=members[order],
        quality=Quality(*(getattr(quality, name)[order] for name in quality.__dataclass_fields__)),
        good=good,
        chosen=good,
        pixel_size=pixel_size,
        picks=picks,
        label=rank[as_numpy(alignment.label)],
        angle=as_numpy(alignment.angle),
        shift=as_numpy(alignment.shift) * pixel_size,
        probability=as_numpy(alignment.probability),
        strength=as_numpy(classes.strength).astype(np.float64).round(_DECIMALS),
    )
