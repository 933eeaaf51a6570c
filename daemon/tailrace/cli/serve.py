"""``tailrace serve`` and ``open``: the daemon, and its page in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

import click

from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async
from tailrace.cli.signals import Signals

if TYPE_CHECKING:
    from tailrace.http.server import Server
    from tailrace.rundir.layout import StateDir
    from tailrace.settings import Settings
    from tailrace.systemd import ServiceManager
    from tailrace.worker.secrets import SecretStore
    from tailrace.worker.worker import Worker


@click.command()
@click.option("--listen", metavar="ADDR", help="HOST:PORT; port 0 picks one.")
@click.option(
    "--on-stop",
    type=click.Choice(["leave", "cancel"]),
    default="leave",
    help="What becomes of the runs under way when it stops.",
)
@global_options
def serve(listen: str | None, on_stop: str) -> None:
    """Start the daemon: queue, HTTP and page.

    It stops on SIGTERM and Ctrl-C, and leaves the runs that are under way to
    their runners: the next daemon takes them up again. SIGHUP reads the
    settings again; listen, public_url, socket, state_dir, limits.body and log
    hold until it is started anew, and where they differ its log says so.
    """
    with Signals() as signals:
        import msgspec

        from tailrace.logs import set_up_logs
        from tailrace.systemd import ServiceManager
        from tailrace.undumpable import become_undumpable

        manager = ServiceManager.take(os.environ)
        session = current()
        state = session.own_state()
        settings = session.settings
        if listen is not None:
            settings = msgspec.structs.replace(settings, listen=listen)
        set_up_logs(settings.log)
        become_undumpable()
        daemon = _Daemon(session, state, settings, signals, manager)
        run_async(daemon.serve(cancel=on_stop == "cancel"))


class _Daemon:
    """The daemon's life."""

    def __init__(
        self, session: Session, state: StateDir, settings: Settings, signals: Signals,
        manager: ServiceManager,
    ) -> None:  # fmt: skip
        self._session = session
        self._state = state
        self._settings = settings  # as they were at the start: where it listens stays
        self._read = session.settings  # likewise, without this call's options
        self._signals = signals
        self._manager = manager
        self._stopping = False
        self._trouble = ""  # with the settings, for the status line

    async def serve(self, *, cancel: bool) -> None:
        """Serve until a signal says otherwise; with *cancel* no run outlives it."""
        import structlog

        from tailrace.http.server import serving
        from tailrace.worker.secrets import SecretStore
        from tailrace.worker.worker import Worker

        log = structlog.get_logger(__name__)
        session, settings, manager = self._session, self._settings, self._manager
        secrets = SecretStore.take(settings, os.environ)
        async with contextlib.AsyncExitStack() as stack:
            worker = Worker(self._state, settings, session.catalog(), secrets)
            await stack.enter_async_context(worker)
            server = await stack.enter_async_context(serving(worker, settings, manager.sockets))
            await worker.begin(server.base_url)
            log.info("listening", address=server.address, socket=" ".join(map(str, server.sockets)))
            _greet(server)
            manager.tell(READY=1)
            async with asyncio.TaskGroup() as tasks:
                status = functools.partial(self._status, worker, server)
                telling = tasks.create_task(
                    manager.keep_told(status, lambda: self._stopping),
                    name="tell the service manager",
                )
                looking = tasks.create_task(self._examine(worker), name="examine")
                while await self._signals.next() == "reload":
                    manager.tell_reloading()
                    self._reload(worker, server, secrets)
                    manager.tell(READY=1)
                looking.cancel()
                self._stopping = True
                manager.tell(STOPPING=1)
                log.info("stopping")
                if cancel:
                    await worker.cancel_all("the daemon stops")
                await stack.aclose()
                telling.cancel()

    async def _examine(self, worker: Worker) -> None:
        """Log what the doctor finds, a line for the machine and one for each pipeline in need."""
        import structlog

        from tailrace.doctor.examination import UNENFORCED, examine

        log = structlog.get_logger(__name__)
        entries = worker.catalog.entries()
        try:
            report = await examine(
                worker.settings, worker.state, entries, worker.requirements, every_server=False
            )
        except Exception:  # a task's root: the daemon serves, examined or not
            log.exception("not_examined", hint="tailrace doctor")
            return
        found: dict[str | None, list[str]] = {}
        for check in report.checks:
            # A server is told by the pipelines that require it.
            if check.status == "problem" and not check.check.startswith("mcp."):
                found.setdefault(check.pipeline, []).append(f"{check.check}: {check.text}")
            if check.check == UNENFORCED:
                about = {"pipeline": check.pipeline} if check.pipeline else {}
                log.warning("unenforced", **about, what=check.text)
        for pipeline, problems in found.items():
            about = {"pipeline": pipeline} if pipeline else {}
            log.warning("requirements_unmet", **about, problems=problems, hint="tailrace doctor")

    def _status(self, worker: Worker, server: Server) -> str:
        live, queued = worker.counts()
        said = [
            "stopping" if self._stopping else "",
            " and ".join([server.address, *map(str, server.sockets)]),
            f"{live} {'run' if live == 1 else 'runs'} live, {queued} queued",
            self._trouble,
        ]
        return "; ".join(filter(None, said))

    def _reload(self, worker: Worker, server: Server, secrets: SecretStore) -> None:
        """Work by the settings as they are now; mistakes in them change nothing."""
        import msgspec
        import structlog

        from tailrace.errors import TailraceError
        from tailrace.settings import held_until_restart

        log = structlog.get_logger(__name__)
        try:
            read = self._session.read_settings()
            settings = msgspec.structs.replace(read, listen=self._settings.listen)
            worker.reload(settings, self._session.catalog(), secrets.renewed(settings))
        except TailraceError as exc:
            log.error("settings_not_read", reason=str(exc))
            self._trouble = "the settings on disk have mistakes, the earlier ones hold"
            return
        server.reload(settings)
        self._trouble = ""
        log.info("settings_read")
        if held := held_until_restart(self._read, read):
            log.warning("settings_held", keys=held, hint="they count once the daemon starts anew")


