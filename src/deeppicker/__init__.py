"""DeepPicker: fully automated particle picking in cryo-electron micrographs.

The names below are the public API; each is imported when it is first used, so that what needs no PyTorch starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeppicker.config import PickConfig
    from deeppicker.core import Grid, Micrograph, Picks
    from deeppicker.errors import DeepPickerError
    from deeppicker.evaluation.evaluate import EvaluateConfig, MicrographInfo
    from deeppicker.evaluation.evaluate import evaluate as evaluate_picks
    from deeppicker.formats import find_micrographs, read_micrograph, read_picks, write_picks
    from deeppicker.networks.model import Model, load_model, save_model
    from deeppicker.picking.diameter import estimate as estimate_diameter
    from deeppicker.picking.pipeline import pick as pick_micrograph
    from deeppicker.picking.threshold import choose_threshold
    from deeppicker.simulate.config import SimulateConfig
    from deeppicker.simulate.scene import simulate as simulate_micrograph
    from deeppicker.simulate.volumes import read_structure
    from deeppicker.training.adapt import adapt as adapt_model
    from deeppicker.training.data import load_dataset
    from deeppicker.training.fit import LearnConfig
    from deeppicker.training.fit import learn as train_model

__all__ = [
    "DeepPickerError",
    "EvaluateConfig",
    "Grid",
    "LearnConfig",
    "Micrograph",
    "MicrographInfo",
    "Model",
    "PickConfig",
    "Picks",
    "SimulateConfig",
    "adapt_model",
    "choose_threshold",
    "estimate_diameter",
    "evaluate_picks",
    "find_micrographs",
    "load_dataset",
    "load_model",
    "pick_micrograph",
    "read_micrograph",
    "read_picks",
    "read_structure",
    "save_model",
    "simulate_micrograph",
    "train_model",
    "write_picks",
]

# A function that has the name of its module gets another one here, since `deeppicker.picking.pipeline` is the module.
_HOMES = {
    "DeepPickerError": "errors.DeepPickerError",
    "EvaluateConfig": "evaluation.evaluate.EvaluateConfig",
    "Grid": "core.Grid",
    "LearnConfig": "training.fit.LearnConfig",
    "Micrograph": "core.Micrograph",
    "MicrographInfo": "evaluation.evaluate.MicrographInfo",
    "Model": "networks.model.Model",
    "PickConfig": "config.PickConfig",
    "Picks": "core.Picks",
    "SimulateConfig": "simulate.config.SimulateConfig",
    "adapt_model": "training.adapt.adapt",
    "choose_threshold": "picking.threshold.choose_threshold",
    "estimate_diameter": "picking.diameter.estimate",
    "evaluate_picks": "evaluation.evaluate.evaluate",
    "find_micrographs": "formats.find_micrographs",
    "load_dataset": "training.data.load_dataset",
    "load_model": "networks.model.load_model",
    "pick_micrograph": "picking.pipeline.pick",
    "read_micrograph": "formats.read_micrograph",
    "read_picks": "formats.read_picks",
    "read_structure": "simulate.volumes.read_structure",
    "save_model": "networks.model.save_model",
    "simulate_micrograph": "simulate.scene.simulate",
    "train_model": "training.fit.learn",
    "write_picks": "formats.write_picks",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'deeppicker' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(importlib.import_module(f"deeppicker.{module}"), attribute)
