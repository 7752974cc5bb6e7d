"""What all pictures share: files that are the same on every run, and the range of scores.

Matplotlib is imported when a picture is drawn, and used without pyplot, so nothing here opens a window.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from deeppicker.errors import InputError
from deeppicker.formats.text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
KINDS: dict[str, dict[str, str | None] | None] = {
    "png": {"Software": None},
    "jpg": None,
    "jpeg": None,
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
"""Kinds of pictures by their suffix, with what must be left out so that they are the same on every run."""


def score_range(scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return 0-1 for scores that could be probabilities, and otherwise their range."""
    finite = scores[np.isfinite(scores)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-6))


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file without anything that differs between runs."""
    return picture(figure, "png")


def picture(figure: Figure, kind: str) -> bytes:
    """Return the figure as a file of one of `KINDS`, without anything that differs between runs."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "deeppicker"}):
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor=figure.get_facecolor(), metadata=KINDS[kind])
    return buffer.getvalue()


def kind_of(path: Path) -> str:
    """Return the kind of picture that the suffix of a file tells.

    Raises
    ------
    InputError
        If it tells none.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise InputError(one_line(f"{path} is no picture that can be written; choose .png, .jpg, .pdf or .svg"))
    return kind
