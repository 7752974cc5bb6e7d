"""The main job on real micrographs. The model has seen them in training: this guards the pipeline, not its accuracy."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeppicker.cli.main import main
from deeppicker.formats import read_picks


@pytest.mark.filterwarnings("ignore:1 of .* positions in .* lie outside")  # of the reference
@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "diameter", "least"),
    [("apoferritin-10146", 130, 0.9), ("trpv1-10059", 130, 0.55), ("ribosome-10028", 290, 0.75)],
)
@pytest.mark.parametrize("model", ["general", "deeppicker2016"])
def test_the_shipped_models_find_the_particles_of_real_micrographs(
    name: str, diameter: int, least: float, model: str, data_root: Path, tmp_path: Path
):
    folder = data_root / "real" / name
    micrographs = [str(path) for path in sorted((folder / "micrographs").glob("*.mrc"))[:2]]
    pixel_size = json.loads((folder / "dataset.json").read_text())["pixel_size_angstrom"]
    words = ["--output", str(tmp_path / "picks"), "--pixel-size", str(pixel_size), "--model", model]
    if model == "general":  # finds diameter and threshold by itself
        assert main(["pick", *micrographs, *words]) == 0
        found = json.loads((tmp_path / "picks" / "run.json").read_text())["diameter"]
        assert found == pytest.approx(diameter, rel=0.25)  # from two micrographs only
    else:
        assert main(["pick", *micrographs, *words, "--diameter", str(diameter), "--threshold", "0.5"]) == 0
    numbers = evaluated(tmp_path, folder / "particles.star", diameter)
    rates = [item["rates"]["f1"] for item in numbers["micrographs"] if item["picks"]]
    assert len(rates) == 2
    assert min(rates) > least
    assert all(item["chance"]["f1"] < 0.35 for item in numbers["micrographs"])


def evaluated(folder: Path, reference: Path, diameter: int) -> dict:
    words = ["--picks", str(folder / "picks"), "--reference", str(reference), "--diameter", str(diameter)]
    assert main(["evaluate", *words, "--json", str(folder / "numbers.json")]) == 0
    numbers: dict = json.loads((folder / "numbers.json").read_text())
    return numbers


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("kind", ["no-ice", "noise"])
def test_hardly_anything_is_found_where_there_is_nothing(kind: str, data_root: Path, tmp_path: Path):
    if kind == "no-ice":  # every second one: the others were for training
        paths = sorted((data_root / "real" / "micrograph-quality" / kind).glob("*.mrc"))[1::2]
    else:
        import scenes

        rng = np.random.default_rng(0)
        paths = [scenes.write_mrc(tmp_path / f"{i}.mrc", rng.normal(size=(500, 600))) for i in range(2)]
    words = ["--diameter", "150", "--pixel-size", "7.5", "--output", str(tmp_path / "picks")]
    assert main(["pick", *(str(path) for path in paths), *words]) in (0, 2)  # 2: nothing at all
    found = read_picks(tmp_path / "picks" / "autopick.star")
    assert len(found) == 2
    assert np.mean([len(picks) for picks in found]) <= 2
