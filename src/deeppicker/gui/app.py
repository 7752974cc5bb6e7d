"""The web service: which address answers what. Micrographs are addressed by number, never by path."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from deeppicker.config import SelectConfig
from deeppicker.core import BOX_DIAMETERS
from deeppicker.errors import DeepPickerError, InputError, OutputError
from deeppicker.formats.recorded import JUNK, STATUS, file_of
from deeppicker.formats.sealed import parse_json
from deeppicker.gui import answers, page
from deeppicker.gui.classes import Classes
from deeppicker.gui.export import Wish, apply, export, save
from deeppicker.gui.jobs import Jobs
from deeppicker.gui.pictures import Pictures, crop, first_look, jpeg, thumbnail, tile, trend
from deeppicker.gui.project import Project
from deeppicker.gui.report import drawing
from deeppicker.gui.rounds import read_json
from deeppicker.gui.score_map import score_map
from deeppicker.gui.scores import ORDERS, Scores
from deeppicker.gui.security import Guard, Keys
from deeppicker.gui.statistics import plots_of
from deeppicker.particles.classify.files import CLASSES, PICTURE

_DRAWN = 1600  # pixels of a micrograph that is saved with its picks
_INTERVAL = 2.0  # seconds between two looks for what a run has finished
_KEPT = {"cache-control": "private, max-age=600"}  # pictures, whose address changes with their content
_CHOICE = ("threshold", "min_contrast", "max_contrast")
_OF_CLASSES = {"picture": PICTURE, "table": CLASSES}
Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Service:
    """Answers requests about a project."""

    project: Project
    read_only: bool = False
    pictures: Pictures = field(default_factory=Pictures)
    stopped: threading.Event = field(default_factory=threading.Event)
    _thumbnails: threading.Lock = field(default_factory=threading.Lock)
    _scoring: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._attach()

    def _attach(self) -> None:
        self.scores = Scores(self.project)
        self.jobs = Jobs(self.project)
        self.classes = Classes(self.project)

    def start(self) -> None:
        """Begin to follow the run."""
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        """Read the micrograph that the page shows first; then look for what a run has finished, until stopped."""
        with suppress(DeepPickerError, IndexError), self.pictures.urgent():
            jpeg(thumbnail(self._pixels(0)))
        while True:
            self.project.refresh()
            self.scores.read()
            if self.stopped.wait(_INTERVAL):
                return

    # Values

    def about(self, _request: Request) -> dict[str, Any]:
        """Return what all micrographs share."""
        return answers.of_project(self.project, read_only=self.read_only)

    def micrographs(self, _request: Request) -> dict[str, Any]:
        """Return the list of micrographs."""
        return answers.of_list(self.project, self.scores)

    def micrograph(self, request: Request) -> dict[str, Any]:
        """Return what is drawn on one micrograph."""
        return answers.of_micrograph(self.project, self._index(request))

    def agreement(self, request: Request) -> dict[str, Any]:
        """Return how the picks of a micrograph agree with the reference."""
        return answers.of_agreement(self.project, self._index(request), self._select(request))

    def selection(self, request: Request) -> dict[str, Any]:
        """Return what a threshold and filters select."""
        return answers.of_selection(self.scores, self._select(request) or SelectConfig(threshold=0.0))

    def histogram(self, _request: Request) -> dict[str, Any]:
        """Return how the scores are distributed, and between which values contrasts are."""
        return {"counts": self.scores.histogram(), "contrast": self.scores.limits, "read": self.scores.done}

    def gallery(self, request: Request) -> dict[str, Any]:
        """Return a page of particles: of a class, or in an order."""
        start = int(_number(request, "start") or 0)
        if (number := _number(request, "class")) is not None:
            return answers.of_members(self.classes, int(number), start)
        order = request.query_params.get("order", "doubtful")
        if order not in ORDERS:
            raise HTTPException(400, f"order is one of {', '.join(ORDERS)}")
        select = self._select(request) or SelectConfig(threshold=0.0)
        return answers.of_gallery(self.project, self.scores, order, select, start)

    def averages(self, _request: Request) -> dict[str, Any]:
        """Return the classes."""
        return self.classes.told()

    def statistics(self, _request: Request) -> dict[str, Any]:
        """Return plots of the whole run."""
        return {"plots": [asdict(plot) for plot in plots_of(self.project, self.scores)]}

    def changes(self, request: Request) -> dict[str, Any]:
        """Return what has changed since the page last asked."""
        log = self.project.log
        status = self.project.folder / STATUS
        edited = log.since(int(_number(request, "edits") or 0))
        return {
            "version": self.project.version,
            "trouble": self.project.trouble,
            "path": str(self.project.folder),
            "micrographs": len(self.project.entries),
            "read": self.scores.done,
            "edits": log.size,
            "edited": edited,
            "totals": answers.of_totals(self.project),
            **answers.of_select(self.project.select),
            "diameter": self.project.diameter,
            "run": self.project.has_run,
            "job": self.jobs.state(),
            "classifying": self.jobs.classifying(),
            "classes": self.classes.version,
            "newest": answers.of_newest(self.project),
            "status": read_json(status) or None,
        }

    # Pictures

    def image(self, request: Request) -> Response:
        """Return a reduced micrograph."""
        index = self._index(request)
        factor = int(_number(request, "factor", 1.0, 256.0) or 1)
        flat, smooth = (float(_number(request, name, 0.0, 1000.0) or 0) for name in ("flat", "smooth"))
        key = ("image", index, factor, flat, smooth, self._changed(index))
        with self.pictures.urgent():
            return self._picture(key, lambda: jpeg(first_look(self._pixels(index), factor, flat=flat, smooth=smooth)))

    def part(self, request: Request) -> Response:
        """Return a tile of a micrograph."""
        index = self._index(request)
        factor, column, row = (int(request.path_params[name]) for name in ("factor", "column", "row"))
        image = self._pixels(index)
        if not 1 <= factor <= 64 or column * 512 * factor >= image.shape[1] or row * 512 * factor >= image.shape[0]:
            raise HTTPException(404)
        base = int(_number(request, "factor", 1.0, 256.0) or 1)
        flat = float(_number(request, "flat", 0.0, 1000.0) or 0)
        about = (index, self._changed(index), base, flat)
        away = self.pictures.trend(about, lambda: trend(image, base, flat))
        return self._picture(
            ("tile", *about, factor, column, row), lambda: jpeg(tile(image, factor, column, row, away))
        )

    def drawing(self, request: Request) -> Response:
        """Return a micrograph with its picks as an SVG file."""
        index = self._index(request)
        image = drawing(self.project, index, self._select(request), _DRAWN)
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(self.project.key(index))}.svg"}
        return Response(image, media_type="image/svg+xml", headers=headers)

    def small(self, request: Request) -> Response:
        """Return a thumbnail."""
        index = self._index(request)
        key = ("thumbnail", index, self._changed(index))

        def make() -> bytes:
            with self._thumbnails:
                self.pictures.turn()
                return jpeg(thumbnail(self._pixels(index)), 75)

        return self._picture(key, make)

    def cut(self, request: Request) -> Response:
        """Return the picture of one particle."""
        index = self._index(request)
        x, y = (_number(request, name, -1e6, 1e6) or 0.0 for name in "xy")
        header, diameter = self.project.header(index), self.project.diameter or 100.0
        box = BOX_DIAMETERS * diameter / (header.pixel_size or 1.0)
        key = ("crop", index, x, y, box, self._changed(index))
        return self._picture(key, lambda: jpeg(crop(self._pixels(index), x, y, box, 96), 80))

    def average(self, request: Request) -> Response:
        """Return the average of a class."""
        number = int(request.path_params["number"])
        picture = self.pictures.picture(("class", number, self.classes.version), lambda: self.classes.picture(number))
        return Response(picture, media_type="image/png", headers=_KEPT)

    def file_of_classes(self, request: Request) -> Response:
        """Return the picture or the table of all classes."""
        path = self.project.classes / _OF_CLASSES.get(request.path_params["kind"], "")
        if not path.is_file():
            raise HTTPException(404)
        return FileResponse(path)

    def score_map(self, request: Request) -> Response:
        """Return the map of scores."""
        index = self._index(request)

        def make() -> bytes:
            with self._scoring:
                return score_map(self.project, index)

        content = self.pictures.picture(("scores", index, self._changed(index), str(self.project.folder)), make)
        return Response(content, media_type="image/png", headers=_KEPT)

    def mask(self, request: Request) -> Response:
        """Return the mask of contamination."""
        path = file_of(self.project.folder, JUNK, self.project.entries[self._index(request)].name)
        if not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, media_type="image/png", headers=_KEPT)

    # What changes something

    def edit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Write edits of one micrograph to the log; they are safe when this returns."""
        index = self._meant(body)
        _ = self.project.writable
        version = self.project.log.append(self.project.key(index), _list(body, "edits"), str(body.get("by", "")))
        return {"version": version, **answers.of_marks(self.project, index)}

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Select the picks of all micrographs anew."""
        given = [body.get(name) for name in _CHOICE]
        if given[0] is None or not all(value is None or type(value) in (int, float) for value in given):
            raise InputError("the threshold and limits of the contrast are numbers")
        threshold, low, high = (None if value is None else float(value) for value in given)
        apply(self.project, SelectConfig(threshold=threshold, min_contrast=low, max_contrast=high))
        self.project.refresh()
        return answers.of_select(self.project.select)

    def keep(self, _body: dict[str, Any]) -> dict[str, Any]:
        """Write the corrected picks beside the automatic ones."""
        return {"folder": str(save(self.project))}

    def choose(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep some classes only."""
        numbers = body.get("keep")
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise HTTPException(400, "keep is a list of numbers")
        self.classes.choose(numbers)
        return self.classes.told()

    def job(self, body: dict[str, Any]) -> dict[str, Any]:
        """Start or cancel learning, or decide about what came of it."""
        if self.jobs.do(str(body.get("do"))):
            self.project = Project(self.project.wanted)
            self._attach()
        return {"job": self.jobs.state(), "classifying": self.jobs.classifying()}

    def comparison(self, request: Request) -> dict[str, Any]:
        """Return the picks of a micrograph before and after the last round of learning."""
        return self.jobs.compare(self._index(request))

    def download(self, request: Request) -> Response:
        """Return the picks as a file."""
        query = request.query_params
        wish = Wish(query.get("what", "all"), query.get("format", "star"), int(_number(request, "box", 1.0, 1e5) or 0))
        with tempfile.TemporaryDirectory() as folder:
            path = export(self.project, wish, Path(folder))
            headers = {"content-disposition": f'attachment; filename="{path.name}"'}
            return Response(path.read_bytes(), media_type="application/octet-stream", headers=headers)

    def _index(self, request: Request) -> int:
        index = int(request.path_params["index"])
        if index >= len(self.project.entries):
            raise HTTPException(404)
        return index

    def _select(self, request: Request) -> SelectConfig | None:
        """Return the selection that a page asks for, or that of the run."""
        threshold, low, high = (_number(request, name, -100.0, 100.0) for name in _CHOICE)
        if threshold is None:
            return self.project.select
        return SelectConfig(threshold=threshold, min_contrast=low, max_contrast=high)

    def _meant(self, body: dict[str, Any]) -> int:
        """Return the number of the micrograph that the page means by its name: numbers end with the program."""
        try:
            return self.project.index(str(body.get("micrograph")))
        except KeyError:
            raise HTTPException(404) from None

    def _pixels(self, index: int) -> Any:
        entry = self.project.entries[index]
        image = self.pictures.micrograph(entry.path, self.project.header(index).pixel_size).image
        return -image if self.project.recorded.invert else image

    def _changed(self, index: int) -> int:
        path = self.project.entries[index].path
        return path.stat().st_mtime_ns if path.is_file() else 0

    def _picture(self, key: object, make: Callable[[], bytes]) -> Response:
        return Response(self.pictures.picture(key, make), media_type="image/jpeg", headers=_KEPT)


