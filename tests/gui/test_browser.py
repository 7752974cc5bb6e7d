"""What a user does, done in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeppicker.config import SelectConfig
from deeppicker.core import Picks
from deeppicker.formats import read_picks
from deeppicker.formats.sealed import seal
from deeppicker.gui.edits import EDITS, EditLog
from deeppicker.gui.project import Wanted
from deeppicker.runs.folder import RunFolder
from deeppicker.runs.results import Record, Row
from driven import enter, needs_browser, saved, spot, start, state, stop, until, visit
from scenes import HEIGHT, WIDTH
from served import SETTINGS, classified, make_run, served

pytestmark = needs_browser


def test_a_micrograph_is_shown_a_pick_removed_and_the_removal_kept(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    x, y = state(page, "[state.micrograph.candidates.x[0], state.micrograph.candidates.y[0]]")
    page.keyboard.press("a")
    page.mouse.click(*spot(page, x, y))
    saved(page)
    assert "1 removed" in page.locator("#facts").inner_text()
    assert list(EditLog(folder / "picks" / EDITS).of("mic0").removed.values()) == [(x, y)]
    assert page.problems == []


@pytest.mark.slow
def test_click_adds_drag_moves_and_everything_can_be_undone_and_done_again(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    log = lambda: EditLog(folder / "picks" / EDITS).of("mic0")  # noqa: E731
    page.get_by_role("button", name="Pick", exact=True).click()
    page.mouse.click(*spot(page, 5, 5))
    saved(page)
    assert list(log().added.values()) == [pytest.approx((5, 5), abs=1)]
    page.mouse.move(*spot(page, 5, 5))
    page.mouse.down()
    page.mouse.move(*spot(page, 200, 15), steps=4)
    page.mouse.up()
    saved(page)
    assert list(log().added.values()) == [pytest.approx((200, 15), abs=1)]
    x, y = state(page, "[state.micrograph.candidates.x[1], state.micrograph.candidates.y[1]]")
    page.mouse.move(*spot(page, x, y))
    page.mouse.down()
    page.mouse.move(*spot(page, 8, 120), steps=4)
    page.mouse.up()
    saved(page)
    assert len(log().added) == 2
    assert list(log().removed.values()) == [(x, y)]
    for _ in range(3):
        page.keyboard.press("Control+z")
    saved(page)
    assert (log().added, log().removed) == ({}, {})
    assert page.get_by_role("button", name="Undo").is_disabled()
    for _ in range(3):
        page.keyboard.press("Control+Shift+z")
    saved(page)
    assert (len(log().added), len(log().removed)) == (2, 1)
    assert page.problems == []


@pytest.mark.slow
def test_eraser_and_lasso_remove_what_they_cover_and_nothing_else(browser: Any, address: str):
    page = enter(browser, address)
    x, y = state(page, "[state.micrograph.candidates.x[0], state.micrograph.candidates.y[0]]")
    page.keyboard.press("e")
    for _ in range(4):
        page.keyboard.press("[")
    page.mouse.move(*spot(page, x - 1, y))
    page.mouse.down()
    page.mouse.move(*spot(page, x + 1, y), steps=3)
    page.mouse.up()
    saved(page)
    assert state(page, "state.micrograph.hidden") == [0]
    page.keyboard.press("Control+z")
    page.keyboard.press("l")
    corners = [(1, -8), (308, -8), (308, 238), (1, 238)]
    page.mouse.move(*spot(page, *corners[0]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*spot(page, *corner), steps=3)
    page.mouse.up()
    until(page, "document.querySelector('#here').textContent === '0'")
    assert "6 picks removed" in page.locator("#message").inner_text()


@pytest.mark.slow
def test_a_measured_distance_becomes_the_diameter(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    page.keyboard.press("m")
    page.mouse.move(*spot(page, 50, 50))
    page.mouse.down()
    page.mouse.move(*spot(page, 80, 90), steps=3)
    page.mouse.up()
    page.get_by_role("button", name=re.compile("Set the diameter to 1[45].")).click()
    saved(page)
    assert EditLog(folder / "picks" / EDITS).diameter == pytest.approx(150, abs=3)


@pytest.mark.slow
def test_the_threshold_moves_all_counts_and_is_written_when_applied(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    until(page, "document.querySelector('#everywhere').textContent === '18'")
    before = page.locator("#precision").inner_text()
    page.locator("#threshold").fill("0.2")
    until(page, "document.querySelector('#everywhere').textContent === '30'")
    assert page.locator("#here").inner_text() == "10"
    assert page.locator("#precision").inner_text() < before
    assert [row.inner_text().strip() for row in page.locator(".item .count").all()] == ["10"] * 3
    page.get_by_role("button", name="Apply to all").click()
    until(page, "document.querySelector('#message').textContent.startsWith('All coordinate files')")
    assert [len(item) for item in read_picks(folder / "picks")] == [10, 10, 10]
    assert json.loads((folder / "picks" / "run.json").read_text())["threshold"] == 0.2


@pytest.mark.slow
def test_limits_of_contrast_move_all_counts_and_are_written_when_applied(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    until(page, "!document.querySelector('#contrast-card').hidden")
    until(page, "document.querySelector('#everywhere').textContent === '18'")
    x, y = state(page, "[state.micrograph.candidates.x[0], state.micrograph.candidates.y[0]]")  # of contrast 0.2
    page.get_by_label("Least").fill("0.5")
    until(page, "document.querySelector('#everywhere').textContent === '12'")
    assert page.locator("#here").inner_text() == "4"
    assert page.locator("#least-value").inner_text() == "0.50"
    assert page.locator("#most-value").inner_text() == "any"
    page.get_by_label("Rejected, with the reason").check()
    page.mouse.move(*spot(page, x, y))
    until(page, "document.querySelector('#hover').textContent === 'low contrast, score 0.90, contrast 0.20'")
    page.get_by_role("button", name="Apply to all").click()
    until(page, "document.querySelector('#message').textContent.startsWith('All coordinate files')")
    assert [len(item) for item in read_picks(folder / "picks")] == [4, 4, 4]
    assert json.loads((folder / "picks" / "run.json").read_text())["select"]["min_contrast"] == 0.5
    page.reload()
    until(page, "document.querySelector('#least-value').textContent === '0.50'")
    until(page, "document.querySelector('#here').textContent === '4'")
    page.get_by_role("button", name="Particles", exact=True).click()
    page.get_by_label("Which particles").select_option("Kept out by their contrast")
    until(page, "document.querySelectorAll('#gallery .crop').length === 6")
    assert page.problems == []


@pytest.mark.slow
def test_two_tabs_see_each_others_picks_and_nothing_is_overwritten(browser: Any, address: str, folder: Path):
    first = enter(browser, address)
    second = first.context.new_page()
    second.goto(address.partition("?")[0])
    until(second, "document.querySelector('#facts')?.textContent.includes('automatic')")
    for page, place in ((first, (4, 4)), (second, (300, 4))):
        page.keyboard.press("a")
        page.mouse.click(*spot(page, *place))
        saved(page)
    for page in (first, second):
        until(page, "document.querySelector('#facts').textContent.includes('2 by hand')")
    assert len(EditLog(folder / "picks" / EDITS).of("mic0").added) == 2


@pytest.mark.slow
def test_acknowledged_edits_outlive_a_killed_server_and_the_next_one_gets_the_others(browser: Any, folder: Path):
    program = start(str(folder / "picks"))
    page = enter(browser, program.url)
    page.keyboard.press("a")
    page.evaluate(
        """async () => {
            const { edit, newName } = await import('/static/edits.js');
            window.acknowledged = [];
            const ask = window.fetch;
            window.fetch = async (...all) => {
                const answer = await ask(...all);
                if (answer.ok && String(all[0]).endsWith('edits'))
                    window.acknowledged.push(...JSON.parse(all[1].body).edits.map((one) => one.name));
                return answer;
            };
            for (let i = 0; i < 100; i++)
                edit([{ op: 'put', name: newName(), kind: 'added', x: 3 * i, y: 2 * i }]);
        }"""
    )
    until(page, "window.acknowledged.length >= 20")
    stop(program, signal.SIGKILL)
    acknowledged = page.evaluate("window.acknowledged")
    there = EditLog(folder / "picks" / EDITS).of("mic0").added
    assert set(acknowledged) <= set(there)
    until(page, "document.querySelector('#saved').textContent.startsWith('Not saved')")
    until(page, "document.querySelector('#trouble').textContent.includes('cannot be reached')")
    again = start(str(folder / "picks"), "--port", program.origin.rsplit(":", 1)[1].strip("/"))
    other = page.context.new_page()
    visit(other, again.url)
    until(other, "document.querySelector('#saved')?.textContent !== 'Saving…'")
    until(page, "document.querySelector('#saved').textContent === 'All changes saved'")
    stop(again)
    assert len(EditLog(folder / "picks" / EDITS).of("mic0").added) == 100


@pytest.mark.slow
def test_an_edit_that_cannot_be_written_now_is_kept_by_the_page_and_sent_again(
    browser: Any, address: str, folder: Path
):
    page = enter(browser, address)
    (folder / "picks" / EDITS).mkdir()  # as if the disk were full
    page.keyboard.press("a")
    page.mouse.click(*spot(page, 5, 5))
    until(page, "document.querySelector('#saved').textContent.startsWith('Not saved')")
    until(page, "document.querySelector('#trouble').textContent.includes('cannot be read')")
    assert page.locator("#trouble").is_visible()
    second = page.context.new_page()
    second.goto(address.partition("?")[0])
    until(second, "document.querySelector('#facts')?.textContent.includes('automatic')")
    second.keyboard.press("a")
    second.mouse.click(*spot(second, 300, 4))
    until(second, "document.querySelector('#saved').textContent.startsWith('Not saved')")
    second.close()
    page.reload()  # what was not acknowledged is with this browser, of either tab
    until(page, "document.querySelector('#saved')?.textContent.startsWith('Not saved')")
    (folder / "picks" / EDITS).rmdir()
    until(page, "document.querySelector('#trouble').hidden")
    until(page, "document.querySelector('#facts').textContent.includes('2 by hand')")
    added = sorted(EditLog(folder / "picks" / EDITS).of("mic0").added.values())
    assert added == [pytest.approx((5, 5), abs=1), pytest.approx((300, 4), abs=1)]


@pytest.mark.slow
def test_a_micrograph_that_is_gone_is_said_and_no_other_is_shown_in_its_place(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    (folder / "micrographs" / "mic1.mrc").unlink()
    page.keyboard.press("n")
    until(page, "document.querySelector('#message').textContent.includes('mic1.mrc cannot be read')")
    assert state(page, "state.micrograph") is None
    page.keyboard.press("c")  # does nothing
    page.keyboard.press("n")
    until(page, "document.querySelector('#facts').textContent.includes('automatic')")
    assert state(page, "state.micrograph.name") == "mic2"
    (folder / "micrographs" / "mic0.mrc").unlink()
    page.get_by_role("button", name="Particles", exact=True).click()
    until(page, "/mic[01].mrc cannot be read/.test(document.querySelector('#message').textContent)")
    assert page.locator("#message").is_visible()
    assert not (folder / "picks" / EDITS).exists()


@pytest.mark.slow
def test_keys_work_after_a_slider_was_moved_or_a_list_chosen_from(browser: Any, address: str):
    page = enter(browser, address)
    page.locator("#threshold").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#threshold").input_value() == "0.495"
    page.keyboard.press("n")
    until(page, "document.querySelector('#place').textContent === '2 / 3'")
    box = page.locator("#sort").bounding_box()
    page.mouse.click(box["x"] + 9, box["y"] + 9)
    page.locator("#sort").select_option("precision")
    page.keyboard.press("n")
    assert page.locator("#sort").input_value() == "precision"


@pytest.mark.slow
def test_a_page_that_was_opened_before_the_run_began_follows_it(browser: Any, tmp_path: Path):
    (tmp_path / "picks").mkdir()
    with served(Wanted(inputs=(str(tmp_path / "picks"),))) as client:
        page = browser.new_page()
        visit(page, f"http://127.0.0.1:{client.port}/?token={client.keys.token}")
        until(page, "document.querySelector('#message').textContent.startsWith('There are no micrographs yet')")
        make_run(tmp_path)
        until(page, "document.querySelector('#place').textContent === '1 / 3'")
        until(page, "document.querySelector('#facts').textContent.includes('particle 72')")
        assert page.locator(".item").count() == 3
        page.close()


@pytest.mark.slow
def test_layers_and_contrast_change_the_picture(browser: Any, address: str):
    page = enter(browser, address)
    canvas = page.locator("#canvas")
    seen = [canvas.screenshot()]
    for label in ("Picks H", "Rejected, with the reason", "Contamination", "Invert I", "Compare with the reference"):
        page.get_by_label(label, exact=True).click()
        until(page, "document.querySelector('#agreement') !== null")
        page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(done), 120))")
        seen.append(canvas.screenshot())
    assert len(set(seen)) == len(seen)
    assert "precision" in page.locator("#agreement").inner_text()
    page.get_by_label("Rejected, with the reason").hover()
    assert page.problems == []


@pytest.mark.slow
def test_what_is_copied_while_one_moves_is_what_would_be_painted(browser: Any, address: str):
    page = enter(browser, address)
    canvas = page.locator("#canvas")
    frame = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(
        "import('/static/viewer.js').then(({ zoom, view, moveTo }) => { zoom(2 / view.scale); moveTo(150, 110); })"
    )
    page.evaluate(frame)
    seen = []
    for _ in range(40):  # farther than the margin of a copy
        page.evaluate("import('/static/viewer.js').then(({ pan }) => pan(7, -4))")
        page.evaluate(frame)
    for _ in range(2):
        seen.append(canvas.screenshot())
        page.evaluate("import('/static/state.js').then(({ tell }) => tell('draw'))")
        page.evaluate(frame)
    assert seen[0] == seen[1]
    page.keyboard.press("h")
    page.evaluate(frame)
    assert canvas.screenshot() != seen[0]


@pytest.mark.slow
def test_a_walk_shows_every_part_of_a_micrograph_at_the_same_zoom_and_goes_on_to_the_next(browser: Any, address: str):
    page = enter(browser, address)
    where = """async () => {
        const { view, canvas } = await import('/static/viewer.js');
        const { state } = await import('/static/state.js');
        const [w, h] = [canvas.clientWidth / view.scale / 2, canvas.clientHeight / view.scale / 2];
        return [state.index, view.scale, view.x - w, view.y - h, view.x + w, view.y + h];
    }"""
    page.evaluate("import('/static/viewer.js').then(({ zoom }) => zoom(4))")
    scale = page.evaluate(where)[1]
    seen = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for _ in range(100):
        page.keyboard.press(" ")
        index, now, left, top, right, bottom = page.evaluate(where)
        if index == 1:
            break
        assert now == scale
        seen[max(0, int(np.ceil(top))) : int(bottom) + 1, max(0, int(np.ceil(left))) : int(right) + 1] = True
    assert seen.all()
    until(page, "document.querySelector('#canvas').ariaLabel.includes('mic1')")
    _, now, left, top, *_ = page.evaluate(where)
    assert (now, left <= 0, top <= 0) == (scale, True, True)


@pytest.mark.slow
def test_the_whole_of_it_works_by_keyboard(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    page.keyboard.press("n")
    until(page, "document.querySelector('#place').textContent === '2 / 3'")
    until(page, "document.querySelector('#canvas').ariaLabel.includes('mic1')")
    page.keyboard.press(".")
    page.keyboard.press("Enter")
    saved(page)
    page.keyboard.press("c")
    saved(page)
    marks = EditLog(folder / "picks" / EDITS).of("mic1")
    assert (len(marks.removed), marks.complete) == (1, True)
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    assert "next uncertain micrograph" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    until(page, "document.querySelector('#place').textContent === '1 / 3'")


@pytest.mark.slow
def test_twenty_thousand_micrographs_make_a_list_of_a_few_rows(browser: Any, tmp_path: Path):
    run = RunFolder(tmp_path / "picks", SETTINGS, SelectConfig(threshold=0.5))
    for number in range(20_000):
        content = asdict(Record(Row("", number % 97, 3, 1.0, 2.0, 0.1), run.results.settings))
        row = {**content.pop("row"), "micrograph": f"mic{number:05d}.mrc"}
        (tmp_path / "picks" / "records" / f"mic{number:05d}.json").write_text(seal({**row, **content}))
    program = start(str(tmp_path / "picks"))
    context = browser.new_context(viewport={"width": 1100, "height": 700})
    page = context.new_page()
    visit(page, program.url)
    until(page, "document.querySelector('#list-foot')?.textContent.includes('20,000')")
    page.locator("#sort").select_option("picks")
    page.locator("#rows").evaluate("rows => { rows.scrollTop = rows.scrollHeight / 2; }")
    until(page, "Number(document.querySelector('.item').dataset.index) > 100")
    assert page.locator(".item").count() < 40
    page.locator("#filter").fill("mic19999")
    until(page, "document.querySelectorAll('.item').length === 1")
    stop(program)


AXE = Path(__file__).parent / "axe" / "axe.min.js"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_against_accessibility_in_any_view(browser: Any, address: str, scheme: str, folder: Path):
    classified(folder)
    (folder / "picks" / "status.json").write_text(json.dumps({"state": "running", "micrographs": 3}))
    page = enter(browser, address, color_scheme=scheme)
    found = {}
    for view in ("Micrographs", "Particles", "Classes", "Statistics", "Learn", "help"):
        if view == "help":
            page.get_by_role("button", name="Micrographs").click()
            page.keyboard.press("?")
        else:
            page.get_by_role("button", name=view, exact=True).click()
        page.evaluate("() => new Promise((done) => setTimeout(done, 400))")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        violations = page.evaluate("() => axe.run(document).then((result) => result.violations)")
        found[view] = [(one["id"], node["html"][:90], node.get("failureSummary", "")[:160])
                       for one in violations for node in one["nodes"]]  # fmt: skip
    assert found == {view: [] for view in found}


@pytest.mark.slow
def test_particles_are_rejected_together_and_looked_up_in_their_micrograph(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    page.get_by_role("button", name="Particles").click()
    crops = page.locator(".crop")
    crops.first.wait_for()
    scores = [float(text) for text in crops.locator("span").all_inner_texts()]
    assert scores == sorted(scores)
    assert len(scores) == 18
    crops.nth(1).click()
    crops.nth(4).click(modifiers=["Shift"])
    page.get_by_role("button", name="Reject 4").click()
    saved(page)
    removed = [EditLog(folder / "picks" / EDITS).of(f"mic{i}").removed for i in range(3)]
    assert sum(map(len, removed)) == 4
    assert crops.count() == 14
    page.keyboard.press("Control+z")
    crops.first.click()
    page.get_by_role("button", name="Show in its micrograph").click()
    until(page, "document.body.dataset.view === 'look'")
    assert page.locator("#canvas").is_visible()
    assert page.problems == []


@pytest.mark.slow
def test_a_job_is_followed_also_by_a_page_that_is_opened_later_and_its_gain_is_shown(
    browser: Any, address: str, folder: Path
):
    work = folder / "picks" / "rounds" / "1"
    program = "import signal; signal.pause()"
    make_run(folder / "new")
    work.mkdir(parents=True)
    (folder / "new" / "picks").rename(work / "picks")
    child = subprocess.Popen([sys.executable, "-c", program, str(work)])
    told = {
        "state": "running",
        "kind": "learn",
        "pid": child.pid,
        "step": "learning",
        "done": 2,
        "total": 5,
        "left": 30,
    }
    (work / "job.json").write_text(json.dumps(told | {"history": [{"loss": 0.5, "validation": 0.25}]}))
    page = enter(browser, address)
    page.get_by_role("button", name="Learn", exact=True).click()
    until(page, "document.querySelector('#learn').textContent.includes('learning: 2 of 5 about 30 seconds left')")
    page.reload()
    page.get_by_role("button", name="Learn", exact=True).click()
    until(page, "document.querySelector('#learn').textContent.includes('0.250')")
    page.get_by_role("button", name="Cancel").click()
    assert child.wait() == -signal.SIGTERM
    rates = {
        "before": {"precision": 0.5, "recall": 0.6, "f1": 0.55},
        "after": {"precision": 0.8, "recall": 0.9, "f1": 0.85},
    }
    done = told | {"state": "done", "held": ["mic1"], "picksBefore": 18, "picksAfter": 18} | rates
    (work / "job.json").write_text(json.dumps(done))
    until(page, "document.querySelector('#learn').textContent.includes('85 %')")
    until(page, "document.querySelectorAll('#learn canvas').length === 2")
    with page.expect_navigation():  # a reload, which keeps the view
        page.get_by_role("button", name="Accept the new picks").click()
    until(page, "document.querySelector('#learn').textContent.includes('Accepted')")
    assert page.problems == []


@pytest.mark.slow
def test_a_page_follows_data_collection_and_warns_when_picks_fall_off(browser: Any, address: str, folder: Path):
    page = enter(browser, address)
    status = {"state": "running", "micrographs": 3, "micrographs_per_hour": 120.4, "picks_per_micrograph": 6.2}
    (folder / "picks" / "status.json").write_text(json.dumps(status))
    until(page, "document.querySelector('#live').textContent === 'Live: 3 micrographs, 120 an hour, 6 picks each'")
    run = RunFolder(folder / "picks", SETTINGS, SelectConfig(threshold=0.5))
    for number in range(20):
        run.store(Picks(f"new{number:02d}.mrc", np.array([[50.0, 60.0]]), np.array([0.9])), 0.1)
    until(page, "document.querySelector('#live').textContent.includes('picks fall off, 1 in the newest')")
    until(page, "document.querySelector('#list-foot').textContent.startsWith('23 of 23')")
    page.locator("#sort").select_option("newest")
    until(page, "document.querySelector('.item .name').textContent === 'new19'")
    page.get_by_role("button", name="Statistics").click()
    until(page, "document.querySelector('#live-tile .alarm')?.textContent.startsWith('Picks fall off: 1 in each')")
    assert "newest micrograph\nnew19" in page.locator("#live-tile").inner_text()
    (folder / "picks" / "status.json").write_text(json.dumps(status | {"state": "stopped"}))
    until(page, "document.querySelector('#live').hidden && document.querySelector('#live-tile').hidden")
    assert state(page, "state.list.names.length") == 23
