"""A small run with known scores, the service of it in a thread of this process, and a client that says all it wants."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from deeppicker.config import SelectConfig
from deeppicker.core import Found, Grid, Picks
from deeppicker.gui.app import Service, application
from deeppicker.gui.project import Project, Wanted
from deeppicker.gui.security import Keys
from deeppicker.gui.serve import Address
from deeppicker.particles.classify.files import write
from deeppicker.particles.classify.results import Quality, Report
from deeppicker.runs.folder import RunFolder
from scenes import DIAMETER, HEIGHT, PIXEL_SIZE, WIDTH, Scene, scene, write_project

VISITORS: list[Callable[[], None]] = []
"""What closes the pages that look at a service: connections that they make while it ends would stay open."""

SETTINGS = {"diameter": DIAMETER, "pixel_size": None, "invert": False, "calibration": {"caution": 0.6}}


def make_run(folder: Path, number: int = 3, *, threshold: float = 0.5) -> list[Scene]:
    """Write micrographs, and a run in ``folder/picks`` that found half of each one's particles and some noise."""
    made = [scene(seed, f"mic{seed}.mrc") for seed in range(number)]
    write_project(folder, made)
    run = RunFolder(folder / "picks", SETTINGS, SelectConfig(threshold=threshold))
    for item in made:
        candidates = candidates_of(item, str(folder / "micrographs" / item.micrograph.name))
        rejected = Picks(candidates.micrograph, np.array([[40.0, 200.0]]), np.array([0.7]))
        junk = np.zeros((HEIGHT, WIDTH), dtype=bool)
        junk[:46] = True
        found = Found(candidates, rejected, ("contamination",), junk, Grid())
        run.record(run.results.write(found, (HEIGHT, WIDTH), None, 0.1))
    run.finish([str(folder / "micrographs" / item.micrograph.name) for item in made])
    return made


def candidates_of(item: Scene, name: str) -> Picks:
    """Return all particles but the last four, with scores from 0.9 down to 0.1, and contrasts in another order."""
    positions = item.positions[:-4].round(1)
    contrast = (0.2 + 0.1 * (5 * np.arange(len(positions)) % 12)).round(3)
    return Picks(name, positions, np.linspace(0.9, 0.1, len(positions)).round(3), contrast)


def project_of(folder: Path, **options: Any) -> Project:
    """Return the run in a folder."""
    return Project(Wanted(inputs=(str(folder / "picks"),), **options))


def classified(folder: Path) -> Report:
    """Write a folder with three classes of a run's picks: the first and third are good."""
    project = project_of(folder)
    picks = [project.final(index, project.select)[0] for index in range(3)]
    label = np.concatenate([np.arange(len(item)) % 3 for item in picks])
    ones = np.ones(3)
    report = Report(
        averages=np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32),
        members=np.bincount(label),
        quality=Quality(*[ones] * 7, ones * 20, np.array([0.9, 0.2, 0.6]), ones > 1),
        good=np.array([True, False, True]),
        chosen=np.array([True, False, True]),
        pixel_size=PIXEL_SIZE,
        picks=picks,
        label=label,
        angle=np.zeros(len(label)),
        shift=np.zeros((len(label), 2)),
        probability=np.ones(len(label)),
        strength=np.linspace(3, 2, len(label)),
    )
    write(project.classes, report, {"diameter": project.diameter}, [], kept=False)
    return report


@dataclass
class Client:
    """Sends requests to a service as a browser would, unless told to behave otherwise."""

    port: int
    keys: Keys
    cookie: str = ""
    sent: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def enter(self) -> None:
        """Buy a cookie with the token."""
        _, headers, _ = self.ask("GET", f"/?token={self.keys.token}")
        self.cookie = headers["set-cookie"].partition(";")[0]

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer; headers that are None are left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        told: dict[str, str | None] = {"host": f"127.0.0.1:{self.port}", "cookie": self.cookie, **self.headers}
        if body is not None:
            told |= {"origin": f"http://127.0.0.1:{self.port}", "content-type": "application/json"}
            told["content-length"] = str(len(body))
        told |= {key.replace("_", "-"): value for key, value in headers.items()}
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for key, value in told.items():
            if value is not None:
                connection.putheader(key, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, content

    def get(self, path: str) -> Any:
        """Return the values at an address."""
        status, _, content = self.ask("GET", f"/api/{path}")
        assert status == 200, content
        return json.loads(content)

    def post(self, path: str, **body: Any) -> Any:
        """Return the values that an action answers."""
        status, _, content = self.ask("POST", f"/api/{path}", json.dumps(body).encode())
        assert status == 200, content
        return json.loads(content)


@contextmanager
def served(wanted: Wanted, *, read_only: bool = False) -> Iterator[Client]:
    """Serve a project meanwhile, and return a client that is let in."""
    keys = Keys()
    with Address(port=0).open() as listening:
        service = Service(Project(wanted), read_only)
        service.start()
        config = uvicorn.Config(
            application(service, keys), log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        client = Client(listening.getsockname()[1], keys)
        client.enter()
        try:
            yield client
        finally:
            while VISITORS:
                VISITORS.pop()()
            service.stopped.set()
            server.should_exit = True
            thread.join()


__all__ = [
    *("DIAMETER", "PIXEL_SIZE", "SETTINGS", "VISITORS"),
    *("Client", "candidates_of", "classified", "make_run", "project_of", "served"),
]
