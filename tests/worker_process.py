"""A daemon's worker as a process of its own, to be killed: ``worker_process.py FOLDER PIPELINE…``.

Submits one run of each pipeline, prints their ids, one a line, and waits.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tailrace.worker.submission import Submission
from yard import Yard


async def main() -> None:
    """Serve until killed."""
    yard = Yard(Path(sys.argv[1]))
    async with yard.worker() as worker:
        for pipeline in sys.argv[2:]:
            started = await worker.submit(Submission(pipeline=pipeline))
            sys.stdout.write(f"{started.run_id}\n")
            sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
