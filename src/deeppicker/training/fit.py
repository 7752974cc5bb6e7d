"""From micrographs with known particles to a saved model: split, draw windows, train."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from deeppicker.config import CropConfig, ExampleConfig, TrainConfig
from deeppicker.formats.atomic import make_folder
from deeppicker.networks.base import DenseNetwork, copy_network
from deeppicker.networks.model import Model, load_model, save_model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.training.cache import discard, ensure
from deeppicker.training.calibrate import calibrate
from deeppicker.training.crops import Batch, draw_batch
from deeppicker.training.data import Dataset, Labelled, split
from deeppicker.training.dense import train_dense
from deeppicker.training.loop import Training, resume_checkpoint, save_checkpoint, train
from deeppicker.training.plates import Plate, load_plates, open_plates, save_plates
from deeppicker.training.ranks import current
from deeppicker.training.windows import fill, new_examples, open_examples

_CALIBRATED_ON = 150  # micrographs at most
_PARTS = ("training", "validation")  # folders in the cache
_DOUBT_DIAMETERS = 0.4  # a confident pick farther than this from every label has none


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """What decides the result of training, besides the data."""

    examples: ExampleConfig = ExampleConfig()
    crops: CropConfig = CropConfig()
    train: TrainConfig = TrainConfig()


def train_model(
    start: Model,
    datasets: Sequence[Dataset],
    config: LearnConfig,
    output: Path,
    after_epoch: Callable[[Training], None] = lambda _: None,
) -> Model:
    """Train a model on data sets that contribute equally, and save it.

    The best model so far is in ``output`` after every epoch, whatever ends the run. A checkpoint and a cache of the
    windows or micrographs beside it let the same call continue without reading the micrographs again; both are
    removed at the end. Where several processes train together (see `distributed`), the first writes all files, in a
    folder that all of them see.

    Parameters
    ----------
    start : Model
        The model to start from: its network (trained or new) and its preparation.
    datasets : sequence of Dataset
        Micrographs and particles of one molecule each.
    config : LearnConfig
        Settings.
    output : Path
        The model file.
    after_epoch : callable
        Called with the state of training after each epoch (not again for those of an earlier, interrupted run).

    Raises
    ------
    InputError
        If a data set leaves no background, or a micrograph cannot be used.
    OutputError
        If the model cannot be written.
    """
    make_folder(output.parent)  # now, not after the first epoch
    ranks = current()
    rng = np.random.default_rng(config.train.seed)
    halves = [_halves(dataset, config.examples.validation, rng) for dataset in datasets]
    training = Training(copy_network(start.network), config.train, _fingerprint(start, datasets, config), ranks)
    checkpoint, cache = (output.with_name(f"{output.name}.{kind}") for kind in ("checkpoint", "cache"))
    resume_checkpoint(training, checkpoint)

    def keep(state: Training) -> None:
        if state.best_epoch is state.history[-1]:
            save_model(_described(start, state, datasets, config), output)
        save_checkpoint(state, checkpoint)
        after_epoch(state)

    dense = isinstance(training.network, DenseNetwork)
    fill_cache = partial(fill_plates if dense else fill_windows, halves, start, config)
    ranks.once(lambda: ensure(cache, training.fingerprint, fill_cache))
    after = keep if ranks.rank == 0 else _nothing
    if dense:
        plates = iter(open_plates(cache))
        parts = [(is_simulated(part), list(islice(plates, len(part.micrographs)))) for part, _ in halves]

        def draw(some: Sequence[Plate], number: int, rng: np.random.Generator) -> Batch:
            return draw_batch(some, number, config.crops, start.prepare, rng)

        train_dense(training, _groups(parts, config.crops), list(plates), draw, after)
    else:
        examples, validation = (open_examples(cache / name) for name in _PARTS)
        train(training, examples, validation, after)

    def complete() -> None:
        model = _described(start, training, datasets, config)
        held = _calibration_set(halves, start) if dense else []
        if held:  # else the calibration of the model it started from is the best there is
            model = replace(model, calibration=calibrate(model, held))
        save_model(model, output)
        checkpoint.unlink(missing_ok=True)
        discard(cache)

    ranks.once(complete)
    return load_model(output)


def _halves(dataset: Dataset, fraction: float, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
    """Return a training and a validation part; background is all for training."""
    return split(dataset, fraction, rng) if len(dataset) else (dataset, replace(dataset, micrographs=[]))


def fill_windows(halves: Sequence[tuple[Dataset, Dataset]], start: Model, config: LearnConfig, folder: Path) -> None:
    """Draw the training and validation windows into a folder, shared equally among the data sets."""
    share = max(1, round(config.examples.num_particles / len(halves)))
    counts = (share, max(1, round(share * config.examples.validation)))
    for part, (name, count) in enumerate(zip(_PARTS, counts, strict=True)):
        examples = new_examples(folder / name, 2 * count * len(halves), start.prepare.window)
        for index, pair in enumerate(halves):
            mine = examples.part(2 * count * index, 2 * count * (index + 1))
            fill(mine, pair[part], config.examples, start.prepare, [config.train.seed, part, index])


def fill_plates(halves: Sequence[tuple[Dataset, Dataset]], start: Model, config: LearnConfig, folder: Path) -> None:
    """Read the micrographs, those for training first, and write what crops are cut from into a folder."""
    save_plates((plate for part in _parts(halves, start, config) for plate in load_plates(part, start.prepare)), folder)


def _parts(halves: Sequence[tuple[Dataset, Dataset]], start: Model, config: LearnConfig) -> Iterator[Dataset]:
    for part, _ in halves:
        yield doubted(start, part, config.crops.doubt) if start.info else part
    yield from (held for _, held in halves if len(held))


def _calibration_set(halves: Sequence[tuple[Dataset, Dataset]], start: Model) -> list[tuple[float, Labelled]]:
    """Return the micrographs, with their diameters, on which a dense network is to be calibrated."""
    complete = [part for _, part in halves if is_simulated(part)]
    if not complete and not start.info:  # a new model, and nothing better
        complete = [part for _, part in halves if len(part)]
    items = [(part.diameter, item) for part in complete for item in part.micrographs]
    return items[:: max(1, -(-len(items) // _CALIBRATED_ON))]


def _nothing(_: Training) -> None:
    """Leave nothing behind after an epoch: so do the processes beside the first."""


def _groups(plates: Sequence[tuple[bool, Sequence[Plate]]], config: CropConfig) -> list[tuple[float, Sequence[Plate]]]:
    """Return plates, simulated or not, in groups, each with the fraction of the crops that come from it."""
    real = [group for simulated, group in plates if not simulated and any(len(plate.centres) for plate in group)]
    background = [
        plate
        for simulated, group in plates
        if not simulated and not any(len(one.centres) for one in group)
        for plate in group
    ]
    made = [plate for simulated, group in plates if simulated for plate in group]
    full, empty = ([plate for plate in made if bool(len(plate.centres)) is wanted] for wanted in (True, False))
    nothing = [group for group in (empty, background) if group]
    share = config.empty_crops if nothing and (full or real) else float(bool(nothing))
    weights = {"real": config.real if full else 1.0, "full": 1.0 if not real else 1 - config.real}
    groups = [*(((1 - share) * weights["real"] / len(real), group) for group in real)]
    groups += [((1 - share) * weights["full"], full), *((share / len(nothing), group) for group in nothing)]
    return [(weight, group) for weight, group in groups if len(group) and weight > 0]


def is_simulated(dataset: Dataset) -> bool:
    """Return whether all is known about the micrographs of a data set, which is so of simulated ones only."""
    return len(dataset) > 0 and all(item.mask is not None for item in dataset.micrographs)


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
    if is_simulated(dataset) or len(dataset) == 0:
        return dataset
    items = []
    for item in dataset.micrographs:
        micrograph = item.load()
        found = pick_micrograph(micrograph, model, dataset.diameter)
        confident = found.positions[found.scores >= score]
        radius = _DOUBT_DIAMETERS * dataset.diameter / micrograph.pixel_size
        if len(item.avoid):
            confident = confident[cKDTree(item.avoid).query(confident)[0] > radius]
        items.append(replace(item, avoid=np.concatenate([item.avoid, confident])))
    return replace(dataset, micrographs=items)


def _described(start: Model, training: Training, datasets: Sequence[Dataset], config: LearnConfig) -> Model:
    """Return the best model so far with what is to be known of its origin."""
    network = copy_network(start.network)  # not that of the training, which may be on another device
    network.load_state_dict(training.best)
    network.train(False)
    info: dict[str, Any] = {
        "deeppicker": version("deeppicker"),
        "datasets": [
            {
                "name": dataset.name,
                "diameter": dataset.diameter,
                "micrographs": len(dataset.micrographs),
                "particles": len(dataset),
            }
            for dataset in datasets
        ],
        "settings": asdict(config),
        "best_epoch": asdict(training.best_epoch),
    }
    diameter = datasets[0].diameter if len(datasets) == 1 else None
    return replace(start, network=network, diameter=diameter, info=info)


def _fingerprint(start: Model, datasets: Sequence[Dataset], config: LearnConfig) -> str:
    """Return what identifies a training run, so that only its own checkpoint continues it."""
    digest = hashlib.sha256(json.dumps([asdict(config), asdict(start.prepare)]).encode())
    for name, weight in sorted(start.network.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    for dataset in datasets:
        digest.update(repr(dataset.diameter).encode())
        for item in dataset.micrographs:
            digest.update(item.picks.micrograph.encode() + item.picks.positions.tobytes() + item.avoid.tobytes())
            digest.update(item.source.encode(errors="surrogateescape"))
    return digest.hexdigest()
