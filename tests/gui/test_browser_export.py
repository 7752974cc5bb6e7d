"""Everything that is shown can be saved: pictures, plots, tables."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deeppicker.gui.project import Wanted
from driven import enter, needs_browser, until
from served import HEIGHT, WIDTH, make_run, served

pytestmark = [needs_browser, pytest.mark.slow]


def got(page: Any, link: Any) -> tuple[str, bytes]:
    """Click, and return the name and the content of the file that is saved."""
    with page.expect_download() as waiting:
        link.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_a_micrograph_with_its_picks_is_saved_as_png_and_svg(browser: Any, address: str):
    page = enter(browser, address)
    until(page, "document.querySelector('#drawing').href.includes('threshold=0.5')")
    name, content = got(page, page.get_by_role("button", name="Save as PNG"))
    assert (name, Image.open(io.BytesIO(content)).size) == ("mic0.png", (WIDTH, HEIGHT))
    page.locator("#threshold").fill("0.2")
    until(page, "document.querySelector('#drawing').href.includes('threshold=0.2')")
    name, content = got(page, page.get_by_role("link", name="Save as SVG"))
    assert name == "mic0.svg"
    assert content.count(b"<circle") == 10


def test_every_plot_is_saved_as_svg_png_and_csv_and_the_table_as_csv(browser: Any, folder: Path):
    for number in range(3):
        os.utime(folder / "micrographs" / f"mic{number}.mrc", (1e9 + 1800 * number,) * 2)
    with served(Wanted(inputs=(str(folder / "picks"),), reference=folder / "particles.star")) as client:
        address = f"http://127.0.0.1:{client.port}/?token={client.keys.token}"
        page = enter(browser, address)
        page.get_by_role("button", name="Statistics").click()
        tile = page.locator(".tile", has_text="Picks over time").first
        tile.wait_for()
        titles = page.locator("#statistics .tile h3").all_inner_texts()
        assert {"Expected precision over time", "Precision against recall"} <= set(titles)
        links = tile.locator(".head > :not(h3):not(span)").all()
        saved = dict(got(page, link) for link in links)
        assert sorted(saved) == [f"Picks over time.{kind}" for kind in ("csv", "png", "svg")]
        assert list(csv.reader(io.StringIO(saved["Picks over time.csv"].decode()))) == [
            ["Hours", "Picks"], ["0", "6"], ["0.5", "6"], ["1", "6"]
        ]  # fmt: skip
        picture = Image.open(io.BytesIO(saved["Picks over time.png"])).convert("L")
        assert picture.size == (960, 440)
        assert picture.getextrema()[0] < 160 < picture.getextrema()[1] == 255
        assert saved["Picks over time.svg"].count(b"<circle") == 3
        _, content = got(page, page.locator("#statistics .head").first.get_by_role("link"))
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        assert [(row["micrograph"], row["picks"]) for row in rows] == [(f"mic{i}", "6") for i in range(3)]
        assert page.problems == []


def test_particles_are_saved_as_one_picture(browser: Any, address: str):
    page = enter(browser, address)
    page.get_by_role("button", name="Particles").click()
    page.locator(".crop").nth(17).wait_for()
    name, content = got(page, page.get_by_label("Save picks-particles.png"))
    assert name == "picks-particles.png"
    assert Image.open(io.BytesIO(content)).size == (1204, 204)  # 12 in the first row, 6 in the second


def test_what_was_gained_is_saved_as_tables_and_pictures(browser: Any, address: str, folder: Path):
    work = folder / "picks" / "rounds" / "1"
    work.mkdir(parents=True)
    make_run(folder / "new")
    (folder / "new" / "picks").rename(work / "picks")
    rates = {"precision": 0.5, "recall": 0.6, "f1": 0.55}
    told = {"state": "done", "kind": "learn", "held": ["mic1"], "picksBefore": 18, "picksAfter": 18}
    (work / "job.json").write_text(json.dumps(told | {"before": rates, "after": rates}))
    page = enter(browser, address)
    page.get_by_role("button", name="Learn", exact=True).click()
    page.get_by_label("Save mic1-after.png").wait_for()
    _, content = got(page, page.get_by_label("Save gain.csv"))
    assert re.sub(r"\s+", " ", content.decode()).startswith(",before,after picks in all,18,18 precision,50 %,50 %")
    name, content = got(page, page.get_by_label("Save mic1-after.png"))
    assert (name, Image.open(io.BytesIO(content)).size) == ("mic1-after.png", (WIDTH, HEIGHT))


def test_picks_are_saved_in_every_format_that_the_page_offers(browser: Any, address: str):
    page = enter(browser, address)
    kinds = [option.get_attribute("value") for option in page.locator("#export-format option").all()]
    assert kinds == ["star", "relion", "cs", "csv", "tsv", "cbox", "box", "json", "pos", "automatch"]
    for kind in kinds:
        page.locator("#export-format").select_option(kind)
        name, content = got(page, page.get_by_role("link", name="Download"))
        assert name == f"picks-all.{kind if kind in ('star', 'cs', 'csv', 'tsv') else 'zip'}"
        assert len(content) > 100
