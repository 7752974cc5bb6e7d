"""Particles that nobody has labelled: neither particles to learn from nor background."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from deeppicker.networks.model import Model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.training.data import Dataset

_FAR = 0.4  # diameters; a confident pick farther than this from every label has none


def doubted(model: Model, dataset: Dataset, score: float) -> Dataset:
    """Return a data set in which confident picks of ``model`` that carry no label are no background either.

    Parameters
    ----------
    model : Model
        A trained model.
    dataset : Dataset
        Of real micrographs; simulated and empty ones are returned as they are, since their labels are complete.
    score : float
        Least score, 0-1, of a confident pick.
    """
    if dataset.simulated or len(dataset) == 0:
        return dataset
    items = []
    for item in dataset.micrographs:
        micrograph = item.load()
        found = pick_micrograph(micrograph, model, dataset.diameter)
        confident = found.positions[found.scores >= score]
        radius = _FAR * dataset.diameter / micrograph.pixel_size
        if len(item.avoid):
            confident = confident[cKDTree(item.avoid).query(confident)[0] > radius]
        items.append(replace(item, avoid=np.concatenate([item.avoid, confident])))
    return replace(dataset, micrographs=items)
