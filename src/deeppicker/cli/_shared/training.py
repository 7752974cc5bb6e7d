"""Progress of training: a line and an updated picture for each epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from deeppicker.config import DeviceConfig
from deeppicker.core import Micrograph
from deeppicker.device import settle
from deeppicker.evaluation.curves import training_curves
from deeppicker.formats.atomic import atomic_write
from deeppicker.networks.model import Model
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.loop import Training
from deeppicker.training.ranks import current

_EVERY = 10.0  # seconds between two lines


def told_device(config: DeviceConfig) -> str:
    """Say where a model is trained, and return it; of the processes that `torchrun` started, each has its place.

    Raises
    ------
    InputError
        If what is asked for cannot be used.
    """
    ranks = current()
    if ranks.size > 1:
        print(f"computing in {ranks.size} processes, on {'a card' if ranks.device.type == 'cuda' else 'a core'} each")
        return str(ranks.device)
    place = settle(config.device, one=True)
    print(f"computing {place}", flush=True)
    return place.device


class _Reading:
    """Tells how many micrographs were read, which takes minutes before the first epoch."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._told = total, 0, time.monotonic()

    def told_of(self, dataset: Dataset) -> Dataset:
        """Return the data set, whose micrographs count when they are read."""
        return replace(dataset, micrographs=[replace(item, load=self._counted(item)) for item in dataset.micrographs])

    def _counted(self, item: Labelled) -> Callable[[], Micrograph]:
        def load() -> Micrograph:
            self._done += 1
            if time.monotonic() - self._told >= _EVERY and self._done <= self._total:
                self._told = time.monotonic()
                print(f"reading micrographs: {self._done:,} of {self._total:,}", flush=True)
            return item.load()

        return load


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

    def begin(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Say what the model will be trained on; return the same, which tell now and then how many were read."""
        for dataset in datasets:
            print(
                f"{dataset.name}: {len(dataset):,} particles of {dataset.diameter:g} Å in "
                f"{len(dataset.micrographs):,} micrographs"
            )
            if dataset.missing:
                print(f"{dataset.name}: {len(dataset.missing):,} micrographs not found, such as {dataset.missing[0]}")
        reading = _Reading(sum(len(dataset.micrographs) for dataset in datasets))
        return [reading.told_of(dataset) for dataset in datasets]

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
