"""The commands ``evaluate`` and ``view`` on small files."""

import io
import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from PIL import Image

from deeppicker.cli import evaluate, view
from deeppicker.cli._shared.parse import parse
from deeppicker.config import SelectConfig
from deeppicker.core import Picks
from deeppicker.errors import FormatError, InputError
from deeppicker.formats import read_picks, write_picks
from deeppicker.runs.folder import RunFolder

HEIGHT, WIDTH, PIXEL_SIZE = 300, 420, 3.0
NAMES = ("alpha", "beta")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write two micrographs, a reference with their pixel size, and picks: all of one, half of the other."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "micrographs").mkdir()
    generator = np.random.default_rng(0)
    reference, picks = [], []
    for name, kept in zip(NAMES, (12, 6), strict=True):
        image = generator.normal(size=(HEIGHT, WIDTH)).astype(np.float32)
        with mrcfile.new(tmp_path / "micrographs" / f"{name}.mrc", data=image) as file:
            file.voxel_size = 7.0  # wrong, so that a test can tell which pixel size was used
        x, y = np.meshgrid(60 + 90.0 * np.arange(4), 60 + 80.0 * np.arange(3))
        positions = np.stack([x.ravel(), y.ravel()], axis=1)
        reference.append(Picks.unscored(f"micrographs/{name}.mrc", positions))
        picks.append(Picks(name, positions[:kept] + 1.0, np.linspace(0.2, 0.9, kept)))
    write_picks("reference.star", reference, pixel_size=PIXEL_SIZE)
    write_picks("picks.tsv", picks)
    return tmp_path


def run_evaluate(*arguments: str) -> int:
    return evaluate.run(parse("evaluate", arguments))


def run_view(*arguments: str) -> int:
    return view.run(parse("view", arguments))


GIVEN = ("--picks", "picks.tsv", "--reference", "reference.star")


