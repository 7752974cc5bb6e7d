"""The map of scores lies where the micrograph does, and is that of the model that made the picks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeppicker.config import SelectConfig
from deeppicker.core import Grid, ScoreMap
from deeppicker.gui.project import Wanted
from deeppicker.gui.score_map import picture
from deeppicker.networks.model import load_model, weights_digest
from deeppicker.runs.folder import RunFolder
from driven import enter, needs_browser, state, until
from served import HEIGHT, SETTINGS, WIDTH, make_run, served


@pytest.mark.parametrize("shape", [(300, 470), (1500, 2210)])
def test_a_score_is_drawn_where_it_lies_in_the_micrograph(shape: tuple[int, int]):
    logits = np.full((20, 30), -20, dtype=np.float32)
    logits[12, 7] = 20
    drawn = picture(ScoreMap(logits, Grid((11.0, 9.0), 14.0)), shape)
    factor = 1 if shape[1] < 1024 else 3
    assert drawn.shape == tuple(-(-side // factor) for side in shape)
    rows, columns = np.nonzero(drawn == drawn.max())
    middle = [factor * (places.mean() + 0.5) - 0.5 for places in (columns, rows)]
    assert middle == pytest.approx([11 + 14 * 7, 9 + 14 * 12], abs=factor)
    assert drawn.max() > 200
    assert drawn[: 5 * 14 // factor].max() == 0


def test_without_the_model_there_is_a_reason_and_no_map(folder: Path):
    with served(Wanted(inputs=(str(folder / "picks"),))) as client:
        status, _, content = client.ask("GET", "/api/micrographs/0/scores")
    assert (status, "model that made these picks is not found" in json.loads(content)["error"]) == (422, True)


@needs_browser
@pytest.mark.slow
def test_the_score_map_is_computed_when_it_is_to_be_seen(browser: Any, tmp_path: Path):
    made = make_run(tmp_path, 1)[0]
    settings = {**SETTINGS, "weights": weights_digest(load_model("general"))}
    RunFolder(tmp_path / "run", settings, SelectConfig(threshold=0.5)).finish([])
    (tmp_path / "run" / "run.json").replace(tmp_path / "picks" / "run.json")
    with served(Wanted(inputs=(str(tmp_path / "picks"),))) as client:
        status, _, content = client.ask("GET", "/api/micrographs/0/scores")
        assert status == 200, content
        drawn = np.array(Image.open(io.BytesIO(content)))
        assert drawn.shape == (HEIGHT, WIDTH)
        at = drawn[tuple(np.rint(made.positions[:, ::-1]).astype(int).T)]
        assert np.median(at) > 4 * np.median(drawn) + 20
        page = enter(browser, f"http://127.0.0.1:{client.port}/?token={client.keys.token}")
        canvas = page.locator("#canvas")
        before = canvas.screenshot()
        page.keyboard.press("s")
        until(page, "document.querySelector('#message').hidden && document.querySelector('#show-scores').checked")
        assert state(page, "state.show.scores") is True
        assert canvas.screenshot() != before
