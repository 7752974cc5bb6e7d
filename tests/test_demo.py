"""The sample, and what the shipped model finds in it: the same as `make demo`."""

import gzip
import importlib.util
import json

import numpy as np
import pytest

from deeppicker.cli.main import main
from deeppicker.formats import read_micrograph, read_picks


@pytest.fixture
def demo(root, tmp_path, capsys):
    """The folder that the demo leaves."""
    from deeppicker.config import DEFAULT_MODEL
    from deeppicker.networks.model import shipped_models

    if DEFAULT_MODEL not in shipped_models():
        pytest.skip(f"the model {DEFAULT_MODEL} is not in the package yet")
    sample = root / "sample"
    micrograph, reference = sample / "micrographs" / "sample_001.mrc.gz", sample / "particles.star"
    picks = tmp_path / "demo"
    commands = [
        ["pick", str(sample / "micrographs"), "--output", str(picks)],
        ["evaluate", "--picks", str(picks), "--reference", str(reference), "--json", str(picks / "numbers.json")],
        [
            "view",
            str(micrograph),
            "--picks",
            str(picks),
            "--reference",
            str(reference),
            "--overlay",
            str(picks / "o.png"),
        ],
    ]
    for command in commands:
        assert main(command) == 0, capsys.readouterr().err
    return picks


@pytest.mark.slow
def test_the_demo_finds_the_particles_of_the_sample(demo):
    numbers = json.loads((demo / "numbers.json").read_text(encoding="utf-8"))
    assert numbers["macro"]["f1"] >= 0.85
    settings = json.loads((demo / "run.json").read_text(encoding="utf-8"))
    assert settings["diameter"] == pytest.approx(180, rel=0.2)  # found by itself
    assert (demo / "o.png").read_bytes().startswith(b"\x89PNG")
    assert (demo / "autopick.star").is_file()


def test_the_recipe_makes_the_sample(root, tmp_path):
    specification = importlib.util.spec_from_file_location("make_sample", root / "recipes" / "make_sample.py")
    recipe = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(recipe)
    recipe.write(recipe.simulate(), tmp_path)
    made, stored = (read_micrograph(folder / recipe.MICROGRAPH) for folder in (tmp_path, root / "sample"))
    assert made.pixel_size == stored.pixel_size == recipe.PIXEL_SIZE
    # Fourier transforms differ in the last digit between machines, which tips a few roundings.
    difference = np.abs(made.image - stored.image)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    for name in ("particles.star", "dataset.json"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (root / "sample" / name).read_text(encoding="utf-8")


def test_the_sample_is_small_and_described(root):
    sample = root / "sample"
    (particles,) = read_picks(sample / "particles.star")
    described = json.loads((sample / "dataset.json").read_text(encoding="utf-8"))
    assert described["num_particles"] == len(particles)
    assert described["pixel_size_angstrom"] == read_micrograph(sample / particles.micrograph).pixel_size
    assert sum(path.stat().st_size for path in sample.rglob("*") if path.is_file()) < 1.5e6
    with gzip.open(sample / particles.micrograph) as file:
        assert file.read(1024)[208:212] == b"MAP "
