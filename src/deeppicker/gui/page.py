"""The files of the page, as the package holds them."""

from __future__ import annotations

import mimetypes
from functools import cache
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


@cache
def _files() -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in (files("deeppicker.gui") / "static").iterdir() if item.is_file()}


async def index(_request: Request) -> Response:
    """Return the page itself."""
    return Response(_files()["index.html"], media_type="text/html; charset=utf-8")


async def icon(_request: Request) -> Response:
    """Return the icon for browsers that ask for it by the old name before they have read the page."""
    return Response(_files()["icon.svg"], media_type="image/svg+xml")


async def static(request: Request) -> Response:
    """Return a file that the page needs (404 if it is none)."""
    name = request.path_params["name"]
    if name not in _files():
        raise HTTPException(404)
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
    return Response(_files()[name], media_type=kind, headers={"cache-control": "no-cache"})
