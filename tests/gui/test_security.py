"""Nobody but the holder of the token may look, and no other page may write."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeppicker.errors import InputError
from deeppicker.gui.edits import EDITS
from deeppicker.gui.project import Wanted
from deeppicker.gui.security import Keys, Rate, name_of
from deeppicker.gui.serve import Address
from other_user import as_other_user, needs_root
from served import Client, make_run, served

EDIT = b'{"micrograph": "mic0", "edits": [{"op": "complete", "value": true}]}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("security")
    make_run(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with served(Wanted(inputs=(str(folder / "picks"),))) as client:
        yield client


def test_without_the_cookie_nothing_is_told(client: Client):
    for path in ("/", "/static/main.js", "/api/project", "/api/micrographs/0/image", "/nothing"):
        status, headers, content = client.ask("GET", path, cookie=None)
        assert (status, b"mic0" in content) == (401, False), path
        assert "set-cookie" not in headers


def test_the_token_works_once_and_its_cookie_is_out_of_reach_of_scripts_and_other_sites(client: Client):
    token = client.keys.token
    status, headers, _ = client.ask("GET", f"/?token={token}", cookie=None)
    assert status == 200
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(headers["set-cookie"].split("; "))
    assert headers["cache-control"] == "no-store"
    assert client.ask("GET", f"/?token={token}", cookie=None)[0] == 401
    assert client.ask("GET", "/api/project", cookie=headers["set-cookie"].partition(";")[0])[0] == 200


def test_guessing_tokens_ends_soon_and_the_right_one_is_refused_meanwhile():
    keys = Keys()
    right = keys.token
    assert [keys.enter(f"guess{n}") for n in range(10)] == [None] * 10
    assert keys.enter(right) is None


@pytest.mark.parametrize("cookie", ["deeppicker-0=x", "{name}=wrong", "{name}=", "{name}", "=;;,", "\xff{name}=é"])
def test_other_cookies_are_refused(client: Client, cookie: str):
    assert client.ask("GET", "/api/project", cookie=cookie.replace("{name}", client.keys.cookie))[0] == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "evil.example:80@127.0.0.1", "0.0.0.0", "", "[::2]", "localhost:x",
     "[::1", "::1"],
)  # fmt: skip
def test_a_foreign_host_is_refused_so_that_no_name_can_be_rebound_to_us(client: Client, host: str):
    assert client.ask("GET", "/api/project", host=host)[0] in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:1", "[::1]", "[::1]:8700", "LOCALHOST"])
def test_all_names_of_loopback_are_served_whatever_port_ssh_gave_them(client: Client, host: str):
    assert client.ask("GET", "/api/project", host=host)[0] == 200
    assert name_of(host) in ("localhost", "127.0.0.1", "[::1]")


def test_a_request_without_a_host_or_with_two_is_refused(client: Client):
    assert client.ask("GET", "/api/project", host=None)[0] in (400, 421)
    with socket.create_connection(("127.0.0.1", client.port)) as raw:
        hosts = "Host: localhost\r\nHost: evil.example\r\n"
        raw.sendall(f"GET /api/project HTTP/1.1\r\n{hosts}Cookie: {client.cookie}\r\n\r\n".encode())
        assert raw.recv(100).split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": None}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "https://127.0.0.1"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"cookie": None}, 401),
    ],
)
def test_another_page_cannot_write(client: Client, folder: Path, headers: dict[str, str | None], status: int):
    assert client.ask("POST", "/api/edits", EDIT, **headers)[0] == status
    assert not (folder / "picks" / EDITS).exists()


def test_large_and_endless_requests_are_cut_off(client: Client, folder: Path):
    assert client.ask("POST", "/api/edits", EDIT, content_length=str(1 << 40))[0] == 413
    assert client.ask("POST", "/api/edits", EDIT, content_length=None, transfer_encoding="chunked")[0] in (400, 411)
    assert not (folder / "picks" / EDITS).exists()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(client: Client, method: str):
    assert client.ask(method, "/api/micrographs/0")[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "//etc/passwd",
        "/static//etc/passwd",
        "/api/micrographs/../../etc/passwd",
        "/api/micrographs/-1",
        "/api/micrographs/3",
        "/api/micrographs/99999999999999999999/image",
        "/api/micrographs/0/tile/0/0/0",
        "/api/micrographs/0/tile/1/9/9",
    ],
)
def test_no_path_leads_out_of_what_is_served(client: Client, path: str):
    status, _, content = client.ask("GET", path)
    assert status == 404
    assert b"root:" not in content
    assert b"import" not in content


@pytest.mark.parametrize("query", ["factor=0", "factor=1e9", "factor=nan", "flat=-1", "smooth=inf", "factor=x"])
def test_numbers_out_of_range_are_refused_and_cost_nothing(client: Client, query: str):
    assert client.ask("GET", f"/api/micrographs/0/image?{query}")[0] == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"[" * 50_000, b"\xff", b'{"micrograph": "mic0"}', b'{"micrograph":"mic0","edits":[1]}']
)
def test_what_is_no_request_is_refused(client: Client, folder: Path, body: bytes):
    assert client.ask("POST", "/api/edits", body)[0] == 400
    assert not (folder / "picks" / EDITS).exists()


def test_every_answer_forbids_foreign_and_inline_scripts_and_framing(client: Client):
    for path, cookie in (("/", client.cookie), ("/", ""), ("/api/project", client.cookie), ("/none", client.cookie)):
        _, headers, _ = client.ask("GET", path, cookie=cookie)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_page_names_nothing_outside_of_it(client: Client):
    names = ["index.html", *(f"static/{n}" for n in ("style.css", "main.js", "api.js", "icon.svg"))]
    for name in names:
        status, _, content = client.ask("GET", "/" if name == "index.html" else f"/{name}")
        assert status == 200
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text or name == "static/api.js"
        assert "<script>" not in text
        assert 'style="' not in text


def test_too_many_requests_are_slowed_down():
    rate = Rate()
    assert sum(rate.allows(5.0) for _ in range(3000)) == 1000
    assert sum(rate.allows(5.5) for _ in range(3000)) == 100
    assert sum(rate.allows(9e9) for _ in range(3000)) == 1000


def test_read_only_lets_look_and_change_nothing(folder: Path):
    with served(Wanted(inputs=(str(folder / "picks"),)), read_only=True) as client:
        assert client.get("project")["readOnly"] is True
        for path in ("edits", "threshold", "save", "job"):
            assert client.ask("POST", f"/api/{path}", EDIT)[0] == 403
    assert not (folder / "picks" / EDITS).exists()


def test_a_socket_lies_in_a_folder_that_only_its_owner_enters(tmp_path: Path):
    path = tmp_path / "private" / "gui.sock"
    with Address(path=path).open() as listening:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        url, line = Address(path=path).shown(listening, "secret")
        assert "ssh -L 8700:" + str(path) in line
        assert url == "http://127.0.0.1:8700/?token=secret"
        listening.listen()
        with pytest.raises(InputError, match="is in use"):
            Address(path=path).open()
    with Address(path=path).open():  # what a killed server left is taken over
        assert path.is_socket()


@needs_root
def test_another_user_of_this_machine_gets_nothing_by_port_or_socket(client: Client):
    def by_port() -> str:
        status, _, content = client.ask("GET", "/api/project", cookie=None)
        return f"{status} {b'mic0' in content}"

    assert as_other_user(by_port) == "401 False"
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "private" / "gui.sock"

        def by_socket() -> str:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
                trying.connect(str(path))
            return "connected"

        with Address(path=path).open():
            assert as_other_user(by_socket) == "PermissionError"
            path.parent.chmod(0o755)
            path.chmod(0o777)
            assert as_other_user(by_socket) == "connected"  # so it is the modes that refuse


def test_a_socket_in_a_folder_of_all_is_refused(tmp_path: Path):
    (tmp_path / "open").mkdir(mode=0o755)
    os.chmod(tmp_path / "open", 0o755)  # noqa: PTH101
    with pytest.raises(InputError, match="chmod 700"):
        Address(path=tmp_path / "open" / "gui.sock").open()
    assert not (tmp_path / "open" / "gui.sock").exists()


def test_a_port_that_is_taken_is_refused_and_without_one_the_next_is_free():
    with Address().open() as first:
        assert first.proto == socket.IPPROTO_TCP  # or asyncio leaves Nagle's algorithm on: 40 ms for each answer
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port} is taken"):
            Address(port).open()
        with Address().open() as second:
            assert second.getsockname()[1] != port
