"""Fig. 3: class averages of reference particles and of automatic picks, side by side."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deeppicker.config import ClassifyConfig
from deeppicker.core import Picks
from deeppicker.particles.classify import relion
from deeppicker.particles.classify.em import classify, rotate
from deeppicker.particles.classify.refine import refine
from deeppicker.particles.classify.windows import Windows, cut, disc, join
from paper.cache import cached_array, checksum
from paper.data import title_of
from paper.figures import Canvas
from paper.results import Picture, Section, Table, Verdict
from paper.study import THRESHOLD, Lesson, Study, thinned

COUNTERPART = 0.8
"""Correlation after alignment from which two averages count as the same view."""
_MOST = 0.8  # of the reference classes that come again, for agreement
_JUDGED = 3  # so many have to come again, else there is nothing to compare with
_CONTROL = 0.8  # a control that counts as often as this part of them proves that nothing can be told
_TURNS = 72
_SHIFT = 0.1  # of the side of a window
_FEWEST = 5  # particles in a class that counts
_COLUMNS = 10
_SEED = 1  # of the second averages of the reference particles; the first have the default, 0
_OURS, _RELION = "DeepPicker", "RELION"


@dataclass(frozen=True)
class Row:
    """How well reference classes correlate with the best of the picks' classes, and those with the reference's.

    ``again`` is how well they correlate with the best of the same particles averaged once more, from another seed; a
    class that does not come again is not asked of picks either. The control is the fraction of other targets' classes
    that would count as counterparts.
    """

    program: str
    target: str
    best: Float[np.ndarray, " a"]
    back: Float[np.ndarray, " b"]
    again: Float[np.ndarray, " a"]
    control: float | None

    @property
    def firm(self) -> Bool[np.ndarray, " a"]:
        """Which reference classes come again."""
        return np.asarray(self.again >= COUNTERPART)

    @property
    def share(self) -> float:
        """Fraction of the reference classes that come again which have a counterpart."""
        return _share(self.best[self.firm])

    @property
    def few(self) -> bool:
        """Whether hardly any class comes again."""
        return bool(self.firm.sum() < _JUDGED)

    @property
    def coarse(self) -> bool:
        """Whether enough classes have a counterpart, but nearly as many among another molecule's; it tells nothing."""
        return not self.few and self.share >= _MOST and (self.control or 0.0) > _CONTROL * self.share


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    return [(study.cross(target, 2), target) for target in study.targets]


def run(study: Study, canvas: Canvas) -> Section:
    programs = [_OURS] + ([_RELION] if study.settings.relion_averages and shutil.which("relion_refine") else [])
    averages = {
        (program, target): {
            kind: _averages(study, target, kind, picks, program) for kind, picks in _both(study, target).items()
        }
        for program in programs
        for target in study.targets
    }
    rows, pictures = [], []
    for (program, target), pair in averages.items():
        reference, picks = pair.values()
        best, back = correlations(reference, picks), correlations(picks, reference)
        again = _averages(study, target, "reference", _both(study, target)["reference"], program, seed=_SEED)
        foreign = [other["reference"] for (by, name), other in averages.items() if by == program and name != target]
        counted = [_share(correlations(reference, other)) for other in foreign]
        control = float(np.mean(counted)) if counted else None
        rows.append(Row(program, target, best, back, correlations(reference, again), control))
        stem = f"{program.lower()}-{target}"
        _draw(canvas, stem, pair, best)
        caption = f"{title_of(target)} by {program}: averages of reference particles, and of picks."
        pictures.append(Picture(canvas.stem(stem), caption, image=True, wide=True))
    if study.settings.relion_averages is None or _RELION not in programs:
        relion_note = "RELION averages in the full study, where it is installed."
    else:
        most, classes = study.settings.relion_averages
        relion_note = f"RELION, which takes minutes for each, averages at most {most:,} particles in {classes} classes."
    return Section(
        "Fig. 3: class averages",
        f"Reference particles and picks of score {THRESHOLD} or more, after training on two other molecules, as in the "
        f"paper; {study.settings.classes} classes of each, at most {study.settings.classified:,} particles. Unlike in "
        "the paper, bad classes are not removed before. A reference class has a counterpart if one of the picks' "
        f"averages correlates with it by {COUNTERPART} or more after rotation and shift. Averages vary by chance: "
        "the reference particles are averaged again from another seed, and picks are asked for the classes that come "
        "again. The control compares with the averages of the other targets.",
        (_verdict(rows),),
        (_table(rows),),
        tuple(pictures),
        (relion_note,),
    )


