"""The proving ground: a folder with pipelines and a state, and a daemon there that may die.

The daemon is `tailrace serve` in a process of its own, as users start it, on a
free port of the loopback interface, with settings of its own. It is asked over
TCP; while it is away whoever asks tries again until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from tailrace import wire
from tailrace.prove.proof import Ledger, ProofError
from tailrace.rundir.control import send_command
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.lock import is_held

FINAL: Final = ("success", "error", "aborted")

_NOTHING: Final = "nothing"  # a pipeline that every ground has
_START_S: Final = 30.0  # a daemon's start; on a loaded machine it may take seconds
_AWAY_S: Final = 60.0  # for which whoever asks is patient
_STOP_S: Final = 30.0  # a stop by SIGTERM
_RUN_S: Final = 60.0  # no run here takes nearly as long: one that does is stuck
_PAUSE_S: Final = 0.02
_POLITE_S: Final = 10.0  # for runs to end that are cancelled when all is over

# What would tell our daemon of somebody else's: settings, credentials, a service manager.
_FOREIGN: Final = (
    "TAILRACE_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "FDSTORE",
    "STATE_DIRECTORY", "XDG_STATE_HOME",
)  # fmt: skip

_UNREACHED: Final = (aiohttp.ClientError, ConnectionError, TimeoutError, OSError)


class Ground:
    """An async context manager: when it is left, everything that was started is ended."""

    def __init__(
        self,
        folder: Path,
        pipelines: Mapping[str, str],
        *,
        secrets: Mapping[str, str] | None = None,
        settings: str = "",
    ) -> None:
        self.folder = folder
        self.state = StateDir(folder / "state")
        self.log = folder / "daemon.log"
        self.url = ""
        self.pid = 0
        self.ready = asyncio.Event()  # cleared while the daemon is away
        self._pipelines = pipelines
        self._secrets = dict(secrets or {})
        self._settings = settings
        self._token = ""
        self._process: asyncio.subprocess.Process | None = None
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Ground:
        """Lay the folder out; no daemon is started yet."""
        (self.folder / "pipelines").mkdir(parents=True)
        pipelines = {_NOTHING: "steps:\n  nothing:\n    run: ':'\n", **self._pipelines}
        for name, text in pipelines.items():
            (self.folder / "pipelines" / f"{name}.yaml").write_text(text)
        # Our runs need a few megabytes; whether the disk has 2 GiB is no matter here.
        settings = f"limits: {{min_free: 1M}}\nlog: {{format: json}}\n{self._settings}"
        (self.folder / "tailrace.yaml").write_text(settings)
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=1 << 20,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """End the daemon, then every runner; whoever looks for survivors has looked before."""
        assert self._client is not None
        await self._client.close()
        if self._process is not None and self._process.returncode is None:
            await self.kill(signal.SIGTERM if exc is None else signal.SIGKILL)
        await asyncio.gather(*(_end_runner(run) for run in self.runs()))

    # ---- the daemon's life ---------------------------------------------------------------------

    async def start(self) -> None:
        """Start the daemon and wait until it serves.

        Raises:
            ProofError: it ended, or didn't serve in time; with what it said last.
        """
        await self.spawn()
        await self.served()

    async def spawn(self) -> None:
        """Start the daemon's process."""
        self.state.address.unlink(missing_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        secrets = {f"TAILRACE_SECRET_{name}": value for name, value in self._secrets.items()}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "tailrace.cli.main", "serve"),
                *("--listen", "127.0.0.1:0", *self.options),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                env={**kept, **secrets}, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    @property
    def options(self) -> tuple[str, ...]:
        """What makes the command line use this ground and no other."""
        return (
            *("--config", str(self.folder / "tailrace.yaml"), "--state", str(self.state.path)),
            *("--pipelines", str(self.folder / "pipelines")),
        )

    async def served(self) -> None:
        """Wait until the daemon that was spawned serves.

        Raises:
            ProofError: as `start`.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.returncode is not None:
                break
            if await self._answers():
                self.ready.set()
                return
            await asyncio.sleep(_PAUSE_S)
        raise ProofError(f"the daemon doesn't start:\n{self._last_words()}")

    async def _answers(self) -> bool:
        try:
            self.url = f"http://{self.state.address.read_text().strip()}"
            self._token = self.state.token.read_text().strip()
            status, _ = await self._ask("GET", "/readyz")
        except (*_UNREACHED, ValueError):
            return False
        return status == 200

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    async def kill(self, number: signal.Signals) -> None:
        """End the daemon by a signal and wait until it is gone.

        Raises:
            ProofError: SIGTERM doesn't end it.
        """
        assert self._process is not None
        self.ready.clear()
        if self._process.returncode is not None:
            raise ProofError(f"the daemon ended by itself:\n{self._last_words()}")
        self._process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise ProofError(f"the daemon didn't end within {_STOP_S:.0f} s of SIGTERM") from None

    # ---- asking it -----------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> tuple[int, Any]:
        """Ask for JSON below ``/api/v1``, again while the daemon is away; return status and answer.

        Raises:
            ProofError: it stays away.
        """
        deadline = time.monotonic() + _AWAY_S
        while True:
            try:
                status, data = await self._ask(method, f"/api/v1{path}", body, key=key)
                return status, json.loads(data) if data else None
            except _UNREACHED as exc:
                if time.monotonic() > deadline:
                    raise ProofError(f"the daemon stays away: {exc}") from None
            await asyncio.sleep(_PAUSE_S)

    async def _ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> tuple[int, bytes]:
        headers = {"Idempotency-Key": key} if key else {}
        async with self.request(method, path, json=body, headers=headers) as answer:
            return answer.status, await answer.read()

    @asynccontextmanager
    async def request(
        self, method: str, path: str, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask the daemon that served last, once."""
        assert self._client is not None
        headers = {"Authorization": f"Bearer {self._token}", **more.pop("headers", {})}
        async with self._client.request(method, self.url + path, headers=headers, **more) as answer:
            yield answer

    async def submit(
        self, pipeline: str, params: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> str:
        """Start a run; return its id.

        Raises:
            ProofError: it is refused.
        """
        body = {"pipeline": pipeline, "params": dict(params or {})}
        status, answer = await self.ask("POST", "/runs", body, key=key)
        if status not in (200, 201):
            raise ProofError(f"POST /runs is refused with {status}: {answer}")
        return str(answer["id"])

    async def view(self, run_id: str) -> dict[str, Any]:
        """Return a run as the daemon tells it."""
        _, answer = await self.ask("GET", f"/runs/{run_id}")
        assert isinstance(answer, dict)
        return answer

    async def list_runs(self) -> list[dict[str, Any]]:
        """Return all runs as the daemon lists them."""
        rows: list[dict[str, Any]] = []
        more = ""
        while True:
            _, page = await self.ask("GET", f"/runs?limit=100{more}")
            rows += page["runs"]
            if not page["next_cursor"]:
                return rows
            more = f"&cursor={quote(page['next_cursor'], safe='')}"

    # ---- the runs ------------------------------------------------------------------------------

    def runs(self) -> list[RunDir]:
        """Return the folders of all runs."""
        with contextlib.suppress(FileNotFoundError):
            return [RunDir(path) for path in sorted(self.state.runs.iterdir())]
        return []

    async def containment(self) -> str:
        """Return what a run of nothing is told of its containment."""
        run = self.state.run(await self.submit(_NOTHING))
        await self.left(run)
        for line in run.journal.read_bytes().splitlines():
            event = json.loads(line)
            if event["event"] == "started":
                return str(event["containment"])
        raise ProofError("a run of nothing didn't start")

    async def left(self, run: RunDir) -> None:
        """Wait until a run that has ended is in nobody's hands: its runner is gone."""
        await until(lambda: not is_held(run.lock))


async def until(holds: Callable[[], bool], *, within_s: float = _RUN_S) -> bool:
    """Wait until it holds; return whether it does."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_PAUSE_S)
    return True


async def pid_of_runner(run: RunDir) -> int | None:
    """Return the pid of a run's runner, as it says itself; None where none answers."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        return (await send_command(run, wire.Command(command="hello"))).pid
    return None


async def _end_runner(run: RunDir) -> None:
    """Have a runner end its run, which ends the run's processes; kill it where it doesn't."""
    if not is_held(run.lock) or (pid := await pid_of_runner(run)) is None:
        return
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if await until(lambda: not is_held(run.lock), within_s=_POLITE_S / 2):
            return


def tell_containment(ledger: Ledger, events: list[dict[str, Any]]) -> None:
    """Write down what a run's `started` event says of its containment."""
    ledger.containments |= {str(e["containment"]) for e in events if e["event"] == "started"}
