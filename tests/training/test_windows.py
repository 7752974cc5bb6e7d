"""Training windows: centred particles, background away from all particles, as many of one as of the other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import fft, ndimage

import scenes
from deeppicker.config import ExampleConfig, PrepareConfig
from deeppicker.core import Grid, Micrograph, Picks, Prepared
from deeppicker.errors import InputError
from deeppicker.picking.prepare import prepare
from deeppicker.training import windows as examples_module
from deeppicker.training.data import Dataset, Labelled, split
from deeppicker.training.windows import (
    _background,
    _choose,
    _coarse,
    fill,
    new_examples,
    open_examples,
    put,
    unlabelled_margin,
    without_structure,
)
from scenes import BOX, DIAMETER, HEIGHT, PIXEL_SIZE, WIDTH, draw

BASE = PrepareConfig()
PLAIN = ExampleConfig(noise=0.0, versions=1)
CENTRE = (BASE.window - 1) / 2


def dots(*places: tuple[float, float], seed: int = 0, height: float = 60.0) -> np.ndarray:
    """Return noise with a bright dot at each (x, y)."""
    image = np.random.default_rng(seed).normal(0, 1, (HEIGHT, WIDTH))
    for x, y in places:
        image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] += height
    return image.astype(np.float32)


def one_micrograph(image: np.ndarray, particles: np.ndarray, avoid: np.ndarray | None = None) -> Dataset:
    micrograph = Micrograph("m.mrc", image, PIXEL_SIZE)

    def load() -> Micrograph:
        return micrograph

    known = particles if avoid is None else avoid
    return Dataset("dots", DIAMETER, [Labelled(load, Picks.unscored("m.mrc", particles), known)])


def spread(number: int, seed: int = 0, apart: float = 1.5 * BOX, edge: float = 40.0) -> np.ndarray:
    """Return whole-numbered random positions, far from each other and from the edge."""
    rng = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    while len(chosen) < number:
        point = np.rint(rng.uniform((edge, edge), (WIDTH - edge, HEIGHT - edge)))
        if all(np.hypot(*(point - other)) > apart for other in chosen):
            chosen.append(point)
    return np.array(chosen)


def brightest(windows: np.ndarray) -> np.ndarray:
    """Return (row, column) of the centre of the brightest spot of each window."""
    smooth = ndimage.gaussian_filter(windows.astype(np.float32), (0, 2, 2))
    return np.stack([np.unravel_index(window.argmax(), window.shape) for window in smooth])


@pytest.mark.parametrize("number", [1, 5, 9, 40])
@pytest.mark.parametrize("config", [PLAIN, ExampleConfig(), ExampleConfig(noise=1.0, versions=2)])
def test_there_are_as_many_negatives_as_positives(number: int, config: ExampleConfig):
    places = spread(9)
    examples = draw(one_micrograph(dots(*places), places), number, config, BASE, [1])
    assert len(examples) == 2 * number
    assert examples.labels.sum() == number
    assert examples.windows.shape == (2 * number, 64, 64)
    assert np.isfinite(examples.windows).all()
    assert 0.5 < examples.windows.astype(float).std() < 2


@pytest.mark.parametrize("config", [PLAIN, ExampleConfig(versions=5, noise=0.0)])
def test_every_positive_has_its_particle_at_the_centre(config: ExampleConfig):
    places = spread(9)
    examples = draw(one_micrograph(dots(*places), places), 40, config, BASE, [1])
    found = brightest(examples.windows[examples.labels == 1])
    assert np.abs(found - CENTRE).max() <= 1.5


def positions_cut(monkeypatch: pytest.MonkeyPatch, dataset: Dataset, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where `draw` cuts positives and background."""
    seen: list[np.ndarray] = []

    def spy(prepared: Prepared, positions: np.ndarray, windows: np.ndarray) -> None:
        seen.append(positions)
        put(prepared, positions, windows)

    monkeypatch.setattr(examples_module, "put", spy)
    draw(dataset, number, ExampleConfig(versions=3), BASE, [1])
    return np.concatenate(seen[0::4]), np.concatenate(seen[1::4])  # the others are of noise


