"""Self-training: labels from one's own picks, what is learnt from them, and when nothing is."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import scenes
from deeppicker.config import SelfTrainConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.evaluation.matching import match
from deeppicker.networks.model import Model, load_model
from deeppicker.picking.pipeline import pick_micrograph
from deeppicker.picking.prepare import prepare_image
from deeppicker.training import self_train, self_train_checks
from deeppicker.training.self_train import Candidates, Learnt, _labels, learn_from_picks
from deeppicker.training.self_train_checks import compact, too_little
from deeppicker.training.self_train_file import load_rounds, save_rounds
from deeppicker.training.sheets import Sheet, draw_crops, load_sheet, target
from deeppicker.training.short_training import mean_of, network_copy
from scenes import BOX, DIAMETER

QUICK = SelfTrainConfig(rounds=1, steps=2, crop=96, fewest=5)


@cache
def general() -> Model:
    return load_model("general-small")


def micrographs(number: int = 4) -> list[Micrograph]:
    return [scenes.scene(seed).micrograph for seed in range(number)]


def weights(model: Model) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in model.network.state_dict().values()])


def sheet(seed: int = 0) -> Sheet:
    return load_sheet(scenes.scene(seed).micrograph, general(), DIAMETER)


def picks(scores: Sequence[float]) -> Candidates:
    found = Picks("m.mrc", np.arange(2.0 * len(scores)).reshape(-1, 2), np.array(scores, dtype=float))
    return Candidates(found, found, 1.0)


def test_a_sheet_shows_what_picking_sees():
    micrograph = scenes.scene(0).micrograph
    image, grid = prepare_image(micrograph, DIAMETER, general().prepare)
    shown = load_sheet(micrograph, general(), DIAMETER)
    assert shown.grid == grid
    assert np.array_equal(shown.image[: image.shape[0], : image.shape[1]].numpy(), image)
    assert all(side % 16 == 0 for side in shown.image.shape)


def test_picks_in_one_half_of_the_micrographs_are_too_few_to_judge_by():
    found = [picks([0.9] * number).picks for number in (50, 3, 50, 2)]
    reason = too_little(found, SelfTrainConfig(fewest=40))
    assert reason == "of 105 picks, one half of the 4 micrographs holds 5, too few to judge by"
    assert too_little(found[:2], SelfTrainConfig(fewest=40)) == "53 picks in 2 micrographs are too few"


def test_sure_places_are_peaks_and_unknown_ones_are_left_out():
    one = sheet()
    points = one.grid.positions(np.array([[60.5, 40.5], [100.5, 80.5]]))
    drawn = target(one, points[:1], points[1:], 24.0)
    assert drawn[20, 30] == 1  # row, column at half the resolution
    assert drawn[40, 50].isnan()
    assert int(drawn.isnan().sum()) == pytest.approx(np.pi * (0.4 * 24 / 2) ** 2, rel=0.1)
    assert drawn[60, 20] == 0


def test_a_sure_place_next_to_an_unknown_one_stays():
    one = sheet()
    points = one.grid.positions(np.array([[60.5, 40.5], [64.5, 40.5]]))
    drawn = target(one, points[:1], points[1:], 24.0)
    assert drawn[20, 30] == 1
    assert drawn[20, 34].isnan()


def test_crops_are_turned_with_their_maps():
    one = sheet()
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in one.image.shape), indexing="ij")
    places = columns + 1000 * rows
    counted = Sheet(places, one.grid, places[None, ::8, ::8])
    crops = draw_crops([counted], [places[::2, ::2]], 96, 16, np.random.default_rng(0))
    assert crops.images.shape == (16, 96, 96)
    for image, centres, sizes in zip(crops.images, crops.centres, crops.sizes, strict=True):
        for part, step in ((centres, 2), (sizes[0], 8)):
            blocks = image.unfold(0, step, step).unfold(1, step, step)
            assert torch.equal(blocks.amin(dim=(2, 3)), part)
    assert len({float(image[0, 0]) for image in crops.images}) > 8


def test_the_best_candidates_of_all_micrographs_are_sure_and_the_others_unknown():
    found = [picks([0.9, 0.8, 0.7, 0.3, 0.02]), picks([0.95, 0.6, 0.005])]
    labels = _labels(found, 3, 0.01)
    assert [len(label.sure) for label in labels] == [2, 1]
    assert [len(label.unknown) for label in labels] == [3, 1]


@pytest.mark.parametrize(("number", "sure"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_there_are_at_most_as_many_sure_places_as_candidates(number: int, sure: int):
    (label,) = _labels([picks([0.02, 0.01])], number, 0.005)
    assert (len(label.sure), len(label.unknown)) == (sure, 2 - sure)


def test_learning_changes_the_network_only():
    result = learn_from_picks(general(), micrographs(), DIAMETER, QUICK)
    assert not result.refusal
    assert result.model.prepare == general().prepare
    assert not torch.equal(weights(result.model), weights(general()))
    assert f"{result.before:,} picks: they became {result.after:,}" in result.summary
    (only,) = result.rounds
    assert 0 < only.sure <= 0.6 * result.before
    assert only.agreement > 0.8


def test_later_rounds_teach_part_of_the_picks_that_should_be_right():
    config = replace(QUICK, rounds=2, sure=0.5, sure_later=0.85)
    result = learn_from_picks(general(), micrographs(), DIAMETER, config)
    first, second = result.rounds
    assert first.sure == np.ceil(0.5 * result.before)
    assert 0.5 * result.before < second.sure <= np.ceil(0.85 * result.before)


def test_the_start_keeps_its_share_of_the_weights():
    networks = [network_copy(general()) for _ in range(3)]
    for number, network in enumerate(networks):
        for weight in network.parameters():
            torch.nn.init.constant_(weight, float(4**number))
    mean = mean_of(networks, 0.5)
    assert all(torch.all(weight == 0.5 * 1 + 0.25 * 4 + 0.25 * 16) for weight in mean.parameters())
    before, after = general().network.state_dict(), mean.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if "running" in name or "tracked" in name)


def test_the_same_micrographs_and_seed_give_the_same_model():
    first, second, other = (
        learn_from_picks(general(), micrographs(), DIAMETER, config)
        for config in (QUICK, QUICK, replace(QUICK, seed=1))
    )
    assert torch.equal(weights(first.model), weights(second.model))
    assert not torch.equal(weights(first.model), weights(other.model))


def test_the_model_that_learning_starts_from_stays_as_it_is():
    before = weights(general()).clone()
    learn_from_picks(general(), micrographs(), DIAMETER, QUICK)
    assert torch.equal(weights(general()), before)
    assert not any(weight.grad is not None for weight in general().network.parameters())


def test_progress_runs_from_nothing_to_all():
    parts: list[float] = []
    config = replace(QUICK, rounds=2)
    assert not learn_from_picks(general(), micrographs(), DIAMETER, config, parts.append).refusal
    assert parts == pytest.approx(np.arange(1, 9) / 8)


def test_nothing_is_learnt_from_noise():
    rng = np.random.default_rng(0)
    noise = [Micrograph(f"{i}.mrc", rng.normal(size=(230, 310)).astype(np.float32), 3.0) for i in range(4)]
    result = learn_from_picks(general(), noise, DIAMETER, QUICK)
    assert result.model is general()
    assert "too few" in result.refusal
    assert result.summary.startswith("nothing was learnt")


def test_a_single_micrograph_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(self_train, "find", lambda *_: pytest.fail("it was looked at"))
    result = learn_from_picks(general(), micrographs()[:1], DIAMETER, QUICK)
    assert result.model is general()
    assert result.refusal == "one micrograph is too few"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"fewest": 1000}, "too few"),
        ({"agreement": 1.0, "steps": 1}, "agree"),
        ({"agreement": 0.0, "steps": 1, "fewer": 1.0, "more": 1.0}, "would become"),
    ],
)
def test_the_old_model_stays_where_learning_is_not_safe(setting: dict[str, float], reason: str):
    config = replace(QUICK, **{"learning_rate": 0.5, **setting})
    result: Learnt = learn_from_picks(general(), micrographs(), DIAMETER, config)
    assert result.model is general()
    assert reason in result.refusal
    assert result.after == result.before


def test_a_later_round_that_is_not_safe_is_discarded(monkeypatch: pytest.MonkeyPatch):
    verdicts = iter(["", "too many"])
    monkeypatch.setattr(self_train, "unlikely", lambda *_: next(verdicts))
    told: list[self_train.State] = []
    config = replace(QUICK, rounds=2)
    both = learn_from_picks(general(), micrographs(), DIAMETER, config, after_round=told.append)
    monkeypatch.setattr(self_train, "unlikely", lambda *_: "")
    first = learn_from_picks(general(), micrographs(), DIAMETER, QUICK)
    assert len(both.rounds) == 2
    assert tuple(state.round for state in told) == both.rounds[:1]
    assert not both.refusal
    assert torch.equal(weights(both.model), weights(first.model))


def test_a_later_round_may_mend_the_first(monkeypatch: pytest.MonkeyPatch):
    config = replace(QUICK, rounds=2)
    plain = learn_from_picks(general(), micrographs(), DIAMETER, config)
    verdicts = iter(["too many", ""])
    monkeypatch.setattr(self_train, "unlikely", lambda *_: next(verdicts))
    mended = learn_from_picks(general(), micrographs(), DIAMETER, config)
    assert not mended.refusal
    assert torch.equal(weights(mended.model), weights(plain.model))


@pytest.mark.parametrize(
    ("convincing", "spread", "rounds", "more"), [(0.0, -0.1, 1, 1.1), (1.0, 0.1, 3, 1.7), (1.0, -0.1, 3, 1.0)]
)
def test_a_doubtful_start_has_more_rounds_and_may_gain_more_picks_unless_they_are_compact(
    convincing: float, spread: float, rounds: int, more: float, monkeypatch: pytest.MonkeyPatch
):
    allowed: list[float] = []
    monkeypatch.setattr(self_train_checks, "spreads", lambda _, places, __: np.full(len(places), spread))
    monkeypatch.setattr(self_train, "unlikely", lambda _, __, config: allowed.append(config.more) or "")
    config = replace(QUICK, rounds=1, more=1.1, rounds_if_doubtful=3, more_if_doubtful=1.7, convincing=convincing)
    result = learn_from_picks(general(), micrographs(), DIAMETER, config)
    assert allowed == [more] * (rounds + (more == 1.0))  # then the result is looked at, too
    assert len(result.rounds) == rounds
    assert ("look like contamination" in result.summary) is (more == 1.0)


def test_doubtful_picks_that_are_clear_and_compact_are_told_whether_something_is_learnt_or_not(
    monkeypatch: pytest.MonkeyPatch,
):
    config = replace(QUICK, convincing=1.0, more=9.0, more_if_doubtful=9.0, more_if_compact=8.0)
    learnt = learn_from_picks(general(), micrographs(), DIAMETER, config)  # these are discs
    monkeypatch.setattr(self_train, "unlikely", lambda *_: "too many")
    refused = learn_from_picks(general(), micrographs(), DIAMETER, config)
    assert learnt.summary.startswith("learnt from")
    assert refused.summary.startswith("nothing was learnt")
    assert all(one.summary.endswith("check them with deeppicker view") for one in (learnt, refused))


def test_of_doubtful_compact_picks_the_result_itself_must_not_make_more(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def verdict(picks: int, before: int, _: SelfTrainConfig) -> str:
        asked.append(picks)
        return "" if len(asked) == 1 else f"{before} would become {picks}"

    monkeypatch.setattr(self_train, "unlikely", verdict)
    config = replace(QUICK, convincing=1.0, rounds_if_doubtful=1)
    refused = learn_from_picks(general(), micrographs(), DIAMETER, config)
    assert refused.refusal == f"{refused.before} would become {asked[1]}"
    monkeypatch.setattr(self_train, "unlikely", lambda *_: "")
    learnt = learn_from_picks(general(), micrographs(), DIAMETER, replace(config, convincing=0.0)).model
    with self_train.one_thread_each():
        found = [self_train._find(learnt, micrograph, DIAMETER) for micrograph in micrographs()]
    assert asked[1] == sum(map(len, self_train._picked(found)))
    assert torch.equal(weights(refused.model), weights(general()))


@pytest.mark.parametrize(("middle", "expected"), [(-0.01, True), (0.01, False)])
def test_compact_is_what_spreads_less_than_a_disc_for_the_most_part(middle: float, expected: bool):
    assert compact(np.array([-50 * middle, middle, middle, middle])) is expected  # unlike the mean


def test_what_was_interrupted_goes_on_after_the_last_round(tmp_path: Path):
    subject, file = {"of": "these"}, tmp_path / "rounds"
    config = replace(QUICK, rounds=2)

    def keep(state: self_train.State) -> None:
        if len(state.rounds.outcomes) == 1:
            save_rounds(state.rounds, subject, file)

    whole = learn_from_picks(general(), micrographs(), DIAMETER, config, after_round=keep)
    earlier = load_rounds(file, subject, general())
    assert earlier is not None
    parts: list[float] = []
    rest = learn_from_picks(general(), micrographs(), DIAMETER, config, parts.append, earlier=earlier)
    assert parts == pytest.approx(np.arange(5, 9) / 8)
    assert torch.equal(weights(rest.model), weights(whole.model))
    assert (rest.rounds, rest.kept) == (whole.rounds, whole.kept)


@pytest.mark.parametrize("damage", ["of others", "cut short", "of another network", "missing"])
def test_rounds_that_do_not_fit_are_not_gone_on_from(tmp_path: Path, damage: str):
    file, model = tmp_path / "rounds", general()
    networks = [network_copy(model), network_copy(model)]
    save_rounds(self_train.Rounds(networks, ()), {"of": "others" if damage == "of others" else "these"}, file)
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "missing":
        file.unlink()
    elif damage == "of another network":
        model = load_model("general")
    assert load_rounds(file, {"of": "these"}, model) is None


@pytest.mark.slow
def test_false_picks_go_away_and_right_ones_stay():
    shown = [scenes.scene(seed, number=22, faintest=0.45) for seed in range(6)]
    result = learn_from_picks(general(), [one.micrograph for one in shown], DIAMETER, replace(QUICK, steps=20))
    assert not result.refusal
    held = scenes.scene(50, number=22, faintest=0.45)
    right = [_right(model, held) for model in (general(), result.model)]
    assert right[1] >= right[0]


def _right(model: Model, scene: scenes.Scene) -> float:
    """Return how many of the best picks, as many as there are particles, are particles."""
    found = pick_micrograph(scene.micrograph, model, DIAMETER).positions[: len(scene.positions)]
    return len(match(found, scene.positions, 0.2 * BOX)[0])
