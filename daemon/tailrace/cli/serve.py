"""``tailrace serve`` and ``open``: the daemon, and its page in a browser."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING

import click

from tailrace.cli.main import global_options
from tailrace.cli.session import Session, current, run_async
from tailrace.cli.signals import Signals

if TYPE_CHECKING:
    from tailrace.http.server import Server
    from tailrace.settings import Settings
    from tailrace.worker.secrets import SecretStore
    from tailrace.worker.worker import Worker


@click.command()
@click.option("--listen", metavar="ADDR", help="HOST:PORT; port 0 picks one.")
@global_options
def serve(listen: str | None) -> None:
    """Start the daemon: queue, HTTP and page.

    It stops on SIGTERM and Ctrl-C, and leaves the runs that are under way to
    their runners: the next daemon takes them up again. SIGHUP reads the
    settings again, all but where it listens and its state folder.
    """
    with Signals() as signals:
        import msgspec

        from tailrace.logs import set_up_logs
        from tailrace.undumpable import become_undumpable

        session = current()
        settings = session.settings
        if listen is not None:
            settings = msgspec.structs.replace(settings, listen=listen)
        set_up_logs(settings.log)
        become_undumpable()
        run_async(_serve(session, settings, signals))


async def _serve(session: Session, settings: Settings, signals: Signals) -> None:
    import structlog

    from tailrace.http.server import serving
    from tailrace.worker.secrets import SecretStore
    from tailrace.worker.worker import Worker

    log = structlog.get_logger(__name__)
    secrets = SecretStore.take(settings, os.environ)
    async with contextlib.AsyncExitStack() as stack:
        worker = Worker(session.state(), settings, session.catalog(), secrets)
        await stack.enter_async_context(worker)
        server = await stack.enter_async_context(serving(worker, settings))
        await worker.begin(server.base_url)
        log.info("listening", address=server.address, socket=str(server.socket))
        _greet(server)
        tell_systemd("READY=1")
        while await signals.next() == "reload":
            _reload(session, settings.listen, worker, server, secrets)
        tell_systemd("STOPPING=1")
        log.info("stopping")


def _reload(
    session: Session, listen: str, worker: Worker, server: Server, secrets: SecretStore
) -> None:
    """Work by the settings as they are now; mistakes in them change nothing."""
    import msgspec
    import structlog

    from tailrace.errors import TailraceError

    log = structlog.get_logger(__name__)
    try:
        settings = msgspec.structs.replace(session.read_settings(), listen=listen)
        worker.reload(settings, session.catalog(), secrets.renewed(settings))
    except TailraceError as exc:
        log.error("settings_not_read", reason=str(exc))
        return
    server.reload(settings)
    log.info("settings_read")


def _greet(server: Server) -> None:
    """Tell the person at the terminal where the page is; never a journal: a token is in it."""
    if sys.stdout.isatty():
        click.echo(f"\n  The page: {server.login_url}\n  Ctrl-C stops the daemon; runs go on.\n")


def tell_systemd(state: str) -> None:
    """Tell the service manager, if there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address[0] == "@":  # abstract: unix(7)
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
    ):
        notify.sendto(state.encode(), address)


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
    from tailrace.errors import UnreachableError

    if session.url:
        token = os.environ.get("TAILRACE_TOKEN")
        return f"{session.url.rstrip('/')}/" + (f"?token={token}" if token else "")
    state = session.state()
    try:
        address = state.address.read_text().strip()
        token = state.token.read_text().strip()
    except FileNotFoundError:
        raise UnreachableError(
            f"no daemon runs on {state.path}; start one with `tailrace serve`"
        ) from None
    base = session.settings.public_url or f"http://{address}"
    return f"{base.rstrip('/')}/?token={token}"
