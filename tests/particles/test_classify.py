"""Class averages: geometry, alignment, quality of classes, files, the command."""

import csv
import shutil
from dataclasses import replace
from functools import cache

import mrcfile
import numpy as np
import pytest
import torch
from scipy import ndimage
from views import agreement, micrograph

from deeppicker.cli.main import main
from deeppicker.config import ClassifyConfig
from deeppicker.core import Ctf, Micrograph, Picks
from deeppicker.errors import InputError
from deeppicker.formats import read_picks
from deeppicker.formats.relion import defocus
from deeppicker.particles.classify import relion
from deeppicker.particles.classify.em import (
    Alignment,
    _Step,
    by_rings,
    classify,
    coefficients,
    ring_means,
    rotate,
    shift_grid,
    transformed,
)
from deeppicker.particles.classify.others import Sampled, cut_with_others, sample
from deeppicker.particles.classify.quality import compared, judge
from deeppicker.particles.classify.refine import refine
from deeppicker.particles.classify.report import report_of
from deeppicker.particles.classify.search import Search, number_of_classes, search_for
from deeppicker.particles.classify.windows import BOX, Windows, cut, disc, join, radii
from deeppicker.simulate.volumes import Volume, from_density
from deeppicker.training.data import load_dataset
from scenes import DIAMETER as DISC
from scenes import scene, write_project

DIAMETER = 150.0


@cache
def volumes() -> list[Volume]:
    """Return a hand of three fingers and a hollow barrel with one closed end, both without symmetry."""
    z, y, x = np.indices((64, 64, 64), dtype=np.float32) - 31.5

    def rod(start, end, radius):
        axis = np.subtract(end, start)
        along = np.clip(
            ((x - start[0]) * axis[0] + (y - start[1]) * axis[1] + (z - start[2]) * axis[2]), 0, axis @ axis
        )
        along = along / (axis @ axis)
        nearest = [start[i] + along * axis[i] for i in range(3)]
        return np.sqrt((x - nearest[0]) ** 2 + (y - nearest[1]) ** 2 + (z - nearest[2]) ** 2) < radius

    hand = rod((-14, 0, 0), (14, 0, 0), 6) | rod((12, 0, 0), (12, 16, 4), 5) | rod((-12, 0, 0), (-14, -8, 14), 5)
    across = np.hypot(x, y)
    barrel = (across < 13) & (np.abs(z) < 17) & ((across > 7) | (z > 8))
    made = [from_density(name, shape.astype(np.float32), 1.0) for name, shape in (("hand", hand), ("barrel", barrel))]
    return [Volume(v.name, v.density, DIAMETER / v.diameter, DIAMETER) for v in made]


@cache
def mixture(number: int, seed: int = 0) -> tuple[Windows, tuple[Picks, ...], np.ndarray]:
    """Return windows of particles with SNR 0.1 and three tenths of junk, and which are particles."""
    parts, picks, kinds = [], [], []
    while sum(map(len, picks)) < number:
        truth = micrograph(volumes(), 1000, 52, 0.1, seed + len(parts))
        parts.append(cut(truth.micrograph, truth.positions, DIAMETER, 64, truth.ctf))
        picks.append(Picks.unscored(truth.micrograph.name, truth.positions))
        kinds.append(truth.kind >= 0)
    return join(parts), tuple(picks), np.concatenate(kinds)