def test_every_background_window_is_away_from_every_known_particle(monkeypatch: pytest.MonkeyPatch):
    places = spread(12, apart=0.8 * BOX)
    unlabelled = places[:7]  # known particles that are not to be learnt, such as those of the other part
    dataset = one_micrograph(dots(*places), unlabelled, avoid=places)
    positives, background = positions_cut(monkeypatch, dataset, 100)
    distances = np.hypot(*(background[:, None] - places[None]).transpose(2, 0, 1))
    assert len(background) > 50
    assert distances.min() >= 0.6 * BOX
    assert distances.min() < 0.8 * BOX  # and not further than need be
    assert {tuple(place) for place in positives} == {tuple(place) for place in unlabelled}


def test_no_background_window_shows_a_particle_near_its_centre():
    places = spread(9)
    dataset = one_micrograph(dots(*places), places[:5], avoid=places)
    examples = draw(dataset, 150, ExampleConfig(versions=3, noise=0.0), BASE, [1])
    smooth = ndimage.gaussian_filter(examples.windows.astype(np.float32), (0, 2, 2))
    rows, columns = np.indices((64, 64))
    near = np.hypot(rows - CENTRE, columns - CENTRE) < 26  # a dot is 5 wide; scales vary by 10 %
    background = smooth[examples.labels == 0]
    assert background[:, near].max() < 0.7 * smooth[examples.labels == 1][:, near].max(axis=1).min()
    assert background.max() > 0.9 * smooth.max()  # particles further out are seen, so nearer ones would be


@given(st.integers(0, 999), st.floats(5, 40), st.floats(-5, 60))
def test_background_is_far_from_every_known_particle_and_inside_the_frame(seed: int, distance: float, margin: float):
    avoid = np.random.default_rng(seed).uniform((0, 0), (WIDTH, HEIGHT), size=(20, 2))
    points = _background(avoid, (HEIGHT, WIDTH), distance, margin, np.random.default_rng(seed))
    assert len(points) > 0
    assert np.hypot(*(points[:, None] - avoid[None]).transpose(2, 0, 1)).min() >= distance
    frame = min(margin, distance)
    assert (points >= frame).all()
    assert (points <= np.array([WIDTH - 1, HEIGHT - 1]) - frame).all()


def test_background_covers_the_whole_of_the_frame():
    points = _background(np.array([[10.0, 10.0]]), (HEIGHT, WIDTH), 15.0, 12.0, np.random.default_rng(0))
    assert points.max(axis=0) == pytest.approx([WIDTH - 1 - 12, HEIGHT - 1 - 12], abs=1)
    assert points.min(axis=0) == pytest.approx([12, 12], abs=1)


@pytest.mark.parametrize(("edge", "least"), [(70.0, 0.6 * BOX), (12.0, 12.0)])
def test_background_keeps_out_of_a_frame_that_has_no_labels(monkeypatch: pytest.MonkeyPatch, edge: float, least: float):
    places = np.vstack([spread(5, edge=70.0), [[edge, 100.0]]])
    _, background = positions_cut(monkeypatch, one_micrograph(dots(*places), places), 300)
    nearest = min(background.min(), (np.array([WIDTH - 1, HEIGHT - 1]) - background).min())
    assert least <= nearest < least + 4
    assert unlabelled_margin(one_micrograph(dots(*places), places)) == edge


@given(st.integers(1, 30), st.integers(1, 100), st.integers(0, 99))
def test_each_particle_is_drawn_as_often_as_any_other_give_or_take_one(available: int, number: int, seed: int):
    counts = np.bincount(_choose(available, number, np.random.default_rng(seed)), minlength=available)
    assert counts.sum() == number
    assert counts.max() - counts.min() <= 1
    assert len(counts) == available


def test_too_few_particles_are_drawn_several_times_in_different_versions():
    places = spread(3)
    examples = draw(one_micrograph(dots(*places), places), 30, ExampleConfig(versions=4, noise=0.0), BASE, [1])
    positives = examples.windows[examples.labels == 1]
    assert len(positives) == 30
    assert 3 < len(np.unique(positives.reshape(30, -1), axis=0)) <= 12


