from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def image() -> np.ndarray:
    """Whole numbers 0-99, exact in every pixel type; not square."""
    return np.random.default_rng(1).integers(0, 100, size=(7, 12)).astype(np.float32)


@pytest.fixture
def data() -> Path:
    if "DEEPPICKER_DATA" not in os.environ:
        pytest.skip("DEEPPICKER_DATA is not set")
    return Path(os.environ["DEEPPICKER_DATA"])
