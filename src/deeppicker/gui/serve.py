"""Start the service, and say how to reach it."""

from __future__ import annotations

import atexit
import getpass
import os
import socket
import stat
import tempfile
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from deeppicker.errors import InputError, OutputError
from deeppicker.gui.app import Service, application
from deeppicker.gui.project import Project
from deeppicker.gui.security import Keys
from deeppicker.parallel.memory import give_memory_back

_PORTS = range(8700, 8800)


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Parameters
    ----------
    port : int or None
        On loopback; the first that is free if None.
    path : Path or None
        A socket in the file system instead.
    """

    port: int | None = None
    path: Path | None = None

    def open(self) -> socket.socket:
        """Return a socket that listens there.

        Raises
        ------
        InputError
            If the port is taken, or others may use the folder of the socket.
        """
        listening = _on_loopback(self.port) if self.path is None else _in_folder(self.path)
        listening.listen()  # at once, or another process could still take the address
        return listening

    def shown(self, listening: socket.socket, token: str) -> tuple[str, str]:
        """Return the URL, and the line that brings it to another computer."""
        port = _PORTS.start if self.path is not None else listening.getsockname()[1]
        # Not "localhost": another user may listen on that port of ::1, which browsers try first.
        target = f"127.0.0.1:{port}" if self.path is None else str(self.path.absolute())
        return (
            f"http://127.0.0.1:{port}/?token={token}",
            f"ssh -L {port}:{target} {getpass.getuser()}@{socket.gethostname()}",
        )


def serve(project: Project, address: Address, say: Callable[[str], None], *, browser: bool, read_only: bool) -> None:
    """Serve a project until interrupted."""
    give_memory_back()
    with address.open() as listening:
        keys = Keys(lambda token: say(f"for one more browser: {address.shown(listening, token)[0]}"))
        url, line = address.shown(listening, keys.token)
        if address.path is None:
            say(f"open in a browser on this machine: {url}")
            say(f"from another machine, first run there: {line}")
        else:
            say(f"run on your own machine: {line}")
            say(f"then open there: {url}")
        say("Ctrl-C ends it")
        service = Service(project, read_only)
        service.start()
        if browser and address.path is None:
            _open_browser(url)
        app = application(service, keys)
        config = uvicorn.Config(
            app, log_level="error", access_log=False, server_header=False, lifespan="off", ws="none", http="h11",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            if address.path is not None:
                address.path.unlink(missing_ok=True)


def _open_browser(url: str) -> None:
    """Open a browser through a file that only its owner reads: the arguments of programs are seen by all users."""
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix="deeppicker-", delete=False) as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><title>DeepPicker</title>')
    atexit.register(Path(file.name).unlink, missing_ok=True)
    webbrowser.open(Path(file.name).as_uri())


def _on_loopback(port: int | None) -> socket.socket:
    for candidate in _PORTS if port is None else [port]:
        # With the protocol: only then asyncio sends at once, instead of 40 ms later.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", candidate))
        except (OSError, OverflowError):
            listening.close()
            continue
        return listening
    what = f"--port {port} is taken or cannot be used" if port is not None else "no port from 8700 to 8799 is free"
    raise InputError(f"{what}; choose another with --port")


def _in_folder(path: Path) -> socket.socket:
    """Return a socket in a folder that is only ours: file modes of sockets themselves are not heeded everywhere."""
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
        if state.st_uid != os.getuid() or stat.S_IMODE(state.st_mode) & 0o077:
            raise InputError(
                f"--socket {path}: others may enter {folder}; run chmod 700 {folder}, or name a new folder"
            )
        if path.is_socket():
            _refuse_living(path)
            path.unlink()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        raise OutputError(f"--socket {path} cannot be made: {error.strerror or error}; choose a short path") from error
    return listening


def _refuse_living(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise InputError(f"--socket {path} is in use; choose another")
