"""Disks of a few megabytes: a tmpfs(5) of its own, which only root can mount."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
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


def make_read_only(place: Path, *, within_s: float = 20) -> None:
    """Mount a disk again, read-only; not before the last file on it that is written is closed."""
    deadline = time.monotonic() + within_s
    command = ["mount", "-o", "remount,ro", str(place)]
    while (done := subprocess.run(command, capture_output=True, check=False)).returncode != 0:
        assert time.monotonic() < deadline, done.stderr  # a runner outlives its last event a bit
        time.sleep(0.02)


# Tools of administrators aren't in everyone's PATH.
_ADMIN = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


class FailingDisk:
    """An ext4 of 24 MB in a file, mounted at ``place``."""

    def __init__(self, image: Path, place: Path) -> None:
        self._image, self._place = image, place

    def turn_read_only(self) -> None:
        """Fail as ext4 does on an error of its device: from now on nothing can be written."""
        subprocess.run(["mount", "-o", "remount,abort", str(self._place)], check=True)

    def repair(self) -> None:
        """Mount what was on it by then again, on a disk that works."""
        repaired = self._image.with_suffix(".repaired")
        shutil.copyfile(self._image, repaired)
        # Exit status 1 says that mistakes were found and mended.
        check = ["e2fsck", "-fy", str(repaired)]
        subprocess.run(check, check=False, capture_output=True, env=_ADMIN)
        subprocess.run(["umount", "--lazy", str(self._place)], check=True)
        subprocess.run(["mount", "-o", "loop", str(repaired), str(self._place)], check=True)


@contextmanager
def failing_disk(place: Path) -> Iterator[FailingDisk]:
    """Mount a disk that can be made to fail at *place*, made if it is missing; a context.

    Skips the calling test where this process can't, also where nothing may be
    skipped: no installation brings a machine the loop device that this needs.
    """
    place.mkdir(exist_ok=True)
    image = place.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(24 << 20)
    commands = (
        ["mkfs.ext4", "-q", "-E", "root_owner=0:0", str(image)],
        ["mount", "-o", "loop", str(image), str(place)],
    )
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=_ADMIN)
        except FileNotFoundError:
            pytest.skip(f"needs {command[0]}: install e2fsprogs and mount")
        if done.returncode != 0:
            pytest.skip(f"needs to mount a disk in a file: {done.stderr.strip()}")
    try:
        yield FailingDisk(image, place)
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
