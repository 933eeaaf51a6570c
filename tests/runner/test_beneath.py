"""Opening what a step has left."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.globs import Globs, parse_glob
from tailrace.runner.beneath import Tree, Walk, open_file


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """Give the tree of a fresh folder."""
    with contextlib.closing(Tree(tmp_path)) as tree:
        yield tree


def test_a_regular_file_is_opened(tree: Tree, tmp_path: Path) -> None:
    """For reading, and no program started later inherits it."""
    (tmp_path / "file").write_bytes(b"data")
    fd = open_file(tree.folder(()), "file")
    with open(fd, "rb") as file:
        assert file.read() == b"data"
        assert not os.get_inheritable(fd)


@pytest.mark.parametrize("kind", ["link", "fifo", "socket", "folder", "device"])
def test_nothing_else_is_opened_and_nothing_hangs(tree: Tree, tmp_path: Path, kind: str) -> None:
    """Each with the same reason."""
    folder = tree.folder(())
    name = "thing"
    with socket.socket(socket.AF_UNIX) as listener:
        match kind:
            case "link":
                (tmp_path / "file").write_bytes(b"data")
                (tmp_path / name).symlink_to("file")
            case "fifo":
                os.mkfifo(tmp_path / name)
            case "socket":
                listener.bind(f"/proc/self/fd/{folder}/{name}")
            case "folder":
                (tmp_path / name).mkdir()
            case "device":
                folder, name = os.open("/dev", os.O_RDONLY), "null"
        with pytest.raises(OSError, match="not a regular file"):
            open_file(folder, name)
    if kind == "device":
        os.close(folder)


def test_folders_are_made_and_found_again(tree: Tree, tmp_path: Path) -> None:
    """Whatever the order in which they are asked for."""
    for parts in [("a", "b"), ("a",), ("a", "b", "c"), ("d",), ("a", "b"), ()]:
        status = os.fstat(tree.folder(parts, make=True))
        assert os.path.samestat(status, tmp_path.joinpath(*parts).stat())
    with pytest.raises(FileNotFoundError):
        tree.folder(("missing",))
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(NotADirectoryError):
        tree.folder(("link",), make=True)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc"])
def test_no_name_leads_out_of_the_tree(tree: Tree, name: str) -> None:
    """Whoever asks."""
    with pytest.raises(ValueError, match="no name"):
        tree.folder((name,))


def test_a_walk_meets_files_before_folders_and_both_by_name(tree: Tree, tmp_path: Path) -> None:
    """So that two walks agree, and limits leave out what lies deep."""
    for path in ["b/y", "b/x/z", "a", "c", "b/z", "aa/q"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = Walk().files(tree, (), Globs([parse_glob("**")]))
    assert ["/".join(one.parts) for one in found] == ["a", "c", "aa/q", "b/y", "b/z", "b/x/z"]
