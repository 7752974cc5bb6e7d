"""A data set in memory, with its truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeppicker.config import DiameterConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.formats import read_micrograph
from deeppicker.networks.model import Model
from deeppicker.picking.diameter import estimate_diameter
from deeppicker.training.data import load_dataset


@dataclass(frozen=True)
class Sample:
    """The micrographs of a data set with their truth, and the true diameter in Å."""

    name: str
    micrographs: Sequence[Micrograph]
    truth: Sequence[Picks]
    diameter: float

    def estimated_diameter(self, model: Model) -> float:
        """Return what the model says of the diameter, from as many micrographs as the program looks at."""
        looked = evenly(len(self.micrographs), DiameterConfig().looked_at)
        return estimate_diameter(model, [self.micrographs[i] for i in looked]).value


def evenly(number: int, wanted: int) -> list[int]:
    """Return at most so many of the places of a sequence, evenly spread over all."""
    chosen: list[int] = np.unique(np.linspace(0, number - 1, wanted).round().astype(int)).tolist()
    return chosen


def read_sample(name: str, folder: Path) -> Sample:
    """Read a simulated set, or one of the development data."""
    description = json.loads((folder / "dataset.json").read_text())
    diameter = float(description["particle_diameter_angstrom"])
    if description.get("num_particles") == 0:
        files = sorted((folder / "micrographs").glob("*.mrc"))
        micrographs = [read_micrograph(file, name=file.name, pixel_size=None) for file in files]
        return Sample(name, micrographs, [Picks.unscored(m.name, np.zeros((0, 2))) for m in micrographs], diameter)
    items = load_dataset(folder / "particles.star").micrographs
    return Sample(name, [item.load() for item in items], [item.picks for item in items], diameter)
