"""What a command works with: settings, state folder, and where the runs are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from tailrace.cli.main import Globals
from tailrace.socket_path import short_path

if TYPE_CHECKING:
    from tailrace.cli.source import Source
    from tailrace.client import Client
    from tailrace.pipeline.catalog import Catalog
    from tailrace.rundir.layout import StateDir
    from tailrace.settings import Settings

T = TypeVar("T")

SYSTEM_SOCKET: Final = Path("/run/tailrace/daemon.sock")


class Session:
    """The options of one call, and what follows from them, looked up when it is asked for."""

    def __init__(self, options: Globals) -> None:
        self._options = options
        self.as_json = options.as_json
        self._settings: Settings | None = None

    @property
    def url(self) -> str | None:
        """The daemon's address that was given, if one was."""
        return self._options.url or os.environ.get("TAILRACE_URL") or None

    @property
    def settings(self) -> Settings:
        """The settings, as file, environment and options have them."""
        return self.read_settings() if self._settings is None else self._settings

    def read_settings(self) -> Settings:
        """Read the settings, again where they were read before.

        Raises:
            InvalidInputError: they have mistakes; those read before go on to hold.
        """
        from tailrace.settings_file import load_settings

        self._settings = load_settings(
            self._options.config,
            os.environ,
            state_dir=self._options.state,
            pipelines_dir=self._options.pipelines,
        )
        return self._settings

    def state(self) -> StateDir:
        """Return the state folder, made where it is missing."""
        from tailrace.store.state import open_state

        return open_state(self.state_path(), tell=lambda what: click.echo(what, err=True))

    def own_state(self) -> StateDir:
        """Return the state folder for what no daemon is asked for.

        Raises:
            click.UsageError: ``--url`` was given. The variable doesn't count: it may well name
                the daemon of this folder.
        """
        if self._options.url:
            raise click.UsageError(
                "it works on a state folder of this machine, never on another daemon's; leave "
                "--url out, or call it where that daemon runs"
            )
        return self.state()

    def refuse(self, why: str, *options: Literal["--url", "--state"]) -> None:
        """Refuse options that would mean nothing to this command.

        Raises:
            click.UsageError: one was given; variables don't count.
        """
        for option in options:
            if getattr(self._options, option.removeprefix("--")):
                raise click.UsageError(f"{option} means nothing here: {why}; leave it out")

    def state_path(self) -> Path:
        """Return where the state folder is, or would be made."""
        from tailrace.settings import state_dir

        return state_dir(self.settings, os.environ)

    def catalog(self) -> Catalog:
        """Return the pipelines' folder."""
        from tailrace.pipeline.catalog import Catalog

        folder = self.pipelines_dir()
        here = folder.is_relative_to(Path.cwd())
        return Catalog(folder, display=os.path.relpath(folder) if here else None)

    def pipelines_dir(self) -> Path:
        """Return the pipelines' folder, absolute."""
        from tailrace.settings import pipelines_dir

        return pipelines_dir(self.settings)

    @contextlib.asynccontextmanager
    async def source(self, *, local: bool = False) -> AsyncIterator[Source]:
        """Give the daemon that answers, or where there is none (or with *local*) the run folders.

        First ``--url``, then the state folder's socket, then the system's.
        """
        if not local and self.url:
            async with self._daemon(self.url) as daemon:
                yield daemon
            return
        found = None if local else self.own_socket()
        if found is not None:
            async with self._daemon(found) as daemon:
                yield daemon
            return
        from tailrace.cli.folders import Folders

        async with Folders(self.state(), self.settings, self.catalog()) as folders:
            yield folders

    def own_socket(self) -> Path | None:
        """Return the Unix socket that a daemon answers on, or None."""
        own = Path(self.settings.socket or self.state_path() / "daemon.sock")
        for path in (own, SYSTEM_SOCKET):
            if _answers(path):
                return path
        return None

    @contextlib.asynccontextmanager
    async def _daemon(self, where: str | Path) -> AsyncIterator[Source]:
        from tailrace.cli.remote import Remote

        async with self.client(where) as client:
            yield Remote(client)

    def client(self, where: str | Path) -> Client:
        """Return a client of the daemon at a URL or a socket."""
        from tailrace.client import Client

        token = os.environ.get("TAILRACE_TOKEN") or None
        return Client(where, token=token if isinstance(where, str) else None)


def _answers(path: Path) -> bool:
    """Whether somebody listens on a Unix socket; one that a crash left behind is nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            with short_path(path) as name:
                probe.connect(name)
        except OSError:
            return False
    return True


def current() -> Session:
    """Return the session of the command that is being run."""
    return Session(click.get_current_context().ensure_object(Globals))


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part."""
    return asyncio.run(work)
