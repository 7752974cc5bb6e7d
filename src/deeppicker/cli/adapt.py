"""Refine a model on its own best picks (iteration), or on a few manual picks of the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeppicker.cli._shared.progress import steps, track
from deeppicker.cli._shared.types import Length, SettingsFile, Where
from deeppicker.config import (
    DEFAULT_MODEL,
    CropConfig,
    DeviceConfig,
    ExampleConfig,
    LearnConfig,
    PickConfig,
    SelectConfig,
    TrainConfig,
)
from deeppicker.errors import InputError
from deeppicker.formats.writable import refuse_unwritable_new_file

if TYPE_CHECKING:
    from deeppicker.networks.model import Model
    from deeppicker.training.adapt import Verdict
    from deeppicker.training.data import Dataset

EVERYDAY = (
    "picks",
    "output",
    "model",
    "diameter",
    "pixel_size",
    "invert",
    "micrographs",
    "rounds",
    "settings",
    "threshold",
    "epochs",
    "seed",
    "device",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker adapt`."""

    picks: Path
    """Picks of the target: an output folder or autopick.star of `deeppicker pick`, or manual picks in any format."""

    output: Path
    """The new model file (.safetensors)."""

    model: str = DEFAULT_MODEL
    """Model to start from: a name in the package, or a file."""

    diameter: Length = None
    """Particle diameter in Å; default: that of the run that made the picks."""

    pixel_size: Length = None
    """Å per pixel; default: from the STAR file or the image header."""

    invert: bool = False
    """The particles are bright on a darker background."""

    micrographs: Where = None
    """Folder, pattern or STAR file of the micrographs, if the picks do not name them."""

    rounds: int = 1
    """Training rounds; each further round starts from new picks by the model of the previous round."""

    settings: SettingsFile = None
    examples: ExampleConfig = ExampleConfig()
    crops: CropConfig = CropConfig()
    train: TrainConfig = TrainConfig()
    steps: PickConfig = PickConfig()
    device: DeviceConfig = DeviceConfig()
    threshold: float = 0.5
    """Least score, 0-1, of the picks at the start of a further round."""


def run(options: Options) -> int:
    """Refine the model, showing each epoch, on one's own or with the processes that `torchrun` started."""
    from deeppicker.training.ranks import joined

    with joined(options.device.device):
        return _adapt(options)


def _adapt(options: Options) -> int:
    from deeppicker.cli._shared.training import TrainingLog, told_device
    from deeppicker.networks.model import load_model
    from deeppicker.training.adapt import adapt_model, judge, pick_again
    from deeppicker.training.data import load_dataset
    from deeppicker.training.few_labels import is_few
    from deeppicker.training.fit import hold_out
    from deeppicker.training.ranks import current

    refuse_unwritable_new_file(options.output)
    device = told_device(options.device)
    dataset = load_dataset(
        options.picks,
        diameter=options.diameter,
        pixel_size=options.pixel_size,
        micrographs=options.micrographs,
        invert=options.invert,
    )
    SelectConfig(threshold=options.threshold)  # checks it
    if options.rounds < 1:
        raise InputError(f"--rounds {options.rounds} trains nothing; set it to 1 or more")
    start = load_model(options.model).on(device)
    config = LearnConfig(examples=options.examples, crops=options.crops, train=options.train)
    manual = dataset = hold_out(dataset, config)
    alone = current().size == 1
    if options.train.epochs is None and options.rounds == 1 and alone and is_few(start, manual):
        return _adapt_to_few(options, start, manual, config)
    model = start
    epochs = options.train.epochs or model.network.adapt_epochs
    config = replace(config, train=replace(options.train, epochs=epochs))
    log = TrainingLog(options.output, epochs)
    for number in range(options.rounds):
        if number:
            renewed = [
                item if item.held else pick_again(model, item, dataset.diameter, options.steps, options.threshold)
                for item in track(dataset.micrographs, "picking again")
            ]
            dataset = replace(dataset, micrographs=renewed)
        (dataset,) = log.begin([dataset])
        model = adapt_model(model, dataset, config, options.output, log.epoch)
        log.end(model)
    verdict = judge(start, model, manual, config)
    if verdict is not None:
        print(_told(verdict, options.model))
    return 0


def _adapt_to_few(options: Options, start: Model, manual: Dataset, config: LearnConfig) -> int:
    """Learn from few manual picks, and say whether the new model is better."""
    from deeppicker.training.adapt import judge
    from deeppicker.training.few_labels import STEPS, adapt_to_few, taught_of

    taught = taught_of(manual, config)
    print(
        f"{manual.name}: learning from {len(taught):,} manual picks in {_micrographs(len(taught.micrographs))}, which "
        "takes about a minute; --epochs trains longer",
        flush=True,
    )
    with steps("learning", STEPS) as shown:
        model = adapt_to_few(start, manual, config, options.output, lambda done, *_: shown.at(done))
    print(f"{options.output}: the new model")
    verdict = judge(start, model, manual, config)
    if verdict is not None:
        print(_told(verdict, options.model))
    return 0


def _told(verdict: Verdict, start: str) -> str:
    """Return whether the new model picks better, for the user."""
    changes = (
        f"{name} {getattr(verdict.before, field) or 0:.3f} -> {getattr(verdict.after, field) or 0:.3f}"
        for name, field in (("F1", "f1"), ("precision", "precision"), ("recall", "recall"))
    )
    held = f"{_micrographs(verdict.micrographs)} with {verdict.particles:,} manual picks"
    line = f"{held}, kept out of training: {', '.join(changes)}"
    if verdict.better:
        return line
    return f"{line}\nthe new model is no better there: keep {start}, or pick more micrographs by hand"


def _micrographs(number: int) -> str:
    return "1 micrograph" if number == 1 else f"{number:,} micrographs"
