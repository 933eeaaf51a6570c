"""``python -m tailrace.runner RUN_FOLDER``: executes a run that was accepted and not started.

The hand-over is read from standard input as JSON (`tailrace.wire.Handover`);
nothing there counts as an empty one. Exit status: 0 success, 1 the run failed
or was aborted, 2 it can't be executed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from tailrace import wire
from tailrace.errors import TailraceError
from tailrace.runner.main import run
from tailrace.undumpable import become_undumpable


def main() -> int:
    """Read the arguments and the hand-over, and execute."""
    parser = argparse.ArgumentParser(prog="python -m tailrace.runner", description=__doc__)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--lock-fd", type=int, help="the run's lock, inherited")
    arguments = parser.parse_args()
    become_undumpable()  # steps run as the same user, and secrets are in this memory
    text = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        handover = msgspec.json.decode(text or b"{}", type=wire.Handover)
        return run(arguments.run_folder, arguments.lock_fd, handover)
    except msgspec.MsgspecError as exc:
        sys.stderr.write(f"tailrace.runner: standard input: not a hand-over: {exc}\n")
    except TailraceError as exc:
        sys.stderr.write(f"tailrace.runner: {exc}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
