"""Who may come in: a token, the host and origin of a request, and how many browsers at a time.

A page of any site can send requests to this machine, and a name server of its own can make its
name stand for this machine. So, besides the token:

- ``Host`` must name this machine where nothing else protects it (``Gate`` without a token);
- a websocket's ``Origin`` must be the page it is opened from.

viser has no hook for requests, but the ``websockets`` server it starts has one. ``guarded`` puts a
gate into it; see there.
"""

import contextlib
import hashlib
import hmac
import http
import ipaddress
import logging
import secrets
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response
from websockets.protocol import State

logger = logging.getLogger(__name__)

MOST_BROWSERS = 20
TOKEN_BYTES = 32
SAFE_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""No other site may show the page in a frame, or learn its address."""

_patching = threading.Lock()


class Gate:
    """Lets requests through to one server, or says why not.

    Args:
        token: What a browser must bring, once in the address, from then on as a cookie. None asks
            for none, and lets in only those who call this machine ``localhost``.
        most_browsers: How many may be connected at a time.
    """

    def __init__(self, token: str | None, most_browsers: int = MOST_BROWSERS) -> None:
        self.token = token
        self.most_browsers = most_browsers
        self.servers = 0
        """How many servers stand behind this gate."""
        self._admitted: weakref.WeakSet[ServerConnection] = weakref.WeakSet()

    def refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a request that goes no further; None lets it through."""
        try:
            host = request.headers["Host"]
            origin = request.headers.get("Origin")
            is_websocket = request.headers.get("Upgrade") is not None
        except (KeyError, MultipleValuesError):
            return connection.respond(http.HTTPStatus.BAD_REQUEST, "Not a browser's request.\n")
        if self.token is None and not _names_this_machine(host):
            return connection.respond(
                http.HTTPStatus.FORBIDDEN, "This page is only for http://localhost.\n"
            )
        if is_websocket and not _same_site(origin, host):
            return connection.respond(
                http.HTTPStatus.FORBIDDEN, "Another site's page may not connect.\n"
            )
        if self.token is not None:
            refused = self._without_token(self.token, connection, request)
            if refused is not None:
                return refused
        if self._browsers() >= self.most_browsers:
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self.most_browsers} browsers use this page, more are not let in. "
                "Try again in some minutes.\n",
            )
        if is_websocket:
            self._admitted.add(connection)
        return None

    def _without_token(
        self, token: str, connection: ServerConnection, request: Request
    ) -> Response | None:
        cookie = f"hisplat_{hashlib.sha256(token.encode()).hexdigest()[:8]}"
        given = parse_qs(urlsplit(request.path).query).get("token")
        if given is not None and _equal(given[0], token):
            # On to an address without the token, which is then neither bookmarked nor shared.
            answer = connection.respond(http.HTTPStatus.SEE_OTHER, "The page is at /.\n")
            answer.headers["Location"] = "/"
            answer.headers["Set-Cookie"] = f"{cookie}={token}; Path=/; HttpOnly; SameSite=Lax"
            answer.headers["Cache-Control"] = "no-store"
            return answer
        if any(_equal(value, token) for value in _cookies(request.headers, cookie)):
            return None
        return connection.respond(
            http.HTTPStatus.UNAUTHORIZED,
            "Open the address that the program printed when it started, with its token.\n",
        )

    def _browsers(self) -> int:
        return sum(c.state in (State.CONNECTING, State.OPEN) for c in self._admitted)


@contextlib.contextmanager
def guarded(gate: Gate) -> Iterator[None]:
    """Puts ``gate`` before the websocket server that starts inside this context.

    ``websockets`` takes a ``process_request`` that sees every request, plain and websocket, before
    the server does; viser passes its own and has no way to be given another. So while viser
    starts, the class that it starts its server with is one that asks the gate first. Whether it
    did is told by ``gate.servers``.
    """

    class GuardedServe(websockets.asyncio.server.serve):
        def __init__(self, *args: Any, process_request: Any = None, **options: Any) -> None:
            def ask_first(connection: ServerConnection, request: Request) -> Response | None:
                answer = gate.refusal(connection, request)
                if answer is None and process_request is not None:
                    answer = process_request(connection, request)
                if answer is not None:
                    for name, value in SAFE_HEADERS.items():
                        answer.headers[name] = value
                return answer

            super().__init__(*args, process_request=ask_first, **options)

        async def __aenter__(self) -> websockets.asyncio.server.Server:
            server = await super().__aenter__()
            gate.servers += 1
            return server

    with _patching:
        plain = websockets.asyncio.server.serve
        websockets.asyncio.server.serve = GuardedServe
        try:
            yield
        finally:
            websockets.asyncio.server.serve = plain


def new_token() -> str:
    """A secret that nobody guesses, fit for an address."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def is_local(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only.

    Raises:
        ValueError: if there is no such address.
    """
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ValueError(f"Cannot listen on {host!r}: {error.strerror or error}.") from error
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def _names_this_machine(host: str) -> bool:
    """Whether a ``Host`` header means the machine it is sent to, whatever a name server says."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _same_site(origin: str | None, host: str) -> bool:
    # https where a proxy of the user's adds it.
    return origin is not None and origin.lower() in (
        f"http://{host.lower()}",
        f"https://{host.lower()}",
    )


def _cookies(headers: Headers, name: str) -> list[str]:
    """The values of all cookies of this name."""
    pairs = [
        pair.strip().partition("=") for h in headers.get_all("Cookie") for pair in h.split(";")
    ]
    return [value for key, _, value in pairs if key == name]


def _equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())
