"""The journal and logs on disk: written by one, read by anyone, torn by anything."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disks import fill, small_disk
from tailrace import wire
from tailrace.core.lines import LineCounter
from tailrace.rundir.journal import AttemptLog, JournalReader, JournalWriter
from tailrace.rundir.layout import RunDir


def write(run: RunDir, *texts: str) -> None:
    """Append a ``status`` event for each text."""
    journal = JournalWriter(run)
    for text in texts:
        journal.append("t", {"event": "status", "step": "a", "text": text})
    journal.close()


def read(run: RunDir, *, after: int = 0, limit: int = 1 << 18) -> list[tuple[int, str]]:
    """The numbers and texts of all that can be read, in as many reads as it takes."""
    reader = JournalReader(run, after=after)
    found = []
    while frames := reader.read(limit):
        found += [(f.seq, json.loads(f.data).get("text", f.event)) for f in frames]
    reader.close()
    return found


def test_line_n_holds_seq_n(run: RunDir) -> None:
    """Also when the writer is opened again."""
    write(run, "one", "two")
    write(run, "three")

    assert read(run) == [(1, "one"), (2, "two"), (3, "three")]


def test_a_journal_that_is_not_there_reads_as_empty(run: RunDir) -> None:
    """And what is written later is found by the same reader."""
    reader = JournalReader(run)
    assert reader.read() == []

    write(run, "late")

    assert [frame.seq for frame in reader.read()] == [1]
    reader.close()


@pytest.mark.parametrize("after", [0, 1, 499, 999, 1_000, 2_000])
def test_reading_begins_after_any_number(run: RunDir, after: int) -> None:
    """Nothing twice, nothing missing; beyond the end there is nothing yet."""
    write(run, *(f"{n} {'x' * (n % 700)}" for n in range(1, 1_001)))

    assert [seq for seq, _ in read(run, after=after)] == list(range(after + 1, 1_001))


def test_a_torn_last_line_is_not_read_and_is_cut_off_by_the_next_writer(run: RunDir) -> None:
    """Its number is used again, so that no number is missing."""
    write(run, "one", "two")
    with run.journal.open("ab") as file:
        file.write(b'{"seq":3,"event":"sta')
    assert [seq for seq, _ in read(run)] == [1, 2]

    write(run, "three")

    assert read(run) == [(1, "one"), (2, "two"), (3, "three")]


def test_a_line_longer_than_what_is_read_at_once_is_read_whole(run: RunDir) -> None:
    """Texts of events are bounded, but not so low."""
    write(run, "x" * 700_000, "after")

    assert [(seq, len(text)) for seq, text in read(run)] == [(1, 700_000), (2, 5)]


def test_a_damaged_line_becomes_a_notice_in_its_place(run: RunDir) -> None:
    """So that the numbers stay without a gap."""
    write(run, "one")
    with run.journal.open("ab") as file:
        file.write(b"\x00\xff not json\n")
    write(run, "three")

    assert [seq for seq, _ in read(run)] == [1, 2, 3]
    assert read(run)[1][1] != ""
    first, notice, _ = [json.loads(frame.data) for frame in JournalReader(run).read()]
    assert (notice["kind"], notice["step"], notice["t"]) == ("damaged", None, first["t"])
    (alone, _) = JournalReader(run, after=1).read()
    assert wire.parse_timestamp(json.loads(alone.data)["t"]) > 0


def test_a_log_whose_bytes_are_missing_becomes_a_notice(run: RunDir) -> None:
    """A record can outlive its bytes when a disk fails."""
    journal = JournalWriter(run)
    fields = {"event": "log", "step": "a", "attempt": 1, "line": 1, "offset": 0, "bytes": 9}
    journal.append("t", fields)
    journal.close()

    (frame,) = JournalReader(run).read()

    assert frame.event == "notice"


@given(st.binary(max_size=400), st.integers(1, 64))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_no_bytes_in_a_journal_can_break_its_readers_or_writers(
    run: RunDir, garbage: bytes, limit: int
) -> None:
    """Readers number whole lines, whatever is in them; a writer goes on behind them."""
    run.journal.write_bytes(garbage)
    whole = garbage.count(b"\n")

    assert [seq for seq, _ in read(run, limit=limit)] == list(range(1, whole + 1))
    write(run, "next")
    assert read(run)[-1] == (whole + 1, "next")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let writes beyond *size* fail as on a full disk (setrlimit(2), RLIMIT_FSIZE)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_what_a_full_disk_cut_short_is_taken_back(run: RunDir) -> None:
    """The number is not used, the journal stays readable, and afterwards all works again."""
    write(run, "one")
    size = run.journal.stat().st_size
    journal = JournalWriter(run)
    with files_no_larger_than(size + 20), pytest.raises(OSError, match="File too large"):
        journal.append("t", {"event": "status", "step": "a", "text": "x" * 100})
    assert run.journal.stat().st_size == size

    assert journal.append("t", {"event": "status", "step": "a", "text": "two"}) == 2
    journal.close()

    assert read(run) == [(1, "one"), (2, "two")]


def test_a_slice_is_in_the_file_before_its_record(run: RunDir) -> None:
    """A reader in another process never sees a record without its bytes."""
    journal, log, counter = JournalWriter(run), AttemptLog(run.log("a", 1)), LineCounter()
    watch = """
import sys
from pathlib import Path
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
reader = JournalReader(RunDir(Path(sys.argv[1])))
seen = 0
while seen < 2000:
    for frame in reader.read():
        assert frame.event == "log", frame
        seen += 1
print(seen)
"""
    watcher = subprocess.Popen(
        [sys.executable, "-c", watch, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    for number in range(2_000):
        piece = counter.take(b"line %d\n" % number)
        assert piece is not None
        log.append(piece)
        fields = {"event": "log", "step": "a", "attempt": 1, "line": piece.line}
        journal.append("t", {**fields, "offset": piece.offset, "bytes": len(piece.data)})
    output, _ = watcher.communicate(timeout=30)
    journal.close()
    log.close()

    assert output == "2000\n"


def test_a_link_in_place_of_a_file_is_not_followed(run: RunDir, tmp_path: Path) -> None:
    """Neither to read nor to write."""
    other = tmp_path / "other"
    other.write_text("mine")
    run.journal.symlink_to(other)

    with pytest.raises(OSError, match="symbolic links"):
        JournalWriter(run)
    with pytest.raises(OSError, match="symbolic links"):
        JournalReader(run).read()
    assert other.read_text() == "mine"


def test_room_that_is_kept_takes_what_is_urgent_on_a_full_disk(tmp_path: Path) -> None:
    """All else is refused while only that room is left; closing the journal gives it back."""
    with small_disk(tmp_path / "disk", "1M") as disk:
        run = RunDir(disk / "run")
        run.path.mkdir()
        journal = JournalWriter(run, room=32 << 10)
        said = {"event": "status", "step": "a", "text": "x" * 1_000}
        journal.append("t", said)
        fill(disk)

        def flood() -> None:
            for _ in range(100):
                journal.append("t", said)

        with pytest.raises(OSError, match="No space left"):
            flood()
        for _ in range(30):
            journal.append("t", said, urgent=True)
        with pytest.raises(OSError, match="No space left"):
            journal.append("t", said)
        size = run.journal.stat().st_size
        journal.close()
        assert run.journal.stat().st_blocks * 512 < size + 4096
        assert [seq for seq, _ in read(run)] == list(range(1, len(read(run)) + 1))
        assert run.journal.stat().st_size == size