def blob(side: int = 48) -> torch.Tensor:
    """Return a bright shape without symmetry."""
    line = torch.arange(side, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.exp(-((x - 5) ** 2 + y**2) / 20) + 0.7 * torch.exp(-(x**2 + (y - 6) ** 2) / 12)


def angled(side: int = 48) -> torch.Tensor:
    """Return three small spots far from the middle, so that turning by little moves them much."""
    line = torch.arange(side, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    spots = ((14, 0, 1.0), (0, 13, 0.8), (-9, 4, 0.6))
    return torch.stack([height * torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 8) for a, b, height in spots]).sum(dim=0)


def test_turning_goes_from_x_towards_y():
    turned = rotate(blob()[None], 90.0)[0]
    assert torch.allclose(turned[10:38, 10:38], torch.rot90(blob(), -1, (0, 1)).roll(1, 1)[10:38, 10:38], atol=1e-3)


def test_moving_goes_towards_positive_x_and_y():
    moved = transformed(blob()[None], torch.zeros(1), torch.tensor([[3.0, -2.0]]))[0]
    assert torch.allclose(moved[10:38, 10:38], blob().roll((-2, 3), (0, 1))[10:38, 10:38], atol=1e-3)


def test_coefficients_hold_one_of_each_conjugate_pair():
    chosen = coefficients(32, 9)
    pairs = {(round(float(y)), round(float(x))) for y, x in zip(chosen.y, chosen.x, strict=True)}
    assert len(pairs) == len(chosen.index)
    assert not any((-y, -x) in pairs for y, x in pairs)
    assert 2 * len(pairs) + 1 == int(
        (torch.hypot(*torch.meshgrid(*[torch.arange(-15.0, 16)] * 2, indexing="ij")) <= 9.5).sum()
    )


def test_the_power_of_white_noise_is_the_same_in_all_rings():
    noise = torch.randn(200, 32, 32, generator=torch.Generator().manual_seed(0))
    power = ring_means(torch.fft.rfft2(noise).abs().square().mean(dim=0), 32)
    assert torch.allclose(power / 1024, torch.ones(17), atol=0.15)


@pytest.mark.parametrize("across", [False, True])
def test_an_average_keeps_what_varies_along_one_axis_only(across: bool):
    wave = torch.cos(2 * torch.pi * 4 * torch.arange(32) / 32)[:, None].expand(32, 32)
    mask = torch.from_numpy(disc(32, 0.9))
    image = (wave.T if across else wave) * mask
    search = Search(rings=12, rotations=4, shift=0.0, shift_step=1.0)
    step = _Step(image[None], torch.full((17,), 1e-2), mask, torch.zeros(1), search, 0.0)
    spectra = torch.fft.rfft2(torch.fft.ifftshift(image[None].repeat(4, 1, 1), dim=(-2, -1)))
    group = torch.zeros(4, dtype=torch.int64)
    averages, *_ = step.run(spectra, torch.ones(1, 17), group, torch.device("cpu"))
    inside = mask > 0.99
    assert float((averages[0] * image)[inside].sum() / image.square()[inside].sum()) == pytest.approx(1, abs=0.1)


def test_averages_of_round_particles_are_not_drawn_to_the_axes():
    side, number = 48, 1000
    rng = np.random.default_rng(0)
    disc_of_one = 0.5 / (1 + np.exp(radii(side) - 0.42 * side / BOX))
    images = (disc_of_one + rng.normal(size=(number, side, side))).astype(np.float32)
    windows = Windows(images, np.zeros(number, dtype=np.int64), np.ones((1, side // 2 + 1), np.float32))
    averages, _ = classify(windows, ClassifyConfig(classes=10, side=side, iterations=6))
    line = np.arange(side) - side // 2
    rim = (radii(side) > 0.3 * side / BOX) & (radii(side) < 0.5 * side / BOX)
    fourfold = np.exp(-4j * np.arctan2(line[:, None], line[None, :]))[rim]
    values = averages.numpy()[:, rim]
    # Noise makes each a little square, in a direction of its own: they cancel.
    assert abs(((values * fourfold).mean(axis=1) / values.mean(axis=1)).mean()) < 0.08  # drawn to the axes: 0.15


def test_factors_of_rings_leave_what_is_round_round():
    side = 48
    image = torch.from_numpy(np.exp(-((radii(side) / 5) ** 2)))[None]
    factors = (torch.arange(side // 2 + 1) < 3).float()[None]  # a step
    found = by_rings(image, factors)
    assert torch.allclose(rotate(found, 45.0)[0, 8:40, 8:40], found[0, 8:40, 8:40], atol=0.015 * float(found.max()))
    assert torch.allclose(by_rings(image, torch.ones_like(factors)), image, atol=1e-5)


def test_shifts_are_a_grid_around_no_shift():
    shifts = shift_grid(4.0, 2.0)
    assert len(shifts) == 13
    assert (shifts == 0).all(dim=1).any()


def test_windows_are_centred_bright_and_normalised():
    item = scene(1)
    images, transfer = cut(item.micrograph, item.positions, DISC, 64, neighbours=item.positions[:0])
    outside = radii(64) > 0.5 * 64 / 1.5
    assert images.shape == (len(item.positions), 64, 64)
    assert np.allclose(images[:, outside].mean(axis=1), 0, atol=1e-3)
    average = images.mean(axis=0)
    assert average[24:41, 24:41].mean() > 1
    centre = ndimage.center_of_mass(np.maximum(_smooth(average), 0) * ~outside)
    assert np.hypot(*(np.array(centre) - 32)) < 1.5
    coarsest = 0.5 * 1.5 * DISC / item.micrograph.pixel_size  # the micrograph holds no finer rings
    assert (transfer == (np.arange(33) <= round(coarsest))).all()


def test_neighbours_are_masked_but_not_the_particle_itself():
    rng = np.random.default_rng(6)
    y, x = np.indices((200, 240))
    image = rng.normal(size=(200, 240)).astype(np.float32)
    for centre in ((100, 90), (136, 90)):
        image[np.hypot(x - centre[0], y - centre[1]) < 16] -= 6
    pair = np.array([[100.0, 90.0], [136.0, 90.0]])
    alone, _ = cut(Micrograph("pair", image, 3.0), pair[:1], 120.0, 60)
    masked, _ = cut(Micrograph("pair", image, 3.0), pair[:1], 120.0, 60, neighbours=pair)
    neighbour = np.hypot(*(np.indices((60, 60)) - np.array([30, 66])[:, None, None])) < 12
    assert alone[0][neighbour].mean() > 2
    assert (masked[0][neighbour] == 0).all()
    own = radii(60) < 15
    assert np.corrcoef(alone[0][own], masked[0][own])[0, 1] > 0.99


def test_places_for_comparison_lie_away_from_picks():
    item = scene(1)
    picks = Picks.unscored(item.micrograph.name, item.positions)
    found = cut_with_others(item.micrograph, Sampled(picks, picks), DISC, 48, np.random.default_rng(0))
    again = cut_with_others(item.micrograph, Sampled(picks, picks), DISC, 48, np.random.default_rng(0))
    middle = radii(48) < 6
    assert len(found.picks) == len(picks)
    assert len(found.others) == pytest.approx(0.2 * len(picks), abs=1)
    assert found.others[:, middle].mean() < 0.5 * found.picks[:, middle].mean()
    assert np.array_equal(found.others, again.others)


def test_a_sample_comes_from_enough_micrographs():
    picks = [Picks.unscored(f"{k}.mrc", np.full((10 + k, 2), float(k))) for k in range(100)]
    drawn = sample(picks, 300, np.random.default_rng(0))
    assert sum(map(len, drawn)) == 300
    assert 30 <= sum(len(item) > 0 for item in drawn) <= 40
    assert [item.micrograph for item in drawn] == [item.micrograph for item in picks]
    assert sample(picks, 0, np.random.default_rng(0)) == picks


def test_fewer_picks_are_compared_more_finely_in_fewer_classes():
    few, many = search_for(ClassifyConfig(), 500), search_for(ClassifyConfig(), 20_000)
    assert few.rings > many.rings == 12
    assert few.rotations > many.rotations
    assert few.shift_step < many.shift_step
    assert number_of_classes(ClassifyConfig(), 500) < number_of_classes(ClassifyConfig(), 20_000) == 50
    assert search_for(ClassifyConfig(rings=7), 500).rings == 7


def test_gaps_and_debris_fail_by_comparison_with_the_data_set():
    members = np.full(5, 50.0)
    places = np.array([40.0, 55.0, 1.2, 30.0, 35.0])  # the third is as frequent where nothing was picked
    mass = np.array([1.0, 1.1, 0.4, 0.1, 1.3])  # the fourth is too small
    brightness = np.array([2.0, 2.2, 1.9, 1.5, 7.0])  # the last one is far too dense
    assert (compared(members, places, mass, brightness) >= 0.5).tolist() == [True, True, False, False, False]
    doubtful = np.array([40.0, 55.0, 1.9, 30.0, 35.0])
    assert (compared(members, doubtful, np.ones(5), np.ones(5)) >= 0.5).tolist() == [True, True, False, True, True]
    assert (compared(members, doubtful, np.ones(5), np.ones(5), np.full(5, 2.2)) >= 0.5).all()
    unknown = compared(members, np.full(5, np.nan), mass, brightness)
    assert (unknown >= 0.5).tolist() == [True, True, True, False, False]


def test_halves_of_noise_do_not_agree_and_those_of_a_fine_pattern_do():
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(200, 48, 48, generator=generator)
    pattern = torch.randn(48, 48, generator=generator)
    config = ClassifyConfig(classes=1)
    still = Alignment(torch.zeros(200, dtype=torch.int64), torch.zeros(200), torch.zeros(200, 2), torch.ones(200))

    def quality(images):
        transfer = np.ones((1, 25), np.float32)
        transfer[:, 19:] = 0  # the micrographs are coarser than the windows
        windows = Windows(images.numpy(), np.zeros(200, dtype=np.int64), transfer)
        return judge(refine(windows, images.mean(dim=0)[None], still, config), 2.0, np.full(200, np.nan))

    assert quality(noise).detail[0] < 1.5
    assert not quality(noise).limited[0]
    fine = quality(noise + pattern)
    assert fine.limited[0]
    assert fine.resolution[0] == pytest.approx(96 / 18)


def _smooth(image):
    spectrum = np.fft.rfft2(image)
    spectrum[8:-8] = 0
    spectrum[:, 8:] = 0
    return np.fft.irfft2(spectrum, image.shape)


def test_known_defocus_flips_phases_and_tells_the_transfer():
    item = scene(2)
    plain, _ = cut(item.micrograph, item.positions, DISC, 64)
    flipped, transfer = cut(item.micrograph, item.positions, DISC, 64, Ctf(defocus_u=2.0, defocus_v=2.0))
    assert not np.allclose(plain, flipped)
    assert 0 <= transfer.min() < transfer.max() <= 1


def test_refinement_finds_how_particles_lie_in_an_average():
    side, number = 48, 12
    generator = torch.Generator().manual_seed(3)
    reference = angled(side)[None]
    angle = 360 * torch.rand(number, generator=generator)
    shift = 3 * torch.rand(number, 2, generator=generator) - 1.5
    images = transformed(reference.expand(number, -1, -1), angle, shift)
    images = images + 0.05 * torch.randn(images.shape, generator=generator)
    windows = Windows(images.numpy(), np.zeros(number, dtype=np.int64), np.ones((1, side // 2 + 1), np.float32))
    config = ClassifyConfig(classes=1, side=side, rotations=36)
    near = Alignment(
        torch.zeros(number, dtype=torch.int64), (angle / 10).round() * 10, shift.round(), torch.ones(number)
    )
    found = refine(windows, reference, near, config).alignment
    turn = (found.angle - angle + 180) % 360 - 180
    assert turn.abs().median() < 1.5
    assert turn.abs().max() < 4
    assert (found.shift - shift).abs().max() < 0.8


@pytest.mark.slow
def test_classes_show_the_known_projections_and_junk_is_rejected():
    windows, picks, particle = mixture(900)
    config = ClassifyConfig(classes=12, iterations=12)
    report = report_of(windows, picks, *classify(windows, config), DIAMETER, config)
    good = report.quality.quality >= config.least
    correlation = agreement(report.averages[good], volumes(), DIAMETER, 150, 1)
    assert good.sum() >= 3
    assert np.median(correlation) > 0.9
    assert correlation.min() > 0.8
    assert particle.mean() < 0.76
    assert particle[report.kept].mean() > 0.9
    assert report.kept[particle].mean() > 0.9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_classes():
    windows, _, _ = mixture(200)
    config = ClassifyConfig(classes=4, iterations=3, seed=5)
    first, second = (classify(windows, config) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].label, second[1].label)
    other, _ = classify(windows, replace(config, seed=6))
    assert not torch.equal(first[0], other)


def test_noise_makes_no_good_class():
    rng = np.random.default_rng(4)
    images = rng.normal(size=(120, 64, 64)).astype(np.float32)
    windows = Windows(images, np.zeros(120, dtype=np.int64), np.ones((1, 33), np.float32))
    config = ClassifyConfig(classes=3, iterations=5)
    picks = [Picks.unscored("noise.mrc", rng.uniform(0, 100, (120, 2)))]
    report = report_of(windows, picks, *classify(windows, config), DIAMETER, config)
    assert not report.kept.any()


def test_the_command_writes_classes_and_kept_picks_that_adapt_takes(tmp_path, capsys):
    star = write_project(tmp_path / "project", [scene(1), scene(2)])
    output = tmp_path / "classes"
    words = ["classify", "--picks", str(star), "--output", str(output), "--classes", "2", "--iterations", "4"]
    assert main([*words, "--reject", "--least", "0.001"]) == 0
    assert "deeppicker adapt --picks" in capsys.readouterr().out
    with mrcfile.open(output / "classes.mrcs") as file:
        assert file.data.shape == (2, 64, 64)
        assert float(file.voxel_size.x) == pytest.approx(1.5 * DISC / 64)
    with (output / "particles.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = load_dataset(output / "kept", micrographs=str(tmp_path / "project/micrographs"))
    assert len(rows) == sum(len(scene(seed).positions) for seed in (1, 2))
    assert len(kept) == sum(row["kept"] == "yes" for row in rows) > 0
    assert kept.diameter == DISC
    assert (output / "classes.png").stat().st_size > 100
    assert main(words) == 2
    assert "already exists" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert not (output / "kept").exists()


@pytest.mark.filterwarnings("default")
def test_a_defocus_that_ctf_warned_about_is_not_used(tmp_path, capsys):
    star = write_project(tmp_path / "project", [scene(1), scene(2)])
    rows = [(item.micrograph, 4.0, Ctf(defocus_u=1.0, defocus_v=1.0, fit=0.14)) for item in read_picks(star)]
    rows[1] = (*rows[1][:2], replace(rows[1][2], fit=0.7))
    defocus.write(tmp_path / "ctf.star", rows, ours=True)
    words = ["classify", "--picks", str(star), "--output", str(tmp_path / "classes"), "--classes", "2"]
    assert main([*words, "--ctf", str(tmp_path / "ctf.star"), "--iterations", "1"]) == 0
    shown = capsys.readouterr()
    assert "the defocus of 1 micrographs is not used, because its fit is poor: " in shown.err
    assert "0.14" in shown.err
    assert "defocus known for 1" in shown.out


def test_too_few_picks_for_the_classes_are_refused(tmp_path, capsys):
    star = write_project(tmp_path / "project", [scene(1)])
    words = ["classify", "--picks", str(star), "--output", str(tmp_path / "classes"), "--classes", "50"]
    assert main(words) == 2
    assert "too few for 50 classes" in capsys.readouterr().err
    assert not (tmp_path / "classes").exists()


def test_relion_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    windows = Windows(np.zeros((4, 64, 64), np.float32), np.zeros(4, dtype=np.int64), np.ones((1, 33), np.float32))
    with pytest.raises(InputError, match="not installed"):
        relion.classify(windows, DIAMETER, ClassifyConfig())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_refine") is None, reason="RELION is not installed")
def test_relion_aligns_as_we_read_it(monkeypatch):
    monkeypatch.setattr(relion, "_ITERATIONS", 8)
    windows, _, particle = mixture(200)
    chosen = np.flatnonzero(particle)
    windows = Windows(windows.images[chosen], windows.group[chosen], windows.transfer)
    start, found = relion.classify(windows, DIAMETER, ClassifyConfig(classes=2))
    large = int(np.bincount(found.label.numpy()).argmax())
    mine = (found.label == large).numpy()
    turned = transformed(
        torch.from_numpy(windows.images[mine]), torch.zeros(int(mine.sum())), -found.shift[torch.from_numpy(mine)]
    )
    turned = transformed(turned, -found.angle[torch.from_numpy(mine)], torch.zeros(len(turned), 2))
    mask = disc(64, 0.5) > 0.5
    assert np.corrcoef(turned.mean(dim=0).numpy()[mask], start[large].numpy()[mask])[0, 1] > 0.85
