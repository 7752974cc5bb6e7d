"""The contrast transfer function, against its formula written out."""

import math
from dataclasses import replace

import numpy as np
import pytest

from deeppicker.core import Ctf, Microscope
from deeppicker.imaging.ctf import phase, transfer

CTF = Ctf(defocus_u=1.32, defocus_v=1.18, angle=35.0, microscope=Microscope(amplitude_contrast=0.08))


def written_out(microscope: Microscope, q: np.ndarray, defocus: np.ndarray) -> np.ndarray:
    """Return the phase by equations 2 to 5 of Rohou & Grigorieff (2015)."""
    volt = 1e3 * microscope.voltage
    wavelength = 12.2643 / math.sqrt(volt + 0.978466e-6 * volt**2)
    aberration = 0.5 * math.pi * 1e7 * microscope.spherical_aberration * wavelength**3 * q**4
    rest = math.radians(microscope.phase_shift) + math.asin(microscope.amplitude_contrast)
    return math.pi * wavelength * 1e4 * defocus * q**2 - aberration + rest


@pytest.mark.parametrize("voltage", [120.0, 200.0, 300.0])
def test_the_phase_follows_the_formula(voltage):
    microscope = Microscope(voltage=voltage, spherical_aberration=2.0, amplitude_contrast=0.07, phase_shift=25.0)
    q, defocus = np.linspace(0, 0.3, 40), np.array([[0.5], [2.0]])
    assert phase(microscope, q[None], defocus) == pytest.approx(written_out(microscope, q[None], defocus), rel=1e-4)


@pytest.mark.parametrize("shift", [0.0, 60.0])
def test_the_transfer_is_the_sine_of_the_phase_for_the_defocus_along_each_direction(shift):
    ctf = replace(CTF, microscope=replace(CTF.microscope, phase_shift=shift))
    y, x = np.fft.fftfreq(90, 2.0)[:, None], np.fft.rfftfreq(120, 2.0)[None, :]
    local = ctf.defocus + 0.07 * np.cos(2 * (np.arctan2(y, x) - math.radians(35.0)))
    expected = np.sin(written_out(ctf.microscope, np.hypot(y, x), local))
    assert np.allclose(transfer(ctf, (90, 120), 2.0), expected, atol=2e-3)


def test_low_frequencies_keep_their_contrast_with_any_phase_plate():
    for shift in (0.0, 90.0, 170.0, 200.0):
        ctf = replace(CTF, microscope=replace(CTF.microscope, phase_shift=shift))
        assert transfer(ctf, (60, 80), 3.0)[0, 0] > 0
