"""`deeppicker gui` in a real browser: Debian's Chromium, without a window, steered by Playwright."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from served import VISITORS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; install Debian's package chromium")


@dataclass
class Program:
    """`deeppicker gui` as a process of its own."""

    process: subprocess.Popen[str]
    url: str

    @property
    def origin(self) -> str:
        return self.url.partition("?")[0]


def start(*arguments: str) -> Program:
    command = [sys.executable, "-m", "deeppicker", "gui", *arguments, "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": ""})
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            STARTED.append(Program(process, found[0]))
            return STARTED[-1]
    raise AssertionError("the server ended before it said its address")


STARTED: list[Program] = []


def stop(program: Program, how: signal.Signals = signal.SIGTERM) -> None:
    program.process.send_signal(how)
    program.process.wait()
    assert program.process.stdout is not None
    program.process.stdout.close()


def visit(page: Any, address: str) -> None:
    """Open the printed address, which leads to the page itself."""
    page.goto(address)
    page.locator("#rows").wait_for()


def enter(browser: Any, address: str, **options: Any) -> Any:
    """Return a page of a new browser profile in which the first micrograph is shown."""
    context = browser.new_context(viewport={"width": 1100, "height": 700}, **options)
    VISITORS.append(context.close)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console",
        lambda message: page.problems.append(f"{message.text} {message.location}") if message.type == "error" else None,
    )
    visit(page, address)
    until(page, "document.querySelector('#facts')?.textContent.includes('automatic')")
    return page


def until(page: Any, condition: str, seconds: int = 30) -> None:
    """Wait for something; Playwright's own way evaluates text, which the page's security policy forbids."""
    page.evaluate(
        """([text, seconds]) => new Promise((done, fail) => {
            const end = Date.now() + 1000 * seconds;
            const look = () => {
                if (CONDITION) done();
                else if (Date.now() > end) fail(new Error(text));
                else setTimeout(look, 20);
            };
            look();
        })""".replace("CONDITION", condition),
        [condition, seconds],
    )


def spot(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a place of the micrograph is on the page."""
    return tuple(
        page.evaluate(
            """async ([x, y]) => {
                const viewer = await import('/static/viewer.js');
                const box = viewer.canvas.getBoundingClientRect();
                const at = viewer.toScreen(x, y);
                return [box.left + at.x, box.top + at.y];
            }""",
            [x, y],
        )
    )


def state(page: Any, expression: str) -> Any:
    return page.evaluate(
        f"async () => {{ const {{ state }} = await import('/static/state.js'); return {expression}; }}"
    )


def saved(page: Any) -> None:
    until(page, "document.querySelector('#saved').textContent === 'All changes saved'")
