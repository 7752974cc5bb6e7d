"""How fast the browser application is: first picture, frames, slider, memory. Writes ``benchmarks/results/gui.md``.

usage: python benchmarks/gui.py    (needs Debian's chromium; all data are made here)
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

from deeppicker.config import SelectConfig
from deeppicker.core import Picks
from deeppicker.runs.folder import RunFolder

ROOT = Path(__file__).parent.parent
SIDE, PICKS, SMALL, MANY = 4096, 2000, 1536, 1000
SETTINGS = {"diameter": 180.0, "pixel_size": None, "invert": False}


def write_noise(path: Path, side: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(0, 1, (side, side)).astype(np.float32)
    with mrcfile.new(path, data=image) as file:
        file.voxel_size = 1.77


def make_run(folder: Path, names: list[str], side: int, picks: int) -> Path:
    run = RunFolder(folder / "picks", SETTINGS, SelectConfig(threshold=0.5))
    rng = np.random.default_rng(0)
    for name in names:
        positions = rng.uniform(60, side - 60, (picks, 2)).round(1)
        run.store(Picks(name, positions, np.sort(rng.uniform(0.01, 1, picks))[::-1].round(4)), 0.1)
    run.finish(names)
    return folder / "picks"


class Server:
    """The application as a process of its own."""

    def __init__(self, run: Path) -> None:
        command = [sys.executable, "-m", "deeppicker", "gui", str(run), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = next(found[0] for line in self.process.stdout if (found := re.search(r"http://\S+", line)))

    def memory(self) -> float:
        """Return the resident memory in MB."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


OPEN = """async (index) => {
    const { on, state } = await import('/static/state.js');
    const { go } = await import('/static/list.js');
    return new Promise((done) => {
        const begun = performance.now();
        let pictured = false;
        on('pictured', () => (pictured = state.index === index));
        on('drawn', () => pictured && done(performance.now() - begun));
        go(index);
    });
}"""
FETCH = """async (index) => {
    const one = await (await fetch(`/api/micrographs/${index}`)).json();
    const base = `factor=${one.factor}&flat=40`;
    for (const picture of [`image?${base}`, `tile/1/0/0?${base}`, 'thumbnail'])
        await (await fetch(`/api/micrographs/${index}/${picture}`)).blob();
}"""
PAN = """(zoomed) => import('/static/viewer.js').then(({ pan, zoom, fit }) => new Promise((done) => {
    if (zoomed) zoom(4); else fit();
    const begun = performance.now();
    let frames = 0;
    const step = (now) => {
        if (now - begun > 4000) return done(frames);
        frames++;
        pan(frames % 60 < 30 ? 4 : -4, 2 * Math.sin(frames / 20));
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
}))"""
SLIDE = """() => import('/static/state.js').then(async ({ on }) => {
    const slider = document.querySelector('#threshold');
    const times = [];
    for (let i = 0; i < 60; i++) {
        const begun = performance.now();
        const told = new Promise((done) => on('counts', done));
        slider.value = String(0.1 + 0.012 * i);
        slider.dispatchEvent(new Event('input'));
        await told;
        times.push(performance.now() - begun);
    }
    return times.sort((a, b) => a - b);
})"""


def visit(page: Page, address: str) -> float:
    """Open the page and return the milliseconds until the micrograph is drawn."""
    page.goto("about:blank")
    page.goto(address)
    page.locator("#rows").wait_for()
    while True:
        marks = page.evaluate("performance.getEntriesByName('pictured').map((mark) => mark.startTime)")
        if marks:
            return float(marks[0])
        page.wait_for_timeout(20)


def panned(page: Page, *, zoomed: bool) -> dict[str, float]:
    """Return frames a second, and the processor time of all of Chromium for each, in ms."""
    before = browser_time()
    frames = page.evaluate(PAN, zoomed)
    return {"rate": frames / 4, "work": 1000 * (browser_time() - before) / frames}


