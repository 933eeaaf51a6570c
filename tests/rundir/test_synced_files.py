"""A synced file is the earlier one or all of the new one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from disks import small_disk
from tailrace.rundir.disk import write_synced


def test_a_file_that_finds_no_room_leaves_the_earlier_one(tmp_path: Path) -> None:
    """And nothing of itself, which would take room from what must be written yet."""
    with small_disk(tmp_path / "disk", "64k") as place:
        path = place / "outputs.json"
        write_synced(path, b"earlier")

        with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is looked at below
            write_synced(path, b"x" * (1 << 20))

        assert caught.value.errno == errno.ENOSPC
        assert [item.name for item in place.iterdir()] == [path.name]
        assert path.read_bytes() == b"earlier"
        assert path.stat().st_mode & 0o777 == 0o600
