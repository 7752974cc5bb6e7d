"""The diameter that the evidence of several assumptions adds up to."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deeppicker.config import DiameterConfig
from deeppicker.core import Micrograph
from deeppicker.errors import InputError
from deeppicker.networks.base import SIZE_BIN_WIDTH, SIZE_BINS
from deeppicker.networks.model import Model, new_model
from deeppicker.picking.diameter import Evidence, can_estimate, candidates, combine, estimate_diameter, gather

CONFIG = DiameterConfig()
BINS = SIZE_BIN_WIDTH * (np.arange(SIZE_BINS) - SIZE_BINS // 2)


def evidence(true: float, spread: float, coverage: float = 0.3) -> Evidence:
    """Return what an ideal network would say of particles of a diameter: surest where the assumption is close."""
    assumed = np.geomspace(60, 600, 10)
    ratio = np.log(true / assumed)
    logs = -0.5 * ((BINS[None, :] - np.clip(ratio, BINS[0], BINS[-1])[:, None]) / spread) ** 2
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return Evidence(assumed, coverage * np.exp(-0.5 * (ratio / 0.7) ** 2), logs)


@given(st.floats(75, 450), st.integers(1, 5))
def test_clear_evidence_gives_the_diameter(true: float, number: int):
    found = combine([evidence(true, 0.1)] * number, CONFIG)
    assert found.value == pytest.approx(true, rel=0.08)
    assert found.low <= found.value <= found.high
    assert found.confidence > 0.8


def test_vague_evidence_is_less_sure():
    clear, vague = (combine([evidence(150.0, spread)], CONFIG) for spread in (0.1, 0.6))
    assert vague.confidence < clear.confidence
    assert vague.high / vague.low > clear.high / clear.low


def test_micrographs_without_particles_have_no_say():
    found = combine([evidence(150.0, 0.1), evidence(400.0, 0.1, coverage=1e-4)], CONFIG)
    assert found.value == pytest.approx(150, rel=0.08)


@hypothesis_settings(max_examples=30)
@given(st.floats(0.5, 10), st.integers(64, 5000), st.integers(64, 5000))
def test_diameters_are_looked_for_where_they_can_be_seen(pixel_size: float, height: int, width: int):
    micrograph = Micrograph("m.mrc", np.broadcast_to(np.float32(0), (height, width)), pixel_size)
    try:
        found = candidates(micrograph, CONFIG)
    except InputError as error:
        if "set --diameter" not in str(error):
            raise
        return
    assert found.min() >= CONFIG.least_pixels * pixel_size * 0.999
    assert found.max() <= min(height, width) * pixel_size / 3 * 1.001
    assert (np.diff(np.log(found)) <= math.log(CONFIG.factor) * 1.001).all()


def test_all_of_a_micrograph_is_looked_at_but_no_more_than_is_asked_for():
    model = new_model(0, "dense")
    model.network.train(False)
    image = np.random.default_rng(0).normal(size=(300, 410)).astype(np.float32)
    config = replace(CONFIG, search=(100.0, 200.0), side=128)
    found = gather(model, Micrograph("m.mrc", image, 5.0), config)
    assert found.likelihood.shape == (len(found.assumed), SIZE_BINS)
    assert np.exp(found.likelihood).sum(axis=1).max() <= 1.0 + 1e-6
    assert ((found.coverage > 0) & (found.coverage < 1)).all()


def test_the_paper_network_cannot_tell_sizes():
    model = new_model(0)
    assert not can_estimate(model)
    with pytest.raises(InputError, match="set --diameter"):
        estimate_diameter(Model(model.network, model.prepare), [])
