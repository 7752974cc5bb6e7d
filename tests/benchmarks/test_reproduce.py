"""The paper's experiments: the whole study at toy size, and the parts that turn numbers into statements."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _benchmarks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))


@pytest.mark.slow
def test_every_experiment_has_a_section_a_figure_and_a_verdict_and_is_not_run_twice(tmp_path: Path) -> None:
    import reproduce
    from paper.settings import TOY

    places = reproduce.Places(tmp_path / "work", None, tmp_path / "report")
    sections = reproduce.reproduce(TOY, places, reproduce.EXPERIMENTS, workers=1)
    assert len(sections) == 1 + len(reproduce.EXPERIMENTS) == 10
    about, *inside, to_the_map = sections
    assert [row[0] for row in about.tables[0].rows] == [
        "NSF complex",
        "TRPV1",
        "spliceosome",
        "β-galactosidase",
        "γ-secretase",
    ]
    for section in inside:
        assert section.verdicts or section.title == "Other programs", section.title
        assert section.pictures
        assert section.tables
        assert not any(verdict.found == "it failed" for verdict in section.verdicts), section
    assert to_the_map.notes  # the toy does not go that far, and says so
    page = (places.output / "report.html").read_text(encoding="utf-8")
    text = (places.output / "report.md").read_text(encoding="utf-8")
    for section in sections:
        assert f"<h2>{section.title}</h2>" in page
        assert f"## {section.title}" in text
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<img") == sum(len(section.pictures) for section in sections)
    models = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "models").iterdir()}
    assert reproduce.reproduce(TOY, places, reproduce.EXPERIMENTS, workers=1) == sections
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "models").iterdir()} == models


def test_background_is_compared_with_the_real_target_if_there_is_one(tmp_path: Path) -> None:
    from paper import defocus_and_noise
    from paper.settings import FULL
    from paper.study import Study

    real = Study(FULL, tmp_path, tmp_path)
    assert [target for _, target in defocus_and_noise.lessons(real)][-1] == "trpv1-10059"
    assert [target for _, target in defocus_and_noise.lessons(Study(FULL, tmp_path))][-1] == "trpv1"


def test_a_study_of_some_targets_keeps_their_order() -> None:
    import reproduce

    names = ["--targets", "ribosome-10028", "spliceosome"]
    assert reproduce.settings_of(reproduce.parse([*names, "--data", "d"])).targets == ("spliceosome", "ribosome-10028")
    with pytest.raises(SystemExit, match="--data"):
        reproduce.settings_of(reproduce.parse(["--quick", *names[:2]]))
    assert reproduce.settings_of(reproduce.parse(["--quick"])).name == "quick"


def test_an_outcome_is_kept_until_its_settings_change(tmp_path: Path) -> None:
    from paper.cache import cached

    calls: list[int] = []

    def compute() -> dict[str, object]:
        calls.append(1)
        return {"calls": len(calls)}

    path = tmp_path / "outcomes" / "one.json"
    assert cached(path, "a", compute) == cached(path, "a", compute) == {"calls": 1}
    assert cached(path, "b", compute) == {"calls": 2}
    assert json.loads(path.read_text())["key"] == "b"


def test_what_another_program_picks_is_kept_by_micrograph_and_option(tmp_path: Path) -> None:
    from deeppicker.core import Micrograph
    from paper.others import picked_by

    micrographs = [Micrograph(f"folder/{name}.mrc", np.zeros((40, 50), np.float32), 2.0) for name in ("a", "b")]
    runs = tmp_path / "runs"
    table = "image_name\tx_coord\ty_coord\tscore\nb\t10\t20\t0.5\nb\t30\t5\t-1.5\n"
    program = (
        f"import sys; open(sys.argv[1], 'w').write({table!r}); print(*sys.argv[2:], file=open({str(runs)!r}, 'a'))"
    )

    def scaled(scale: int) -> Callable[..., list[list[str | Path]]]:
        def fake(paths: list[Path], output: Path, diameter: float, pixel_size: float) -> list[list[str | Path]]:
            assert ([path.name for path in paths][-1], diameter, pixel_size) == ("b.mrc", 80.0, 2.0)
            return [[sys.executable, "-c", program, output / "picks.txt", str(scale)]]

        return fake

    folder = tmp_path / "others" / "topaz"
    found, seconds = picked_by(micrographs, folder, 80.0, scaled(3))
    again, as_before = picked_by(micrographs, folder, 80.0, scaled(3))
    assert runs.read_text() == "3\n"
    assert seconds == as_before
    (kept,) = (tmp_path / "others").iterdir()
    assert kept.match("topaz-*.json")
    for picks in (found, again):
        assert [one.micrograph for one in picks] == ["folder/a.mrc", "folder/b.mrc"]
        assert [len(one) for one in picks] == [0, 2]
        np.testing.assert_array_equal(picks[1].scores, [0.5, -1.5])
    for scale in (4, 3):
        picked_by(micrographs, folder, 80.0, scaled(scale))
    picked_by(micrographs[1:], folder, 80.0, scaled(3))
    assert runs.read_text() == "3\n4\n3\n"


def test_an_experiment_that_fails_says_why_and_is_not_kept(tmp_path: Path) -> None:
    import reproduce
    from deeppicker.errors import InputError
    from paper.settings import TOY
    from paper.study import Study

    class Broken:
        __name__ = "paper.broken"
        __file__ = __file__

        @staticmethod
        def run(*_arguments: object) -> None:
            raise InputError("no particles")

    section = reproduce.outcome(Broken, Study(TOY, tmp_path))  # type: ignore[arg-type]
    assert section.verdicts[0].agrees is None
    assert section.verdicts[0].why == "no particles"
    assert not (tmp_path / "outcomes" / "broken.json").exists()


def test_a_program_that_could_not_be_installed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import reproduce
    from paper import others
    from paper.results import Section
    from paper.settings import TOY
    from paper.study import Study
    from timing import topaz

    tries: list[Path] = []

    def install(work: Path) -> None:
        tries.append(work)
        if len(tries) == 2:
            (work / "topaz").mkdir()
            (work / "topaz" / ".ready").touch()

    def run(study: Study, _canvas: object) -> Section:
        return Section("Other programs", "with Topaz" if others.topaz_of(study) else "left out")

    monkeypatch.setattr(topaz, "install", install)
    monkeypatch.setattr(others, "run", run)
    monkeypatch.setattr(others, "lessons", lambda _: [])
    monkeypatch.setattr(reproduce, "about", lambda _: Section("The study", ""))
    places = reproduce.Places(tmp_path / "work", None, tmp_path / "report")
    settings = replace(TOY, install=True)
    found = [reproduce.reproduce(settings, places, [others], workers=1)[1].setup for _ in range(2)]
    assert found == ["left out", "with Topaz"]
    assert tries == [tmp_path, tmp_path]
    assert others.topaz_of(Study(TOY, tmp_path / "work"))


def test_topaz_is_left_out_where_there_can_be_no_environment_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import subprocess
    import venv

    from timing import topaz

    def create(*_arguments: object, **_options: object) -> None:
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(venv, "create", create)
    assert topaz.install(tmp_path) is None
    assert "it is left out" in capsys.readouterr().out


def test_what_differs_from_the_paper_comes_first_in_the_summary() -> None:
    from paper.report import summary
    from paper.results import Section, Verdict

    verdicts = tuple(Verdict(str(agrees), "", agrees, "") for agrees in (None, True, False))
    assert [one.claim for _, one in summary([Section("Fig. 9: nothing", "", verdicts)])] == ["False", "True", "None"]


def test_a_turned_and_moved_average_has_a_counterpart_and_noise_has_none() -> None:
    from deeppicker.particles.classify.em import rotate
    from paper.class_averages import COUNTERPART, correlations

    side = 32
    y, x = np.mgrid[:side, :side] - side // 2
    hook = np.exp(-((x + 5) ** 2 + y**2) / 12) + np.exp(-((x - 4) ** 2 + (y - 4) ** 2) / 6)
    average = torch.from_numpy(hook[None].astype(np.float32))
    turned = torch.roll(rotate(average, 70.0), (2, -1), dims=(1, 2))
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, side, side), dtype=np.float32))
    assert correlations(average, torch.cat([noise, turned]))[0] > 0.95
    assert correlations(average, noise)[0] < COUNTERPART


def test_a_turned_moved_and_mirrored_structure_is_found_again() -> None:
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    from paper.fourier_shells import _turned, aligned, resolution, shells

    side = 24
    z, y, x = np.mgrid[:side, :side, :side] - side // 2
    balls = ((0, 0, 0, 4), (5, 2, 0, 3), (-3, 5, 2, 2.5), (1, -4, 5, 2.5))
    structure = sum(
        np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / r**2) * (1 + 0.2 * r) for a, b, c, r in balls
    ).astype(np.float32)
    turned = _turned(structure[:, :, ::-1], Rotation.from_euler("zyz", (40, 70, 10), degrees=True))
    density = ndimage.shift(turned, (1, -1, 0), order=1).astype(np.float32)
    before = resolution(shells(density, structure), 0.5, side, 4.0)
    after = resolution(shells(density, aligned(structure, density, 200)), 0.5, side, 4.0)
    assert after < 0.6 * before
    assert after < 16.0


def test_a_real_set_is_picked_by_a_default_network_that_has_not_seen_it(tmp_path: Path) -> None:
    from dataclasses import replace

    from deeppicker.networks.model import load_model, new_model, save_model, weights_digest
    from paper.settings import TOY
    from paper.study import Study

    real = ("apoferritin-10146", "ribosome-10028")
    other = new_model(3, "paper")
    save_model(other, tmp_path / "without-ribosome-10028.safetensors")
    study = Study(replace(TOY, targets=("trpv1", *real)), tmp_path, tmp_path, tmp_path)
    assert study.unseen == ("ribosome-10028",)
    assert weights_digest(study.default("ribosome-10028")) == weights_digest(other)
    for name in ("trpv1", "apoferritin-10146"):
        assert weights_digest(study.default(name)) == weights_digest(load_model())
    assert "apoferritin, real, whose figures are too good" in study.about_default


def test_no_candidates_on_background_are_as_good_as_low_scores_and_picks_there_are_not() -> None:
    from paper.defocus_and_noise import _low

    high, none = [np.full(50, 0.9)], [np.zeros(0)]
    assert _low({"noise": none, "empty ice": none, "TRPV1": high}).agrees is True
    assert _low({"noise": none, "empty ice": high, "TRPV1": high}).agrees is False
    assert _low({"noise": none, "empty ice": none, "TRPV1": none}).agrees is False


@pytest.mark.parametrize(("best", "control", "agrees"), [(0.9, 0.1, True), (0.9, 0.9, None), (0.2, 0.9, False)])
def test_a_lenient_comparison_of_averages_proves_nothing_but_a_failure(
    best: float, control: float, agrees: bool | None
) -> None:
    from paper.class_averages import Row, _verdict

    row = Row("DeepPicker", "trpv1", np.full(4, best), np.full(3, 0.9), np.full(4, 0.9), control)
    assert _verdict([row]).agrees is agrees


def test_averages_with_which_anything_counts_are_left_out_though_others_are_not() -> None:
    from paper.class_averages import Row, _verdict

    coarse = Row("DeepPicker", "trpv1", np.full(4, 0.9), np.full(3, 0.9), np.full(4, 0.9), 0.9)
    best = np.array([0.9] * 9 + [0.5])
    fine = Row("RELION", "spliceosome", best, best, np.full(10, 0.9), 0.1)
    verdict = _verdict([coarse, fine])
    assert verdict.agrees is True
    assert verdict.found.startswith("90% or more")
    assert "would count too: TRPV1 by DeepPicker." in verdict.why
    assert verdict.why.endswith("Of another molecule's classes 10% would count.")


def test_only_reference_classes_that_come_again_are_asked_of_picks() -> None:
    from paper.class_averages import Row, _verdict

    best, again = np.array([0.9, 0.9, 0.9, 0.1]), np.array([0.9, 0.9, 0.9, 0.3])
    row = Row("DeepPicker", "trpv1", best, best, again, 0.1)
    assert row.share == 1.0
    assert _verdict([row]).agrees is True
    chance = Row("RELION", "gamma-secretase", best, best, np.full(4, 0.3), 0.1)
    assert _verdict([chance]).agrees is None
    assert "γ-secretase by RELION" in _verdict([row, chance]).why


@pytest.mark.parametrize(
    ("ours", "reference", "agrees"),
    [(8.0, 7.5, True), (12.0, 7.5, False), (None, 7.5, False), (8.0, None, None), (6.0, 6.0, None)],
)
@pytest.mark.parametrize("coarse", [False, True])
def test_maps_are_compared_where_there_are_two_that_could_differ(
    ours: float | None, reference: float | None, agrees: bool | None, coarse: bool
) -> None:
    """By their halves, where the structure that they could be compared with is known to less detail."""
    from paper.others import LEARNT
    from paper.to_the_map import REFERENCE, STEPS, _verdict

    def road(value: float | None) -> dict[str, object]:
        told = {"resolution": value and 27.0, "gold": value, "known": 20.0}
        if not coarse:
            told = {"resolution": value, "gold": 9.0, "known": 5.0}
        return {**told, "nyquist": 6.0, "picks": 9, "kept": 8, "reached": STEPS[-1]}

    verdict = _verdict("trpv1", {LEARNT: road(ours), REFERENCE: road(reference)})
    assert verdict.agrees is agrees
    assert coarse == ("coarser" in verdict.found) or None in (ours, reference)


def test_a_map_without_numbers_has_no_resolution() -> None:
    from paper.fourier_shells import resolution

    assert resolution(np.full(9, np.nan), 0.5, 16, 3.0) == 48.0
    assert resolution(np.ones(9), 0.5, 16, 3.0) == 6.0


def test_picks_are_thinned_at_random_whatever_their_scores() -> None:
    from deeppicker.core import Picks
    from paper.study import thinned

    picks = [Picks(f"{i}.mrc", np.arange(40.0).reshape(20, 2), np.linspace(1, 0, 20)) for i in range(5)]
    some = thinned(picks, 30)
    assert sum(map(len, some)) == 30
    assert 0.3 < np.concatenate([one.scores for one in some]).mean() < 0.7
    assert [len(one) for one in thinned(picks, 30)] == [len(one) for one in some]
    assert sum(map(len, thinned(picks, 1000))) == 100


def test_another_program_that_names_unknown_micrographs_is_an_error(tmp_path: Path) -> None:
    from deeppicker.core import Micrograph
    from deeppicker.errors import DeepPickerError
    from paper.others import picked_by

    def fake(_: list[Path], output: Path, *_others: float) -> list[list[str | Path]]:
        table = "image_name\tx_coord\ty_coord\tscore\nother\t10\t20\t0.5\n"
        return [[sys.executable, "-c", f"open({str(output / 'picks.txt')!r}, 'w').write({table!r})"]]

    with pytest.raises(DeepPickerError, match=r"picks.txt names other"):
        picked_by([Micrograph("a.mrc", np.zeros((40, 50), np.float32), 2.0)], tmp_path / "topaz", 80.0, fake)
