"""Train the general model and those that each left one real molecule out, at once, on one stream of crops.

    python recipes/together.py [--data DIR] [--work DIR] [--steps 2300 820] [--units 8] [--workers 16] [--width 24]

Needs what ``recipes/simulate.sh`` leaves in ``work/sim``. Drawing crops takes longer than learning from them on a GPU,
so five models look at each crop that they may see:

1. ``base`` learns from simulated micrographs without the relatives of the real molecules;
2. from it go on ``simulation-only`` (on the same), ``without-NAME`` (on the other two real sets too) and ``all`` (on
   the relatives, on the three real sets and on real micrographs without particles too);
3. ``general`` is the mean of the weights of ``all`` and ``simulation-only`` (Wortsman et al., CVPR 2022), which picks
   less on what neither has seen.

Each crop depends on its number only, not on the workers. With the defaults, one H100 and 16 cores it takes five
minutes. docs/decisions/0005-a-wider-network-trained-longer.md says what came of it.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from deeppicker.config import CropConfig
from deeppicker.errors import InputError
from deeppicker.networks.batches import CropBatch
from deeppicker.networks.calibration import Calibration
from deeppicker.networks.dense import DenseNetwork
from deeppicker.networks.model import Model, load_model, save_model
from deeppicker.training.calibrate import fit, outcomes
from deeppicker.training.crops import draw_batch
from deeppicker.training.data import Dataset, Labelled, load_background, load_dataset
from deeppicker.training.doubt import doubted
from deeppicker.training.loop import warm_cosine
from deeppicker.training.plates import Plate, load_plates, open_plates, save_plates

PREPARE = DenseNetwork.preparation
CROPS = CropConfig(noise_crops=0.05)
REAL = ("apoferritin-10146", "trpv1-10059", "ribosome-10028")
# Real micrographs without particles. One of the crystalline ones shows faint rings that may be some, and is left out.
EMPTY, RINGS = ("crystalline", "empty-ice", "no-ice"), "19sep04c"
FIRST = ("simulated",) * 16  # crops of a unit, in each phase
SECOND = ("simulated",) * 8 + 2 * REAL + ("nothing", "related")
EMPTY_SHARE = 0.15  # of the simulated crops: from micrographs without a particle
RATES, WARM = (2e-3, 1.2e-3), (200, 100)
TURNS = (2, 5, 1, 7, 3, 4, 6)  # each batch is used a second time, turned and mirrored
HELD, DOUBT = 128, 0.5
Groups = Mapping[str, Sequence[tuple[float, Sequence[Plate]]]]


def main() -> None:
    """Train all models."""
    options = parse_options()
    torch.backends.cudnn.benchmark = True
    with get_context("spawn").Pool(options.workers, torch.set_num_threads, (1,)) as pool:
        plates, held = simulated_plates(options.work, pool)
        torch.manual_seed(0)
        start = Model(DenseNetwork(options.width), PREPARE)
        (base,) = train({"base": start}, plates, FIRST, 0, options)
        base = calibrated(base, held, options.work / "base.safetensors", pool)
        plates |= real_plates(options.data, base)
        names = ("simulation-only", *(f"without-{name}" for name in REAL), "all")
        trained = dict(zip(names, train(dict.fromkeys(names, base), plates, SECOND, 1, options), strict=True))
        trained["general"] = mean(trained["all"], trained["simulation-only"])
        for name, model in trained.items():  # whatever happens to what comes after
            save_model(model, options.work / f"{name}.safetensors")
        for name, model in trained.items():
            calibrated(model, held, options.work / f"{name}.safetensors", pool)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DEEPPICKER_DATA"))
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--steps", type=int, nargs=2, default=(2300, 820), help="batches of each phase")
    parser.add_argument("--units", type=int, default=8, help="units of 16 crops in a batch; half in the first phase")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--width", type=int, default=24)
    options = parser.parse_args()
    if options.data is None:
        parser.error("set --data or DEEPPICKER_DATA to the development data")
    options.data = Path(options.data)
    return options


def may_see(model: str, kind: str) -> bool:
    """Return whether a model learns from a kind of crops."""
    if kind == "simulated":
        return True
    return model == "all" or (kind in REAL and model.startswith("without-") and model != f"without-{kind}")


# --- data -----------------------------------------------------------------------------------------------------------


def simulated_plates(work: Path, pool: Pool) -> tuple[Groups, list[tuple[float, Labelled]]]:
    """Return simulated plates, and micrographs that are held out: the first of each of so many particles."""
    groups: dict[str, Sequence[tuple[float, Sequence[Plate]]]] = {}
    held: list[tuple[float, Labelled]] = []
    for kind, folder in (("simulated", "gen"), ("related", "rel")):
        full: list[Plate] = []
        empty: list[Plate] = []
        parts: list[tuple[Path, Dataset]] = []
        for dataset in datasets(work / "sim" / folder):
            order = np.random.default_rng(len(held)).permutation(len(dataset.micrographs))
            keep = [dataset.micrographs[i] for i in order]
            if kind == "simulated" and len(held) < HELD:
                held.append((dataset.diameter, keep.pop()))
            name = Path(dataset.name).parent.name
            parts.append((work / "plates" / folder / name, replace(dataset, micrographs=keep)))
        for path in pool.imap(cached, parts):
            for plate in open_plates(path):
                (full if len(plate.centres) else empty).append(plate)
        shares = ((1 - EMPTY_SHARE, full), (EMPTY_SHARE, empty))
        groups[kind] = [(share, part) for share, part in shares if part]
    return groups, held


def datasets(folder: Path) -> Iterator[Dataset]:
    """Yield the simulated data sets in a folder."""
    for path in sorted(folder.glob("*/particles.star")):
        try:
            yield load_dataset(path)
        except InputError as error:  # all of its micrographs are empty
            print(error, flush=True)


def cached(part: tuple[Path, Dataset]) -> Path:
    """Write the plates of a data set, unless the folder is there; return the folder."""
    folder, dataset = part
    if not folder.is_dir():
        half = folder.with_name(folder.name + ".part")
        half.mkdir(parents=True)
        save_plates(load_plates(dataset, PREPARE), half)
        half.rename(folder)
    return folder


def real_plates(data: Path, base: Model) -> Groups:
    """Return plates of real micrographs, where what the base is sure of but nobody has labelled is unknown."""
    groups: dict[str, Sequence[tuple[float, Sequence[Plate]]]] = {}
    for name in REAL:
        dataset = doubted(base, load_dataset(data / "real" / name / "particles.star"), DOUBT)
        groups[name] = [(1.0, list(load_plates(dataset, PREPARE)))]
    paths = [path for kind in EMPTY for path in sorted((data / "real" / "micrograph-quality" / kind).glob("*.mrc"))]
    nothing = load_background([str(path) for path in paths if RINGS not in path.name])
    groups["nothing"] = [(1.0, [plate for dataset in nothing for plate in load_plates(dataset, PREPARE)])]
    return groups


class Units(torch.utils.data.Dataset[tuple[torch.Tensor, ...]]):
    """Unit ``i`` holds a crop of each of some kinds; it depends on the seed and on ``i`` only."""

    def __init__(self, groups: Groups, kinds: Sequence[str], number: int, seed: int) -> None:
        self.groups, self.kinds, self.number, self.seed = groups, kinds, number, seed

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        if index >= self.number:
            raise IndexError(index)
        crops = []
        for place, kind in enumerate(self.kinds):
            rng = np.random.default_rng([self.seed, index, place])
            shares = np.array([share for share, _ in self.groups[kind]])
            plates = self.groups[kind][int(rng.choice(len(shares), p=shares / shares.sum()))][1]
            crops.append(draw_batch(plates, 1, CROPS, PREPARE, rng))
        batch = CropBatch.join(crops)
        return batch.images, batch.centres, batch.presence, batch.junk, batch.sizes


def together(units: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Return units as one batch."""
    return tuple(torch.cat(parts) for parts in zip(*units, strict=True))


