"""What may reach a terminal."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.visible import visible, visible_json

SGR = re.compile(r"\x1b\[[0-9;:]*m")
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PIECES = st.sampled_from(
    ["\x1b", "[", "]", "0;31", "m", "\x1b[1m", "\x1b[0m", "\x1b[2J", "\x1b]0;t\x07", "\x9b", "31m",
     "\x1b[38:2::1:2:3m",
     "\r", "\n", "\t", "\b", "\x7f", "\x00", "a", "é", "漢", "\u202e", "\x1b[m"]
)  # fmt: skip
OUTPUT = st.one_of(st.text(), st.lists(PIECES).map("".join))


@given(OUTPUT)
def test_nothing_that_steers_a_terminal_passes_but_colours(text: str) -> None:
    """Without its SGR sequences the text holds no control but tab and newline."""
    assert STEERING.search(SGR.sub("", visible(text))) is None


@given(OUTPUT)
def test_a_line_with_colours_ends_without_them(text: str) -> None:
    """Whatever colour a line sets, the next line and our own text don't have it."""
    for line in visible(text).split("\n"):
        if SGR.search(line):
            assert line.endswith("\x1b[0m")


@given(OUTPUT)
def test_lines_stay_lines(text: str) -> None:
    """Making text visible neither joins nor breaks lines."""
    assert visible(text).count("\n") == text.count("\n")


@given(OUTPUT)
def test_visible_text_stays_as_it_is(text: str) -> None:
    """Made visible twice is made visible once, but for one more reset."""
    once = visible(text)
    assert SGR.sub("", visible(once)) == SGR.sub("", once)


@given(st.text(st.characters(exclude_categories=["Cc", "Cf"])))
def test_text_without_controls_is_untouched(text: str) -> None:
    """What needs no change has none."""
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("bell\x07", "bell␇"),
        ("\x9b2J", "␛[2J"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("over\rwritten", "over␍written"),
        ("del\x7f", "del␡"),
        ("user\u202etxt.exe", "user<U+202E>txt.exe"),
        ("\x1b[31", "␛[31"),
        ("\x1b[31;1m\nnext", "\x1b[31;1m\x1b[0m\nnext"),
        ("\x1b[?25l", "␛[?25l"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_sequences_are_shown_as_symbols(text: str, shown: str) -> None:
    """Each kind of control has a picture that people know."""
    assert visible(text) == shown


@given(OUTPUT)
def test_json_keeps_its_meaning_and_steers_nothing(text: str) -> None:
    """What would steer is escaped as JSON can."""
    shown = visible_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(shown) == {text: text}
    assert visible(shown) == shown
