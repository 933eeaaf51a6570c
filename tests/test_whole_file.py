"""Files that somebody asked for by name."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tailrace.whole_file import written_whole


def test_a_file_changes_when_all_of_it_is_there(tmp_path: Path) -> None:
    """Until then its readers have the old one; nothing else is left in the folder."""
    path = tmp_path / "report.html"
    path.write_text("old")
    with written_whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def write_half(path: Path) -> None:
    """Begin to write, and fail."""
    with written_whole(path) as file:
        file.write(b"ne")
        raise OSError("torn")


def test_a_file_stays_as_it_was_when_writing_fails(tmp_path: Path) -> None:
    """Be it that there was one or none."""
    (tmp_path / "old").write_text("old")
    for name in ("old", "none"):
        with pytest.raises(OSError, match="torn"):
            write_half(tmp_path / name)
    assert [found.name for found in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    """The file that it leads to changes, as with a shell's redirection."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with written_whole(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """``-o /dev/null`` as root must leave the machine its /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with written_whole(pipe) as file:
        file.write(b"through")
    reader.join()
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(IsADirectoryError), written_whole(tmp_path):
        pass