def _greet(server: Server) -> None:
    """Tell the person at the terminal where the page is; never a journal: a token is in it."""
    if sys.stdout.isatty():
        click.echo(f"\n  The page: {server.login_url}\n  Ctrl-C stops the daemon; runs go on.\n")


@click.command("open")
@global_options
def open_page() -> None:
    """Open the daemon's page in a browser.

    The address holds a token, so that you are logged in; it is printed only
    where no browser can be started, and only to a terminal.
    """
    from tailrace.cli.output import is_terminal, print_json, print_text
    from tailrace.errors import TailraceError

    session = current()
    url = _page(session)
    if session.as_json:
        print_json({"url": url})
        return
    import webbrowser

    if webbrowser.open(url):
        return
    if not is_terminal():
        raise TailraceError("no browser can be started here; `tailrace open --json` tells the URL")
    print_text(url)


def _page(session: Session) -> str:
    from tailrace.client.answers import checked
    from tailrace.errors import UnreachableError

    if session.url:
        _reach(checked(session.url))
        token = os.environ.get("TAILRACE_TOKEN")
        return f"{session.url.rstrip('/')}/" + (f"?token={token}" if token else "")
    state = session.state()
    try:
        address = state.address.read_text().strip()
    except FileNotFoundError:
        raise UnreachableError(
            f"no daemon runs on {state.path}; start one with `tailrace serve`"
        ) from None
    _reach(f"http://{address}")
    base = session.settings.public_url or f"http://{address}"
    return f"{base.rstrip('/')}/?token={_first_token(state, base)}"


def _first_token(state: StateDir, base: str) -> str:
    from tailrace.errors import UnreachableError
    from tailrace.store.tokens import TokenStore

    text = ""
    with contextlib.suppress(FileNotFoundError):
        text = state.token.read_text().strip()
    if text:
        with contextlib.closing(TokenStore(state.state_db)) as store:
            if store.find(text, now=time.time()) is not None:
                return text
    problem = "holds a token that isn't valid; remove it, and" if text else "is gone;"
    raise UnreachableError(
        f"{state.token} {problem} the daemon makes one when it starts; or set TAILRACE_TOKEN to "
        f"one that `tailrace token create` made, and call `tailrace open --url {base}`"
    )


def _reach(url: str) -> None:
    """Look whether somebody listens there: a browser would show a page of its own about it."""
    from urllib.parse import urlsplit

    from tailrace.client.answers import shown
    from tailrace.errors import UnreachableError

    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=10).close()
    except OSError as exc:
        raise UnreachableError(
            f"the daemon at {shown(url)} can't be reached: {exc.strerror or exc}; is it running?"
        ) from None
