"""What the tests of the browser application share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deeppicker.gui.project import Wanted
from driven import CHROMIUM, STARTED, stop
from served import VISITORS, make_run, served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with micrographs and a run of them in ``picks``."""
    make_run(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """End what a failed test left running."""
    yield
    while STARTED:
        program = STARTED.pop()
        if program.process.poll() is None:
            stop(program, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
        VISITORS.clear()


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """Serve the run in a thread of this process, and return the address with the token."""
    with served(Wanted(inputs=(str(folder / "picks"),), reference=folder / "particles.star")) as client:
        yield f"http://127.0.0.1:{client.port}/?token={client.keys.token}"
