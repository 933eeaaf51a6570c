"""A daemon as users start it: `tailrace serve` in a process of its own, on a free port."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from runs import eventually
from tailrace.rundir.layout import StateDir


@dataclass
class Daemon:
    """A running daemon and a client of its API."""

    state: StateDir
    url: str
    token: str
    process: asyncio.subprocess.Process
    client: aiohttp.ClientSession
    log: Path
    ended: list[str] = field(default_factory=list)

    async def get(self, path: str, **more: Any) -> Any:
        """GET a JSON document below ``/api/v1``."""
        async with self.client.get(f"{self.url}/api/v1{path}", **more) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def start(self, pipeline: str, **params: Any) -> dict[str, Any]:
        """Start a run; return it as the API tells it."""
        body = {"pipeline": pipeline, "params": params}
        async with self.client.post(f"{self.url}/api/v1/runs", json=body) as answer:
            assert answer.status == 201, await answer.text()
            run: dict[str, Any] = await answer.json()
            return run

    async def end_runs(self) -> None:
        """Cancel what goes on, and wait for its end: the daemon's stop would leave it."""
        for run in (await self.get("/runs"))["runs"]:
            if run["finished_at"] is None:
                path = f"{self.url}/api/v1/runs/{run['id']}/cancel"
                async with self.client.post(path) as answer:
                    assert answer.status in (202, 409), await answer.text()
                await self.until_final(run["id"])

    async def until_final(self, run_id: str) -> dict[str, Any]:
        """Follow a run to its end; return it."""
        async with self.client.get(f"{self.url}/api/v1/runs/{run_id}/events") as stream:
            await stream.read()
        run: dict[str, Any] = await self.get(f"/runs/{run_id}")
        return run


NO_SHAPES: Final = {"TAILRACE_MASKING__SHAPES": "false"}
SHAPES: Final = {"TAILRACE_MASKING__SHAPES": "true"}


@asynccontextmanager
async def serving(
    folder: Path,
    pipelines: Mapping[str, str],
    *,
    env: Mapping[str, str] | None = None,
    settings: str = "",
    args: Sequence[str] = (),
) -> AsyncIterator[Daemon]:
    """Serve *pipelines* (name to YAML) from a state folder below *folder* until the block ends.

    Without the shipped token shapes, which take each process 0.1 s to compile: a
    test that looks for tokens says ``env=SHAPES``.
    """
    state = StateDir(folder / "state")
    (folder / "pipelines").mkdir(exist_ok=True)
    for name, text in pipelines.items():
        (folder / "pipelines" / f"{name}.yaml").write_text(text)
    config = folder / "tailrace.yaml"
    config.write_text("limits: {min_free: 1K}\n" + settings)
    state.address.unlink(missing_ok=True)
    log = folder / "daemon.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tailrace.cli.main", "serve", "--listen", "127.0.0.1:0",
            "--state", str(state.path), "--pipelines", str(folder / "pipelines"),
            "--config", str(config), *args,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **NO_SHAPES, **(env or {})},
        )  # fmt: skip
    try:
        await eventually(
            lambda: state.address.exists() or process.returncode is not None, within_s=30
        )
        assert process.returncode is None, log.read_text()
        token = state.token.read_text().strip()
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=1 << 22,
        ) as client:
            url = f"http://{state.address.read_text().strip()}"
            yield Daemon(state, url, token, process, client, log)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
