"""`view` of a whole run, and the kinds of pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scenes
from deeppicker.cli._shared import view_run
from deeppicker.cli.main import main
from deeppicker.config import SelectConfig
from deeppicker.core import Micrograph, Picks
from deeppicker.evaluation.montage import windows
from deeppicker.evaluation.overlays import displayed
from deeppicker.formats.provenance import record_inputs
from deeppicker.runs.folder import RunFolder

MAGIC = {"png": b"\x89PNG", "jpg": b"\xff\xd8\xff", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of five micrographs, the first of which has the lowest scores; its folder, beside the current one."""
    monkeypatch.chdir(tmp_path)
    opened = RunFolder(Path("run"), {"diameter": scenes.DIAMETER}, SelectConfig(threshold=0.1))
    names = []
    for number in range(5):
        item = scenes.scene(number, f"mics/{number}.mrc", number=12)
        scenes.write_mrc(Path(item.micrograph.name), item.micrograph.image)
        scores = np.linspace(0.05, 0.2 + 0.15 * number, 12)
        opened.store(Picks(item.micrograph.name, item.positions, scores).sorted(), 1.0)
        names.append(item.micrograph.name)
    opened.finish(names)
    record_inputs(Path("run"), ["mics"])
    return tmp_path / "run"


def test_the_worst_the_median_and_the_best_micrograph_are_drawn(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["view", "run", "--overlay", "pictures"]) == 0
    assert sorted(path.name for path in Path("pictures").iterdir()) == ["0.png", "2.png", "4.png"]
    assert "3 of 5 micrographs (worst to best: 0, 2, 4) -> pictures" in capsys.readouterr().out
    assert main(["view", str(run), "--overlay", "every", "--all"]) == 0
    assert len(list(Path("every").iterdir())) == 5


@pytest.mark.usefixtures("run")
def test_a_contact_sheet_is_the_same_on_every_run():
    made = []
    for kind in ("png", "png", "svg", "svg"):
        assert main(["view", "run", "--montage", f"sheet.{kind}"]) == 0
        made.append(Path(f"sheet.{kind}").read_bytes())
    assert made[0] == made[1]
    assert made[2] == made[3]
    with Image.open("sheet.png") as image:
        rows, columns = image.height / (96 + 22), image.width / 96
    assert (rows, columns) == (4, 10)  # best, at the threshold, below it, random; nothing was rejected


def test_a_contact_sheet_of_a_filtered_run_shows_what_the_filter_keeps_out_as_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    item = scenes.scene(0, "mics/0.mrc", number=12)
    scenes.write_mrc(Path(item.micrograph.name), item.micrograph.image)
    scores, contrast = np.linspace(0.1, 0.9, 12), np.tile([0.2, 0.8, 1.4], 4)
    opened = RunFolder(Path("run"), {"diameter": scenes.DIAMETER}, SelectConfig(threshold=0.3))
    opened.store(Picks(item.micrograph.name, item.positions.round(1), scores, contrast).sorted(), 1.0)
    opened.finish([item.micrograph.name])
    filtered = RunFolder(
        Path("run"), {"diameter": scenes.DIAMETER}, SelectConfig(threshold=0.3, min_contrast=0.5, max_contrast=1.0)
    )
    filtered.finish([item.micrograph.name])
    record_inputs(Path("run"), ["mics"])
    drawn: dict[str, list[tuple[float, float]]] = {}
    monkeypatch.setattr(view_run, "windows", lambda _micrograph, positions, _diameter: list(map(tuple, positions)))
    monkeypatch.setattr(view_run, "montage", lambda rows, _kind: drawn.update(rows) or b"")
    assert main(["view", "run", "--montage", "sheet.png"]) == 0
    reached, kept = scores >= 0.3, (contrast > 0.5) & (contrast < 1.0)
    which = {"best picks": reached & kept, "candidates below it": ~reached, "rejected": reached & ~kept}
    places = {name: set(map(tuple, item.positions.round(1)[some])) for name, some in which.items()}
    assert {name: set(drawn[name]) for name in places} == places
    assert set(drawn["random picks"]) == set(drawn["picks at the threshold"]) == places["best picks"]


def test_a_window_at_the_edge_shows_nothing_beyond_it():
    image = np.random.default_rng(0).normal(size=(60, 80)).astype(np.float32)
    (window,) = windows(Micrograph("m.mrc", image, 1.0), np.array([[0.0, 30.0]]), 16.0)
    assert window.shape == (24, 24)
    assert np.isnan(window[:, :12]).all()
    assert np.isfinite(window[:, 12:]).all()
    assert np.nanstd(window) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("kind", MAGIC)
def test_the_suffix_tells_the_kind_of_picture(kind: str):
    assert main(["view", "mics/0.mrc", "--picks", "run", "--overlay", f"o.{kind}"]) == 0
    assert Path(f"o.{kind}").read_bytes().startswith(MAGIC[kind])


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["mics/0.mrc", "--picks", "run", "--overlay", "o.txt"], "choose .png, .jpg, .pdf or .svg"),
        (["mics/0.mrc", "--overlay", "o.png"], "give --picks and --overlay for a micrograph"),
        (["run"], "--overlay or --montage must be given"),
        (["run", "--picks", "run", "--overlay", "o"], "are for a single micrograph"),
        (["run", "--overlay", "o.svg"], "o.svg is one picture, but a run has several; give a folder"),
    ],
)
def test_what_cannot_be_drawn_is_told(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]):
    assert main(["view", *words]) == 2
    assert reason in capsys.readouterr().err


def test_junk_does_not_set_the_contrast():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(200, 260)).astype(np.float32)
    dirty = clean.copy()
    dirty[:40] -= 50  # a fifth of it
    shades = [displayed(image, 30.0)[60:].std() for image in (clean, dirty)]
    assert shades[1] > 0.6 * shades[0]
