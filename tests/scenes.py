"""Tiny synthetic micrographs with known particles, and a network that has learnt to find them."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import mrcfile
import numpy as np
import torch

from deeppicker.config import ExampleConfig, PrepareConfig, TrainConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.formats import write_picks
from deeppicker.networks.base import Network
from deeppicker.networks.model import Model, new_network
from deeppicker.training.data import Dataset, Labelled
from deeppicker.training.loop import Training, train
from deeppicker.training.window_feed import WindowFeed
from deeppicker.training.windows import Examples, fill

torch.set_num_threads(1)  # such small images: threads that wait for each other cost more than they give

HEIGHT, WIDTH = 230, 310
PIXEL_SIZE = 3.0  # Å
DIAMETER = 72.0  # Å; 24 px, so that a box is 36 px
BOX = 36.0  # px


@dataclass(frozen=True)
class Scene:
    """A micrograph and the centres of its particles."""

    micrograph: Micrograph
    positions: np.ndarray


def scene(
    seed: int,
    name: str = "",
    *,
    number: int = 16,
    shape: tuple[int, int] = (HEIGHT, WIDTH),
    faintest: float = 1.0,
) -> Scene:
    """Return noise with dark, soft discs at random places that do not overlap, well inside the image.

    Their contrast falls from the first disc to the last, which has ``faintest`` of it.
    """
    rng = np.random.default_rng([seed, 7])
    positions = np.empty((0, 2))
    while len(positions) < number:
        point = rng.uniform((20, 20), (shape[1] - 20, shape[0] - 20))
        if len(positions) == 0 or np.hypot(*(positions - point).T).min() > 0.9 * BOX:
            positions = np.vstack([positions, point])
    image = rng.normal(100, 8, shape) - 12 * blobs(shape, positions, np.linspace(1, faintest, number))
    return Scene(Micrograph(name or f"scene{seed}.mrc", image.astype(np.float32), PIXEL_SIZE), positions)


def blobs(shape: tuple[int, int], positions: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Return soft discs as large as a particle."""
    y, x = np.indices(shape)
    radius = 0.46 * DIAMETER / PIXEL_SIZE
    image = np.zeros(shape)
    for (column, row), height in zip(positions, heights, strict=True):
        image += height / (1 + np.exp(np.hypot(x - column, y - row) - radius))
    return image


def dataset(*scenes: Scene, name: str = "scenes", scores: Sequence[np.ndarray] | None = None) -> Dataset:
    """Return scenes as a data set that is held in memory."""
    items = []
    for index, item in enumerate(scenes):
        given = np.full(len(item.positions), np.nan) if scores is None else scores[index]
        picks = Picks(item.micrograph.name, item.positions, given)
        items.append(Labelled(partial(_same, item.micrograph), picks, item.positions))
    return Dataset(name, DIAMETER, items)


def _same(micrograph: Micrograph) -> Micrograph:
    return micrograph


def draw(dataset: Dataset, number: int, config: ExampleConfig, base: PrepareConfig, seed: list[int]) -> Examples:
    """Return so many particles and as many windows of background."""
    windows = np.full((2 * number, base.window, base.window), np.nan, np.float16)
    examples = Examples(windows, np.full(2 * number, np.nan, np.float32))
    fill(examples, dataset, config, base, seed)
    return examples


@cache
def trained() -> Model:
    """Return a model that finds the particles of scenes, trained for a moment."""
    config = ExampleConfig(versions=2, max_lowpass=1.0)
    known = dataset(*(scene(seed) for seed in (100, 101, 102)))
    held = dataset(scene(103))
    training = Training(new_network(0), TrainConfig(epochs=3, learning_rate=0.03, batch_size=16))
    windows = [draw(part, number, config, PrepareConfig(), [0]) for part, number in ((known, 144), (held, 32))]
    train(training, WindowFeed(*windows, training.settings, training.ranks))
    return Model(training.network, diameter=DIAMETER)


def write_mrc(path: Path, image: np.ndarray, pixel_size: float = PIXEL_SIZE) -> Path:
    """Write an image as MRC, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, data=image.astype(np.float32), overwrite=True) as file:
        file.voxel_size = pixel_size
    return path


def write_project(folder: Path, scenes: Sequence[Scene], *, diameter: float | None = DIAMETER) -> Path:
    """Write scenes as ``micrographs/*.mrc`` with ``particles.star`` and ``dataset.json``; return the STAR file."""
    for item in scenes:
        write_mrc(folder / "micrographs" / item.micrograph.name, item.micrograph.image)
    star = folder / "particles.star"
    picks = [Picks.unscored(f"micrographs/{s.micrograph.name}", s.positions) for s in scenes]
    write_picks(star, picks, pixel_size=PIXEL_SIZE)
    if diameter is not None:
        text = json.dumps({"particle_diameter_angstrom": diameter})
        (folder / "dataset.json").write_text(text, encoding="utf-8")
    return star


def uncertain() -> Model:
    """Return the trained model, less sure of itself: the discs of a scene with faint ones score from 0.02 to 0.98."""
    return with_log_odds(trained(), slope=0.25, offset=-2.0)


def with_log_odds(model: Model, slope: float, offset: float) -> Model:
    """Return a model whose log-odds are a linear function of those of ``model``."""
    network = copy.deepcopy(model.network)
    weights = network.state_dict()
    weights["output.weight"] *= slope
    weights["output.bias"] *= slope
    weights["output.bias"] += torch.tensor([0.0, offset])
    return replace(model, network=network)


def lively_network(seed: int) -> Network:
    """Return a network with weights and biases so large that neighbouring windows differ and all units take part."""
    network = new_network(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.mul_(2.5)
    network.train(False)
    return network


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of all files, the folder's own name left out."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {name: content.replace(str(folder).encode(), b"DIR") for name, content in files.items()}


def files_of_run(folder: Path) -> dict[str, object]:
    """Return the content of all files of a run, without the times and the folder's own name."""
    files: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.name in (".lock", ".generation") or name.startswith("slurm/"):
            continue
        if path.suffix in (".png", ".safetensors"):
            files[name] = path.read_bytes()
        elif path.parent.name == "records":
            files[name] = json.loads(path.read_text(encoding="utf-8")) | {"seconds": 0, "checksum": ""}
        elif name == "summary.csv":
            with path.open(newline="", encoding="utf-8") as file:
                files[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
        else:
            files[name] = path.read_text(encoding="utf-8").replace(f"{folder.name}/", "DIR/")
    return files
