"""Progress of training: a line and an updated picture for each epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deeppicker.evaluation.curves import training_curves
from deeppicker.formats.atomic import atomic_write
from deeppicker.networks.model import Model
from deeppicker.training.data import Dataset
from deeppicker.training.loop import Training


class TrainingLog:
    """Follows one training run and writes its history beside the model.

    Parameters
    ----------
    output : Path
        The model file.
    epochs : int
        How many there will be.
    """

    def __init__(self, output: Path, epochs: int) -> None:
        self._output = output
        self._epochs = epochs

    def begin(self, datasets: Sequence[Dataset]) -> None:
        """Say what the model will be trained on."""
        for dataset in datasets:
            print(
                f"{dataset.name}: {len(dataset):,} particles of {dataset.diameter:g} Å in "
                f"{len(dataset.micrographs):,} micrographs"
            )
            if dataset.missing:
                print(f"{dataset.name}: {len(dataset.missing):,} micrographs not found, such as {dataset.missing[0]}")

    def epoch(self, training: Training) -> None:
        """Print the last epoch, write the history and its picture."""
        last = training.history[-1]
        best = " (best)" if training.best_epoch is last else ""
        print(
            f"epoch {last.epoch:>2}/{self._epochs}  learning rate {last.learning_rate:.4f}  "
            f"loss {last.train_loss:.4f}  accuracy {last.train_accuracy:.4f}  "
            f"validation loss {last.validation_loss:.4f}  accuracy {last.validation_accuracy:.4f}{best}",
            flush=True,
        )
        history = [asdict(epoch) for epoch in training.history]
        atomic_write(self._output.with_suffix(".history.json"), json.dumps(history, indent=1) + "\n")
        atomic_write(self._output.with_suffix(".curves.png"), training_curves(history))

    def end(self, model: Model) -> None:
        """Say where the model is and how good its validation windows were."""
        best = model.info["best_epoch"]
        print(f"{self._output}: epoch {best['epoch']}, validation accuracy {best['validation_accuracy']:.4f}")
