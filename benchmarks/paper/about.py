"""What the report says first: the data sets, and how the networks differ from the paper's."""

from __future__ import annotations

from paper import data
from paper.data import OTHERS, title_of
from paper.results import Section, Table
from paper.study import Study


def about(study: Study) -> Section:
    """Return the opening section, which judges nothing."""
    width, height = study.settings.size
    return Section(
        "What was done",
        "γ-secretase, spliceosome, TRPV1, NSF complex and β-galactosidase are simulated here: invented shapes of about "
        "the size of the paper's molecules, two of them in a membrane, whose truth is known. Their micrographs have "
        f"{width}×{height} pixels of {study.settings.pixel_size:g} Å, with some ice and carbon. Real sets are divided "
        "in two: micrographs at even places train, those at odd places test. The paper's network is that of its text, "
        "trained and used as this program does it: some of its negatives are noise, its windows are low-passed "
        "and scaled at random, the learning rate falls along a cosine, the map of scores is smoothed before peaks are "
        "sought, and picks cut by the edge are left out.",
        tables=(_table(study),),
    )


def _table(study: Study) -> Table:
    names = sorted({*study.targets, *(name for target in study.targets for name in OTHERS[target])}, key=_place)
    rows = []
    for name in names:
        molecule = study.molecule(name)
        cells = []
        for part in (molecule.training, molecule.test):
            number = len(part.dataset.micrographs)
            cells += [f"{number:,}", f"{len(part.dataset):,}"] if number else ["–", "–"]
        rows.append((title_of(name), "real" if name in data.REAL else "simulated", f"{molecule.diameter:.0f}", *cells))
    head = (
        "molecule",
        "data",
        "diameter (Å)",
        "micrographs to train on",
        "particles",
        "tested micrographs",
        "particles",
    )
    return Table("Data sets", head, tuple(rows))


def _place(name: str) -> tuple[bool, str]:
    return name in data.REAL, title_of(name)
