"""Places in logs, found by the journal: checked against whole logs, however they were cut."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tailrace import wire
from tailrace.core.lines import LineCounter
from tailrace.rundir import places
from tailrace.rundir.journal import AttemptLog, JournalWriter
from tailrace.rundir.layout import RunDir

PIECES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), st.sampled_from([b"x", b"x\n", b"\n", b"yy\nz", b"q\n\n"])
    ),
    max_size=12,
)


def written(folder: Path, pieces: list[tuple[str, bytes]]) -> tuple[RunDir, dict[str, bytes]]:
    """A run whose steps a and b have printed that, in that order; and what each printed."""
    run = RunDir(folder)
    journal = JournalWriter(run)
    journal.append("", {"event": "plan"})
    logs = {step: (AttemptLog(run.log(step, 1)), LineCounter()) for step in ("a", "b")}
    whole = {"a": b"", "b": b""}
    for step, data in pieces:
        log, counter = logs[step]
        piece = counter.take(data)
        assert piece is not None
        log.append(piece)
        whole[step] += data
        fields = {"step": step, "attempt": 1, "line": piece.line, "offset": piece.offset}
        journal.append("", {"event": "log", **fields, "bytes": len(data), "open": piece.open})
        journal.append("", {"event": "status", "step": step, "text": "."})
    for log, _ in logs.values():
        log.close()
    journal.close()
    return run, whole


def line_places(data: bytes) -> list[int]:
    """Where each line begins."""
    return [n for n in range(len(data)) if n == 0 or data[n - 1 : n] == b"\n"]


@given(PIECES, st.integers(0, 12))
def test_the_last_lines_are_those_that_began_last(
    pieces: list[tuple[str, bytes]], lines: int
) -> None:
    """Over all steps, or of one; and everything that isn't a log is there."""
    with tempfile.TemporaryDirectory() as folder:
        run, whole = written(Path(folder), pieces)
        begun: list[tuple[str, int]] = []  # the lines, in the order in which they began
        sizes = {"a": 0, "b": 0}
        for step, data in pieces:
            starts = line_places(whole[step])
            begun += [(step, n) for n in starts if sizes[step] <= n < sizes[step] + len(data)]
            sizes[step] += len(data)
        for only in (None, "a"):
            mine = [item for item in begun if only in (None, item[0])]
            last = mine[max(0, len(mine) - lines) :]
            expected = dict(reversed(last))  # the first of each step
            tail = places.last_lines(run, lines, step=only)
            assert {step: place for (step, _), place in tail.starts.items()} == expected
            frames = list(places.tail_frames(run, tail))
            assert [f.seq for f in frames if f.event != "log"] == [1, *range(3, tail.upto + 1, 2)]
            for step, place in expected.items():
                logs = [f for f in frames if (f.event, f.step) == ("log", step)]
                text = "".join(_text(frame) for frame in logs)
                assert text == whole[step][place:].decode()
                first = wire.decode_record(logs[0].data)
                assert first.line == line_places(whole[step]).index(place) + 1


def _text(frame: wire.Frame) -> str:
    item = json.loads(frame.data)
    text: str = item["text"] + ("" if item.get("open") else "\n")
    return text


@given(PIECES)
def test_a_line_is_found_by_its_number(pieces: list[tuple[str, bytes]]) -> None:
    """Also one that began within a slice or goes on over several."""
    with tempfile.TemporaryDirectory() as folder:
        run, whole = written(Path(folder), pieces)
        for step in ("a", "b"):
            expected = line_places(whole[step])
            for number in range(1, len(expected) + 3):
                place = expected[number - 1] if number <= len(expected) else None
                assert places.line_start(run, step, 1, number) == place


@given(PIECES)
def test_open_lines_are_what_follows_the_last_newline(pieces: list[tuple[str, bytes]]) -> None:
    """At every event."""
    with tempfile.TemporaryDirectory() as folder:
        run, _ = written(Path(folder), pieces)
        so_far = {"a": b"", "b": b""}
        for number, (step, data) in enumerate(pieces):
            so_far[step] += data
            found = places.open_lines(run, 2 + 2 * number)
            assert found == {
                (name, 1): text.rpartition(b"\n")[2]
                for name, text in so_far.items()
                if text.rpartition(b"\n")[2]
            }


def test_lines_that_were_left_out_begin_where_the_next_one_does(tmp_path: Path) -> None:
    """`limits.log` makes the numbers jump."""
    run = RunDir(tmp_path)
    journal = JournalWriter(run)
    path = run.log("a", 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1\n2\n900\n")
    for line, offset, size in ((1, 0, 4), (900, 4, 4)):
        fields = {"step": "a", "attempt": 1, "line": line, "offset": offset, "bytes": size}
        journal.append("", {"event": "log", **fields})
    journal.close()
    found = [places.line_start(run, "a", 1, line) for line in (1, 2, 3, 899, 900, 901)]
    assert found == [0, 2, 4, 4, 4, None]
