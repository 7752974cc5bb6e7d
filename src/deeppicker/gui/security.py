"""Who may talk to the service: only a browser that was given the token, through a page of ours.

Loopback is open to every user of a machine, so each request needs a cookie, which the token of the printed URL buys
once. The Host header is checked, so that no foreign name can be pointed at us (DNS rebinding), and the Origin of
whatever changes something, so that no other page can do it. Requests are limited in size and rate.
"""

from __future__ import annotations

import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NAMES = {"127.0.0.1", "localhost", "[::1]"}
_LARGEST = 4 << 20  # bytes of a request
_RATE, _BURST = 200.0, 1000.0  # requests a second, and at once
_TRIES, _PAUSE = 10, 60.0  # wrong tokens before a pause, in seconds
_SAFE = {"GET", "HEAD"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
# Not a redirect: to the browser the page itself then asks for the next one, so that the strict cookie is sent along.
_WELCOME = '<!doctype html><html lang="en"><meta http-equiv="refresh" content="0; url=/"><title>DeepPicker</title>'


class Keys:
    """The token that is valid now, and the cookies that earlier ones bought."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self.cookie = f"deeppicker-{secrets.token_hex(4)}"
        self.token = secrets.token_urlsafe(24)
        self._tell = tell
        self._sessions: list[str] = []
        self._lock = threading.Lock()
        self._wrong: list[float] = []

    def enter(self, token: str) -> str | None:
        """Return the value of a new cookie if the token is right; it is used up, and another one made and told."""
        with self._lock:
            now = time.monotonic()
            self._wrong = [tried for tried in self._wrong if now - tried < _PAUSE]
            if len(self._wrong) >= _TRIES:
                return None
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                self._wrong.append(now)
                return None
            self._sessions.append(secrets.token_urlsafe(24))
            self.token = secrets.token_urlsafe(24)
            self._tell(self.token)
            return self._sessions[-1]

    def knows(self, cookies: str) -> bool:
        """Return whether a Cookie header holds one of ours; takes as long whichever it is."""
        try:
            morsel = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        value = morsel.value.encode() if morsel else b""
        return any([hmac.compare_digest(value, session.encode()) for session in self._sessions])  # noqa: C419


class Rate:
    """How much may be asked: so many requests at once, and so many a second for ever."""

    def __init__(self) -> None:
        self._left, self._when = _BURST, -math.inf

    def allows(self, now: float) -> bool:
        """Return whether one more request may come now, in seconds of any clock, and count it."""
        self._left = min(_BURST, self._left + _RATE * (now - self._when))
        self._when = now
        allowed = self._left >= 1
        self._left -= allowed
        return allowed


class Guard:
    """Lets through what is allowed, and adds the headers that protect the page."""

    def __init__(self, app: ASGIApp, keys: Keys, *, read_only: bool = False) -> None:
        self._app, self._keys, self._read_only = app, keys, read_only
        self._rate = Rate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets here: uvicorn then refuses

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        await self._app(scope, _limited(receive), guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, method = Headers(scope=scope), scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or name_of(hosts[0]) not in _NAMES:
            return _no(421, "this host is not served; open the printed address")
        if not self._rate.allows(time.monotonic()):
            return _no(429, "too many requests; wait a moment")
        if method not in _SAFE and method != "POST":
            return _no(405, "only GET and POST")
        token = QueryParams(scope["query_string"]).get("token")
        if token is not None and scope["path"] == "/" and method == "GET":
            return self._enter(token)
        if not self._keys.knows(headers.get("cookie", "")):
            return _no(401, "open the address that deeppicker gui prints: it holds the key, for one browser")
        return None if method in _SAFE else self._refused_write(headers, hosts[0])

    def _refused_write(self, headers: Headers, host: str) -> Response | None:
        origin = urlsplit(headers.get("origin", ""))
        if origin.scheme != "http" or origin.netloc != host:
            return _no(403, "this request comes from another page")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _no(415, "send JSON")
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return _no(411, "say how long the request is")
        if int(length) > _LARGEST:
            return _no(413, "the request is too large")
        return _no(403, "this application was started with --read-only") if self._read_only else None

    def _enter(self, token: str) -> Response:
        session = self._keys.enter(token)
        if session is None:
            return _no(401, "this address has been used, or is wrong; the newest one is on the terminal")
        response = HTMLResponse(_WELCOME)
        response.set_cookie(self._keys.cookie, session, httponly=True, samesite="strict", path="/")
        return response


def name_of(host: str) -> str:
    """Return the name in a Host header, without the port; empty if it is none."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host.lower()
    return name.lower() if port.isascii() and port.isdecimal() else ""


def _limited(receive: Receive) -> Receive:
    """Refuse bodies that are longer than they may be, whatever their header says."""
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        return {"type": "http.disconnect"} if total > _LARGEST else message

    return limited


def _no(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status)
