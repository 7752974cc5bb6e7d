"""All class averages in one picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

_TILE = 112  # pixels of a class in the picture
_LABEL = 14  # pixels of the line under it
_COLUMNS = 10
_SHADES = (1.0, 99.7)  # percentiles that are drawn black and white


def contact_sheet(
    averages: Float32[np.ndarray, "classes side side"],
    members: Int[np.ndarray, " classes"],
    quality: Float[np.ndarray, " classes"],
    chosen: Bool[np.ndarray, " classes"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Return all averages that have members in one picture; green marks those that are kept, red the others."""
    shown = np.flatnonzero(members > 0)
    columns = min(_COLUMNS, max(1, len(shown)))
    rows = -(-max(1, len(shown)) // columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * (_TILE + _LABEL)))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for place, k in enumerate(shown.tolist()):
        left, top = place % columns * _TILE, place // columns * (_TILE + _LABEL)
        low, high = np.percentile(averages[k], _SHADES)
        grey = np.clip((averages[k] - low) / (high - low + 1e-12) * 255, 0, 255).astype(np.uint8)
        size = (_TILE - 2, _TILE - 2)
        sheet.paste(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC), (left + 1, top + 1))
        colour = (120, 230, 120) if chosen[k] else (255, 110, 110)
        draw.text((left + 3, top + _TILE), f"{k + 1}: {members[k]}, q {quality[k]:.2f}", fill=colour, font=font)
    return np.asarray(sheet)
