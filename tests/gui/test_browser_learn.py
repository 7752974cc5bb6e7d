"""Learning from corrections, really: correct by clicking, learn, compare, accept, go back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeppicker.cli.main import main
from deeppicker.formats import read_picks
from deeppicker.gui.project import Wanted
from deeppicker.gui.rounds import MODEL, PICKS, current, round_folder
from deeppicker.networks.model import save_model
from driven import enter, needs_browser, saved, spot, state, until
from scenes import DIAMETER, Scene, scene, uncertain, write_project
from served import served

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    """Micrographs with faint particles, and a run that misses many of them."""
    made = [scene(seed, f"mic{seed}.mrc", faintest=0.4) for seed in range(5)]
    write_project(tmp_path, made)
    save_model(uncertain(), tmp_path / MODEL)
    options = ["--num-particles", "50", "--model", str(tmp_path / MODEL), "--diameter", str(DIAMETER), "--learn", "off"]
    assert main(["pick", str(tmp_path / "micrographs"), "--output", str(tmp_path / "picks"), *options]) == 0
    return made


def correct(page: Any, made: Scene) -> None:
    """Click on every particle that has no circle, and on every circle without a particle."""
    found = state(
        page,
        "state.micrograph.candidates.x.map((x, i) => [x, state.micrograph.candidates.y[i]])"
        ".filter((_, i) => state.micrograph.candidates.score[i] >= state.choice.threshold)",
    )
    here = np.array(found).reshape(-1, 2)
    missed = [p for p in made.positions.tolist() if not len(here) or np.hypot(*(here - p).T).min() > 8]
    extra = [p for p in here.tolist() if np.hypot(*(made.positions - p).T).min() > 8]
    for place in extra + missed:
        page.mouse.click(*spot(page, *place))
    page.keyboard.press("c")
    saved(page)


def test_learning_from_three_corrected_micrographs_finds_more_in_the_others(
    browser: Any, tmp_path: Path, scenes: list[Scene]
):
    first = {item.key: item.positions.tolist() for item in read_picks(tmp_path / "picks")}
    with served(Wanted(inputs=(str(tmp_path / "picks"),))) as client:
        page = enter(browser, f"http://127.0.0.1:{client.port}/?token={client.keys.token}")
        page.keyboard.press("a")
        for number in range(3):
            until(page, f"document.querySelector('#canvas').ariaLabel.includes('mic{number}')")
            correct(page, scenes[number])
            page.keyboard.press("n")
        page.get_by_role("button", name="Learn", exact=True).click()
        until(page, "document.querySelector('#learn').textContent.includes('3 complete')")
        page.get_by_role("button", name="Learn from these").click()
        until(page, "document.querySelector('#learn progress') !== null")
        until(page, "/Accept the new picks|message bad/.test(document.querySelector('#learn').innerHTML)", 240)
        told = page.locator("#learn").inner_text()
        before, after = map(int, re.search(r"recall\s+(\d+) %\s+(\d+) %", told).groups())
        assert after > before
        assert "Measured on 1 corrected micrograph that was kept out" in told
        until(page, "document.querySelectorAll('#learn canvas').length === 2")
        with page.expect_event("load"):  # the page begins anew with the other picks
            page.get_by_role("button", name="Accept the new picks").click()
        assert current(tmp_path / "picks") == 1
        new = {item.key: item for item in read_picks(round_folder(tmp_path / "picks", 1) / PICKS)}
        for made in scenes[3:]:
            distance = np.linalg.norm(made.positions[:, None] - new[made.micrograph.name[:-4]].positions[None], axis=2)
            assert (distance.min(axis=1) < 8).sum() > len(first[made.micrograph.name[:-4]])
        until(page, "document.querySelector('#facts')?.textContent.includes('automatic')")
        page.get_by_role("button", name="Learn", exact=True).click()
        with page.expect_event("load"):
            page.get_by_role("button", name="Go back to the picks before").click()
        until(page, "document.querySelector('#facts')?.textContent.includes('automatic')")
        assert current(tmp_path / "picks") is None
        assert page.problems == []
    assert {item.key: item.positions.tolist() for item in read_picks(tmp_path / "picks")} == first
