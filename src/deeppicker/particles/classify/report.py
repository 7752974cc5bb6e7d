"""From an alignment to what is written: refined averages, judged and sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from deeppicker.config import ClassifyConfig
from deeppicker.core import Ctf, Micrograph, Picks
from deeppicker.particles.classify.em import Alignment, as_numpy, classify
from deeppicker.particles.classify.others import Sampled, cut_with_others, together
from deeppicker.particles.classify.quality import judge
from deeppicker.particles.classify.refine import refine
from deeppicker.particles.classify.results import Quality, Report
from deeppicker.particles.classify.windows import BOX, Windows

_DECIMALS = 4  # of the strength in files, from which what is kept must follow again


def classify_particles(
    micrographs: Iterable[Micrograph],
    picks: Sequence[Picks],
    diameter: float,
    config: ClassifyConfig = ClassifyConfig(),
    known: Mapping[str, Ctf] | None = None,
) -> Report:
    """Align and average picks in classes, and judge these; nothing is written.

    Parameters
    ----------
    micrographs : iterable of Micrograph
        Particles dark. Gone through once, so they may be read one after the other.
    picks : sequence of Picks
        The picks in each, in the same order; each holds at least one.
    diameter : float
        Particle diameter in Å.
    config : ClassifyConfig
        Number of classes and the rest; all picks are classified, whatever its sample.
    known : mapping of str to Ctf, optional
        Contrast transfer by micrograph key, where it is known.

    Returns
    -------
    Report
        With ``averages`` (classes, side, side), the ``label`` of each pick, and which are ``kept``.
    """
    ctf = known or {}
    rng = np.random.default_rng(config.seed)
    cuts = [
        cut_with_others(one, Sampled(item, item), diameter, config.side, rng, ctf.get(item.key))
        for one, item in zip(micrographs, picks, strict=True)
    ]
    windows = together(cuts)
    return report_of(windows, picks, *classify(windows, config), diameter, config)


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
        Of all picks, and after them of the places for comparison, if there are any.
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
    scores = np.concatenate([item.scores for item in picks])
    number = len(scores)
    quality = judge(classes, pixel_size, scores)
    label = as_numpy(classes.alignment.label)[:number]
    members = np.bincount(label, minlength=len(classes.averages))
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
        label=rank[label],
        angle=as_numpy(alignment.angle)[:number],
        shift=as_numpy(alignment.shift)[:number] * pixel_size,
        probability=as_numpy(alignment.probability)[:number],
        strength=as_numpy(classes.strength)[:number].astype(np.float64).round(_DECIMALS),
    )
