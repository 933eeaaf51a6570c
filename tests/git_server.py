"""Real git repositories, and a real HTTP server for them: git's own http-backend behind CGI."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.test",
    "GIT_COMMITTER_NAME": "Ada Lovelace",
    "GIT_COMMITTER_EMAIL": "ada@example.test",
    "GIT_ALLOW_PROTOCOL": "file:http:https",
}


@dataclass(frozen=True)
class Repository:
    """A repository with a work tree, driven by the git program."""

    path: Path

    def git(self, *args: str, text: str | None = None) -> str:
        """Run git here and return what it printed."""
        command = ["git", "-C", str(self.path), *args]
        done = subprocess.run(
            command, env=_ENV, input=text, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, subject: str, **files: str) -> str:
        """Commit *files* (``__`` in a name is a dot) and return the commit's id."""
        for name, content in files.items():
            (self.path / name.replace("__", ".")).write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD")


def make_repository(path: Path, *options: str) -> Repository:
    """Make an empty repository whose first branch is ``main``."""
    path.mkdir(parents=True)
    repository = Repository(path)
    repository.git("init", "--quiet", "--initial-branch=main", *options)
    return repository


@dataclass
class GitServer:
    """What the server was told to do, and what it was asked."""

    url: str
    root: Path
    login: str | None = None  # "user:password" that every request has to bring
    redirect_to: str | None = None
    is_dumb: bool = False  # serves plain files, as a web server without git does
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)


@contextmanager
def serve_git(root: Path, *, tls: tuple[Path, Path] | None = None) -> Iterator[GitServer]:
    """Serve the repositories beneath *root* on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # GnuTLS wants to know a body's end from its length

        def do_GET(self) -> None:
            _answer(self, server)

        def do_POST(self) -> None:
            _answer(self, server)

        def log_message(self, *_args: object) -> None:
            """Stay silent."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: object) -> None:
            """A client that hangs up is no news."""

    with Quiet(("127.0.0.1", 0), Handler) as http:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            http.socket = context.wrap_socket(http.socket, server_side=True)
        scheme = "https" if tls else "http"
        server = GitServer(url=f"{scheme}://127.0.0.1:{http.server_address[1]}", root=root)
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, server: GitServer) -> None:
    authorization = handler.headers.get("Authorization")
    server.requests.append(handler.path)
    server.authorizations.append(authorization)
    expected = server.login and f"Basic {base64.b64encode(server.login.encode()).decode()}"
    if server.redirect_to is not None:
        _reply(handler, 301, Location=server.redirect_to + handler.path)
    elif expected and authorization != expected:
        _reply(handler, 401, WWW_Authenticate='Basic realm="git"')
    elif server.is_dumb:
        path = server.root / handler.path.partition("?")[0].lstrip("/")
        content = path.read_bytes() if path.is_file() else None
        _reply(handler, 404 if content is None else 200, content or b"")
    else:
        _run_backend(handler, server.root)


def _reply(
    handler: BaseHTTPRequestHandler, status: int, content: bytes = b"", **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def _run_backend(handler: BaseHTTPRequestHandler, root: Path) -> None:
    path, _, query = handler.path.partition("?")
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    env = _ENV | {
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": handler.command,
        "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
    }
    done = subprocess.run(
        ["git", "http-backend"], env=env, input=body, capture_output=True, check=False
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
    status = int(headers.pop("Status", "200")[:3])
    _reply(handler, status, content, **headers)