def correlations(ones: Float[Tensor, "a side side"], others: Float[Tensor, "b side side"]) -> Float[np.ndarray, " a"]:
    """Return how well the best of the others correlates with each, after rotation and shift."""
    if not len(ones) or not len(others):
        return np.full(len(ones), -1.0)
    side = ones.shape[-1]
    mask = torch.from_numpy(disc(side, 0.6))
    fixed = torch.fft.rfft2(_unit(others, mask))
    reach = max(1, round(_SHIFT * side))
    best = torch.full((len(ones),), -1.0)
    for turn in range(_TURNS):
        turned = torch.fft.rfft2(_unit(rotate(ones, turn * 360 / _TURNS), mask))
        product = torch.fft.irfft2(turned[:, None] * fixed[None].conj(), s=(side, side))
        near = torch.cat([product[..., : reach + 1, :], product[..., -reach:, :]], dim=-2)
        near = torch.cat([near[..., : reach + 1], near[..., -reach:]], dim=-1)
        best = torch.maximum(best, near.amax(dim=(1, 2, 3)))
    return np.asarray(best.numpy(), dtype=np.float64)


def _unit(images: Float[Tensor, "n side side"], mask: Float[Tensor, "side side"]) -> Float[Tensor, "n side side"]:
    inside = (images - (images * mask).sum(dim=(1, 2), keepdim=True) / mask.sum()) * mask
    unit: Tensor = inside / inside.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-9)
    return unit


def _both(study: Study, target: str) -> dict[str, list[Picks]]:
    """Return reference particles and picks, each thinned to as many as are averaged."""
    reference = [item.picks for item in study.test(target).dataset.micrographs]
    found = study.picks(study.network(study.cross(target, 2)), target)
    found = [one.where(one.scores >= THRESHOLD) for one in found]
    return {
        kind: thinned(some, study.settings.classified) for kind, some in (("reference", reference), ("picks", found))
    }


def _averages(
    study: Study, target: str, kind: str, picks: Sequence[Picks], program: str, seed: int = 0
) -> Float[Tensor, "classes side side"]:
    """Return the averages with enough members, the largest class first; they are kept."""
    by_relion = study.settings.relion_averages if program == _RELION else None
    classes = study.settings.classes
    if by_relion is not None:
        most, classes = by_relion
        picks = thinned(picks, most)
    config = ClassifyConfig(classes=classes, side=study.settings.class_side, seed=seed)
    places = [(one.micrograph, one.positions.tolist()) for one in picks]
    key = checksum("averages", program, target, study.settings.taught, asdict(config), places)
    path = study.work / "averages" / f"{target}-{kind}-{program.lower()}-{key}.npy"
    return torch.from_numpy(cached_array(path, lambda: _averaged(study, target, picks, program, config).numpy()))


def _averaged(
    study: Study, target: str, picks: Sequence[Picks], program: str, config: ClassifyConfig
) -> Float[Tensor, "classes side side"]:
    part = study.test(target)
    windows: Windows = join(
        [
            cut(item.load(), one.positions, part.dataset.diameter, config.side, part.ctf.get(one.key))
            for item, one in zip(part.dataset.micrographs, picks, strict=True)
        ]
    )
    if program == _RELION:
        averages, alignment = relion.classify(windows, part.dataset.diameter, config)
        members = torch.bincount(alignment.label, minlength=len(averages))
    else:
        classes = refine(windows, *classify(windows, config), config)
        averages, members = classes.averages, torch.bincount(classes.alignment.label, minlength=len(classes.averages))
    order = torch.argsort(members, descending=True)
    kept: Tensor = averages[order[members[order] >= _FEWEST]]
    return kept


