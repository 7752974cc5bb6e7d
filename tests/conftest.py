"""For all tests: array shapes and types are checked, nothing leaves the machine, and each test asserts something."""

from __future__ import annotations

import ast
import os
import socket
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Tests that share the cores with others use one thread each; threads of PyTorch that wait for each other are slow.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before anything imports the package: every call checks its arguments against the annotations.
install_import_hook("deeppicker", "beartype.beartype")

settings.register_profile("deeppicker", derandomize=True, deadline=None)
settings.load_profile("deeppicker")

ROOT = Path(__file__).parent.parent
_DATA = os.environ.get("DEEPPICKER_DATA")
_ASSERTING_CALLS = ("assert", "check", "raises", "warns", "fail")
_LOCAL = ("127.0.0.1", "::1", "localhost")


@pytest.fixture
def data_root() -> Path:
    """The folder of the development data; tests with it are marked ``data`` and skipped where there is none."""
    assert _DATA is not None
    return Path(_DATA)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def connect_on_this_machine(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in _LOCAL:
            pytest.fail(f"a test wants to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_on_this_machine)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait until files are on the disk, except in tests of that."""
    if request.node.get_closest_marker("durable") is None:
        monkeypatch.setattr("deeppicker.formats.atomic.sync", lambda _: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    functions = [item for item in items if isinstance(item, pytest.Function)]
    empty = sorted({item.nodeid.partition("[")[0] for item in functions if not _asserts(item)})
    if empty:
        raise pytest.UsageError("tests without any assertion: " + ", ".join(empty))
    for item in functions:
        if "data_root" in item.fixturenames:
            item.add_marker("data")
        if _DATA is None and item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason="needs the development data; set DEEPPICKER_DATA"))


def _asserts(item: pytest.Function) -> bool:
    return item.originalname in _asserting_functions(item.path)


@cache
def _asserting_functions(path: Path) -> frozenset[str]:
    """Return the names of a file's functions that assert, themselves or through another function of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    asserting: set[str] = set()
    while True:
        more = {
            f.name
            for f in functions
            if f.name not in asserting and any(_is_assertion(n, asserting) for n in ast.walk(f))
        }
        if not more:
            return frozenset(asserting)
        asserting |= more


def _is_assertion(node: ast.AST, asserting: set[str]) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in asserting or name.lstrip("_").startswith(_ASSERTING_CALLS)
