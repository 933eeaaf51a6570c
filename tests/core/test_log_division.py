"""What a bounded log gets of an output: its beginning and its end, with true numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.log_limit import MOST_KEPT, LogLimit, Rest


def divide(output: bytes, limit: int, size: int) -> tuple[bytes, Rest]:
    """Feed an output in pieces of that size; return what streamed, and the rest."""
    bound = LogLimit(limit)
    streamed = b"".join(bound.feed(output[at : at + size]) for at in range(0, len(output), size))
    assert bound.kept <= min(limit // 4, MOST_KEPT) + 2 * size
    return streamed, bound.rest()


@pytest.mark.parametrize("size", [1, 3, 7, 50, 1_000])
def test_what_fits_streams_whole(size: int) -> None:
    """Three quarters of the bound, to the byte."""
    output = b"line\n" * 15
    assert divide(output, 100, size) == (output, Rest(b"", 0, 0, ()))


@pytest.mark.parametrize("size", [1, 3, 7, 50, 1_000])
def test_the_beginning_and_the_end_are_kept_by_whole_lines(size: int) -> None:
    """What lies between is counted."""
    lines = [b"%07d\n" % n for n in range(100)]
    streamed, rest = divide(b"".join(lines), 100, size)
    tail = b"".join(rest.pieces)
    if rest.ending:  # fed piece by piece, the cut may come within a line
        streamed += rest.ending
        assert rest.left_lines
    assert tail == b"".join(lines[-3:])
    assert len(streamed) + rest.left_bytes + len(tail) == 800
    assert streamed.count(b"\n") + rest.left_lines + 3 == 100


@pytest.mark.parametrize("size", [1, 3, 7, 50, 1_000])
@pytest.mark.parametrize("width", [2, 10, 60, 99, 101])
@pytest.mark.parametrize("total", [76, 99, 100])
def test_nothing_is_left_out_of_what_the_bound_has_room_for(
    total: int, width: int, size: int
) -> None:
    """Between three quarters and the whole of the bound it is all there, only later."""
    output = (b"0" * (width - 1) + b"\n") * total
    streamed, rest = divide(output[:total], 100, size)
    assert streamed + b"".join(rest.pieces) == output[:total]
    assert (rest.ending, rest.left_bytes, rest.left_lines) == (b"", 0, 0)


def test_a_large_bound_is_used_up_though_little_of_the_end_is_kept_in_memory() -> None:
    """The beginning streams until what is left fits into memory."""
    limit, line = 5 * MOST_KEPT, b"0123456789abcde\n"
    output = line * (limit // len(line))
    streamed, rest = divide(output, limit, 1 << 16)
    assert len(streamed) >= limit - MOST_KEPT - len(line)
    assert streamed + b"".join(rest.pieces) == output
    streamed, rest = divide(line + output, limit, 1 << 16)
    assert (rest.left_bytes, rest.left_lines) == (len(line), 1)


def test_a_line_without_end_keeps_its_beginning_and_its_end() -> None:
    """There is no line to begin with, so the end begins within it."""
    assert divide(b"x" * 1_000 + b"y" * 25, 100, 50) == (b"x" * 75, Rest(b"", 925, 0, (b"y" * 25,)))
    streamed, rest = divide(b"x" * 1_000 + b"\n" + b"y" * 30, 100, 50)
    assert (streamed, rest.ending, rest.left_lines) == (b"x" * 75, b"\n", 0)
    assert b"".join(rest.pieces) == b"y" * 25


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_a_bound_of_nothing_leaves_out_everything(limit: int) -> None:
    """And counts it."""
    streamed, rest = divide(b"a line\n" * 10, limit, 7)
    total = len(streamed) + len(rest.ending) + rest.left_bytes + sum(map(len, rest.pieces))
    assert total == 70


@given(
    st.lists(st.sampled_from(["a", "é", "€", "🙂", "\n", "long" * 9]), max_size=200),
    st.integers(0, 300), st.integers(1, 64),
)  # fmt: skip
def test_what_is_kept_and_what_is_counted_make_the_output(
    parts: list[str], limit: int, size: int
) -> None:
    """It begins and ends as the output does, no character is cut, and numbers are true."""
    output = "".join(parts).encode()
    streamed, rest = divide(output, limit, size)
    tail = b"".join(rest.pieces)
    assert output.startswith(streamed)
    assert output.endswith(tail)
    assert len(streamed + rest.ending + tail) <= limit + 4
    assert len(streamed) + len(rest.ending) + rest.left_bytes + len(tail) == len(output)
    assert not rest.left_bytes or len(output) > limit
    newlines = (streamed + rest.ending + tail).count(b"\n")
    assert newlines + rest.left_lines == output.count(b"\n")
    for text in (streamed, tail):
        text.decode()
    if rest.left_bytes and rest.left_lines:
        assert streamed == b"" or (streamed + rest.ending).endswith(b"\n")
