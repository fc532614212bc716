"""Who is let in: over real connections, as a browser and as somebody who is none would try."""

import socket
import types
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pytest
import viser
import viser.infra._infra
import websockets.asyncio.server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from hisplat_viewer import ViewerServer
from tests.no_scenes import NoScenes


@pytest.fixture(scope="module")
def private() -> Iterator[ViewerServer]:
    """A server for this machine only."""
    with ViewerServer(NoScenes(), {}, port=0) as server:
        yield server


@pytest.fixture(scope="module")
def public() -> Iterator[ViewerServer]:
    """A server that other machines reach."""
    with ViewerServer(NoScenes(), {}, host="0.0.0.0", port=0) as server:
        yield server


def place(server: ViewerServer) -> str:
    """The host and port of a server."""
    return server.url.split("/")[2]


def token(server: ViewerServer) -> str:
    return server.url.partition("?token=")[2]


def cookie(server: ViewerServer) -> str:
    """What a browser keeps after it has opened the address with the token."""
    keeper = HTTPCookieProcessor()
    build_opener(keeper).open(server.url).close()
    (kept,) = keeper.cookiejar
    assert kept.has_nonstandard_attr("HttpOnly")
    return f"{kept.name}={kept.value}"


def status(url: str, opener: OpenerDirector | None = None, **headers: str) -> int:
    try:
        with (opener or build_opener()).open(Request(url, headers=headers)) as answer:
            return answer.status
    except HTTPError as error:
        with error:
            return error.code


def websocket(
    server: ViewerServer, origin: str | None = "same", headers: dict[str, str] | None = None
) -> ClientConnection:
    at = place(server)
    own = f"http://{at}" if origin == "same" else origin
    return connect(
        f"ws://{at}/",
        origin=None if own is None else Origin(own),
        additional_headers=headers,
        subprotocols=[Subprotocol(f"viser-v{viser.__version__}")],
        compression=None,
        proxy=None,
    )


def refused(server: ViewerServer, **how: object) -> int:
    with pytest.raises(InvalidStatus) as error:
        websocket(server, **how)  # pyright: ignore[reportArgumentType]
    return error.value.response.status_code


def test_page_for_this_machine_needs_no_token(private: ViewerServer):
    assert "token" not in private.url
    assert private.url_elsewhere is None
    assert status(private.url) == 200
    with websocket(private) as connection:
        assert connection.recv(timeout=20)


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:1", "https://localhost"]
)
def test_pages_of_other_sites_cannot_connect(private: ViewerServer, origin: str | None):
    assert refused(private, origin=origin) == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "10.0.0.1", "[::2]", "a b"])
def test_a_name_that_was_made_to_mean_this_machine_is_refused(private: ViewerServer, host: str):
    assert status(private.url, Host=host) == 403


def test_a_name_made_to_mean_this_machine_gets_no_websocket(private: ViewerServer):
    """The page of evil.example, once that name stands for 127.0.0.1, is of one site with it."""
    host, port = place(private).split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:1", "[::1]:80"])
def test_a_tunnel_to_this_machine_works(private: ViewerServer, host: str):
    assert status(private.url, Host=host) == 200


def test_page_that_others_reach_needs_the_token(public: ViewerServer):
    plain = f"http://{place(public)}/"
    assert len(token(public)) >= 40
    assert status(plain) == 401
    assert status(f"{plain}index.html") == 401
    assert status(f"{plain}?token=") == 401
    assert status(f"{plain}?token={token(public)[:-1]}x") == 401
    assert status(f"{plain}?token=%FF%00&token={token(public)}") == 401
    assert status(plain, Cookie="hisplat=1; a") == 401
    assert status(public.url, build_opener(HTTPCookieProcessor())) == 200
    assert status(plain, Cookie=cookie(public)) == 200


def test_the_address_with_the_token_is_left_at_once(public: ViewerServer):
    opener = build_opener(HTTPCookieProcessor())
    with opener.open(public.url) as answer:
        assert answer.geturl() == f"http://{place(public)}/"
        assert b"<html" in answer.read()


def test_websocket_that_others_reach_needs_the_token_too(public: ViewerServer):
    assert refused(public) == 401
    assert refused(public, headers={"Cookie": cookie(public)[:-1] + "_"}) == 401
    with websocket(public, headers={"Cookie": cookie(public)}) as connection:
        assert connection.recv(timeout=20)


def test_another_site_cannot_ride_on_the_cookie(public: ViewerServer):
    ours = {"Cookie": cookie(public)}
    assert refused(public, origin="http://evil.example", headers=ours) == 403


def test_every_server_has_its_own_token(public: ViewerServer):
    with ViewerServer(NoScenes(), {}, host="0.0.0.0", port=0) as other:
        assert token(other) != token(public)
        assert status(f"http://{place(other)}/", Cookie=cookie(public)) == 401


def test_no_other_site_may_frame_the_page(private: ViewerServer):
    with build_opener().open(private.url) as answer:
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_only_so_many_browsers_are_let_in():
    with ViewerServer(NoScenes(), {}, port=0, most_browsers=2) as server:
        with websocket(server), websocket(server) as second:
            assert refused(server) == 503
            assert status(server.url) == 503
            second.close()
            with websocket(server) as third:
                assert third.recv(timeout=20)
        assert status(server.url) == 200


@pytest.mark.parametrize("path", ["../../_viser.py", "%2e%2e/%2e%2e/_viser.py", "/etc/passwd"])
def test_no_other_file_is_served(private: ViewerServer, path: str):
    assert status(f"{private.url}/{path}") == 404


def test_a_viser_that_cannot_be_guarded_is_not_used(monkeypatch: pytest.MonkeyPatch):
    """As if viser had bound the server's class before we could replace it."""
    real = viser.infra._infra.websockets  # pyright: ignore[reportPrivateImportUsage]
    unreachable = types.SimpleNamespace(
        exceptions=real.exceptions,
        datastructures=real.datastructures,
        asyncio=types.SimpleNamespace(
            server=types.SimpleNamespace(serve=websockets.asyncio.server.serve)
        ),
    )
    monkeypatch.setattr(viser.infra._infra, "websockets", unreachable)
    with pytest.raises(RuntimeError, match="nobody could be kept out"):
        ViewerServer(NoScenes(), {}, port=0)
