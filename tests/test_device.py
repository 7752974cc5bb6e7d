"""Where networks compute: what is decided, and that what is decided is done. Most of it without a card."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import scenes
from deeppicker import device, load_model, run_picking
from deeppicker.cli import doctor
from deeppicker.cli.main import main
from deeppicker.config import (
    ClusterConfig,
    DeviceConfig,
    PickConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
    Subject,
    TrainConfig,
)
from deeppicker.core import Micrograph
from deeppicker.device import Card, Offer, choose, in_parts, torch_device
from deeppicker.errors import InputError, TransientError
from deeppicker.networks.batches import CropBatch, WindowBatch
from deeppicker.networks.model import Model, new_network, save_model
from deeppicker.parallel.jobs import attempt
from deeppicker.parallel.processes import WORKER, processes
from deeppicker.picking.pipeline import find, pick_micrograph
from deeppicker.runs import learning, session
from deeppicker.runs.events import Message
from deeppicker.runs.pick_job import Picker
from deeppicker.simulate import volumes
from deeppicker.simulate.shapes import invent
from deeppicker.training.loop import Training
from deeppicker.training.self_train import Learnt, learn_from_picks

GB = 10**9
LARGE = Card("Big", 70 * GB, 80 * GB)
SMALL = Card("Small", 4 * GB, 8 * GB)
FULL = Card("Full", GB // 5, 8 * GB)
BROKEN = Card("Old", 0, 0, "no kernel image is available")
META = torch.device("meta")

needs_card = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA or AMD card"),
]


@pytest.mark.parametrize(
    ("wanted", "cards", "decided"),
    [
        ("auto", [], "cpu"),
        ("auto", [LARGE], "cuda:0"),
        ("auto", [BROKEN, LARGE, FULL, SMALL], "cuda:1,cuda:3"),
        ("auto", [FULL], "cpu"),
        ("cpu", [LARGE], "cpu"),
        ("cuda", [SMALL, LARGE], "cuda:0,cuda:1"),
        ("cuda:1", [LARGE, SMALL], "cuda:1"),
        ("cuda:0", [FULL], "cuda:0"),
    ],
)
def test_cards_are_used_if_they_can_be_and_the_processor_otherwise(wanted: str, cards: list[Card], decided: str):
    assert choose(wanted, Offer(tuple(cards))).device == decided


def test_a_command_that_uses_one_card_takes_the_one_with_most_free_memory():
    assert choose("auto", Offer((SMALL, LARGE)), one=True).device == "cuda:1"


def test_apples_graphics_is_used_only_if_asked_for():
    assert choose("auto", Offer(apple=True)).device == "cpu"
    assert choose("mps", Offer(apple=True)).device == "mps"


@pytest.mark.parametrize(
    ("wanted", "offer", "reason"),
    [
        ("cuda", Offer(lack="PyTorch is built for the processor only"), "built for the processor only"),
        ("cuda", Offer((FULL,)), "Full has only 0.2 of 8.0 GB free"),
        ("cuda:3", Offer((LARGE, SMALL)), "the cards are 0 to 1"),
        ("cuda:0", Offer((BROKEN,)), "Old cannot be used: no kernel image"),
        ("mps", Offer(), "this machine or its PyTorch has none"),
    ],
)
def test_what_is_asked_for_and_cannot_be_used_is_refused_with_the_reason(wanted: str, offer: Offer, reason: str):
    with pytest.raises(InputError, match=reason):
        choose(wanted, offer)


def test_why_a_card_is_not_used_is_said():
    assert str(choose("auto", Offer((BROKEN, FULL)))) == (
        "on the processor (Old cannot be used: no kernel image is available; Full has only 0.2 of 8.0 GB free)"
    )
    assert str(choose("auto", Offer((LARGE,)))) == "on Big, 70 of 80 GB free (cuda:0)"


def test_workers_are_as_many_as_have_room_on_the_cards():
    assert choose("auto", Offer((SMALL,))).workers == 2
    assert choose("auto", Offer((SMALL, LARGE))).workers == 10
    assert choose("cuda:0", Offer((FULL,))).workers == 1
    assert choose("cpu", Offer()).workers is None


def test_an_unknown_device_is_refused():
    for text in ("gpu", "cuda:", "cuda:x", "cpu:0", "cuda:0,cuda:1"):
        with pytest.raises(InputError, match="choose auto, cpu, cuda"):
            DeviceConfig(device=text)


def worker_number(_: object) -> str:
    return os.environ[WORKER]


def test_cards_are_dealt_among_the_workers(monkeypatch: pytest.MonkeyPatch):
    with processes(3, 60.0) as mapper:
        numbers = {outcome for _, outcome in mapper(worker_number)(range(12))}
    assert numbers == {"0", "1", "2"}
    used = []
    for number in range(3):
        torch_device.cache_clear()
        monkeypatch.setenv(WORKER, str(number))
        used.append(str(torch_device("cuda:0,cuda:2")))
    torch_device.cache_clear()
    assert used == ["cuda:0", "cuda:2", "cuda:0"]


def test_a_worker_of_a_cluster_whose_card_is_full_may_try_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "offered", lambda **_: Offer((FULL,)))
    torch_device.cache_clear()
    monkeypatch.delenv(WORKER, raising=False)
    with pytest.raises(InputError, match="Full has only"):
        torch_device("cuda")
    monkeypatch.setenv(WORKER, "0")
    with pytest.raises(TransientError, match="Full has only"):
        torch_device("cuda")
    monkeypatch.setattr(device, "offered", lambda **_: Offer((LARGE,)))
    assert str(torch_device("cuda")) == "cuda:0"
    torch_device.cache_clear()


@pytest.mark.parametrize("cluster", [None, "local"])
def test_workers_of_this_machine_compute_where_the_command_says(cluster: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "offered", lambda: Offer((SMALL, LARGE)))
    config = RunConfig(cluster=ClusterConfig(cluster=cluster))
    assert session._place(config).device == "cuda:0,cuda:1"
    elsewhere = replace(config, cluster=ClusterConfig(cluster="slurm"))
    assert session._place(elsewhere).device == "auto"


def test_a_card_computes_as_exactly_as_the_processor():
    torch.backends.cudnn.allow_tf32 = True
    torch_device.cache_clear()
    assert torch_device("cuda:0").type == "cuda"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_parts_are_halved_until_they_fit():
    tried = []

    def compute(size: int) -> int:
        tried.append(size)
        if size > 300:
            raise torch.OutOfMemoryError
        return size

    assert in_parts(compute, 2048, 200) == 256
    assert tried == [2048, 1024, 512, 256]
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(compute, 2048, 400)


@pytest.mark.parametrize("kind", ["paper", "dense"])
def test_a_card_whose_memory_is_short_finds_the_same_picks(kind: str, monkeypatch: pytest.MonkeyPatch):
    micrograph = scenes.scene(0, shape=(400, 520)).micrograph
    model = scenes.trained() if kind == "paper" else load_model("general-small")
    expected = find(micrograph, model, scenes.DIAMETER, PickConfig(score=ScoreConfig(tile=2048)))
    network, most = type(model.network), 500
    whole = network.score_map

    def score_map(self, prepared, step, tile):  # type: ignore[no-untyped-def]
        if tile > most:
            raise torch.OutOfMemoryError
        return whole(self, prepared, step, tile)

    monkeypatch.setattr(network, "score_map", score_map)
    found = find(micrograph, model, scenes.DIAMETER, PickConfig(score=ScoreConfig(tile=2048)))
    assert np.array_equal(found.candidates.positions, expected.candidates.positions)
    assert np.allclose(found.candidates.scores, expected.candidates.scores, atol=1e-6)
    most = 100
    outcome = attempt(lambda item: find(item, model, scenes.DIAMETER), micrograph)
    assert isinstance(outcome, TransientError)  # others may leave the card
    assert "--device cpu" in str(outcome)


@pytest.mark.parametrize("kind", ["paper", "dense"])
def test_a_step_of_training_happens_on_the_device_alone(kind: str):
    """The device ``meta`` computes nothing, but refuses to mix its tensors with others."""
    network = new_network(0, kind).to(META)
    training = Training(network, TrainConfig())
    images = torch.zeros(4, 64, 64)
    batch = {
        "paper": WindowBatch(images, torch.ones(4)),
        "dense": CropBatch(
            images,
            torch.zeros(4, 32, 32),
            torch.zeros(4, 8, 8),
            torch.zeros(4, 8, 8),
            torch.zeros(4, dtype=torch.int64),
        ),
    }[kind].to(META)
    loss = network.loss(network.train(True)(batch.images), batch)
    training.step(loss.value)
    assert loss.value.device == loss.accuracy.device == META
    state = [value for values in training.optimizer.state.values() for value in values.values() if value.dim()]
    assert state
    assert {value.device for value in [*network.parameters(), *state]} == {META}


def test_a_model_is_the_same_wherever_it_is_used_and_can_be_sent():
    model = scenes.trained()
    assert Picker(model.on("cuda:0"), 72.0).settings() == Picker(model, 72.0).settings()
    assert model.for_picking.device.type == "cpu"
    moved = pickle.loads(pickle.dumps(model.on("meta")))
    assert moved.device == "meta"
    assert "for_picking" not in pickle.loads(pickle.dumps(model)).__dict__
    assert moved.for_picking.device == META
    assert moved.network.device.type == "cpu"


def test_what_was_learnt_before_is_used_where_the_run_computes(tmp_path: Path):
    model = load_model("general-small")
    learning._keep(tmp_path, Learnt(model, "", 10, 10), {"start": "that"}, 2)
    known = learning._known(tmp_path, {"start": "that"}, model.on("cuda:0"))
    assert known is not None
    assert known.device == "cuda:0"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed in (0, 1):
        scenes.write_mrc(tmp_path / "in" / f"{seed}.mrc", scenes.scene(seed).micrograph.image)
    save_model(scenes.trained(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_goes_on_wherever_it_is_computed(project: Path):
    said = []
    for name in ("cpu", "auto"):
        config = RunConfig(
            subject=Subject(model="model.safetensors", diameter=scenes.DIAMETER),
            device=DeviceConfig(device=name),
            select=SelectConfig(threshold=0.5),
        )
        result = run_picking(["in"], project / "out", config, said.append)
    assert result.before == 2
    texts = [event.text for event in said if isinstance(event, Message)]
    assert texts[0].startswith("computing on the processor (as asked for)")


@pytest.mark.usefixtures("project")
def test_the_first_line_says_where_is_computed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "offered", lambda: Offer((FULL,)))
    words = ["pick", "in", "--output", "out", "--model", "model.safetensors", "--workers", "0", "--threshold", "0.5"]
    assert main(words) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "computing on the processor (Full has only 0.2 of 8.0 GB free)"


@pytest.mark.usefixtures("project")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize(
    "words",
    [
        ["pick", "in", "--output", "out"],
        ["watch", "in", "--output", "out"],
        ["train", "particles.star", "--output", "m.safetensors"],
        ["adapt", "--picks", "particles.star", "--output", "m.safetensors"],
        ["classify", "--picks", "particles.star", "--output", "classes"],
        ["simulate", "--shapes", "1", "--output", "simulated"],
    ],
)
def test_a_card_that_is_not_there_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*words, "--device", "cuda"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("deeppicker: --device cuda: ")
    assert "leave --device out to use the processor" in shown


@pytest.mark.usefixtures("project")
def test_a_card_is_not_silently_left_out_where_relion_classifies(capsys: pytest.CaptureFixture[str]):
    words = ["classify", "--picks", "particles.star", "--output", "classes", "--relion", "--device", "cuda:1"]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("deeppicker: --device cuda:1: RELION aligns on the processor here; ")


def test_the_doctor_says_why_a_card_is_not_used(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for offer, line, problem in (
        (Offer((LARGE,)), "graphics   cuda:0, Big; 70.0 of 80.0 GB are free", "no problem"),
        (Offer((FULL,)), "device     computing on the processor (Full has only 0.2", "no problem"),
        (Offer((BROKEN,)), "graphics   cuda:0, Old; no kernel image", "update its driver, or PyTorch"),
        (Offer(lack="PyTorch does not fit", misfit=True), "the processor (PyTorch does not fit)", "PyTorch that fits"),
    ):
        monkeypatch.setattr(device, "offered", lambda offer=offer: offer)
        main(["doctor", "--no-speed"])
        shown = capsys.readouterr().out
        assert line in shown
        assert problem in shown
    assert doctor.Options().no_speed is False


def agree(one: Model, other: Model, micrograph: Micrograph, diameter: float) -> bool:
    """Return whether two models find the same, but for scores within 1e-3 of the threshold."""
    first, second = (pick_micrograph(micrograph, model, diameter) for model in (one, other))
    sure = first.where(first.scores > 0.3 + 1e-3)
    distance = np.hypot(*(sure.positions[:, None] - second.positions[None]).transpose(2, 0, 1))
    nearest = distance.argmin(axis=1)
    return bool(
        (distance.min(axis=1) <= 0.1).all() and (np.abs(sure.scores - second.scores[nearest]) <= 1e-3).all()
    ) and abs(int((second.scores > 0.3).sum()) - len(sure)) <= int((np.abs(first.scores - 0.3) <= 1e-3).sum())


def test_picks_that_differ_do_not_agree():
    micrograph = scenes.scene(3).micrograph
    assert agree(scenes.trained(), scenes.trained(), micrograph, scenes.DIAMETER)
    assert not agree(scenes.uncertain(), scenes.trained(), micrograph, scenes.DIAMETER)


class TestOnACard:
    pytestmark = needs_card

    @pytest.mark.parametrize("name", ["general", "general-small", "deeppicker2016"])
    def test_the_picks_are_those_of_the_processor(self, name: str):
        model = load_model(name)
        for seed in range(3):
            micrograph = scenes.scene(seed, shape=(400, 520), number=60).micrograph
            assert agree(model, model.on("cuda:0"), micrograph, scenes.DIAMETER)
            assert agree(model.on("cuda:0"), model, micrograph, scenes.DIAMETER)

    def test_a_run_over_some_micrographs(self, project: Path):
        config = RunConfig(
            subject=Subject(model="model.safetensors", diameter=scenes.DIAMETER), device=DeviceConfig(device="cuda")
        )
        result = run_picking(["in"], project / "out", config)
        assert result.picks > 20

    def test_a_data_set_is_learnt(self):
        model = replace(load_model("general-small"), diameter=None).on("cuda:0")
        micrographs = [scenes.scene(seed, number=30, shape=(400, 520)).micrograph for seed in range(4)]
        learnt = learn_from_picks(model, micrographs, scenes.DIAMETER)
        assert learnt.model.network.device.type == "cpu"

    def test_projections_agree_within_rounding(self):
        volume = invent(np.random.default_rng(0), 120.0)
        rotations = Rotation.random(20, rng=np.random.default_rng(0))
        on_card, here = (volumes.project(volume, rotations, torch.device(name)) for name in ("cuda:0", "cpu"))
        np.testing.assert_allclose(on_card, here, atol=1e-4 * here.max())

    def test_a_model_is_trained_without_torchrun(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        scenes.write_project(tmp_path, [scenes.scene(seed, number=8) for seed in (60, 61, 62)])
        words = ["train", str(tmp_path / "particles.star"), "--output", str(tmp_path / "m.safetensors"), "--crop", "64"]
        assert main([*words, "--epochs", "1", "--device", "cuda", "--batch-size", "4"]) == 0
        assert "computing on " in capsys.readouterr().out
        assert load_model(tmp_path / "m.safetensors").network.device.type == "cpu"
