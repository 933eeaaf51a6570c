"""Output put together again."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tailrace import wire
from tailrace.cli.lines import FileTail, Joiner, Tail
from tailrace.core.lines import LineCounter, resolve_carriage_returns, slice_text

CHUNKS = st.lists(
    st.binary(max_size=12).map(lambda data: data.replace(b"\x00", b"\n")), max_size=12
)


def log_frames(chunks: list[bytes]) -> list[tuple[str, bool]]:
    """Return text and openness of the ``log`` events that an attempt's chunks become."""
    counter = LineCounter()
    slices = [counter.take(chunk) for chunk in chunks] + [counter.take(b"", final=True)]
    return [(slice_text(piece.data), piece.open) for piece in slices if piece is not None]


@given(CHUNKS)
def test_joined_lines_are_the_outputs_lines(chunks: list[bytes]) -> None:
    """However output was cut into events, the lines are those of the whole."""
    joiner = Joiner()
    taken = [joiner.take(text, is_open=is_open) for text, is_open in log_frames(chunks)]
    blocks = [block for block in [*taken, joiner.end()] if block is not None]

    whole = b"".join(chunks).decode("utf-8", "replace")
    expected = whole.split("\n")
    if expected[-1] == "":
        expected.pop()
    lines = "\n".join(blocks).split("\n") if blocks else []
    assert lines == [resolve_carriage_returns(line) for line in expected]


def test_a_line_that_never_ends_is_given_out_in_pieces() -> None:
    """Memory is bounded though a step prints no newline."""
    joiner = Joiner()
    piece = "x" * 300_000
    given_out = [joiner.take(piece, is_open=True) for _ in range(8)]
    rest = joiner.end() or ""
    assert "".join(block or "" for block in given_out) + rest == piece * 8
    assert len(rest) < 1_100_000


def test_a_progress_bar_that_never_ends_its_line_stays_small() -> None:
    """Carriage returns are resolved while the line is open."""
    joiner = Joiner()
    for percent in range(40_000):
        assert joiner.take(f"\rdownloading {percent:>40}", is_open=True) is None
    assert joiner.end() == f"downloading {39_999:>40}"


def push(tail: Tail, text: str, *, is_open: bool = False) -> None:
    """Give the tail a ``log`` event."""
    data = {"seq": 1, "event": "log", "t": "", "step": "s", "attempt": 1, "line": 1, "text": text}
    tail.push(wire.encode_json({**data, "open": True} if is_open else data))


def test_a_tail_joins_open_lines() -> None:
    """What a later event adds to an open line is shown in that line."""
    tail = Tail()
    push(tail, "one\ntw", is_open=True)
    push(tail, "o\nthree")
    push(tail, "four")
    assert tail.lines(3) == ["two", "three", "four"]


def test_a_tail_shows_where_a_progress_line_stands() -> None:
    """Of a line with carriage returns the last piece counts, blank lines don't."""
    tail = Tail()
    push(tail, "\n\n10%\r20%\r30%\r", is_open=True)
    assert tail.lines(5) == ["30%"]


def test_a_tail_is_bounded_in_bytes_and_events() -> None:
    """A flood leaves no more than the bound behind."""
    tail = Tail(events=10, size=1_000)
    for number in range(1_000):
        push(tail, f"line {number} " + "x" * 100)
    assert [line.split()[1] for line in tail.lines(3)] == ["997", "998", "999"]
    assert len(tail.lines(20)) < 10


@given(CHUNKS, st.integers(1, 20))
def test_both_tails_show_the_same(chunks: list[bytes], count: int) -> None:
    """A stream's text and a folder's file give the same last lines."""
    data = b"".join(chunks)
    by_text = Tail()
    by_file = FileTail(lambda step, attempt, start, end: data[start:end])
    counter = LineCounter()
    slices = [counter.take(chunk) for chunk in chunks] + [counter.take(b"", final=True)]
    for piece in slices:
        if piece is None:
            continue
        push(by_text, slice_text(piece.data), is_open=piece.open)
        record = {"seq": 1, "event": "log", "step": "s", "attempt": 1, "line": 1}
        by_file.push(wire.encode_json({**record, "offset": piece.offset, "bytes": len(piece.data)}))
    assert by_text.lines(count) == by_file.lines(count)


def test_a_file_that_is_gone_has_no_tail(tmp_path: Path) -> None:
    """A run deleted while somebody looks shows nothing, and breaks nothing."""
    tail = FileTail(lambda step, attempt, start, end: b"")
    tail.push(b'{"seq":1,"event":"log","step":"s","attempt":1,"line":1,"offset":0,"bytes":5}')
    assert tail.lines(5) == []
