"""Contrast transfer: estimates against the truth, phases, files."""

from dataclasses import replace

import numpy as np
import pytest

from deeppicker.cli.main import main
from deeppicker.core import Ctf, Micrograph, Microscope
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.relion import defocus
from deeppicker.imaging.ctf import transfer
from deeppicker.particles.ctf import estimate_ctf, flip_phases
from deeppicker.simulate.optics import Optics, image_of, random_field, record
from scenes import write_mrc

CTF = Ctf(defocus_u=1.32, defocus_v=1.18, angle=35.0, microscope=Microscope(amplitude_contrast=0.08))
TEXT = """# Output from CTFFind version 4.1.14, run on 2026-01-01
# Input file: Movies/mic_7.mrc ; Number of micrographs: 1
# Pixel size: 2 Angstroms ; acceleration voltage: 200.0 keV ; spherical aberration: 2.00 mm ; amplitude contrast: 0.07
# Box size: 512 pixels ; min. res.: 30.0 Angstroms
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth; #5 - shift [radians]
1.000000 10863.457031 10589.583984 54.23 1.570796 0.118 4.43
"""


def ice(ctf: Ctf, pixel_size: float, seed: int, size: tuple[int, int] = (800, 1000)) -> Micrograph:
    """Return a micrograph of ice as `deeppicker simulate` makes it, with rings of moderate strength."""
    rng = np.random.default_rng([seed, 3])
    used = Optics(pixel_size=pixel_size, ctf=ctf, b_factor=100.0, dose=40.0)
    water = 0.04 * random_field(size, 0.5, 0.3, rng)
    return Micrograph("ice.mrc", record(image_of(water, np.zeros(size, np.float32), used), used, 0.3, rng), pixel_size)


@pytest.mark.parametrize(
    ("defocus_", "pixel_size", "seed"), [(0.6, 1.2, 0), (1.1, 3.0, 1), (1.9, 1.7, 2), (2.9, 2.2, 3)]
)
def test_an_estimate_is_within_five_percent_of_the_truth(defocus_, pixel_size, seed):
    truth = replace(CTF, defocus_u=defocus_ + 0.03, defocus_v=defocus_ - 0.03)
    found = estimate_ctf(ice(truth, pixel_size, seed), Microscope())
    assert found.defocus == pytest.approx(truth.defocus, rel=0.05)
    assert found.fit > 0.3


def test_an_estimate_finds_the_direction_of_astigmatism():
    truth = replace(CTF, defocus_u=1.7, defocus_v=1.5, angle=115.0)
    found = estimate_ctf(ice(truth, 2.0, 5), Microscope())
    assert found.defocus_u - found.defocus_v == pytest.approx(0.2, abs=0.05)
    assert found.angle == pytest.approx(115, abs=8)


def test_noise_has_a_poor_fit():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(700, 800)).astype(np.float32)
    assert estimate_ctf(Micrograph("noise.mrc", image, 1.5), Microscope()).fit < 0.3


def test_pixels_too_large_for_rings_are_refused():
    image = np.random.default_rng(1).normal(size=(300, 400)).astype(np.float32)
    with pytest.raises(InputError, match="too few for a defocus"):
        estimate_ctf(Micrograph("large.mrc", image, 14.0), Microscope())


def test_flipping_phases_makes_the_transfer_positive_everywhere():
    image = np.zeros((80, 100), np.float32)
    image[40, 50] = -1.0
    spectrum = np.fft.rfft2(image) * transfer(CTF, image.shape, 3.0)
    blurred = np.fft.irfft2(spectrum, image.shape).astype(np.float32)
    flipped = flip_phases(Micrograph("point.mrc", blurred, 3.0), CTF).image
    assert (np.real(np.fft.rfft2(flipped) / np.fft.rfft2(image)) > -1e-3).all()
    assert np.unravel_index(flipped.argmin(), flipped.shape) == (40, 50)


def test_what_is_written_is_read_again(tmp_path):
    other = replace(CTF, microscope=Microscope(voltage=200.0, phase_shift=90.0, amplitude_contrast=0.08), fit=0.5)
    defocus.write(tmp_path / "ctf.star", [("a/one.mrc", 1.5, CTF), ("a/two.mrc", 2.0, other)], ours=True)
    found = defocus.read(tmp_path / "ctf.star")
    assert found["one"] == replace(CTF, fit=0.0)
    assert found["two"] == other


def test_a_poor_fit_is_unreliable_only_on_our_own_scale(tmp_path):
    rows = [("one.mrc", 2.0, replace(CTF, fit=0.14)), ("two.mrc", 2.0, replace(CTF, fit=0.7))]
    for ours in (True, False):
        defocus.write(tmp_path / "ctf.star", rows, ours=ours)
        assert [ctf.reliable for ctf in defocus.read(tmp_path / "ctf.star").values()] == [not ours, True]


def test_texts_of_ctffind_are_read(tmp_path):
    (tmp_path / "mic_7_ctffind4.txt").write_text(TEXT)
    (tmp_path / "mic_7_ctffind4_avrot.txt").write_text("something else")
    (found,) = defocus.read(tmp_path).items()
    assert found[0] == "mic_7"
    assert found[1].defocus_u == pytest.approx(1.0863457)
    microscope = found[1].microscope
    assert microscope.phase_shift == pytest.approx(90, abs=0.01)
    assert (microscope.voltage, microscope.spherical_aberration, microscope.amplitude_contrast) == (200.0, 2.0, 0.07)


def test_files_without_defocus_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing\n")
    with pytest.raises(FormatError, match="not CTFFIND4 output"):
        defocus.read(tmp_path / "notes.txt")
    (tmp_path / "empty.star").write_text("data_\nloop_\n_rlnMicrographName\na.mrc\n")
    with pytest.raises(FormatError, match="holds no defocus"):
        defocus.read(tmp_path / "empty.star")


def test_the_command_takes_over_what_is_known_and_estimates_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("one.mrc", 1), ("two.mrc", 2)):
        write_mrc(tmp_path / name, ice(CTF, 2.0, seed, (500, 600)).image, 2.0)
    defocus.write(tmp_path / "known.star", [("one.mrc", 2.0, replace(CTF, defocus_u=3.0, fit=0.9))], ours=True)
    assert main(["ctf", "one.mrc", "two.mrc", "--known", "known.star", "--output", "ctf.star"]) == 0
    found = defocus.read(tmp_path / "ctf.star")
    assert found["one"].defocus_u == 3.0
    assert found["two"].defocus == pytest.approx(CTF.defocus, rel=0.05)
    assert "known" in capsys.readouterr().out
