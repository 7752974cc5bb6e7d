"""DeepPicker: fully automated particle picking in cryo-electron micrographs.

The names below are the public API; each is imported when it is first used, so that what needs no PyTorch starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeppicker.adapt import adapt as adapt_model
    from deeppicker.config import PickConfig
    from deeppicker.core import Grid, Micrograph, Picks
    from deeppicker.dataset import load_dataset
    from deeppicker.diameter import estimate as estimate_diameter
    from deeppicker.errors import DeepPickerError
    from deeppicker.evaluate import EvaluateConfig, MicrographInfo
    from deeppicker.evaluate import evaluate as evaluate_picks
    from deeppicker.formats import find_micrographs, read_micrograph, read_picks, write_picks
    from deeppicker.learn import LearnConfig
    from deeppicker.learn import learn as train_model
    from deeppicker.model import Model, load_model, save_model
    from deeppicker.pick import pick as pick_micrograph
    from deeppicker.simulate.config import SimulateConfig
    from deeppicker.simulate.scene import simulate as simulate_micrograph
    from deeppicker.simulate.volumes import read_structure
    from deeppicker.threshold import choose_threshold

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

# A function that has the name of its module gets another one here, since `deeppicker.pick` is the module.
_HOMES = {
    "DeepPickerError": "errors.DeepPickerError",
    "EvaluateConfig": "evaluate.EvaluateConfig",
    "Grid": "core.Grid",
    "LearnConfig": "learn.LearnConfig",
    "Micrograph": "core.Micrograph",
    "MicrographInfo": "evaluate.MicrographInfo",
    "Model": "model.Model",
    "PickConfig": "config.PickConfig",
    "Picks": "core.Picks",
    "SimulateConfig": "simulate.config.SimulateConfig",
    "adapt_model": "adapt.adapt",
    "choose_threshold": "threshold.choose_threshold",
    "estimate_diameter": "diameter.estimate",
    "evaluate_picks": "evaluate.evaluate",
    "find_micrographs": "formats.find_micrographs",
    "load_dataset": "dataset.load_dataset",
    "load_model": "model.load_model",
    "pick_micrograph": "pick.pick",
    "read_micrograph": "formats.read_micrograph",
    "read_picks": "formats.read_picks",
    "read_structure": "simulate.volumes.read_structure",
    "save_model": "model.save_model",
    "simulate_micrograph": "simulate.scene.simulate",
    "train_model": "learn.learn",
    "write_picks": "formats.write_picks",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'deeppicker' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(importlib.import_module(f"deeppicker.{module}"), attribute)
