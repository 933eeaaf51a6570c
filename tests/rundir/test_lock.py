"""The lock of a run folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tailrace.rundir.lock import is_held, try_lock

HOLD = "import sys; print('holding', flush=True); sys.stdin.read()"


def test_only_one_can_hold_it(tmp_path: Path) -> None:
    """The second is refused at once and not made to wait."""
    path = tmp_path / "lock"
    fd = try_lock(path)
    assert fd is not None

    assert try_lock(path) is None
    assert is_held(path)
    os.close(fd)
    assert not is_held(path)


def test_it_passes_to_another_process_without_being_free_in_between(tmp_path: Path) -> None:
    """Inherited, it stays held when the giver closes its own copy, until the other dies."""
    path = tmp_path / "lock"
    fd = try_lock(path)
    assert fd is not None
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], pass_fds=(fd,), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    os.close(fd)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"holding\n"

    assert is_held(path)
    holder.kill()
    holder.communicate()
    assert not is_held(path)


def test_looking_at_it_does_not_take_it(tmp_path: Path) -> None:
    """Nor does it make a file that isn't there."""
    path = tmp_path / "lock"
    assert not is_held(path)
    assert not path.exists()

    fd = try_lock(path)
    assert fd is not None
    os.close(fd)
    assert not is_held(path)
    again = try_lock(path)
    assert again is not None
    os.close(again)
