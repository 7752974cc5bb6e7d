"""A short training on few manual picks."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import scenes
from deeppicker.cli.main import main
from deeppicker.config import LearnConfig, SelfTrainConfig
from deeppicker.core import Picks
from deeppicker.errors import InputError
from deeppicker.networks.model import Model, load_model, weights_digest
from deeppicker.training import few_labels
from deeppicker.training.data import Dataset
from deeppicker.training.few_labels import FEW, adapt_to_few, is_few
from scenes import DIAMETER


@cache
def general() -> Model:
    return load_model("general-small")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_labels, "_METHOD", SelfTrainConfig(steps=3, crop=96))


def labelled(*seeds: int, number: int | None = None) -> Dataset:
    scenes_ = [scenes.scene(seed) for seed in seeds]
    return scenes.dataset(*(replace(scene, positions=scene.positions[:number]) for scene in scenes_))


def with_scores(dataset: Dataset) -> Dataset:
    return replace(
        dataset,
        micrographs=[
            replace(item, picks=Picks(item.picks.micrograph, item.picks.positions, np.ones(len(item.picks))))
            for item in dataset.micrographs
        ],
    )


def test_few_picks_by_hand_for_the_dense_network_are_few():
    assert is_few(general(), labelled(0, 1))
    assert not is_few(general(), with_scores(labelled(0, 1)))
    assert not is_few(scenes.trained(), labelled(0, 1))  # of the paper's network
    many = replace(labelled(0), micrographs=labelled(0).micrographs * (FEW // 16 + 1))
    assert len(many) > FEW
    assert not is_few(general(), many)


@pytest.mark.usefixtures("quick")
def test_the_same_picks_give_the_same_model_which_is_saved(tmp_path: Path):
    told: list[tuple[int, int, float]] = []
    one = adapt_to_few(general(), labelled(0), LearnConfig(), tmp_path / "m", lambda *step: told.append(step))
    two = adapt_to_few(general(), labelled(0), LearnConfig(), tmp_path / "n")
    assert weights_digest(one) == weights_digest(two) == weights_digest(load_model(tmp_path / "m"))
    assert weights_digest(one) != weights_digest(general())
    assert load_model(tmp_path / "m").diameter == DIAMETER
    assert [step[:2] for step in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(step[2] > 0 for step in told)


def taught(monkeypatch: pytest.MonkeyPatch, dataset: Dataset, output: Path, *, complete: bool) -> list[torch.Tensor]:
    """Return the maps of centres that a training is given."""
    maps: list[torch.Tensor] = []
    monkeypatch.setattr(few_labels, "train_on_sheets", lambda _network, _sheets, targets, *_: maps.extend(targets))
    adapt_to_few(general(), dataset, LearnConfig(), output, complete=complete)
    return maps


def test_what_the_model_is_sure_of_and_nobody_has_labelled_is_left_out_unless_all_is_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    few = labelled(0, number=4)
    (some,) = taught(monkeypatch, few, tmp_path / "m", complete=False)
    (everything,) = taught(monkeypatch, few, tmp_path / "m", complete=True)
    assert int((some == 1).sum()) == int((everything == 1).sum())
    assert some.isnan().any()
    assert not everything.isnan().any()


def test_of_several_micrographs_those_that_judge_are_not_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert len(taught(monkeypatch, labelled(0, 1, 2), tmp_path / "m", complete=True)) == 2
    assert len(taught(monkeypatch, labelled(0), tmp_path / "m", complete=True)) == 1


def test_no_pick_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="holds no pick"):
        adapt_to_few(general(), labelled(0, number=0), LearnConfig(), tmp_path / "m")


@pytest.mark.usefixtures("quick")
def test_adapt_learns_from_few_picks_in_a_minute_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for seed in range(2):
        scenes.write_mrc(tmp_path / f"{seed}.mrc", scenes.scene(seed).micrograph.image)
        rows = "".join(f"{x:.1f}\t{y:.1f}\n" for x, y in scenes.scene(seed).positions)
        (tmp_path / f"{seed}.star").write_text(f"data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n{rows}")
    words = ["--picks", str(tmp_path), "--micrographs", str(tmp_path), "--diameter", str(DIAMETER)]
    words += ["--pixel-size", str(scenes.PIXEL_SIZE), "--model", "general-small", "--output", str(tmp_path / "m")]
    assert main(["adapt", *words]) == 0
    shown = capsys.readouterr().out
    assert "manual picks in 1 micrograph, which takes about a minute" in shown
    assert "kept out of training: F1" in shown
    assert load_model(tmp_path / "m").info["method"] == "few labels"
