"""The main job on real micrographs. The model has seen them in training: this guards the pipeline, not its accuracy."""

import json
from pathlib import Path

import pytest

from deeppicker.cli.main import main


@pytest.mark.filterwarnings("ignore:1 of .* positions in .* lie outside")  # of the reference
@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "diameter", "least"),
    [("apoferritin-10146", 130, 0.9), ("trpv1-10059", 130, 0.55), ("ribosome-10028", 290, 0.75)],
)
def test_the_shipped_model_finds_the_particles_of_real_micrographs(
    name: str, diameter: int, least: float, data_root: Path, tmp_path: Path
):
    folder = data_root / "real" / name
    micrographs = [str(path) for path in sorted((folder / "micrographs").glob("*.mrc"))[:2]]
    reference = folder / "particles.star"
    pixel_size = json.loads((folder / "dataset.json").read_text())["pixel_size_angstrom"]
    words = ["--output", str(tmp_path / "picks"), "--diameter", str(diameter), "--pixel-size", str(pixel_size)]
    assert main(["pick", *micrographs, *words]) == 0
    judged = [
        "--picks",
        str(tmp_path / "picks"),
        "--reference",
        str(reference),
        "--json",
        str(tmp_path / "numbers.json"),
    ]
    assert main(["evaluate", *judged]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    found = [item["rates"]["f1"] for item in numbers["micrographs"] if item["picks"]]
    assert len(found) == 2
    assert min(found) > least
    assert all(item["chance"]["f1"] < 0.3 for item in numbers["micrographs"])
