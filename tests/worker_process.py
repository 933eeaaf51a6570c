"""A daemon's worker as a process of its own, to be killed: ``worker_process.py FOLDER PIPELINE…``.

Submits one run of each pipeline, prints their ids, one a line, and waits. It
dies by SIGKILL where TAILRACE_TEST_DIE says: ``making`` a run's folder, when
one is ``accepted``, or when its runner was ``spawned``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailrace.worker.lives import Lives
from tailrace.worker.spawn import ForkServer
from tailrace.worker.submission import Submission
from yard import Yard


def die(*_: Any, **__: Any) -> Any:
    """In place of a function that would go on."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying_after(spawn: Callable[..., Any]) -> Callable[..., Any]:
    """A spawn whose result nobody hears of."""

    async def spawned(*arguments: Any) -> None:
        await spawn(*arguments)
        die()

    return spawned


async def main() -> None:
    """Serve until killed."""
    match os.environ.get("TAILRACE_TEST_DIE"):
        case "making":
            Path.rename = die  # type: ignore[method-assign]  # this process is for dying
        case "accepted":
            Lives.start = die  # type: ignore[method-assign]  # likewise
        case "spawned":
            ForkServer.spawn = dying_after(ForkServer.spawn)  # type: ignore[method-assign]  # likewise
    yard = Yard(Path(sys.argv[1]))
    async with yard.worker() as worker:
        for pipeline in sys.argv[2:]:
            started = await worker.submit(Submission(pipeline=pipeline))
            sys.stdout.write(f"{started.run_id}\n")
            sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
