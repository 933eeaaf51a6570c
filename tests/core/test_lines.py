"""Numbering output, and showing lines as a terminal would."""

from __future__ import annotations

import time

import pyte
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.core.lines import (
    LineCounter,
    Slice,
    resolve_carriage_returns,
    slice_text,
    strip_ansi,
    strip_ansi_bytes,
)

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\n", b"\r\n", "é".encode(), "€".encode(), "🙂".encode(), b"\xf0\x9f"]),
    ),
    max_size=12,
)


def slices_of(pieces: list[bytes]) -> list[Slice]:
    """Feed pieces one by one, and end."""
    counter = LineCounter()
    found = [counter.take(piece) for piece in pieces]
    found.append(counter.take(b"", final=True))
    return [piece for piece in found if piece is not None]


@given(PIECES)
@example([b"\xe2\x82", b"\xac\n"])
@example([b"\xed", b"\xa0\x80"])
@example([b"\xf4", b"\x90"])
def test_texts_put_together_are_the_file_as_utf8_with_replacement(pieces: list[bytes]) -> None:
    """However the output was cut, even within a character."""
    whole = b"".join(pieces)
    found = slices_of(pieces)

    assert b"".join(piece.data for piece in found) == whole
    text = "".join(slice_text(piece.data) + ("" if piece.open else "\n") for piece in found)
    assert text == whole.decode("utf-8", "replace")


@given(PIECES)
def test_a_slice_begins_with_the_number_of_the_line_that_its_offset_is_in(
    pieces: list[bytes],
) -> None:
    """An open line's number is repeated by the slice that goes on with it."""
    whole = b"".join(pieces)
    for piece in slices_of(pieces):
        assert piece.line == whole[: piece.offset].count(b"\n") + 1
        assert piece.open is not piece.data.endswith(b"\n")


def test_a_lone_newline_ends_an_open_line_with_an_empty_text() -> None:
    """As the contract says of ``text: ""`` without ``open``."""
    counter = LineCounter()
    counter.take(b"50%")

    piece = counter.take(b"\n")

    assert piece == Slice(3, b"\n", 1, False)
    assert slice_text(piece.data) == ""
    assert counter.lines == 1


def test_lines_count_an_open_last_one() -> None:
    """Two lines, the second without an end."""
    counter = LineCounter()
    counter.take(b"one\ntwo")

    assert counter.lines == 2


def test_at_most_three_bytes_are_held_back() -> None:
    """The start of a four-byte sequence is the longest that can be incomplete."""
    counter = LineCounter()

    assert counter.take("🙂".encode()[:3]) is None
    assert counter.held == 3


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("10%\r20%\r100%", "100%"),
        ("loading...\rdone", "doneing..."),
        ("windows\r", "windows"),
        ("a\r\rb", "b"),
        ("", ""),
        ("loading 10%\r\x1b[Kdone", "done"),
        ("loading\x1b[2K\rfoo", "foo"),
        ("Building 99/100\r\x1b[2KBuilt", "Built"),
        ("loading\x1b[2K\r", ""),
        ("abcdef\rxy\x1b[0K", "xy"),
        ("abcdef\rxy\x1b[1K", "   def"),
        ("\x1b[31mabc\x1b[0m\rxy", "xy\x1b[31mc\x1b[0m"),
        ("\x1b[31mabc\rxy", "\x1b[31mxyc"),
        ("\x1b[1m\x1b[32mok\x1b[0m\x1b]0;title\x07 so\r", "\x1b[1m\x1b[32mok\x1b[0m so"),
        ("\x1b[38;5;0mab\x1b[0;1mcd\r\x1b[mx", "x\x1b[38;5;0mb\x1b[0m\x1b[0;1mcd\x1b[0m"),
        ("世界!\rab", "ab界!"),
        ("世界!\rabc", "abc !"),
        ("abcdef\r世", "世cdef"),
        ("e\u0301te\u0301\rx", "xte\u0301"),
    ],
)
def test_carriage_returns_write_over_what_stands_there(line: str, shown: str) -> None:
    """What the later text doesn't cover stays, as on a terminal."""
    assert resolve_carriage_returns(line) == shown


PRINTED = st.sampled_from(
    ["a", "bc", " ", "\r", "\r", "\x1b[K", "\x1b[0K", "\x1b[1K", "\x1b[2K", "\x1b[31m",
     "\x1b[1;34m", "\x1b[0m", "\x1b[22m", "\x1b[?25l", "\x1b]0;x\x07"]
)  # fmt: skip


@given(st.lists(PRINTED, max_size=24).map("".join))
def test_a_line_is_shown_as_by_a_terminal(line: str) -> None:
    """Every character in its column and in its colours, and the colours that go on."""
    shown = resolve_carriage_returns(line)

    assert "\r" not in shown
    end = len(strip_ansi(shown)) + 1
    assert screen(f"{shown}\x1b[{end}G!") == screen(f"{line}\x1b[{end}G!")


def screen(text: str) -> list[tuple[str, str, bool]]:
    """What a terminal has in its first line; the colours of blanks don't count."""
    terminal = pyte.Screen(100, 1)
    pyte.Stream(terminal).feed(text)
    cells = [terminal.buffer[0][column] for column in range(100)]
    return [(c.data, c.fg, c.bold) if c.data != " " else (" ", "", False) for c in cells]


def test_a_line_that_is_written_over_often_takes_linear_time() -> None:
    """A hostile step's line may be as long as lines get: each pattern is done with at once."""
    for pattern in ("a\r", "ab\x1b[2K", "\r\x1b[K", "\x1b[1Kx", "a\x1b[1m\r", "\x1b[1;3mü"):
        count = 1 << 15
        line = "x" * count + pattern * count + "\rz"
        began = time.process_time()
        assert resolve_carriage_returns(line).startswith(("z", "\x1b["))
        assert time.process_time() - began < 5  # a quadratic one takes a minute


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Btext", "text"),
        ("\x1b[2K\x1b[1;5Hx", "x"),
        ("\x1bPq#0\x1b\\after", "after"),
    ],
)
def test_escape_sequences_are_taken_out(text: str, plain: str) -> None:
    """Colours, titles, links, cursor moves and device strings."""
    assert strip_ansi(text) == plain
    assert strip_ansi_bytes(text.encode()) == plain.encode()
