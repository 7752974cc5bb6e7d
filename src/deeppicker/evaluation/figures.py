"""What all pictures share: PNG files that are the same on every run, and the range of scores.

Matplotlib is imported when a picture is drawn, and used without pyplot, so nothing here opens a window.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100


def score_range(scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return 0-1 for scores that could be probabilities, and otherwise their range."""
    finite = scores[np.isfinite(scores)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-6))


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file without anything that differs between runs."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()
