"""Listening: TCP and the Unix socket in one loop, and what tells others where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from tailrace.errors import InvalidInputError, Problem
from tailrace.http.app import make_app
from tailrace.http.keys import HERE, Here, Worker
from tailrace.http.malformed import answer_malformed_with_problems
from tailrace.settings import Settings
from tailrace.settings_check import parse_listen
from tailrace.store.tokens import TokenStore

_BACKLOG: Final = 4096  # as much as listen(2) takes by default; who restarts lets many wait
_LINGER_S: Final = 0.25  # a request that is on its way to an open connection arrives within this
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a daemon listens."""

    address: str  # HOST:PORT that a client on this machine can reach
    base_url: str  # of the page and the API
    login_url: str  # the page's address with the first token in it: for a terminal, never a log
    sockets: tuple[Path, ...]  # the Unix sockets, our own last
    here: Here

    @property
    def socket(self) -> Path:
        """Our own Unix socket."""
        return self.sockets[-1]

    def reload(self, settings: Settings) -> None:
        """Answer by other settings from the next request on; it goes on listening where it is."""
        self.here.settings = settings


@contextlib.asynccontextmanager
async def serving(
    worker: Worker, settings: Settings, handed: Sequence[socket.socket] = ()
) -> AsyncIterator[Server]:
    """Serve until the context is left; ``<state>/address`` says where meanwhile.

    *handed* are sockets that listen already and belong to a service manager,
    which keeps them when we go. A TCP one stands for the setting ``listen``;
    Unix ones are served besides our own. Nobody who connects to them while we
    are away, or who is served when we go, is refused.

    Authentication is always on, so an address beyond loopback needs no switch
    to be safe; what is refused, wherever we listen, is a ``<state>/token`` that
    others can read, because then it would be on by name only.

    Raises:
        InvalidInputError: ``listen`` is no address or can't be had, another
            daemon holds the Unix socket, or the token's file is open to others.
    """
    state = worker.state
    server_logger.addFilter(_shorten_malformed)
    answer_malformed_with_problems()
    with contextlib.ExitStack() as opened:
        for each in handed:
            opened.callback(each.close)
        tokens = TokenStore(state.state_db)
        opened.callback(tokens.close)
        token = tokens.ensure_first(state, now=time.time())
        unix = {
            Path(os.fsdecode(each.getsockname())): each
            for each in handed
            if each.family == socket.AF_UNIX
        }
        own = Path(settings.socket) if settings.socket else state.socket
        unix[own] = unix.pop(own) if own in unix else opened.enter_context(_listen_unix(own))
        tcp = [each for each in handed if each.family != socket.AF_UNIX]
        host, port = tcp[0].getsockname()[:2] if tcp else _address(settings.listen)
        if not tcp:
            tcp = [opened.enter_context(_listen_tcp(host, port))]
        app = make_app(worker, settings, tokens)
        here = app[HERE]
        here.host, here.port = host, tcp[0].getsockname()[1]
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=5,
            auto_decompress=False,  # compressed bodies are refused, not unpacked
        )  # fmt: skip
        await runner.setup()
        try:
            for each in (*tcp, *unix.values()):
                await web.SockSite(runner, each, backlog=_BACKLOG).start()
            shown = _WILDCARDS.get(host, host)
            address = f"[{shown}]:{here.port}" if ":" in shown else f"{shown}:{here.port}"
            opened.enter_context(_told(state.address, address))
            base = (settings.public_url or f"http://{address}").rstrip("/")
            yield Server(
                address=address, base_url=base, login_url=f"{base}/?token={token}",
                sockets=tuple(unix), here=here,
            )  # fmt: skip
        finally:
            if handed:
                here.draining = True
                await _drain(tcp + list(unix.values()))
            await runner.cleanup()


async def _drain(listeners: Sequence[socket.socket]) -> None:
    """Accept nobody more, and leave open connections time for a request that is on its way.

    Who connects from now on waits for the next daemon. Only the client knows
    whether it is about to ask on an open connection; each answer closes its
    connection from now on, and the others are left some time.

    The listeners stay open meanwhile: asyncio fails a connection that it has
    just accepted when its server is closed in the same moment.
    """
    loop = asyncio.get_running_loop()
    for each in listeners:
        loop.remove_reader(each)
    await asyncio.sleep(_LINGER_S)


def _shorten_malformed(record: logging.LogRecord) -> bool:
    """Keep a request that isn't HTTP to one line of the log.

    It is the client's mistake, not ours, and its text may hold a token.
    """
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "malformed request", ()
    return True


def _address(listen: str) -> tuple[str, int]:
    try:
        return parse_listen(listen)
    except ValueError as exc:
        raise _refused("listen", f"'{listen}' is no address", str(exc)) from None


@contextlib.contextmanager
def _listen_tcp(host: str, port: int) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    except OSError as exc:
        raise _refused(
            "listen", f"{host}: {exc.strerror}", "name an address of this machine"
        ) from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(address)
        except OSError as exc:
            hint = "choose another port, or 0 to have one picked"
            raise _refused("listen", f"{host}:{port}: {exc.strerror}", hint) from None
        listener.setblocking(False)
        yield listener


@contextlib.contextmanager
def _listen_unix(path: Path) -> Iterator[socket.socket]:
    """Bind the Unix socket, mode 0660, in place of one that nobody listens on any more."""
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _refused("socket", f"{path.parent}: {exc.strerror}", "make that folder") from None
    # Through the folder's descriptor: an address holds 107 bytes (unix(7)).
    name = f"/proc/self/fd/{folder}/{path.name}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if _answers(name):
            raise _refused("socket", f"a daemon listens on {path} already", "stop that one first")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=folder)
        try:
            # The file gets the socket's own mode, less the umask: at no moment is it open to all.
            os.fchmod(listener.fileno(), 0o660)
            listener.bind(name)
            os.chmod(path.name, 0o660, dir_fd=folder)
        except OSError as exc:
            raise _refused("socket", f"{path}: {exc.strerror}", "choose another place") from None
        listener.setblocking(False)
        made = os.stat(path.name, dir_fd=folder).st_ino
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):  # a disk that failed must not fail the stop
                if os.stat(path.name, dir_fd=folder).st_ino == made:
                    os.unlink(path.name, dir_fd=folder)
    finally:
        listener.close()
        os.close(folder)


def _answers(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(name)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _told(path: Path, address: str) -> Iterator[None]:
    """Keep the address in its file, whole at any moment, while the context lives."""
    new = path.with_name(".address")
    new.write_text(address + "\n")
    new.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a disk that failed must not fail the stop
            if path.read_text().strip() == address:
                path.unlink()


def _refused(where: str, problem: str, hint: str) -> InvalidInputError:
    return InvalidInputError([Problem(where, problem, hint)])
