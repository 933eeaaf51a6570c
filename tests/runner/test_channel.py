"""The step channel, with real FIFOs and real writers."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.narration import MAX_LINE
from tailrace.runner.channel import CAPACITY, StepChannel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a place for the FIFO."""
    return tmp_path / "events"


@pytest.fixture
def channel(path: Path) -> Iterator[StepChannel]:
    """Give a channel, closed at the end."""
    channel = StepChannel(path)
    yield channel
    channel.close()


def write(path: Path, data: bytes) -> None:
    """Write as a step does: open, append, close; fails instead of waiting for a reader."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        assert os.write(fd, data) == len(data)
    finally:
        os.close(fd)


LINE = b'{"event":"status","text":"%d"}\n'


def writing(path: Path, script: str) -> subprocess.Popen[bytes]:
    """Start a process that runs *script* with the FIFO open as ``file``, at full speed."""
    program = (
        f"import sys\nline = {LINE!r}\nwith open(sys.argv[1], 'wb') as file: exec(sys.argv[2])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path), script], stderr=subprocess.DEVNULL
    )


def test_the_fifo_is_for_its_owner_alone(channel: StepChannel, path: Path) -> None:
    """Mode 0600, and no program started later inherits it."""
    mode = path.stat().st_mode
    assert stat.S_ISFIFO(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert not os.get_inheritable(channel.fileno())


def test_lines_of_several_writers_arrive_whole_and_in_order(
    channel: StepChannel, path: Path
) -> None:
    """Nobody blocks on opening, and no end is seen between two writers."""
    assert channel.drain() == []
    write(path, b'{"a":1}\n{"b":2}\n')
    write(path, b'{"c":')
    assert channel.drain() == [b'{"a":1}', b'{"b":2}']
    write(path, b"3}\n\n")
    assert channel.drain() == [b'{"c":3}', b""]
    assert channel.drain() == []


def test_a_shell_writes_to_it_by_name(channel: StepChannel, path: Path) -> None:
    """The contract's own example."""
    script = """echo '{"event":"progress","percent":40}' >> "$TAILRACE_EVENTS" """
    subprocess.run(["sh", "-c", script], env={"TAILRACE_EVENTS": str(path)}, check=True, timeout=10)
    assert channel.drain() == [b'{"event":"progress","percent":40}']


def test_an_unterminated_last_line_counts_at_the_end(channel: StepChannel, path: Path) -> None:
    """What a dying step began to say is read like the rest, and the FIFO goes."""
    write(path, b"first\nlast")
    assert channel.close() == [b"first", b"last"]
    assert not path.exists()
    assert channel.fileno() == -1
    assert channel.close() == []


def test_a_line_that_is_too_long_is_cut_and_the_next_one_is_whole(
    channel: StepChannel, path: Path
) -> None:
    """One byte more than allowed is kept, so that its reader sees what is wrong."""
    lines: list[bytes] = []
    for data in (b"x" * MAX_LINE + b"\n", b"y" * (MAX_LINE + 1) + b"\n"):
        write(path, data)
    for _ in range(5):
        write(path, b"z" * 50_000)
        lines += channel.drain()
    write(path, b"\nnext\n")
    lines += channel.drain()
    assert [(line[:1], len(line)) for line in lines[:3]] == [
        (b"x", MAX_LINE),
        (b"y", MAX_LINE + 1),
        (b"z", MAX_LINE + 1),
    ]
    assert lines[3:] == [b"next"]


def test_all_that_was_written_before_a_drain_is_in_it(channel: StepChannel, path: Path) -> None:
    """A full pipe is emptied at once: a value to mask may be its last line."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    filler = b"x" * 99 + b"\n"
    written = 0
    try:
        while True:
            written += os.write(fd, filler)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
    lines = channel.drain()
    assert len(lines) == written // len(filler)
    assert written > CAPACITY // 2


def test_a_process_that_never_stops_writing_does_not_keep_its_reader(
    channel: StepChannel, path: Path
) -> None:
    """Each call reads a bounded piece, and so does the end."""
    script = "while True: file.write(line % 0)"
    with writing(path, script) as writer:
        try:
            for _ in range(20):
                select.select([channel], [], [], 10)
                assert sum(map(len, channel.drain())) <= CAPACITY + MAX_LINE
            assert sum(map(len, channel.close())) <= CAPACITY + MAX_LINE
        finally:
            writer.kill()


def test_a_flood_keeps_its_order_in_bounded_memory(channel: StepChannel, path: Path) -> None:
    """100,000 events at full speed: each once, in order, never all at once in memory."""
    script = "for number in range(100_000): file.write(line % number)"
    expected = 0
    with writing(path, script) as writer:
        tracemalloc.start()
        try:
            while expected < 100_000:
                ready, _, _ = select.select([channel], [], [], 10)
                assert ready, "the writer stopped"
                for line in channel.drain():
                    assert line + b"\n" == LINE % expected
                    expected += 1
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
            writer.kill()
    assert channel.close() == []


@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b"\n", b"\n\n", b"x" * 40_000]), max_size=12
    ),
    st.integers(1, 4),
)
def test_lines_do_not_depend_on_how_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, writes: list[bytes], every: int
) -> None:
    """However the bytes come: the same lines, but for what is cut off long ones."""
    path = tmp_path_factory.mktemp("channel") / "events"
    channel = StepChannel(path)
    lines = []
    for number, data in enumerate(writes):
        write(path, data)
        if number % every == 0:
            lines += channel.drain()
    lines += channel.close()

    expected = b"".join(writes).split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert lines == [line[: MAX_LINE + 1] for line in expected]


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    """Nothing that is there already is read as a step's channel."""
    taken = tmp_path / "events"
    taken.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        StepChannel(taken)
    assert taken.read_bytes() == b"old"


@pytest.mark.parametrize("replacement", ["nothing", "folder", "file"])
def test_a_step_that_removes_its_fifo_harms_nobody(
    channel: StepChannel, path: Path, replacement: str
) -> None:
    """What was written still counts, and closing doesn't fail."""
    write(path, b"before\n")
    path.unlink()
    if replacement == "folder":
        path.mkdir()
    elif replacement == "file":
        path.write_bytes(b"not ours\n")
    assert channel.close() == [b"before"]
