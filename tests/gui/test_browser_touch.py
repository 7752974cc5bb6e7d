"""Fingers on a tablet: one moves or picks, two move and zoom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deeppicker.gui.edits import EDITS, EditLog
from driven import enter, needs_browser, saved, spot, state

pytestmark = [needs_browser, pytest.mark.slow]


class Fingers:
    """Touches the page as Chromium's own touch screen would."""

    def __init__(self, page: Any) -> None:
        self._session = page.context.new_cdp_session(page)

    def _send(self, kind: str, places: list[tuple[float, float]]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def drag(self, *ways: list[tuple[float, float]]) -> None:
        """Move fingers together, each along its places."""
        steps = list(zip(*ways, strict=True))
        self._send("touchStart", list(steps[0]))
        for step in steps[1:]:
            self._send("touchMove", list(step))
        self._send("touchEnd", [])


def seen(page: Any) -> list[float]:
    return list(
        page.evaluate("async () => { const { view } = await import('/static/viewer.js'); "
                      "return [view.x, view.y, view.scale]; }")
    )  # fmt: skip


def test_fingers_move_zoom_and_pick(browser: Any, address: str, folder: Path):
    page = enter(browser, address, has_touch=True)
    fingers = Fingers(page)
    x, y = spot(page, 150, 110)
    _, _, scale = seen(page)
    fingers.drag([(x - 40 - 2 * i, y) for i in range(11)], [(x + 40 + 2 * i, y) for i in range(11)])
    after = seen(page)
    assert after[2] == pytest.approx(1.5 * scale, rel=0.01)
    assert spot(page, 150, 110) == pytest.approx((x, y), abs=1.5)  # what lies between the fingers stays there
    fingers.drag([(x + 3 * i, y + 2 * i) for i in range(11)])
    assert spot(page, 150, 110) == pytest.approx((x + 30, y + 20), abs=1.5)
    fingers.drag([(x - 30, y + 2 * i) for i in range(11)], [(x + 30, y + 2 * i) for i in range(11)])
    assert spot(page, 150, 110) == pytest.approx((x + 30, y + 40), abs=1.5)
    assert seen(page)[2] == pytest.approx(after[2], rel=0.01)
    page.get_by_role("button", name="Pick", exact=True).tap()
    here = spot(page, 110, 60)
    before = len(state(page, "state.micrograph.hidden"))
    fingers.drag([here], [(here[0] + 90, here[1])])  # two fingers never pick
    fingers.drag([here])
    saved(page)
    marks = EditLog(folder / "picks" / EDITS).of("mic0")
    assert len(marks.added) + len(marks.removed) == 1
    assert before == 0
    assert page.problems == []
