"""`deeppicker pick` with nothing but micrographs: the diameter, the threshold, and micrographs without particles."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.core import micrograph_key
from deeppicker.formats import read_picks
from deeppicker.formats.relion import star
from deeppicker.networks.model import new_model, save_model
from deeppicker.picking.diameter import Diameter, Evidence
from deeppicker.picking.pipeline import Ready

CLEAR = Diameter(70.0, 65.0, 76.0, 0.95, 0.3)
NOTHING = Diameter(90.0, 55.0, 600.0, 0.2, 0.001)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three micrographs and a dense model that has learnt nothing, in the current folder."""
    scenes.write_project(tmp_path, [scenes.scene(seed, f"{seed}.mrc") for seed in range(3)])
    model = new_model(0, "dense")
    model.network.train(False)
    save_model(model, tmp_path / "dense.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pick(*words: str) -> int:
    return main(["pick", "micrographs", "--output", "out", "--model", "dense.safetensors", "--workers", "0", *words])


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of micrographs that were looked at, each time that the diameter was estimated (as 70 Å)."""
    seen: list[int] = []

    def combine(evidence: list[Evidence], _config: object) -> Diameter:
        seen.append(len(evidence))
        return CLEAR

    nothing = Evidence(np.zeros(0), np.zeros(0), np.zeros((0, 23)))
    monkeypatch.setattr("deeppicker.runs.pick_job.gather", lambda *_: nothing)
    monkeypatch.setattr("deeppicker.runs.diameter.combine", combine)
    monkeypatch.setattr("deeppicker.runs.nothing.combine", lambda *_: CLEAR)
    return seen


def diameter_used() -> float:
    used: float = json.loads(Path("out/run.json").read_text(encoding="utf-8"))["diameter"]
    return used


@pytest.mark.usefixtures("project")
def test_without_a_diameter_it_is_estimated_printed_and_kept(estimated: list, capsys: pytest.CaptureFixture[str]):
    assert pick() == 2  # this model finds nothing
    assert "particle diameter: 70 Å, estimated from 3 of the micrographs (65-76 Å" in capsys.readouterr().out
    assert diameter_used() == 70.0
    Path("out/0_autopick.star").unlink()
    assert pick() == 2  # the same again, from the folder
    assert len(estimated) == 1
    assert diameter_used() == 70.0


@pytest.mark.usefixtures("project", "estimated")
@pytest.mark.parametrize(("confidence", "advised"), [(0.35, True), (0.8, False)])
def test_an_uncertain_diameter_comes_with_advice(
    confidence: float, advised: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("deeppicker.runs.diameter.combine", lambda *_: replace(CLEAR, confidence=confidence))
    assert pick() == 2  # this model finds nothing
    shown = capsys.readouterr().err
    assert ("the diameter of 70 Å is uncertain; see with `deeppicker view`" in shown) is advised
    assert ("--overwrite, such as --diameter 65 or --diameter 76\n" in shown) is advised  # both ends of the interval


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("given", "warned"), [("105", True), ("46", True), ("75", False)])
def test_a_diameter_that_does_not_fit_is_warned_about_and_used(
    estimated: list, given: str, warned: bool, capsys: pytest.CaptureFixture[str]
):
    assert pick("--diameter", given) == 2  # this model finds nothing
    assert diameter_used() == float(given)
    assert len(estimated) == 1
    assert ("the particles look 70 Å large" in capsys.readouterr().err) is warned


@pytest.mark.usefixtures("project")
def test_without_particles_the_files_are_empty_and_valid_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("deeppicker.runs.diameter.combine", lambda *_: NOTHING)
    monkeypatch.setattr("deeppicker.runs.nothing.combine", lambda *_: NOTHING)
    assert pick() == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "no particles were found" in shown.err
    for number in range(3):
        assert len(star.read(Path(f"out/{number}_autopick.star"))[0]) == 0
    assert [len(found) for found in read_picks("out/autopick.star")] == [0, 0, 0]


@pytest.mark.usefixtures("project")
def test_a_network_that_has_learnt_nothing_still_gives_a_diameter():
    assert pick("--side", "128", "--looked-at", "1") in (0, 2)
    assert 50 <= diameter_used() <= 700


@pytest.mark.usefixtures("project", "estimated")
def test_the_threshold_is_chosen_for_the_run_and_what_to_expect_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rng = np.random.default_rng(0)
    scores = {str(n): rng.beta(0.7, 0.7, 200) for n in range(3)}

    def find_in(ready: Ready, *_: object):
        from deeppicker.core import Found, Grid, Picks

        picks = Picks(ready.name, rng.uniform(0, 300, (200, 2)), scores[micrograph_key(ready.name)])
        return Found(picks.sorted(), picks.where(np.zeros(200, dtype=bool)), (), np.zeros((4, 5), dtype=bool), Grid())

    monkeypatch.setattr("deeppicker.runs.pick_job.find_in", find_in)
    assert pick() == 0
    everything = np.concatenate(list(scores.values()))
    threshold = json.loads(Path("out/run.json").read_text(encoding="utf-8"))["threshold"]
    kept = everything[everything >= threshold]
    assert 0.15 <= threshold <= 0.5
    assert sum(len(found) for found in read_picks("out/autopick.star")) == len(kept)
    expected = f"expected precision {kept.mean():.2f}, recall {kept.sum() / everything.sum():.2f}"
    assert f"threshold {threshold:g}: {expected}" in " ".join(capsys.readouterr().out.split())
    with Path("out/summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["particles"]) for row in rows) == pytest.approx(everything.sum(), abs=0.05)


def test_the_mask_of_contamination_covers_the_micrograph_that_has_some(project: Path):
    from PIL import Image

    save_model(scenes.trained(), project / "dense.safetensors")
    for seed in range(2):
        image = scenes.scene(seed).micrograph.image
        image[20:80, 20:80] -= 60 * (seed == 0)
        scenes.write_mrc(project / "micrographs" / f"{seed}.mrc", image)
    assert pick("--diameter", str(scenes.DIAMETER)) == 0
    with Image.open("out/junk/0_junk.png") as image:
        factor = scenes.WIDTH / image.width
        assert image.height == pytest.approx(scenes.HEIGHT / factor, abs=1)
        shown = np.argwhere(np.asarray(image)) * factor
    assert factor >= 1
    assert shown.min() >= 20 - 3 * scenes.BOX / 4
    assert shown.max() <= 80 + 3 * scenes.BOX / 4
    assert not Path("out/junk/1_junk.png").exists()


@pytest.mark.usefixtures("project")
def test_background_is_for_the_dense_network(capsys: pytest.CaptureFixture[str]):
    words = ["train", "particles.star", "--background", "micrographs", "--output", "m"]
    assert main([*words, "--network", "paper"]) == 2
    assert "--background" in capsys.readouterr().err
