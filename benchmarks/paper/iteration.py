"""The iteration of Section 2.1: what learning from the program's own picks changes, for both networks."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import numpy as np

from deeppicker.config import ExampleConfig, LearnConfig, PickConfig, SelfTrainConfig, TrainConfig
from deeppicker.evaluation.results import Evaluation
from deeppicker.networks.model import Model, load_model, save_model, weights_digest
from deeppicker.networks.paper import PaperNetwork
from deeppicker.training.adapt import adapt_model, pick_again
from deeppicker.training.self_train import learn_from_picks
from paper.cache import cached, checksum
from paper.data import title_of
from paper.figures import COLOURS, MARKERS, Canvas
from paper.results import Picture, Section, Table, Verdict, number, signed
from paper.study import THRESHOLD, Lesson, Study, best_f1, trained

_NO_CHANGE = 0.02  # best F1; what the paper calls no significant change
NAMES = {"paper": "the paper's network", "default": "the default network"}


def lessons(study: Study) -> list[tuple[Lesson, str]]:
    """Return the networks that this experiment needs, and what they pick."""
    return [(study.cross(target, 4), target) for target in study.targets]


def run(study: Study, canvas: Canvas) -> Section:
    found = {
        target: {
            "paper": [study.evaluated(study.picks(m, target), target) for m in iterated(study, target)],
            "default": [study.evaluated(study.picks(m, target), target) for m in learnt(study, target)],
        }
        for target in study.targets
    }
    _draw(study, canvas, found)
    return Section(
        "The iteration",
        f"Each network is trained further on its own best picks in the micrographs to be picked (at most "
        f"{study.settings.particles:,}, of score {THRESHOLD} or more), up to {study.settings.rounds} times. The "
        "paper's starts from four other molecules; the default one learns as `deeppicker pick` does. "
        + study.about_default,
        tuple(_verdict(found, kind, study.settings.rounds) for kind in NAMES),
        (_table(found),),
        (
            Picture(
                canvas.stem("rounds"), "Best F1 after each round: the paper's network (solid), the default (dashed)."
            ),
        ),
    )


def iterated(study: Study, target: str) -> list[Model]:
    """Return the paper's network before the iteration and after each round of it."""
    models = [study.network(study.cross(target, 4))]
    dataset = study.test(target).dataset
    config = LearnConfig(
        examples=ExampleConfig(num_particles=study.settings.particles, versions=study.settings.versions),
        train=TrainConfig(epochs=study.settings.epochs or PaperNetwork.adapt_epochs),
    )
    for _ in range(study.settings.rounds):
        start = models[-1]
        key = checksum("iteration", study.settings.taught, target, weights_digest(start), asdict(config))
        path = study.models / f"{key}.safetensors"
        again = [pick_again(start, item, dataset.diameter, PickConfig(), THRESHOLD) for item in dataset.micrographs]
        again = [item for item in again if len(item.picks)]
        if not again:
            break
        models.append(trained(path, partial(adapt_model, start, replace(dataset, micrographs=again), config, path)))
    return models


def learnt(study: Study, target: str) -> list[Model]:
    """Return the default network before learning and after each round of it that the program accepts."""
    start = study.default(target)
    config = SelfTrainConfig(rounds=study.settings.rounds, steps=study.settings.learning_steps)
    key = checksum("learning", study.settings.taught, target, weights_digest(start), asdict(config))
    paths = [study.models / f"{key}-{i + 1}.safetensors" for i in range(study.settings.rounds)]

    def learn() -> dict[str, object]:
        micrographs = study.test(target).micrographs()
        chosen = np.unique(np.linspace(0, len(micrographs) - 1, config.micrographs).round().astype(int))
        after: list[Model] = []
        outcome = learn_from_picks(
            start,
            [micrographs[i] for i in chosen],
            study.molecule(target).diameter,
            config,
            after_round=lambda state: after.append(state.model),
        )
        last = next((i for i, model in enumerate(after) if model is outcome.model), -1)
        accepted = after[: last + 1]
        for model, path in zip(accepted, paths, strict=False):
            save_model(model, path)
        return {"accepted": len(accepted), "refusal": outcome.refusal}

    accepted = cached(study.models / f"{key}.json", key, learn)["accepted"]
    return [start, *(load_model(path) for path in paths[:accepted])]


def as_picked(study: Study, target: str) -> Model:
    """Return the default network as `deeppicker pick` would use it, after as many rounds as that takes by itself."""
    return learnt(study, target)[: SelfTrainConfig().rounds + 1][-1]


def _verdict(found: dict[str, dict[str, list[Evaluation]]], kind: str, rounds: int) -> Verdict:
    claim = "More than one round changes little (the paper's network)."
    if kind != "paper":
        claim = "(Ours:) more than one round changes little (the default network)."
    full = {target: row[kind] for target, row in found.items() if len(row[kind]) > 1}
    if not full:
        return Verdict(
            claim, "no round took place", None,
            "There were too few picks to learn from.",
        )  # fmt: skip
    first = {target: best_f1(row[1]) - best_f1(row[0]) for target, row in full.items()}
    more = {target: best_f1(row[-1]) - best_f1(row[1]) for target, row in full.items() if len(row) > 2}
    worst = max(more, key=lambda target: abs(more[target])) if more else ""
    changes = [abs(value) for value in more.values()]
    later = (
        f"later rounds change it by {signed(float(np.mean(list(more.values()))))} more"
        if more
        else f"with {rounds} round there are no later ones"
    )
    idle = [title_of(target) for target in found if target not in full]
    return Verdict(
        claim,
        f"best F1 changes by {signed(float(np.mean(list(first.values()))))} on average in the first round; {later}",
        max(changes) <= _NO_CHANGE if changes else None,
        (
            f"Little means within {_NO_CHANGE} for every target; {title_of(worst)} changes by {signed(more[worst])}. "
            if more
            else ""
        )
        + f"In the first round {sum(v > 0 for v in first.values())} of {len(first)} targets gain."
        + (f" Nothing is learnt of {'; '.join(idle)}." if idle else ""),
    )


def _draw(study: Study, canvas: Canvas, found: dict[str, dict[str, list[Evaluation]]]) -> None:
    with canvas.panels("rounds", 1, size=(5.4, 2.8)) as (axes,):
        for (target, row), colour, marker in zip(found.items(), COLOURS, MARKERS, strict=False):
            for kind, style in (("paper", "solid"), ("default", "dashed")):
                label = title_of(target) if kind == "paper" else None
                values = [best_f1(one) for one in row[kind]]
                axes.plot(range(len(values)), values, color=colour, marker=marker, linestyle=style, label=label)
        axes.set(xlabel="rounds", ylabel="best F1", ylim=(0, 1.05))
        axes.set_xticks(range(study.settings.rounds + 1))
        axes.legend(loc="lower right", ncols=2)


def _table(found: dict[str, dict[str, list[Evaluation]]]) -> Table:
    rows = [
        (
            title_of(target),
            NAMES[kind],
            str(index),
            number(best_f1(one)),
            number(one.pooled.recall),
            number(one.pooled.precision),
        )
        for target, row in found.items()
        for kind, steps in row.items()
        for index, one in enumerate(steps)
    ]
    head = ("target", "network", "rounds", "best F1", f"recall at {THRESHOLD}", f"precision at {THRESHOLD}")
    return Table("Before and after", head, tuple(rows))
