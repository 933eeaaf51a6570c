"""Disks of a few megabytes: a tmpfs(5) of its own, which only root can mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: str = "16M") -> Iterator[Path]:
    """Mount a disk of that size at *place*, made if it is missing, until the block ends.

    Skips the calling test where this process can't mount; fails it where nothing may be skipped.
    """
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        reason = f"needs to mount a small disk: {done.stderr.strip() or 'run it as root'}"
        if os.environ.get("TAILRACE_TEST_NO_SKIP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill_but(disk: Path, leave: int) -> Path:
    """Leave some bytes free; return the file that takes the others."""
    file = disk / "filler"
    with file.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return file


def fill(disk: Path) -> Path:
    """Leave not a byte free; return the file that takes it all."""
    file = disk / "filler"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(fd, bytes(size))
            except OSError:
                continue
    finally:
        os.close(fd)
    return file