def test_particles_of_all_micrographs_are_drawn():
    sizes = (4, 8)  # px; told apart by the width of their dots
    items = []
    for index, size in enumerate(sizes):
        places = spread(6, seed=index)
        image = dots(seed=index)
        for x, y in places.astype(int):
            image[y - size // 2 : y + size // 2, x - size // 2 : x + size // 2] = 30
        items.extend(one_micrograph(image, places).micrographs)
    examples = draw(Dataset("both", DIAMETER, items), 12, PLAIN, BASE, [0])
    bright = (examples.windows[examples.labels == 1] > 2.5).sum(axis=(1, 2))
    assert np.sort(bright)[:6].max() * 2 < np.sort(bright)[6:].min()


def test_the_seed_decides_the_windows():
    places = spread(6)
    dataset = one_micrograph(dots(*places), places)
    first, again, other = (draw(dataset, 10, ExampleConfig(versions=2), BASE, [seed]) for seed in (1, 1, 2))
    assert (first.windows == again.windows).all()
    assert (first.windows != other.windows).any()


def test_no_room_for_background_is_an_error_that_names_the_diameter():
    y, x = np.mgrid[0:HEIGHT:12, 0:WIDTH:12]
    places = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    dataset = one_micrograph(dots(), places)
    for number in (5, 100):
        with pytest.raises(InputError, match=r"dots: no background.*--diameter \(72 Å\)") as caught:
            draw(dataset, number, ExampleConfig(), BASE, [0])
        assert "\n" not in str(caught.value)


def test_a_crowded_micrograph_beside_one_with_room_is_no_error():
    y, x = np.mgrid[0:HEIGHT:12, 0:WIDTH:12]
    crowded = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    items = [*one_micrograph(dots(), crowded).micrographs, *one_micrograph(dots(), spread(5)).micrographs]
    examples = draw(Dataset("both", DIAMETER, items), 500, PLAIN, BASE, [0])
    assert examples.labels.sum() == 500
    assert len(examples) == 1000


def test_no_particle_is_an_error():
    with pytest.raises(InputError, match="dots holds too few particles"):
        draw(one_micrograph(dots(), np.empty((0, 2))), 5, PLAIN, BASE, [0])


def test_a_single_particle_cannot_be_split_and_is_an_error():
    training, validation = split(one_micrograph(dots(), np.array([[50.0, 60.0]])), 1 / 9, np.random.default_rng(0))
    assert len(validation) == 1
    with pytest.raises(InputError, match="too few particles"):
        draw(training, 5, PLAIN, BASE, [0])


def test_a_particle_just_beyond_the_edge_among_many_is_no_reason_to_stop():
    places = np.vstack([np.repeat(spread(4), 6, axis=0), [[WIDTH + 1.0, 50.0]]])
    examples = draw(one_micrograph(dots(*spread(4)), places), 12, PLAIN, BASE, [0])
    assert examples.labels.sum() == 12


def test_many_particles_outside_the_micrograph_are_refused():
    places = np.vstack([spread(4), [[-30.0, 50.0], [WIDTH + 20.0, HEIGHT + 5.0]]])
    with pytest.raises(InputError, match=r"2 of 6 particles lie outside the .*\(-30, 50\)"):
        draw(one_micrograph(dots(*spread(4)), places), 12, PLAIN, BASE, [0])


@pytest.mark.parametrize(("x", "y"), [(31.5, 31.5), (40.0, 90.0), (99.5, 31.5), (-50.0, 500.0)])
def test_a_window_is_cut_around_the_nearest_pixel_and_never_outside(x: float, y: float):
    image = np.arange(120 * 150, dtype=np.float32).reshape(120, 150)
    grid = Grid((-4.0, 2.0), 0.5)
    windows = np.zeros((1, 64, 64), np.float32)
    put(Prepared(image, grid, image), grid.positions(np.array([[x, y]])), windows)
    window = windows[0]
    left, top = np.clip(round(x - 31.5 + 1e-9), 0, 150 - 64), np.clip(round(y - 31.5 + 1e-9), 0, 120 - 64)
    assert abs(window[0, 0] % 150 - left) <= 1
    assert abs(window[0, 0] // 150 - top) <= 1
    assert (np.diff(window, axis=1) == 1).all()


def textured(shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (100 + 50 * ndimage.gaussian_filter(rng.normal(size=shape), 4)).astype(np.float32)


@pytest.mark.parametrize("make", [textured, lambda shape: scenes.scene(1, shape=shape).micrograph.image])
@pytest.mark.parametrize("shape", [(150, 211), (201, 160)])
@pytest.mark.parametrize("seed", [0, 1])
def test_noise_without_structure_has_nothing_of_the_micrograph_but_its_size(
    make: Callable[[tuple[int, int]], np.ndarray], shape: tuple[int, int], seed: int
):
    micrograph = Micrograph("m.mrc", make(shape), PIXEL_SIZE)
    noise = without_structure(micrograph, np.random.default_rng(seed))
    assert noise.image.shape == shape
    assert noise.image.dtype == np.float32
    assert replace(noise, image=micrograph.image) == micrograph
    assert np.isfinite(noise.image).all()
    assert noise.image.mean() == pytest.approx(0, abs=1e-3)
    assert noise.image.std() == pytest.approx(1, abs=1e-3)
    assert abs(np.corrcoef(noise.image.ravel(), micrograph.image.ravel())[0, 1]) < 0.2


def test_noise_without_structure_has_more_of_what_the_micrograph_has_more_of():
    micrograph = Micrograph("m.mrc", textured((150, 211)), PIXEL_SIZE)
    slow = []
    for seed in range(8):
        noise = without_structure(micrograph, np.random.default_rng(seed)).image
        slow.append(ndimage.gaussian_filter(noise, 4).std())
    white = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(150, 211)), 4).std()
    assert np.mean(slow) > 1.5 * white
    assert np.std(slow) > 0.1 * white


@pytest.mark.parametrize("finer", [3, 5])
def test_noise_made_of_fewer_pixels_looks_the_same_to_the_network(finer: int):
    image = np.repeat(np.repeat(textured((300, 422)), finer, 0), finer, 1)
    image += np.random.default_rng(1).normal(0, 20, image.shape).astype(np.float32)
    micrograph = Micrograph("m.mrc", image, PIXEL_SIZE / finer)
    coarse = _coarse(micrograph, DIAMETER, BASE)
    assert coarse.image.size < micrograph.image.size
    assert all(fft.next_fast_len(side, real=True) == side for side in coarse.image.shape)
    spectra = []
    for one in (micrograph, coarse):
        noise = [
            prepare(without_structure(one, np.random.default_rng(seed)), DIAMETER, BASE).image for seed in range(8)
        ]
        power = np.mean([np.abs(np.fft.rfft2(part[32:-32, 32:-32])) ** 2 for part in noise], axis=0)
        distance = np.hypot(np.fft.fftfreq(power.shape[0])[:, None], np.fft.rfftfreq(noise[0].shape[1] - 64)[None])
        rings = (distance * 10).astype(int)
        spectra.append([power[rings == ring].mean() for ring in range(6)])
    np.testing.assert_allclose(spectra[1], spectra[0], rtol=0.25)


def test_noise_for_a_diameter_that_cannot_be_is_left_to_who_refuses_it():
    micrograph = Micrograph("m.mrc", textured((150, 211)), PIXEL_SIZE)
    assert _coarse(micrograph, 1e6, BASE) is micrograph


def test_windows_are_the_same_in_memory_and_in_a_file_however_few_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    places = spread(6)
    dataset = one_micrograph(dots(*places), places)
    whole = draw(dataset, 30, ExampleConfig(versions=2), BASE, [1])
    monkeypatch.setattr(examples_module, "_AT_ONCE", 4)
    stored = new_examples(tmp_path / "new" / "part", 70, BASE.window)
    fill(stored.part(5, 65), dataset, ExampleConfig(versions=2), BASE, [1])
    again = open_examples(tmp_path / "new" / "part")
    assert (again.part(5, 65).windows == whole.windows).all()
    assert (again.part(5, 65).labels == whole.labels).all()
    assert not again.windows[[*range(5), *range(65, 70)]].any()


def test_the_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    places = spread(6)
    dataset = one_micrograph(dots(*places), places)
    several = draw(dataset, 30, ExampleConfig(versions=3), BASE, [1])
    monkeypatch.setattr(examples_module, "_THREADS", 1)
    assert (draw(dataset, 30, ExampleConfig(versions=3), BASE, [1]).windows == several.windows).all()
