"""Of manual picks, some micrographs are kept out of training and judge what was learnt."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.config import LearnConfig, SelfTrainConfig
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.formats import write_picks
from deeppicker.networks.model import Model, load_model, save_model
from deeppicker.training import adapt, few_labels
from deeppicker.training.adapt import adapt_model
from deeppicker.training.data import Dataset
from deeppicker.training.fit import halves, hold_out


def labelled(counts: Sequence[int]) -> Dataset:
    every = [scenes.scene(seed, f"{seed}.mrc") for seed in range(len(counts))]
    some = [replace(item, positions=item.positions[:count]) for item, count in zip(every, counts, strict=True)]
    return scenes.dataset(*some)


def names(dataset: Dataset) -> set[str]:
    return {item.picks.micrograph for item in dataset.micrographs}


class Seen:
    """What each training learns from, and which micrographs judge."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taught: list[Dataset] = []
        self.judged: set[str] = set()
        evaluate, doubted = adapt.evaluate_picks, few_labels.doubted

        def train(_: Model, datasets: Sequence[Dataset], config: LearnConfig, *_rest: object) -> Model:
            self.taught.append(halves(datasets, config)[0][0])
            return replace(scenes.trained(), info={"best_epoch": {"epoch": 1, "validation_accuracy": 1.0}})

        def look(model: Model, dataset: Dataset, score: float) -> Dataset:
            self.taught.append(dataset)
            return doubted(model, dataset, score)

        def judge(found: Any, reference: Sequence[Picks], *rest: Any) -> Any:
            self.judged.update(item.micrograph for item in reference)
            return evaluate(found, reference, *rest)

        monkeypatch.setattr(adapt, "train_model", train)
        monkeypatch.setattr(few_labels, "doubted", look)
        monkeypatch.setattr(few_labels, "_METHOD", SelfTrainConfig(steps=1, crop=96))
        monkeypatch.setattr(adapt, "evaluate_picks", judge)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def adapted(folder: Path, counts: Sequence[int], *words: str) -> None:
    """Call `deeppicker adapt` for manual picks of a folder that names its micrographs, also those without a pick."""
    data = labelled(counts)
    star = scenes.write_project(folder, [scenes.scene(seed, f"{seed}.mrc") for seed in range(len(counts))])
    rows = [f"micrographs/{item.picks.micrograph} 1" for item in data.micrographs]
    optics = f"data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 {scenes.PIXEL_SIZE}\n"
    table = "\n".join(["data_micrographs\n", "loop_", "_rlnMicrographName", "_rlnOpticsGroup", *rows])
    (folder / "micrographs.star").write_text(f"{optics}\n{table}\n", encoding="utf-8")
    kept = [Picks.unscored(f"micrographs/{item.picks.micrograph}", item.picks.positions) for item in data.micrographs]
    write_picks(star, kept, pixel_size=scenes.PIXEL_SIZE)
    save_model(scenes.trained(), folder / "start")
    model = () if "--model" in words else ("--model", str(folder / "start"))
    assert main(["adapt", "--picks", str(star), "--output", str(folder / "new"), *model, *words]) == 0


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((9,) * 6, ("--num-particles", "18", "--model", "general-small")),
        ((9, 9, 0, 9, 9, 9), ("--model", "general-small")),
        ((16, 2, 16, 2, 16, 2), ("--rounds", "2")),
    ],
)
def test_micrographs_that_judge_are_not_learnt_from(
    tmp_path: Path, seen: Seen, counts: Sequence[int], words: Sequence[str], capsys: pytest.CaptureFixture[str]
):
    adapted(tmp_path, counts, *words)
    assert seen.judged
    assert len(seen.taught) == (2 if "--rounds" in words else 1)
    for taught in seen.taught:
        assert len(taught)
        assert names(taught).isdisjoint({f"micrographs/{name}" for name in seen.judged} | seen.judged)
    assert "kept out of training: F1" in capsys.readouterr().out


def test_of_few_picks_no_more_are_learnt_than_are_asked_for(
    tmp_path: Path, seen: Seen, capsys: pytest.CaptureFixture[str]
):
    adapted(tmp_path, (9, 9, 9), "--model", "general-small", "--num-particles", "7")
    (taught,) = seen.taught
    assert len(taught) == 7
    assert "learning from 7 manual picks in 1 micrograph, which" in capsys.readouterr().out


def test_one_micrograph_with_picks_is_learnt_from_beside_an_empty_one(
    tmp_path: Path, seen: Seen, capsys: pytest.CaptureFixture[str]
):
    adapted(tmp_path, (9, 0), "--model", "general-small")
    (taught,) = seen.taught
    assert [len(item.picks) for item in taught.micrographs] == [9, 0]
    assert not seen.judged
    assert "kept out" not in capsys.readouterr().out
    assert load_model(tmp_path / "new").info["datasets"][0]["particles"] == 9


def test_what_is_kept_out_stays_so_whatever_its_picks_are():
    data = hold_out(labelled((9, 9, 0, 9)), LearnConfig())
    held = data.part(held=True)
    assert len(held.micrographs) == 1
    assert len(held)
    assert names(held).isdisjoint(names(data.part(held=False)))
    first = [replace(item, picks=item.picks.where(np.arange(len(item.picks)) == 0)) for item in data.micrographs]
    renewed = replace(data, micrographs=first)
    assert names(hold_out(renewed, LearnConfig()).part(held=True)) == names(held)
    assert names(halves([renewed], LearnConfig())[0][1]) == names(held)


def test_nothing_is_kept_out_where_nothing_can_be_judged():
    one, scored = labelled((9, 0)), scenes.dataset(scenes.scene(0), scenes.scene(1), scores=[np.ones(16)] * 2)
    for data in (one, scored):
        assert hold_out(data, LearnConfig()) is data


def test_picks_in_micrographs_that_are_kept_out_only_teach_nothing(tmp_path: Path):
    data = hold_out(labelled((9, 9)), LearnConfig())
    nothing = Picks.unscored("", np.zeros((0, 2)))
    gone = replace(data, micrographs=[i if i.held else replace(i, picks=nothing) for i in data.micrographs])
    with pytest.raises(InputError, match="holds no pick"):
        adapt_model(scenes.trained(), gone, LearnConfig(), tmp_path / "m")
