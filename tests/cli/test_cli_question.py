"""A question in the terminal: what typed text means, how it is typed, which one is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.picture import text_of
from tailrace.cli.question import Asking, LineEditor, NoAnswerError, answer_of
from tailrace.cli.question_rows import question_rows
from tailrace.cli.rows import ASCII, Frame
from tailrace.core.events import Prompt
from tailrace.wire import timestamp

NOW = 1_800_000_000.0


def prompt(name: str = "deploy", **more: Any) -> Prompt:
    """A question."""
    said: dict[str, Any] = {
        "id": name, "step": "s", "question": "Deploy?", "choices": (), "default": None,
        "expires_at": None,
    }  # fmt: skip
    return Prompt(**{**said, **more})


def drawn(asking: Asking, **frame: Any) -> list[str]:
    """The question's rows as a terminal has them."""
    said: dict[str, Any] = {"width": 79, "height": 23, "now": NOW, "can_answer": True}
    picture = Frame(**{**said, **frame})
    lines = question_rows(asking, "demo/1", picture)
    return [text_of(line, picture.width).plain.rstrip() for line in lines]


CITIES = ("Berlin", "Bern", "Paris", "paris north")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("Berlin", "Berlin"), (" Bern ", "Bern"), ("berl", "Berlin"), ("2", "Bern"),
        ("PARIS", "Paris"), ("paris", "paris north"), ("", "Bern"), ("  ", "Bern"),
    ],
)  # fmt: skip
def test_a_choice_is_meant_by_text_number_or_beginning(typed: str, answer: str) -> None:
    """As it is written counts before what only reads alike; nothing means the default."""
    assert answer_of(prompt(choices=CITIES, default="Bern"), typed) == answer


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("Ber", "'Ber' may be Berlin or Bern"), ("5", "choose a number from 1 to 4"),
        ("0", "choose a number"), ("9" * 5_000, "choose a number"),
        ("Rome", "'Rome' is none of the choices"), ("", "type an answer"),
    ],
)  # fmt: skip
def test_what_means_no_choice_is_refused_here(typed: str, why: str) -> None:
    """The reason says what would be an answer."""
    with pytest.raises(NoAnswerError, match=why):
        answer_of(prompt(choices=CITIES), typed)


def test_choices_that_are_numbers_are_not_counted() -> None:
    """Of 3 and 1, '1' is the choice, not the first one; and no number stands before them."""
    asked = prompt(choices=("3", "1"))
    assert answer_of(asked, "1") == "1"
    asking = Asking()
    asking.look({"deploy": asked})
    assert drawn(asking)[1] == "    3   1"


def test_free_text_stays_as_it_was_typed() -> None:
    """Blanks in it too; only nothing at all is no answer."""
    assert answer_of(prompt(), " two words ") == " two words "
    with pytest.raises(NoAnswerError):
        answer_of(prompt(), "   ")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"hello\n", "hello"), (b"hellp\x7fo\r", "hello"), (b"\x7f\x7fa\n", "a"),
        (b"all wrong\x15right\n", "right"), (b"one two \x17three\n", "one three"),
        ("für 😀\x7f\x7fß\n".encode(), "fürß"), (b"a\x1b[A\x1b[1;5C\x1bOPb\x1bxc\n", "abc"),
        (b"\x00\x01\x07tab\there\n", "tab\there"), (b"first\nsecond\n", "first"),
    ],
)  # fmt: skip
def test_a_line_is_edited_as_in_any_terminal(keys: bytes, line: str) -> None:
    """Whole or byte by byte; keys without a meaning here leave nothing behind."""
    assert LineEditor().press(keys) == line
    editor = LineEditor()
    lines = [editor.press(keys[n : n + 1]) for n in range(len(keys))]
    assert next(said for said in lines if said is not None) == line


@given(st.binary(max_size=40))
def test_no_keys_put_controls_into_an_answer(keys: bytes) -> None:
    """Whatever a terminal sends, the text can be shown."""
    editor = LineEditor()
    for line in (editor.press(keys), editor.text):
        assert all(c.isprintable() or c == "\t" for c in line or "")


def test_several_questions_come_one_after_the_other() -> None:
    """What was typed for one is never the beginning of an answer to the next."""
    first, second = prompt("a"), prompt("b", question="And then?")
    asking = Asking()
    assert asking.look({"a": first, "b": second})
    assert asking.press(b"yes, because") is None
    assert drawn(asking)[0].endswith("1 more after this")
    assert not asking.look({"a": first, "b": second})
    assert asking.look({"b": second})  # somebody else answered the first
    assert asking.press(b"\n") is None
    assert asking.said.startswith("type an answer")
    assert asking.press(b"no\n") == "no"
    assert asking.press(b"more\n") is None  # one is on its way
    asking.refuse(first, "too late")
    assert asking.sent == "no"
    asking.refuse(second, "the answer must be one of: x")
    assert drawn(asking)[-1] == "    the answer must be one of: x"
    assert asking.look({})
    assert drawn(asking) == []


def test_a_question_shows_choices_default_time_and_the_line_being_typed() -> None:
    """Each where people look for it."""
    asking = Asking()
    expires_at = timestamp(NOW + 299)
    asking.look({"deploy": prompt(choices=("yes", "no"), default="no", expires_at=expires_at)})
    assert drawn(asking) == [
        "? Deploy?" + " " * 59 + "4m 59s left",
        "    1 yes   2 no (default)",
        "  > ▏ Enter for no",
    ]
    asking.press(b"ye")
    assert drawn(asking)[2] == "  > ye▏"
    asking.press(b"\n")
    assert drawn(asking)[2] == "  > yes  sending"
    assert drawn(asking, can_answer=False)[2] == (
        "  answer with tailrace answer demo/1 deploy TEXT"
    )
    assert drawn(asking, symbols=ASCII)[0].startswith("? Deploy?")


def test_long_questions_and_choices_are_wrapped_and_bounded() -> None:
    """Nothing from outside takes the screen or steers it."""
    asking = Asking()
    choices = tuple(f"c{n}" * 9 for n in range(50))
    asking.look({"p": prompt("p", question="\x1b[2Jword " * 300, choices=choices)})
    rows = drawn(asking, width=40)
    assert len(rows) == 6 + 9 + 1
    assert all(len(row) <= 40 and "\x1b" not in row for row in rows)
    assert rows[-2] == "    … 42 more"
    asking.press(b"x" * 500)
    assert drawn(asking, width=40)[-1].endswith("xxx▏")