def browser_time() -> float:
    """Return the processor time in seconds that the browser has taken."""
    processes = [child for child in psutil.Process().children(recursive=True) if "chrom" in child.name()]
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def large(page: Page, folder: Path) -> dict[str, Any]:
    """Measure one large micrograph after the other."""
    names = [str(folder / f"large{i}.mrc") for i in range(5)]
    for seed, name in enumerate(names):
        write_noise(Path(name), SIDE, seed)
    with Server(make_run(folder / "large", names, SIDE, PICKS)) as server:
        page.set_viewport_size({"width": 1440, "height": 900})
        start = visit(page, server.url)
        page.wait_for_timeout(3000)
        later = visit(page, f"{server.url.partition('?')[0]}#large4")
        opened = [page.evaluate(OPEN, index) for index in (1, 2, 3)]
        page.evaluate(
            "import('/static/threshold.js').then(({ choose }) =>"
            " choose({ threshold: 0, minContrast: null, maxContrast: null }))"
        )
        page.wait_for_timeout(500)
        fitted, zoomed = panned(page, zoomed=False), panned(page, zoomed=True)
        return {"start": start, "later": later, "opened": opened, "fitted": fitted, "zoomed": zoomed}


def many(page: Page, folder: Path) -> dict[str, Any]:
    """Measure the slider over many micrographs, and memory while all are looked at."""
    write_noise(folder / "small.mrc", SMALL, 9)
    names = [str(folder / "many" / f"mic{i:04d}.mrc") for i in range(MANY)]
    (folder / "many").mkdir()
    for name in names:
        os.link(folder / "small.mrc", name)
    run = make_run(folder / "many", names, SMALL, 300)
    subprocess.run([sys.executable, "-m", "deeppicker", "report", str(run)], check=True, stdout=subprocess.DEVNULL)
    with Server(run) as server:
        visit(page, server.url)
        while page.evaluate("fetch('/api/changes').then((answer) => answer.json()).then((now) => now.read)") < MANY:
            page.wait_for_timeout(200)
        times = page.evaluate(SLIDE)
        memory = []
        for index in range(MANY):
            page.evaluate(FETCH, index)
            if index % 100 == 99:
                memory.append(server.memory())
        return {"slider": times, "memory": memory, "report": (run / "report.html").stat().st_size / 1e6}


def report(big: dict[str, Any], small: dict[str, Any]) -> str:
    load = os.getloadavg()[2]
    slider, memory = small["slider"], [f"{small['memory'][place]:.0f}" for place in (0, 4, -1)]
    return f"""# The browser application

Measured by `benchmarks/gui.py` with headless Chromium, which draws in software, on the same processor core as the
server, shared with other work (load average {load:.0f} on {os.cpu_count()} cores). A screen of 1440 × 900; micrographs
of {SIDE}² pixels (64 MB) with {PICKS:,} picks shown.

| | measured | wanted |
|---|---|---|
| from asking for the page to the first picture | {big["later"] / 1000:.2f} s | 1 s |
| the same while the server starts | {big["start"] / 1000:.2f} s | |
| from a click to the picture of another micrograph | {np.median(big["opened"]) / 1000:.2f} s | 1 s |
| panning, the whole micrograph with all picks | {big["fitted"]["rate"]:.0f} frames/s | 60 |
| its processor time for one frame, drawn in software | {big["fitted"]["work"]:.0f} ms | |
| panning, zoomed in four times | {big["zoomed"]["rate"]:.0f} frames/s | 60 |
| its processor time for one frame, drawn in software | {big["zoomed"]["work"]:.0f} ms | |
| slider, counts of {MANY:,} micrographs with 300 candidates each, median | {np.median(slider):.0f} ms | 50 ms |
| the same, 95th percentile | {np.percentile(slider, 95):.0f} ms | |
| memory of the server after 100, 500 and {MANY:,} micrographs of {SMALL}² | {", ".join(memory)} MB | flat |
| `deeppicker report` of {MANY:,} micrographs, with 12 pictures | {small["report"]:.1f} MB | 10 MB |
"""


def main() -> None:
    chromium = shutil.which("chromium")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as text, sync_playwright() as playwright:
        parts = []
        for part in (large, many):
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            parts.append(part(browser.new_page(), Path(text)))
            print(parts[-1], flush=True)
            browser.close()
    big, small = parts
    content = report(big, small)
    (ROOT / "benchmarks" / "results" / "gui.md").write_text(content, encoding="utf-8")
    print(content, f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
