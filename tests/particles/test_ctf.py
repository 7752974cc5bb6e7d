"""Contrast transfer: formulas, estimates against the truth, files."""

from dataclasses import replace

import numpy as np
import pytest

from deeppicker.cli.main import main
from deeppicker.core import Micrograph
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.relion import defocus
from deeppicker.formats.relion.defocus import Defocus
from deeppicker.particles.ctf import estimate, flip_phases, transfer
from deeppicker.simulate.optics import Optics, image_of, random_field, record
from deeppicker.simulate.optics import transfer as simulated_transfer
from scenes import write_mrc

MICROSCOPE = Defocus(defocus_u=1.32, defocus_v=1.18, angle=35.0, amplitude_contrast=0.08)
TEXT = """# Output from CTFFind version 4.1.14, run on 2026-01-01
# Input file: Movies/mic_7.mrc ; Number of micrographs: 1
# Pixel size: 2 Angstroms ; acceleration voltage: 200.0 keV ; spherical aberration: 2.00 mm ; amplitude contrast: 0.07
# Box size: 512 pixels ; min. res.: 30.0 Angstroms
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth; #5 - shift [radians]
1.000000 10863.457031 10589.583984 54.23 1.570796 0.118 4.43
"""


def optics(microscope: Defocus, pixel_size: float) -> Optics:
    return Optics(
        pixel_size=pixel_size,
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        amplitude_contrast=microscope.amplitude_contrast,
        defocus_u=microscope.defocus_u,
        defocus_v=microscope.defocus_v,
        defocus_angle=microscope.angle,
        phase_shift=microscope.phase_shift,
        b_factor=0.0,
        dose=40.0,
    )


def ice(microscope: Defocus, pixel_size: float, seed: int, size: tuple[int, int] = (800, 1000)) -> Micrograph:
    """Return a micrograph of ice as `deeppicker simulate` makes it, with rings of moderate strength."""
    rng = np.random.default_rng([seed, 3])
    used = replace(optics(microscope, pixel_size), b_factor=100.0)
    water = 0.04 * random_field(size, 0.5, 0.3, rng)
    return Micrograph("ice.mrc", record(image_of(water, np.zeros(size, np.float32), used), used, 0.3, rng), pixel_size)


@pytest.mark.parametrize("shift", [0.0, 60.0])
def test_the_transfer_is_that_of_the_simulation_with_dark_particles_kept_dark(shift):
    microscope = replace(MICROSCOPE, phase_shift=shift)
    ours = transfer(microscope, (90, 120), 2.0)
    theirs = simulated_transfer(optics(microscope, 2.0), (90, 120))
    assert np.allclose(ours, -theirs, atol=2e-3)


@pytest.mark.parametrize(
    ("defocus_", "pixel_size", "seed"), [(0.6, 1.2, 0), (1.1, 3.0, 1), (1.9, 1.7, 2), (2.9, 2.2, 3)]
)
def test_an_estimate_is_within_five_percent_of_the_truth(defocus_, pixel_size, seed):
    truth = replace(MICROSCOPE, defocus_u=defocus_ + 0.03, defocus_v=defocus_ - 0.03)
    found = estimate(ice(truth, pixel_size, seed), Defocus())
    assert found.mean == pytest.approx(truth.mean, rel=0.05)
    assert found.fit > 0.3


def test_an_estimate_finds_the_direction_of_astigmatism():
    truth = replace(MICROSCOPE, defocus_u=1.7, defocus_v=1.5, angle=115.0)
    found = estimate(ice(truth, 2.0, 5), Defocus())
    assert found.defocus_u - found.defocus_v == pytest.approx(0.2, abs=0.05)
    assert found.angle == pytest.approx(115, abs=8)


def test_noise_has_a_poor_fit():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(700, 800)).astype(np.float32)
    assert estimate(Micrograph("noise.mrc", image, 1.5), Defocus()).fit < 0.3


def test_pixels_too_large_for_rings_are_refused():
    image = np.random.default_rng(1).normal(size=(300, 400)).astype(np.float32)
    with pytest.raises(InputError, match="too few for a defocus"):
        estimate(Micrograph("large.mrc", image, 14.0), Defocus())


def test_flipping_phases_makes_the_transfer_positive_everywhere():
    image = np.zeros((80, 100), np.float32)
    image[40, 50] = -1.0
    spectrum = np.fft.rfft2(image) * transfer(MICROSCOPE, image.shape, 3.0)
    blurred = np.fft.irfft2(spectrum, image.shape).astype(np.float32)
    flipped = flip_phases(Micrograph("point.mrc", blurred, 3.0), MICROSCOPE).image
    assert (np.real(np.fft.rfft2(flipped) / np.fft.rfft2(image)) > -1e-3).all()
    assert np.unravel_index(flipped.argmin(), flipped.shape) == (40, 50)


def test_what_is_written_is_read_again(tmp_path):
    other = replace(MICROSCOPE, voltage=200.0, phase_shift=90.0, fit=0.5)
    defocus.write(tmp_path / "ctf.star", [("a/one.mrc", 1.5, MICROSCOPE), ("a/two.mrc", 2.0, other)])
    found = defocus.read(tmp_path / "ctf.star")
    assert found["one"] == replace(MICROSCOPE, fit=0.0)
    assert found["two"] == other


def test_texts_of_ctffind_are_read(tmp_path):
    (tmp_path / "mic_7_ctffind4.txt").write_text(TEXT)
    (tmp_path / "mic_7_ctffind4_avrot.txt").write_text("something else")
    (found,) = defocus.read(tmp_path).items()
    assert found[0] == "mic_7"
    assert found[1].defocus_u == pytest.approx(1.0863457)
    assert found[1].phase_shift == pytest.approx(90, abs=0.01)
    assert (found[1].voltage, found[1].spherical_aberration, found[1].amplitude_contrast) == (200.0, 2.0, 0.07)


def test_files_without_defocus_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing\n")
    with pytest.raises(FormatError, match="not what CTFFIND4 writes"):
        defocus.read(tmp_path / "notes.txt")
    (tmp_path / "empty.star").write_text("data_\nloop_\n_rlnMicrographName\na.mrc\n")
    with pytest.raises(FormatError, match="tells no defocus"):
        defocus.read(tmp_path / "empty.star")


def test_the_command_takes_over_what_is_known_and_estimates_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("one.mrc", 1), ("two.mrc", 2)):
        write_mrc(tmp_path / name, ice(MICROSCOPE, 2.0, seed, (500, 600)).image, 2.0)
    defocus.write(tmp_path / "known.star", [("one.mrc", 2.0, replace(MICROSCOPE, defocus_u=3.0, fit=0.9))])
    assert main(["ctf", "one.mrc", "two.mrc", "--known", "known.star", "--output", "ctf.star"]) == 0
    found = defocus.read(tmp_path / "ctf.star")
    assert found["one"].defocus_u == 3.0
    assert found["two"].mean == pytest.approx(MICROSCOPE.mean, rel=0.05)
    assert "known" in capsys.readouterr().out