def _draw(canvas: Canvas, stem: str, pair: dict[str, Tensor], best: np.ndarray) -> None:
    """Draw the averages as two sheets; a reference class without counterpart is crossed out."""
    most = max(map(len, pair.values()))
    columns = min(_COLUMNS, most)
    rows = -(-most // columns)
    with canvas.panels(stem, 2, size=(0.45 * columns + 0.2, 0.45 * rows + 0.4), axis=False) as axes:
        for panel, (kind, averages) in zip(axes, pair.items(), strict=True):
            side = averages.shape[-1]
            sheet = np.full((rows * side, columns * side), np.nan)
            for index, average in enumerate(averages.numpy()):
                y, x = side * (index // columns), side * (index % columns)
                low, high = np.percentile(average, (1, 99.8))
                sheet[y : y + side, x : x + side] = np.clip((average - low) / max(high - low, 1e-9), 0, 1)
                if kind == "reference" and best[index] < COUNTERPART:
                    panel.plot([x + 1, x + side - 2], [y + 1, y + side - 2], color="#D55E00", linewidth=1)
            panel.imshow(sheet, cmap="gray", vmin=0, vmax=1)
            panel.set_title(kind)


def _share(best: Float[np.ndarray, " a"]) -> float:
    return float((best >= COUNTERPART).mean()) if len(best) else 0.0


def _verdict(rows: Sequence[Row]) -> Verdict:
    few, coarse = [row for row in rows if row.few], [row for row in rows if row.coarse]
    left = _left_out("hardly any class comes again", few) + _left_out(
        "other molecules' classes would count too", coarse
    )
    claim = "The class averages of automatic picks are comparable to those of reference particles."
    judged = [row for row in rows if not (row.few or row.coarse)]
    if not judged:
        return Verdict(claim, "no averages that could tell", None, left.strip())
    worst = min(judged, key=lambda row: row.share)
    controls = [row.control for row in judged if row.control is not None]
    control = f" Of another molecule's classes {np.mean(controls):.0%} would count." if controls else ""
    return Verdict(
        claim,
        f"{'all' if worst.share == 1 else f'{worst.share:.0%} or more'} of the reference classes that come again have "
        "a counterpart",
        worst.share >= _MOST,
        f"Comparable means {_MOST:.0%} or more. Fewest have one for {title_of(worst.target)} by {worst.program}: "
        f"{(worst.best[worst.firm] >= COUNTERPART).sum()} of {worst.firm.sum()}, with a median correlation of "
        f"{np.median(worst.best[worst.firm]):.2f}.{left}{control}",
    )


def _left_out(why: str, rows: Sequence[Row]) -> str:
    names = "; ".join(f"{title_of(row.target)} by {row.program}" for row in rows)
    return f" Left out, since {why}: {names}." if names else ""


def _table(rows: Sequence[Row]) -> Table:
    head = ("target", "classes by", "reference classes", "come again", "of these with counterpart",
            "all with counterpart", "median correlation", "picks' classes", "with counterpart", "control")  # fmt: skip
    cells = tuple(
        (
            title_of(row.target),
            row.program,
            str(len(row.best)),
            str(int(row.firm.sum())),
            str(int((row.best[row.firm] >= COUNTERPART).sum())),
            str(int((row.best >= COUNTERPART).sum())),
            f"{np.median(row.best):.2f}" if len(row.best) else "–",
            str(len(row.back)),
            str(int((row.back >= COUNTERPART).sum())),
            "–" if row.control is None else f"{row.control:.0%}",
        )
        for row in sorted(rows, key=lambda row: row.share)
    )
    return Table("Reference classes with a counterpart among those of the picks, fewest first", head, cells)
