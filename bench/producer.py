"""Steps' programs: they print what the benchmarks watch. Run as scripts, without the package.

``producer.py flood BYTES [SECRET]``: log-like lines as fast as the pipe takes them.
``producer.py trickle LINES GAP_S``: the time in nanoseconds, line by line.
``producer.py pace BYTES BYTES_PER_S FILE``: log-like lines at a steady rate, once FILE is there.
``producer.py stream LINES LINES_PER_S FILE``: numbered lines, once FILE is there.
``producer.py tell KIND EVENTS``: numbered events on the step's channel, as fast as it takes them.
"""

import os
import sys
import time


def flood(size: int, secret: str = "") -> None:
    """Print *size* bytes; every 200th line holds the secret."""
    lines = [
        f"2026-01-02T03:04:{i % 60:02d}.{i % 1000:03d}Z INFO  worker[{i % 7}] compiled "
        f"src/module_{i:05d}.c in {i % 97} ms{' with ' + secret if i % 200 == 0 else ''}\n"
        for i in range(6000)
    ]
    block = "".join(lines).encode()
    block = block[: block.rindex(b"\n", 0, 1 << 19) + 1]
    while size > 0:
        size -= os.write(1, block[:size] if size < len(block) else block)


def pace(size: int, bytes_per_s: float, go: str) -> None:
    """Print *size* bytes at a steady rate; what is late follows at once."""
    wait_for(go)
    block = b"2026-01-02T03:04:05Z INFO  compiled src/module.c in 12 ms, and nothing else\n" * 400
    began, written = time.monotonic(), 0
    while written < size:
        written += os.write(1, block)
        ahead = began + written / bytes_per_s - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


def wait_for(go: str) -> None:
    """Wait until a file is there."""
    while not os.path.exists(go):  # noqa: PTH110 - pathlib would take longer to import than all this
        time.sleep(0.005)


def trickle(lines: int, gap_s: float) -> None:
    """Print the time, *lines* times, with a pause after each."""
    for _ in range(lines):
        os.write(1, b"%d\n" % time.time_ns())
        time.sleep(gap_s)


def stream(lines: int, lines_per_s: float, go: str) -> None:
    """Print numbered lines at a steady rate; those that are late follow at once."""
    wait_for(go)
    began = time.monotonic()
    for number in range(1, lines + 1):
        os.write(1, b"line %d of a build that says something every millisecond\n" % number)
        ahead = began + number / lines_per_s - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


def tell(kind: str, events: int) -> None:
    """Write numbered events to ``$TAILRACE_EVENTS``."""
    with open(os.environ["TAILRACE_EVENTS"], "w") as channel:
        for number in range(events):
            channel.write(f'{{"event":"{kind}","text":"word {number}","done":{number}}}\n')


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "flood":
        flood(int(words[0]), *words[1:])
    elif what == "trickle":
        trickle(int(words[0]), float(words[1]))
    elif what == "pace":
        pace(int(words[0]), float(words[1]), words[2])
    elif what == "tell":
        tell(words[0], int(words[1]))
    else:
        stream(int(words[0]), float(words[1]), words[2])
