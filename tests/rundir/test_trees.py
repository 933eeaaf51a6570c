"""Folders measured and removed, whatever a build left in them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.rundir.trees import measure, remove_tree


def deep(path: Path, levels: int) -> None:
    """Make folders in folders, with a file at the bottom; deeper than any path can name."""
    path.mkdir()
    folder = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("folder", dir_fd=folder)
        inner = os.open("folder", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    fd = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(fd, b"x" * 100_000)
    os.close(fd)
    os.close(folder)


def test_a_tree_of_any_depth_is_measured_and_removed(tmp_path: Path) -> None:
    """Neither the stack, nor a path's length, nor the number of descriptors is a bound."""
    deep(tmp_path / "tree", 3_000)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (120, before[1]))
    try:
        assert measure(tmp_path / "tree").bytes >= 100_000
        assert remove_tree(tmp_path / "tree")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    """To files, to folders, to what isn't there; and where the tree itself is one."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"x" * 50_000)
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner/up").symlink_to("..")
    (tree / "folder").symlink_to(outside)
    (tree / "file").symlink_to(outside / "kept")
    (tree / "nothing").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(outside)

    assert measure(tree).bytes < 50_000
    assert measure(tmp_path / "link").bytes < 50_000
    assert remove_tree(tree)
    assert remove_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept").exists()


def test_a_wide_tree_is_removed(tmp_path: Path) -> None:
    """Folders of the same names at many places, a FIFO and a socket among them."""
    for a in range(30):
        for b in range(10):
            (tmp_path / f"tree/{a}/{b}/same").mkdir(parents=True)
            (tmp_path / f"tree/{a}/{b}/same/file").touch()
    os.mkfifo(tmp_path / "tree/fifo")
    (tmp_path / "tree/.tailrace-moved-0/inner").mkdir(parents=True)
    (tmp_path / "tree/.tailrace-moved-1").touch()
    assert remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_gone(tmp_path: Path) -> None:
    """Also where its folder isn't."""
    assert remove_tree(tmp_path / "nothing")
    assert remove_tree(tmp_path / "nowhere/nothing")
    assert measure(tmp_path / "nothing").bytes == 0


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    """As a clone's objects may."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").write_bytes(b"x" * 100_000)
    for name in ("two", "three"):
        os.link(tree / "one", tree / name)
    assert 100_000 <= measure(tree).bytes < 150_000


READ_ONLY = """
import os, sys
from pathlib import Path
from tailrace.rundir.trees import remove_tree
os.setresgid(65534, 65534, 65534) if os.geteuid() == 0 else None
os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None
tree = Path(sys.argv[1], "tree")
(tree / "a/b/c").mkdir(parents=True)
(tree / "a/b/file").touch()
for path, mode in ((tree / "a/b/c", 0), (tree / "a/b", 0o500), (tree / "a", 0), (tree, 0o500)):
    path.chmod(mode)
sys.exit(not remove_tree(tree))
"""


def test_trees_that_forbid_it_are_removed_by_their_owner(tmp_path: Path) -> None:
    """Read-only and closed folders, by a user whom permissions bind."""
    if os.geteuid() == 0:
        place = Path("/dev/shm") / f"tailrace-test-{os.getpid()}"  # tmp_path is root's alone
        place.mkdir(mode=0o700)
        os.chown(place, 65534, 65534)
    else:
        place = tmp_path
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(place)], check=False, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert not (place / "tree").exists()
    finally:
        remove_tree(place)


def test_a_mount_within_a_tree_stays(tmp_path: Path) -> None:
    """It is told that something is left, and the rest is gone."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root can mount")
    inner = tmp_path / "tree/a/mounted"
    inner.mkdir(parents=True)
    top = tmp_path / "tree/mounted"
    top.mkdir()
    (tmp_path / "tree/b").mkdir()
    for place in (inner, top):
        subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
        (place / "kept").touch()
    try:
        assert not remove_tree(tmp_path / "tree")
        assert (inner / "kept").exists()
        assert (top / "kept").exists()
        assert not (tmp_path / "tree/b").exists()
    finally:
        for place in (inner, top):
            subprocess.run(["umount", str(place)], check=True)
    assert remove_tree(tmp_path / "tree")