def numbers(*arguments: str) -> dict:
    assert run_evaluate(*GIVEN, "--json", "numbers.json", *arguments) == 0
    return json.loads(Path("numbers.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("project")
def test_the_table_and_the_json_hold_the_same_numbers(capsys):
    content = numbers("--diameter", "150")
    printed = capsys.readouterr().out
    assert content["macro"]["recall"] == pytest.approx(0.75)
    assert content["pooled"]["precision"] == 1.0
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.split()}
    assert rows["alpha"][1:7] == ["12", "12", "12", "1.000", "1.000", "1.000"]
    assert rows["beta"][1:7] == ["6", "12", "6", "1.000", "0.500", "0.667"]
    assert "Best threshold 0.2" in printed


@pytest.mark.usefixtures("project")
def test_the_pixel_size_is_that_of_the_star_file_unless_the_option_is_given():
    assert numbers("--diameter", "150")["micrographs"][0]["pixel_size"] == PIXEL_SIZE
    assert numbers("--diameter", "150", "--pixel-size", "2.5")["micrographs"][0]["pixel_size"] == 2.5


@pytest.mark.usefixtures("project")
def test_the_pixel_size_is_that_of_the_image_when_no_star_file_tells():
    write_picks("reference.tsv", [Picks("alpha", np.array([[60.0, 60.0]]), np.array([1.0]))])
    arguments = ("--picks", "picks.tsv", "--reference", "reference.tsv", "--diameter", "150")
    with pytest.raises(InputError, match="--pixel-size"):
        run_evaluate(*arguments)
    assert run_evaluate(*arguments, "--micrographs", "micrographs/*.mrc", "--json", "numbers.json") == 0
    assert json.loads(Path("numbers.json").read_text())["micrographs"][0]["pixel_size"] == 7.0


@pytest.mark.usefixtures("project")
def test_the_diameter_comes_from_the_run_then_from_the_data_set():
    with pytest.raises(InputError, match="--diameter"):
        numbers()
    Path("dataset.json").write_text('{"particle_diameter_angstrom": 120.0}')
    assert numbers()["config"]["particle_diameter"] == 120.0
    Path("run.json").write_text('{"diameter": 140}')
    assert numbers()["config"]["particle_diameter"] == 140.0
    assert numbers("--diameter", "150")["config"]["particle_diameter"] == 150.0
    Path("run.json").write_text('{"diameter": "wide"}')
    with pytest.raises(FormatError, match=r"run\.json.*'wide'.*--diameter"):
        numbers()


@pytest.mark.usefixtures("project")
def test_a_threshold_leaves_out_picks_below_it():
    content = numbers("--diameter", "150", "--threshold", "0.5")
    assert [m["picks"] for m in content["micrographs"]] == [7, 3]
    assert content["macro"]["average_precision"] == pytest.approx(0.75)


@pytest.mark.usefixtures("project")
def test_the_candidates_of_a_run_count_in_the_curves_but_not_as_picks():
    opened = RunFolder(Path("run"), {"diameter": 150.0}, SelectConfig(threshold=0.5))
    for picks in read_picks("picks.tsv"):
        opened.store(picks, 1.0)
    opened.finish([])
    for given in ("run", "run/autopick.star"):
        arguments = ("--picks", given, "--reference", "reference.star", "--json", "numbers.json")
        assert run_evaluate(*arguments) == 0
        content = json.loads(Path("numbers.json").read_text(encoding="utf-8"))
        assert [m["picks"] for m in content["micrographs"]] == [7, 3]
        assert content["macro"]["average_precision"] == pytest.approx(0.75)
        assert content["config"]["threshold"] == 0.5
    pictures = []
    for given in (("--picks", "run"), ("--picks", "picks.tsv", "--threshold", "0.5"), ("--picks", "picks.tsv")):
        assert run_evaluate(*given, "--reference", "reference.star", "--diameter", "150", "--plots", "plots") == 0
        pictures.append(Path("plots/overlay_alpha.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.usefixtures("project")
def test_candidates_below_a_threshold_that_the_run_chose_are_no_picks():
    opened = RunFolder(Path("run"), {"diameter": 150.0}, SelectConfig(threshold=None))
    for picks in read_picks("picks.tsv"):
        opened.store(picks, 1.0)
    opened.finish([])
    chosen = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["threshold"]
    assert run_evaluate("--picks", "run", "--reference", "reference.star", "--json", "numbers.json") == 0
    content = json.loads(Path("numbers.json").read_text(encoding="utf-8"))
    assert content["config"]["threshold"] == chosen
    counts = [len(item) for item in read_picks("run")]
    assert [m["picks"] for m in content["micrographs"]] == counts
    assert sum(counts) < sum(len(item) for item in read_picks("picks.tsv"))


@pytest.mark.usefixtures("project")
def test_view_knows_the_pixel_size_of_the_run():
    opened = RunFolder(Path("run"), {"diameter": 150.0, "pixel_size": PIXEL_SIZE}, SelectConfig(threshold=0.1))
    for picks in read_picks("picks.tsv"):
        opened.store(picks, 1.0)
    opened.finish([])
    pictures = []
    for words in ([], ["--pixel-size", f"{PIXEL_SIZE}"], ["--pixel-size", "7"]):
        assert run_view("micrographs/alpha.mrc", "--picks", "run", "--overlay", "o.png", *words) == 0
        pictures.append(Path("o.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.usefixtures("project")
def test_a_run_that_found_nothing_scores_zero():
    opened = RunFolder(Path("run"), {"diameter": 150.0}, SelectConfig())
    for picks in read_picks("picks.tsv"):
        opened.store(picks.where(picks.scores > 1), 1.0)
    opened.finish([])
    assert run_evaluate("--picks", "run", "--reference", "reference.star", "--json", "numbers.json") == 0
    macro = json.loads(Path("numbers.json").read_text(encoding="utf-8"))["macro"]
    assert (macro["precision"], macro["recall"], macro["f1"]) == (0, 0, 0)


@pytest.mark.usefixtures("project")
def test_positions_outside_the_image_are_told():
    write_picks("picks.tsv", [Picks(NAMES[0], np.array([[60.0, 60.0], [5000.0, 9.0]]), np.array([0.9, 0.8]))])
    with pytest.warns(UserWarning, match=rf"1 of 2 positions in {NAMES[0]} lie outside its {WIDTH}×{HEIGHT} pixels"):
        numbers("--diameter", "150")


@pytest.mark.usefixtures("project")
def test_a_pick_at_the_border_counts_only_with_a_narrower_border():
    narrow = numbers("--diameter", "150", "--border", "0")
    wide = numbers("--diameter", "150", "--border", "200")
    assert narrow["micrographs"][0]["references"] == 12
    assert wide["micrographs"][0]["references"] == 6
    assert wide["micrographs"][0]["references_at_border"] == 6


@pytest.mark.usefixtures("project")
def test_plots_are_written_with_one_overlay_per_micrograph_asked_for():
    assert run_evaluate(*GIVEN, "--diameter", "150", "--plots", "made/plots", "--overlays", "1") == 0
    names = sorted(path.name for path in Path("made/plots").iterdir())
    assert names == ["overlay_beta.png", "picks_ratio.png", "precision_recall.png", "scores.png"]
    with Image.open("made/plots/overlay_beta.png") as image:
        assert image.width == 900
        assert image.height > 900 * HEIGHT / WIDTH


@pytest.mark.usefixtures("project")
def test_picks_of_other_micrographs_are_an_error_that_names_both_sides():
    write_picks("other.tsv", [Picks("gamma", np.array([[60.0, 60.0]]), np.array([1.0]))])
    with pytest.raises(InputError, match=r"gamma.*alpha, beta"):
        run_evaluate("--picks", "other.tsv", "--reference", "reference.star", "--diameter", "150")


VIEW = ("micrographs/beta.mrc", "--picks", "picks.tsv", "--diameter", "150", "--overlay", "beta.png")


@pytest.mark.usefixtures("project")
def test_view_draws_the_picks_and_counts_them(capsys):
    assert run_view(*VIEW, "--threshold", "0.5") == 0
    assert capsys.readouterr().out == "beta: 3 picks\n"
    with Image.open(io.BytesIO(Path("beta.png").read_bytes())) as image:
        assert image.format == "PNG"
        assert image.width == 900


@pytest.mark.usefixtures("project")
def test_view_with_a_reference_counts_what_agrees(capsys):
    assert run_view(*VIEW, "--reference", "reference.star") == 0
    printed = capsys.readouterr().out
    assert "6 picks, 12 references: 6 agree, 0 without reference, 6 references missed" in printed
    assert "recall 0.500" in printed


@pytest.mark.usefixtures("project")
def test_view_of_a_micrograph_without_an_entry_names_what_there_is():
    Path("micrographs/beta.mrc").rename("micrographs/delta.mrc")
    with pytest.raises(InputError, match=r"picks\.tsv.*'delta'.*alpha, beta"):
        run_view("micrographs/delta.mrc", *VIEW[1:])


@pytest.mark.usefixtures("project")
def test_view_refuses_a_threshold_on_picks_without_scores():
    arguments = [argument.replace("picks.tsv", "reference.star") for argument in VIEW]
    with pytest.raises(InputError, match="no scores"):
        run_view(*arguments, "--threshold", "0.5")
