"""A stand-in for the Hugging Face Hub: the few answers that its client needs for one file."""

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/weights"
NAME = "published/small.safetensors"


class HubStandIn(ThreadingHTTPServer):
    """Serves ``content`` as ``REPOSITORY``'s file ``NAME`` at "main" and at the branch "second".

    ``closed/weights`` is gated; any other repository does not exist. ``requests`` are recorded.
    """

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        hub = self.server
        assert isinstance(hub, HubStandIn)
        hub.requests.append(f"{self.command} {self.path}")
        owner, repository, kind, revision, *name = self.path.lstrip("/").split("/")
        code = self._error(f"{owner}/{repository}", revision, "/".join(name))
        body = b"" if code or kind != "resolve" else hub.content
        self.send_response({None: 200, "GatedRepo": 403, "RepoNotFound": 401}.get(code, 404))
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    @staticmethod
    def _error(repository: str, revision: str, name: str) -> str | None:
        if repository == "closed/weights":
            return "GatedRepo"
        if repository != REPOSITORY:
            return "RepoNotFound"
        if revision not in ("main", "second", COMMIT):
            return "RevisionNotFound"
        return None if name == NAME else "EntryNotFound"

    def log_message(self, format: str, *args: object) -> None:
        pass
