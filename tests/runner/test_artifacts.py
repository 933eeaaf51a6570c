"""Collecting artifacts from folders that hostile processes have written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.runner import artifacts
from tailrace.runner.artifacts import Collected, Collection, collect
from tailrace.runner.beneath import Walk, open_file


class Place:
    """The folders of one attempt, and how to collect from them."""

    def __init__(self, root: Path) -> None:
        self.source = root / "attempt"
        self.workspace = root / "workspace"
        self.workdir = self.workspace / "repo"
        self.target = root / "artifacts"
        for folder in (self.source, self.workdir, self.target):
            folder.mkdir(parents=True)

    def collect(self, *patterns: str, **options: Any) -> Collection:
        """Collect with generous limits and no secrets, unless told otherwise."""
        defaults: dict[str, Any] = {
            "step": "two", "taken": {}, "max_bytes": 1 << 30, "max_files": 1_000,
            "would_mask": lambda _name: False, "workspace": self.workspace,
        }  # fmt: skip
        return collect(self.source, self.workdir, patterns, self.target, **{**defaults, **options})

    def stored(self) -> dict[str, bytes]:
        """Return what is in the run's artifacts."""
        return {
            str(path.relative_to(self.target)): path.read_bytes()
            for path in self.target.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give fresh folders."""
    return Place(tmp_path)


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    """Whatever happens, every descriptor is closed again."""
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert len(set(Path("/proc/self/fd").iterdir())) <= len(before)


def write(path: Path, data: bytes = b"data") -> None:
    """Write a file, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def names(collection: Collection) -> list[str]:
    """Return the names that were collected."""
    return [file.name for file in collection.files]


def told(collection: Collection) -> list[str]:
    """Return the notices' texts."""
    assert {kind for kind, _ in collection.notices} <= {"artifacts"}
    return [text for _, text in collection.notices]


def test_what_a_step_puts_into_its_folder_is_collected_whatever_its_name(place: Place) -> None:
    """Recursively, hidden files too, sorted by name; empty folders don't count."""
    write(place.source / "report.html", b"<p>")
    write(place.source / "sub" / "dir" / "ruff.sarif", b"{}")
    write(place.source / ".hidden", b"")
    (place.source / "empty" / "deeper").mkdir(parents=True)

    collection = place.collect()

    assert collection == Collection(
        files=[
            Collected(
                name=name,
                given=name,
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                media_type=media,
            )
            for name, data, media in [
                (".hidden", b"", "application/octet-stream"),
                ("report.html", b"<p>", "text/html"),
                ("sub/dir/ruff.sarif", b"{}", "application/sarif+json"),
            ]
        ],
        notices=[],
    )
    assert place.stored() == {".hidden": b"", "report.html": b"<p>", "sub/dir/ruff.sarif": b"{}"}
    assert [p for p in place.source.rglob("*") if p.is_file()] == []  # moved: on disk once


def test_what_the_globs_name_is_copied_with_its_path(place: Place) -> None:
    """The workspace keeps it, because later steps work there."""
    write(place.workdir / "out" / "a.txt", b"a")
    write(place.workdir / "out" / "b.md", b"b")
    write(place.workdir / "deep" / "er" / "c.txt", b"c")
    write(place.workdir / ".git" / "d.txt", b"credentials")
    write(place.workspace / "outside.txt")

    collection = place.collect("out/*.md", "**/*.txt")

    assert names(collection) == ["deep/er/c.txt", "out/a.txt", "out/b.md"]
    assert told(collection) == []
    assert (place.workdir / "out" / "a.txt").exists()


def test_stored_files_are_their_owners_alone(place: Place) -> None:
    """Whatever modes the step gave them: 0600, without setuid."""
    write(place.source / "dir" / "tool")
    (place.source / "dir" / "tool").chmod(0o4777)
    place.collect()
    assert stat.S_IMODE((place.target / "dir" / "tool").stat().st_mode) == 0o600
    assert stat.S_IMODE((place.target / "dir").stat().st_mode) == 0o700


def test_a_pattern_without_files_and_one_that_leads_outside_are_told(place: Place) -> None:
    """Each by itself; the others count."""
    write(place.workdir / "a.txt")
    write(place.workspace / "b.txt")
    collection = place.collect("*.md", "../b.txt", "/etc/passwd", "a.txt")
    assert names(collection) == ["a.txt"]
    assert [text.split(":")[1].strip() for text in told(collection)] == [
        "../b.txt", "/etc/passwd", "no file is named by *.md",
    ]  # fmt: skip


def test_of_two_files_with_one_name_that_of_the_artifact_folder_counts(place: Place) -> None:
    """And the other is told."""
    write(place.source / "a.txt", b"folder")
    write(place.workdir / "a.txt", b"glob")
    collection = place.collect("a.txt")
    assert place.stored() == {"a.txt": b"folder"}
    assert told(collection) == [
        "a.txt is not collected: $TAILRACE_ARTIFACTS holds a file of that name, which counts"
    ]


def test_files_of_two_steps_with_one_name_are_both_collected(place: Place) -> None:
    """With a notice, and the other step's file stays as it is."""
    write(place.target / "report.html", b"one's")
    write(place.target / "data", b"one's")
    write(place.source / "report.html", b"two's")
    write(place.source / "data" / "x", b"two's")
    write(place.source / "other", b"two's")

    collection = place.collect(taken={"report.html": "one", "data": "one"})

    assert names(collection) == ["other", "two/data/x", "two/report.html"]
    assert place.stored() == {
        "data": b"one's", "report.html": b"one's", "other": b"two's", "two/data/x": b"two's",
        "two/report.html": b"two's",
    }  # fmt: skip
    assert sorted(told(collection)) == [
        "data/x: that name is in use; collected as two/data/x",
        "report.html: that name is in use; collected as two/report.html",
    ]


def test_neither_links_nor_fifos_nor_sockets_are_collected(place: Place, tmp_path: Path) -> None:
    """Nor does any of them hang the collection, or lead it outside."""
    write(tmp_path / "private" / "key", b"outside")
    (place.source / "link").symlink_to(tmp_path / "private" / "key")
    (place.source / "folder-link").symlink_to(tmp_path / "private")
    (place.source / "dangling").symlink_to("nowhere")
    os.mkfifo(place.source / "fifo")
    (place.workdir / "linked").symlink_to(tmp_path / "private")
    os.mkfifo(place.workdir / "fifo.txt")
    here = os.open(place.source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/socket")
            collection = place.collect("**", "linked/key", "*.txt")
    finally:
        os.close(here)

    assert collection.files == []
    assert place.stored() == {}
    assert sorted(told(collection)) == [
        "artifacts: no file is named by linked/key",
        *(
            f"{name} is not collected: not a regular file"
            for name in ("dangling", "fifo", "fifo.txt", "folder-link", "link", "linked", "socket")
        ),
    ]


@pytest.mark.parametrize("where", ["workdir", "parent"])
def test_a_working_directory_that_became_a_link_is_not_read(
    place: Place, tmp_path: Path, where: str
) -> None:
    """A sandboxed step can't have files collected that it can't see itself."""
    write(tmp_path / "private" / "repo" / "key.txt", b"outside")
    write(tmp_path / "private" / "key.txt", b"outside")
    place.workdir.rmdir()
    if where == "workdir":
        place.workdir.symlink_to(tmp_path / "private")
    else:
        (place.workspace / "sub").symlink_to(tmp_path / "private")
        place.workdir = place.workspace / "sub" / "repo"
    collection = place.collect("*.txt")
    assert collection.files == []
    assert told(collection)[0].startswith("the working directory is not collected")


def test_folders_that_the_step_has_removed_are_no_mistake(place: Place) -> None:
    """An artifact folder that is gone has no artifacts."""
    place.source.rmdir()
    assert place.collect() == Collection(files=[], notices=[])
    place.source.symlink_to(place.workdir)
    assert told(place.collect()) == ["$TAILRACE_ARTIFACTS can't be read: Not a directory"]


def test_a_workdir_outside_its_workspace_is_our_mistake(place: Place) -> None:
    """Never collected from."""
    place.workdir = place.target
    with pytest.raises(ValueError, match="artifacts"):
        place.collect("*")
    place.workdir = place.workspace / ".." / "artifacts"
    with pytest.raises(ValueError, match="no name in a folder"):
        place.collect("*")


def test_hostile_names_are_told_escaped_and_not_collected(place: Place) -> None:
    """Bytes that aren't UTF-8, control characters, and what turns text around."""
    for name in [b"bad\xff", b"line\nbreak", b"esc\x1b[31m", "bidi\u202e".encode(), b"fine"]:
        write(Path(os.fsdecode(os.fsencode(place.source) + b"/" + name)))
    collection = place.collect()
    assert names(collection) == ["fine"]
    assert sorted(text.split(" is ")[0] for text in told(collection)) == [
        "bad\\xff", "bidi\\u202e", "esc\\x1b[31m", "line\\nbreak",
    ]  # fmt: skip


def test_a_name_that_holds_a_secret_is_neither_collected_nor_told(place: Place) -> None:
    """Also where the secret hides behind bytes that aren't UTF-8, or is no regular file."""
    write(place.source / "token-hunter2.txt")
    write(place.source / "hunter2" / "deep.txt")
    write(Path(os.fsdecode(os.fsencode(place.source) + b"/hunter2\xff")))
    (place.source / "link-hunter2").symlink_to("x")
    write(place.workdir / "hunter2")
    write(place.source / "fine")

    collection = place.collect("*", would_mask=lambda name: "hunter2" in name)

    assert names(collection) == ["fine"]
    assert "hunter2" not in repr(collection)
    assert len(collection.notices) >= 5


def test_a_name_of_several_folders_is_masked_as_a_whole(place: Place) -> None:
    """A secret may hold slashes."""
    write(place.source / "a" / "b" / "c")
    collection = place.collect(would_mask=lambda name: "a/b" in name)
    assert collection.files == []


def test_what_goes_beyond_the_limits_is_left_out_and_told_once(place: Place) -> None:
    """Bytes and files; what still fits is taken."""
    for name, size in [("a", 600), ("b", 500), ("c", 300), ("d", 200), ("e", 100)]:
        write(place.source / name, b"x" * size)
    collection = place.collect(max_bytes=1_000)
    assert names(collection) == ["a", "c", "e"]
    assert told(collection) == ["b and 1 more are not collected: limits.artifacts is reached"]

    write(place.source / "f")
    collection = place.collect(max_files=1)
    assert names(collection) == ["b"]
    assert told(collection) == ["d and 1 more are not collected: limits.artifact_files is reached"]
    assert place.collect(max_files=0, max_bytes=-5).files == []


def test_exactly_what_the_limits_allow_is_collected(place: Place) -> None:
    """The bounds are inclusive."""
    write(place.source / "a", b"x" * 1_000)
    collection = place.collect(max_bytes=1_000, max_files=1)
    assert names(collection) == ["a"]
    assert collection.notices == []


def test_a_file_that_grows_beyond_the_limit_while_it_is_copied_is_left_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it stays."""
    write(place.workdir / "a", b"x" * 1_000)
    real = os.copy_file_range

    def copy_file_range(source: int, target: int, count: int) -> int:
        copied = real(source, target, count)
        with open(place.workdir / "a", "ab") as file:
            file.write(b"x" * 1_000)
        return copied

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    collection = place.collect("a", max_bytes=5_000)
    assert collection.files == []
    assert told(collection) == ["a is not collected: limits.artifacts is reached"]
    assert list(place.target.iterdir()) == []


def test_notices_are_bounded(place: Place) -> None:
    """A thousand links don't fill the journal."""
    for number in range(1_000):
        (place.source / f"link-{number:03}").symlink_to("x")
    texts = told(place.collect())
    assert len(texts) == artifacts.MAX_NOTICES + 1
    assert texts[-1] == "and 980 more like these"


def test_a_walk_is_bounded_in_depth_and_in_names(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beyond is told, and what was found before counts."""
    monkeypatch.setattr(artifacts, "Walk", lambda: Walk(max_entries=30, max_depth=5))
    write(place.source.joinpath(*"abcde", "deep"))
    write(place.source.joinpath(*"abcdef", "too-deep"))
    collection = place.collect()
    assert names(collection) == ["a/b/c/d/e/deep"]
    assert told(collection) == ["a/b/c/d/e is not collected: its folders are nested too deeply"]

    for number in range(50):
        write(place.workdir / "many" / f"{number}.txt")
    collection = place.collect("**/*.txt")
    assert 0 < len(collection.files) < 30
    assert any("too many names" in text for text in told(collection))


def test_a_file_that_can_not_be_read_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are collected."""
    write(place.source / "a")
    write(place.source / "b")

    def deny_a(folder: int, name: str) -> int:
        if name == "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(folder, name)

    monkeypatch.setattr("tailrace.runner.artifacts.open_file", deny_a)
    collection = place.collect()
    assert names(collection) == ["b"]
    assert told(collection) == ["a is not collected: Permission denied"]


def test_a_full_disk_leaves_nothing_half_stored(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest isn't tried, and it is told once."""
    for name in ("a", "b", "c"):
        write(place.source / name)
    real = os.copy_file_range
    calls = 0

    def copy_file_range(source: int, target: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 2:  # the first file's bytes, and its end
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target, count)

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    collection = place.collect()
    assert names(collection) == ["a"]
    assert list(place.target.iterdir()) == [place.target / "a"]
    assert told(collection) == [
        "b and 1 more are not collected: the disk takes no more: No space left on device"
    ]
    assert calls == 3


def test_what_stands_in_the_way_in_the_artifacts_is_not_written_through(
    place: Place, tmp_path: Path
) -> None:
    """Links that somebody planted there are replaced or refused, never followed."""
    write(tmp_path / "victim", b"untouched")
    (place.target / "a").symlink_to(tmp_path / "victim")
    (place.target / "dir").symlink_to(tmp_path)
    (place.target / "folder" / "x").mkdir(parents=True)
    write(place.source / "a", b"artifact")
    write(place.source / "dir" / "victim", b"artifact")
    write(place.source / "folder", b"artifact")

    collection = place.collect()

    assert names(collection) == ["a"]
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert (place.target / "a").read_bytes() == b"artifact"
    assert not (place.target / "a").is_symlink()
    assert len(told(collection)) == 2


def test_a_hard_link_is_collected_as_a_copy(place: Place) -> None:
    """What is written later through the other name doesn't reach the artifact."""
    write(place.workdir / "original", b"before")
    os.link(place.workdir / "original", place.source / "linked")
    collection = place.collect()
    (place.workdir / "original").write_bytes(b"after")
    assert place.stored() == {"linked": b"before"}
    assert collection.files[0].sha256 == hashlib.sha256(b"before").hexdigest()


def test_a_file_system_without_ranges_is_no_hindrance(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel can't copy by ranges, as from another file system, is sent."""

    def copy_file_range(_source: int, _target: int, _count: int) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    data = os.urandom(3_000_000)
    write(place.source / "a", data)
    write(place.source / "b", b"")
    collection = place.collect()
    assert [(file.name, file.bytes) for file in collection.files] == [("a", 3_000_000), ("b", 0)]
    assert collection.files[0].sha256 == hashlib.sha256(data).hexdigest()
    assert place.stored() == {"a": data, "b": b""}


HOSTILE: dict[str, str] = {
    "file and link": """
        os.symlink(secret, 'swap.link'); open('swap.file', 'w').write('mine')
        while True:
            os.replace('swap.link', 'x/f'); os.symlink(secret, 'swap.link')
            os.replace('swap.file', 'x/f'); open('swap.file', 'w').write('mine')
    """,
    "folder and link": """
        os.mkdir('d'); open('d/f', 'w').write('mine'); os.symlink(os.path.dirname(secret), 'l')
        while True:
            os.rename('d', 'x/d'); os.rename('x/d', 'd')
            os.rename('l', 'x/d'); os.rename('x/d', 'l')
    """,
    "file and fifo": """
        os.mkfifo('swap.fifo'); open('swap.file', 'w').write('mine')
        while True:
            os.replace('swap.fifo', 'x/f'); os.mkfifo('swap.fifo')
            os.replace('swap.file', 'x/f'); open('swap.file', 'w').write('mine')
    """,
    "content": """
        with open('x/f', 'wb') as f:
            while True:
                for byte in b'abcdefgh':
                    f.seek(0); f.write(bytes([byte]) * 3_000_000); f.flush()
    """,
    "length": """
        with open('x/f', 'wb') as f:
            while True:
                f.seek(0); f.write(b'x' * 200_000); f.flush(); f.truncate(0)
    """,
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_process_that_races_gets_nothing_stored_that_is_not_its_own(
    place: Place, tmp_path: Path, attack: str
) -> None:
    """What is stored is what was hashed, within the limits, and never what a link points to."""
    write(tmp_path / "private" / "f", b"SECRET")
    (place.workdir / "x").mkdir()
    with racing(HOSTILE[attack], place.workdir, tmp_path / "private" / "f"):
        seen = rounds = 0
        while rounds < 60 or (not seen and attack != "folder and link"):  # it's a race: go on
            rounds += 1
            collection = place.collect("x/**", max_bytes=3_500_000)
            stored = place.stored()
            assert sorted(stored) == names(collection)
            for file in collection.files:
                data = stored[file.name]
                assert b"SECRET" not in data
                assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
                (place.target / file.name).unlink()
            seen += len(collection.files)


@contextlib.contextmanager
def racing(script: str, folder: Path, secret: Path) -> Iterator[None]:
    """Run a hostile process in *folder*, from its first doing on until the end."""
    body = "\n".join(line.removeprefix("        ") for line in script.split("\n"))
    program = f"import os, sys\nsecret = sys.argv[1]\nprint(flush=True)\n{body}"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(secret)], cwd=folder, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
            assert process.poll() is None, "the attack ended by itself"
        finally:
            process.kill()
