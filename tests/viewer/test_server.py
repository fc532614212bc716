import socket
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from hisplat_viewer import SceneSource, ViewerServer
from tests.no_scenes import NoScenes


@pytest.fixture
def server() -> Iterator[ViewerServer]:
    with ViewerServer(NoScenes(), {}, port=0) as server:
        yield server


def test_any_object_with_the_methods_is_a_source():
    assert isinstance(NoScenes(), SceneSource)


def test_page_is_served_on_this_machine_only(server: ViewerServer):
    assert server.url.startswith("http://127.0.0.1:")
    with urlopen(server.url) as answer:
        assert answer.status == 200
        assert b"<html" in answer.read()


def test_page_cannot_be_published(server: ViewerServer):
    assert server._server.request_share_url() is None


def test_next_free_port_is_taken(server: ViewerServer):
    taken = int(server.url.rsplit(":", 1)[1])
    with ViewerServer(NoScenes(), {}, port=taken) as other:
        assert int(other.url.rsplit(":", 1)[1]) > taken


def test_stopped_server_answers_no_more():
    with ViewerServer(NoScenes(), {}, port=0) as server:
        port = int(server.url.rsplit(":", 1)[1])
    server.wait()  # returns, since it is stopped
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_address_of_another_machine_is_refused(host: str):
    with pytest.raises(ValueError, match="Cannot listen on"):
        ViewerServer(NoScenes(), {}, host=host)
