"""Classes in a real browser: look at the members, keep and drop, reject members, classify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deeppicker.formats import read_picks
from deeppicker.gui.edits import EDITS, EditLog
from driven import enter, needs_browser, saved, until
from served import classified

pytestmark = [needs_browser, pytest.mark.slow]


def test_classes_are_kept_and_dropped_by_click_and_their_members_seen(browser: Any, folder: Path, address: str):
    classified(folder)
    page = enter(browser, address)
    page.get_by_role("button", name="Classes", exact=True).click()
    averages = page.locator(".average")
    averages.nth(2).wait_for()
    assert [one.get_attribute("aria-pressed") for one in averages.all()] == ["true", "false", "true"]
    assert page.locator("#classes-keep").is_disabled()
    averages.nth(1).hover()
    until(page, "document.querySelector('#classes-members h3')?.textContent === 'Class 2'")
    assert page.locator("#classes-members .crop").count() == 6
    averages.nth(0).click()
    averages.nth(1).focus()
    page.keyboard.press("Space")
    assert page.locator("#classes-count").inner_text() == "2 of 3 classes, 12 of 18 picks"
    page.get_by_role("button", name="Keep these").click()
    until(page, "document.querySelector('#classes-note').textContent.startsWith('12 picks are kept')")
    assert sum(map(len, read_picks(folder / "picks" / "classes" / "kept"))) == 12
    page.get_by_role("button", name="Judged good").click()
    assert page.locator("#classes-keep").is_enabled()
    averages.nth(1).hover()
    page.get_by_role("button", name="Go through all of them").click()
    until(page, "document.querySelectorAll('#gallery .crop').length === 6")
    page.get_by_role("button", name="Select all").click()
    page.get_by_role("button", name="Reject 6").click()
    saved(page)
    assert sum(len(EditLog(folder / "picks" / EDITS).of(f"mic{i}").removed) for i in range(3)) == 6
    assert page.problems == []


def test_the_job_that_classifies_is_started_and_followed_by_the_page(browser: Any, folder: Path, address: str):
    page = enter(browser, address)
    page.get_by_role("button", name="Classes", exact=True).click()
    page.get_by_role("button", name="Classify the picks").click()
    until(page, "document.querySelectorAll('.average').length > 0")
    assert (folder / "picks" / "classes" / "classes.mrcs").is_file()
    assert page.get_by_role("button", name="Classify again").is_enabled()
    assert page.problems == []
