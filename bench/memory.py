"""The memory of processes over time: sampled from a thread while something happens to them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from bench.usage import rss_mb

_EVERY_S = 0.1


@contextlib.contextmanager
def sampled(pids: Mapping[str, int]) -> Iterator[dict[str, list[float]]]:
    """Give lists that grow by the resident memory of each process, in MB, until the block ends."""
    samples: dict[str, list[float]] = {name: [] for name in pids}
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(_EVERY_S):
            for name, pid in pids.items():
                with contextlib.suppress(OSError, ValueError):  # it has ended
                    samples[name].append(rss_mb(pid))

    thread = threading.Thread(target=sample, name="memory")
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
