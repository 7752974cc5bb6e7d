"""Train a model on known particles of one or several molecules, each contributing equally."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deeppicker.cli._shared.types import Length, NetworkKind, SettingsFile, Where
from deeppicker.config import CropConfig, DeviceConfig, ExampleConfig, LearnConfig, TrainConfig
from deeppicker.errors import InputError
from deeppicker.formats.writable import refuse_unwritable_new_file

EVERYDAY = (
    "dataset",
    "output",
    "diameter",
    "pixel_size",
    "invert",
    "micrographs",
    "background",
    "model",
    "network",
    "settings",
    "epochs",
    "batch_size",
    "seed",
    "device",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker train`."""

    dataset: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DATASET..."), tyro.conf.Positional]
    """Particles STAR files, one for each molecule; micrograph paths are relative to them."""

    output: Path
    """The model file (.safetensors). Beside it: .curves.png and .history.json."""

    diameter: tuple[float, ...] = ()
    """Particle diameters in Å, one for each data set or one for all; default: from a dataset.json or run.json beside
    the STAR file."""

    pixel_size: Length = None
    """Å per pixel; default: from the STAR file or the image header."""

    invert: bool = False
    """The particles are bright on a darker background."""

    micrographs: Where = None
    """Folder, pattern or STAR file of the micrographs, if the data set does not name them."""

    background: tuple[str, ...] = ()
    """Micrographs without particles (files, folders, patterns), as negatives for a dense network."""

    model: str | None = None
    """Model to start from; default: a new one."""

    network: NetworkKind = "dense"
    """Kind of a new network: ``dense`` draws a map of centres, ``paper`` judges windows."""

    settings: SettingsFile = None
    examples: ExampleConfig = ExampleConfig()
    crops: CropConfig = CropConfig()
    train: TrainConfig = TrainConfig()
    device: DeviceConfig = DeviceConfig()


def run(options: Options) -> int:
    """Train, showing each epoch, on one's own or with the processes that `torchrun` started."""
    from deeppicker.training.ranks import joined

    with joined(options.device.device):
        return _train(options)


def _train(options: Options) -> int:
    """Train; the best model is kept whatever ends the run."""
    from deeppicker.cli._shared.training import TrainingLog, told_device
    from deeppicker.networks.batches import CropBatch
    from deeppicker.networks.model import load_model, new_model
    from deeppicker.training.data import load_background, load_dataset
    from deeppicker.training.fit import train_model

    if not options.dataset:
        raise InputError("no data set is given; give the particles STAR file of each molecule")
    refuse_unwritable_new_file(options.output)
    device = told_device(options.device)
    datasets = [
        load_dataset(
            path,
            diameter=diameter,
            pixel_size=options.pixel_size,
            micrographs=options.micrographs,
            invert=options.invert,
        )
        for path, diameter in zip(options.dataset, _diameters(options), strict=True)
    ]
    start = load_model(options.model) if options.model else new_model(options.train.seed, options.network)
    if options.background:
        if start.network.learns_from is not CropBatch:
            raise InputError("only the dense network learns from --background; leave it out, or set --network dense")
        datasets += load_background(options.background, invert=options.invert)
    log = TrainingLog(options.output, options.train.resolved(start.network.defaults).epochs)
    datasets = log.begin(datasets)
    config = LearnConfig(examples=options.examples, crops=options.crops, train=options.train)
    log.end(train_model(start.on(device), datasets, config, options.output, log.epoch))
    return 0


def _diameters(options: Options) -> list[float | None]:
    given: list[float | None] = list(options.diameter)
    if not given:
        return [None] * len(options.dataset)
    if len(given) not in (1, len(options.dataset)):
        raise InputError(
            f"{len(given)} diameters for {len(options.dataset)} data sets; set --diameter to one value or one for each"
        )
    return given if len(given) == len(options.dataset) else given * len(options.dataset)