def application(service: Service, keys: Keys) -> Guard:
    """Return a service as an ASGI application."""
    one = "/api/micrographs/{index:int}"
    routes = [
        Route("/", page.index),
        Route("/favicon.ico", page.icon),
        Route("/static/{name}", page.static),
        Route("/api/project", _values(service.about)),
        Route("/api/micrographs", _values(service.micrographs)),
        Route(one, _values(service.micrograph)),
        Route(f"{one}/agreement", _values(service.agreement)),
        Route(f"{one}/comparison", _values(service.comparison)),
        Route(f"{one}/image", service.image),
        Route(f"{one}/tile/{{factor:int}}/{{column:int}}/{{row:int}}", service.part),
        Route(f"{one}/thumbnail", service.small),
        Route(f"{one}/drawing", service.drawing),
        Route(f"{one}/crop", service.cut),
        Route(f"{one}/mask", service.mask),
        Route(f"{one}/scores", service.score_map),
        Route("/api/selection", _values(service.selection)),
        Route("/api/histogram", _values(service.histogram)),
        Route("/api/gallery", _values(service.gallery)),
        Route("/api/classes", _values(service.averages)),
        Route("/api/classes/{number:int}/average", service.average),
        Route("/api/classes/{kind}", service.file_of_classes),
        Route("/api/statistics", _values(service.statistics)),
        Route("/api/changes", _values(service.changes)),
        Route("/api/export", service.download),
        Route("/api/edits", _action(service.edit), methods=["POST"]),
        Route("/api/threshold", _action(service.apply), methods=["POST"]),
        Route("/api/save", _action(service.keep), methods=["POST"]),
        Route("/api/classes", _action(service.choose), methods=["POST"]),
        Route("/api/job", _action(service.job), methods=["POST"]),
    ]
    failures: Any = {DeepPickerError: _explain, HTTPException: _explain}
    return Guard(Starlette(routes=routes, exception_handlers=failures), keys, read_only=service.read_only)


def _values(answer: Callable[[Request], dict[str, Any]]) -> Callable[[Request], Response]:
    return lambda request: JSONResponse(answer(request))


def _action(do: Callable[[dict[str, Any]], dict[str, Any]]) -> Handler:
    async def handler(request: Request) -> Response:
        try:
            body = parse_json(await request.body())
        except ValueError as error:
            raise HTTPException(400, "this is not JSON") from error
        if not isinstance(body, dict):
            raise HTTPException(400, "an object is wanted")
        return JSONResponse(await run_in_threadpool(do, body))

    return handler


def _explain(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    later = isinstance(error, OutputError)  # the page keeps what could not be written, and tries again
    return JSONResponse({"error": str(error)}, 503 if later else 422)


def _number(request: Request, name: str, low: float = 0.0, high: float = 2.0**53) -> float | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise HTTPException(400, f"{name} is not a number") from error
    if not low <= value <= high:
        raise HTTPException(400, f"{name} is out of range")
    return value


def _list(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise HTTPException(400, f"{name} is a list of objects")
    return value