# --- training -------------------------------------------------------------------------------------------------------


@dataclass
class Student:
    """A model in training."""

    name: str
    start: Model
    network: nn.Module
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(cls, name: str, start: Model, device: torch.device) -> Student:
        """Return a student that starts from a model."""
        network = copy.deepcopy(start.network)
        assert isinstance(network, nn.Module)
        network.to(device).train(True)
        return cls(name, start, network, torch.optim.AdamW(network.parameters(), weight_decay=0.01))

    def step(self, batch: CropBatch, speed: float) -> torch.Tensor:
        """Learn from a batch, on a GPU in half precision; return the loss."""
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=batch.images.is_cuda):
            loss = self.start.network.loss(self.network(batch.images), batch).value
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 3.0)
        self.optimizer.param_groups[0]["lr"] = speed
        self.optimizer.step()
        return loss.detach()

    def finish(self) -> Model:
        """Return what was learnt as a model."""
        network = copy.deepcopy(self.start.network)
        network.load_state_dict({name: value.cpu() for name, value in self.network.state_dict().items()})
        network.train(False)
        return replace(self.start, network=network, info={"recipe": "together.py", "model": self.name})


def train(
    starts: Mapping[str, Model], groups: Groups, kinds: Sequence[str], phase: int, options: argparse.Namespace
) -> list[Model]:
    """Return the models after a phase of training."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    students = [Student.begin(name, start, device) for name, start in starts.items()]
    size, steps = max(1, options.units // (2 - phase)), options.steps[phase]
    units = Units(groups, kinds, size * steps, phase + 1)
    settings = {"num_workers": options.workers, "collate_fn": together, "pin_memory": device.type == "cuda"}
    whose = {s.name: torch.tensor([may_see(s.name, kind) for kind in kinds]).repeat(size).to(device) for s in students}
    begin = time.monotonic()
    for step, parts in enumerate(DataLoader(units, size, **settings)):
        speed = RATES[phase] * warm_cosine(step, steps, WARM[phase])
        batch = [part.to(device, non_blocking=True) for part in parts]
        lost = []
        for turn in (0, TURNS[step % len(TURNS)]):
            seen = [turned(part, turn) for part in batch]
            lost = [s.step(CropBatch(*(part[whose[s.name]] for part in seen)), speed) for s in students]
        if step % 50 == 0:
            losses = " ".join(f"{s.name} {loss:.3f}" for s, loss in zip(students, lost, strict=True))
            print(f"{phase} {step} {time.monotonic() - begin:.0f} s {losses}", flush=True)
    return [student.finish() for student in students]


def turned(part: torch.Tensor, turn: int) -> torch.Tensor:
    """Return images or maps turned and mirrored in one of eight ways; what has no sides is returned as it is."""
    if part.ndim < 3:
        return part
    return torch.rot90(part.transpose(1, 2) if turn >= 4 else part, turn % 4, (1, 2))


def mean(one: Model, other: Model) -> Model:
    """Return a model whose weights are the means of those of two that began as the same."""
    network, second = copy.deepcopy(one.network), other.network.state_dict()
    network.load_state_dict(
        {
            name: 0.5 * (value + second[name]) if value.is_floating_point() else value
            for name, value in one.network.state_dict().items()
        }
    )
    return replace(one, network=network)


def calibrated(model: Model, held: Sequence[tuple[float, Labelled]], path: Path, pool: Pool) -> Model:
    """Return the model with scores that agree with how often they are right, and save it."""
    raw = replace(model, calibration=Calibration())
    model = replace(model, calibration=fit(pool.map(partial(outcome, raw), held, chunksize=1)))
    save_model(model, path)
    print(path, model.calibration, flush=True)
    return load_model(path)


def outcome(model: Model, item: tuple[float, Labelled]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of all candidates of a micrograph, and which of them are particles."""
    return outcomes(model, *item)


if __name__ == "__main__":
    main()
