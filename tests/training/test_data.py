"""Data sets: coordinates with their micrographs and diameter, and their split."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenes
from deeppicker.core import Picks
from deeppicker.errors import DeepPickerError, FormatError, InputError
from deeppicker.formats import write_picks
from deeppicker.training.data import Dataset, Labelled, load_dataset, split

NAMES = ("a.1.mrc", "b.mrc", "c.mrc")


@pytest.fixture
def star(tmp_path: Path) -> Path:
    return scenes.write_project(tmp_path, [scenes.scene(i, name) for i, name in enumerate(NAMES)])


def test_a_star_file_with_a_description_beside_it_is_a_data_set(star: Path):
    dataset = load_dataset(star)
    assert dataset.name == f"{star.parent.name}/particles.star"
    assert dataset.diameter == scenes.DIAMETER
    assert [item.picks.micrograph for item in dataset.micrographs] == [f"micrographs/{name}" for name in NAMES]
    assert len(dataset) == 48
    for index, item in enumerate(dataset.micrographs):
        expected = scenes.scene(index)
        assert item.load().image == pytest.approx(expected.micrograph.image)
        assert item.load().pixel_size == scenes.PIXEL_SIZE
        assert item.picks.positions == pytest.approx(expected.positions)
        assert item.avoid == pytest.approx(expected.positions)


def test_images_are_read_only_when_they_are_needed(star: Path):
    dataset = load_dataset(star)
    (star.parent / "micrographs" / "b.mrc").write_bytes(b"damaged")
    assert dataset.micrographs[0].load().image.shape == (scenes.HEIGHT, scenes.WIDTH)
    with pytest.raises(FormatError, match=r"b\.mrc"):
        dataset.micrographs[1].load()


@pytest.mark.filterwarnings("ignore:--pixel-size")
def test_the_given_pixel_size_counts_more_than_that_of_the_star_and_this_more_than_that_of_the_image(star: Path):
    folder = star.parent
    scenes.write_mrc(folder / "micrographs" / "b.mrc", scenes.scene(1).micrograph.image, pixel_size=7.0)
    assert load_dataset(star).micrographs[1].load().pixel_size == scenes.PIXEL_SIZE
    assert load_dataset(star, pixel_size=1.5).micrographs[1].load().pixel_size == 1.5
    bare = folder / "bare.star"
    write_picks(bare, [Picks.unscored("micrographs/b.mrc", scenes.scene(1).positions)])
    assert load_dataset(bare).micrographs[0].load().pixel_size == 7.0


def test_the_given_diameter_counts_more_than_the_recorded_one_and_one_of_them_is_needed(star: Path):
    assert load_dataset(star).diameter == scenes.DIAMETER
    assert load_dataset(star, diameter=55.0).diameter == 55.0
    (star.parent / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"particles.star.*--diameter"):
        load_dataset(star)
    assert load_dataset(star, diameter=80.0).diameter == 80.0


def test_missing_images_are_listed(star: Path):
    for file in (star.parent / "micrographs").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"none of its 3 micrographs was found") as caught:
        load_dataset(star)
    message = str(caught.value)
    assert "--micrographs" in message
    assert all(f"micrographs/{name}" in message for name in NAMES)
    assert "\n" not in message


def test_images_that_match_no_picks_are_listed_by_the_names_looked_for(star: Path, tmp_path: Path):
    scenes.write_mrc(tmp_path / "other" / "z.mrc", scenes.scene(0).micrograph.image)
    with pytest.raises(InputError, match=r"looked for a\.1, b, c.*--micrographs"):
        load_dataset(star, micrographs=str(tmp_path / "other"))


def test_images_are_found_elsewhere_by_their_names(star: Path, tmp_path: Path):
    (star.parent / "micrographs").rename(tmp_path / "moved")
    found = load_dataset(star, micrographs=str(tmp_path / "moved"))
    assert len(found.micrographs) == 3
    assert found.micrographs[2].load().image == pytest.approx(scenes.scene(2).micrograph.image)


def test_those_micrographs_that_are_there_are_used_and_the_others_named(star: Path):
    assert load_dataset(star).missing == ()
    (star.parent / "micrographs" / "b.mrc").unlink()
    dataset = load_dataset(star)
    assert [item.picks.key for item in dataset.micrographs] == ["a.1", "c"]
    assert dataset.missing == ("micrographs/b.mrc",)


@pytest.mark.parametrize("name", ["picks.tsv", "picks.csv"])
def test_a_table_that_does_not_say_where_the_images_are_needs_the_option(star: Path, name: str):
    table = star.parent / name
    write_picks(table, [Picks.unscored("micrographs/b.mrc", scenes.scene(1).positions)])
    with pytest.raises(InputError, match=f"{name}.*--micrographs"):
        load_dataset(table)
    found = load_dataset(table, micrographs=str(star.parent / "micrographs"), pixel_size=3.0)
    assert [item.picks.key for item in found.micrographs] == ["b"]


@pytest.mark.usefixtures("star")
def test_a_folder_of_picks_is_a_data_set(tmp_path: Path):
    folder = tmp_path / "run"
    write_picks(folder, [Picks(f"micrographs/{NAMES[0]}", scenes.scene(0).positions, np.linspace(1, 0, 16))])
    (folder / "run.json").write_text(json.dumps({"diameter": 72.5}), encoding="utf-8")
    found = load_dataset(folder)
    assert found.diameter == 72.5
    assert found.micrographs[0].picks.scores == pytest.approx(np.linspace(1, 0, 16))
    assert found.micrographs[0].load().image.shape == (scenes.HEIGHT, scenes.WIDTH)


def test_picks_without_any_particle_are_refused(tmp_path: Path):
    write_picks(tmp_path / "picks", [Picks.unscored("a.mrc", np.empty((0, 2)))])
    with pytest.raises(DeepPickerError, match="holds no particle"):
        load_dataset(tmp_path / "picks", diameter=90.0)


def labelled(counts: list[int]) -> Dataset:
    """Return a data set of nothing but positions; each is told apart by its x, each micrograph by its y."""
    items = []
    for index, count in enumerate(counts):
        positions = np.stack([np.arange(count), np.full(count, index)], axis=1).astype(float)
        picks = Picks.unscored(f"m{index}", positions)
        items.append(Labelled(lambda: pytest.fail("no image is needed"), picks, positions))
    return Dataset("made up", 100.0, items)


many = st.lists(st.integers(1, 40), min_size=2, max_size=30)


@given(many, st.sampled_from([1 / 9, 1 / 4, 1.0]), st.integers(0, 99))
def test_a_split_shares_no_micrograph_and_loses_none(counts, fraction, seed):
    dataset = labelled(counts)
    parts = split(dataset, fraction, np.random.default_rng(seed))
    names = [{item.picks.micrograph for item in part.micrographs} for part in parts]
    assert names[0].isdisjoint(names[1])
    assert names[0] | names[1] == {item.picks.micrograph for item in dataset.micrographs}
    assert min(map(len, parts)) >= 1
    assert [part.diameter for part in parts] == [100.0, 100.0]


@given(many, st.integers(0, 99))
def test_the_validation_part_is_as_large_as_asked_for_but_for_one_micrograph(counts, seed):
    training, validation = split(labelled(counts), 1 / 9, np.random.default_rng(seed))
    assert len(validation) <= sum(counts) / 10 + max(counts)
    assert len(training.micrographs) == 1 or len(validation) >= sum(counts) / 10


def test_the_validation_part_of_many_micrographs_is_a_ninth_of_the_training_part():
    training, validation = split(labelled([5] * 200), 1 / 9, np.random.default_rng(0))
    assert len(validation) / len(training) == pytest.approx(1 / 9, rel=0.05)


def test_the_seed_decides_the_split():
    def held(seed: int) -> list[str]:
        part = split(labelled([4] * 40), 1 / 9, np.random.default_rng(seed))[1]
        return [item.picks.micrograph for item in part.micrographs]

    assert held(1) == held(1)
    assert held(1) != held(2)


@given(st.integers(2, 60), st.integers(0, 99))
def test_a_single_micrograph_is_split_into_its_particles_and_avoids_them_all(count, seed):
    dataset = labelled([count])
    parts = split(dataset, 1 / 9, np.random.default_rng(seed))
    xs = [set(part.micrographs[0].picks.positions[:, 0].tolist()) for part in parts]
    assert xs[0].isdisjoint(xs[1])
    assert xs[0] | xs[1] == set(range(count))
    assert len(xs[1]) == max(1, round(count / 10))
    for part in parts:
        assert (part.micrographs[0].avoid == dataset.micrographs[0].avoid).all()


@pytest.mark.filterwarnings("ignore:--pixel-size")
def test_picks_of_a_run_are_learnt_with_the_pixel_size_and_the_contrast_of_that_run(star: Path):
    plain = load_dataset(star, diameter=100.0).micrographs[0].load()
    (star.parent / "run.json").write_text('{"pixel_size": 4.5, "invert": true}', encoding="utf-8")
    item = load_dataset(star, diameter=100.0).micrographs[0]
    assert item.load().pixel_size == 4.5
    assert (item.load().image == -plain.image).all()
    assert load_dataset(star, diameter=100.0, pixel_size=2.0).micrographs[0].load().pixel_size == 2.0
    assert "4.5" in item.source


def test_two_micrographs_of_the_same_name_are_refused(tmp_path: Path):
    picks = [Picks.unscored(f"{folder}/m.mrc", np.array([[5.0, 6.0]])) for folder in "ab"]
    write_picks(tmp_path / "p.star", picks, pixel_size=2.0)
    with pytest.raises(InputError, match=r"a/m\.mrc and b/m\.mrc have the same name"):
        load_dataset(tmp_path / "p.star", diameter=100.0)
