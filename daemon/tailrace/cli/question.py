"""A question that a run asks, and the answer as it is typed; no terminal, no clock.

One question is asked at a time, the oldest open one. What is typed for it goes
away with it: an answer that somebody else gave, or an expiry, must not turn the
rest of a sentence into an answer to the next question.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tailrace.core.events import Prompt

MOST_TYPED: Final = 10_000  # characters: what the daemon takes

# CSI and SS3 sequences (ECMA-48), as arrow and function keys send them, else one key with Alt.
_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])")
_UNFINISHED: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")


class NoAnswerError(ValueError):
    """What was typed is no answer; the message says what would be one."""


def numbered(prompt: Prompt) -> bool:
    """Whether the choices are shown with numbers: not where one of them reads as a number."""
    return bool(prompt.choices) and not any(choice.strip().isdigit() for choice in prompt.choices)


def answer_of(prompt: Prompt, typed: str) -> str:
    """Return the answer that *typed* means: a choice by its text, number or unique beginning.

    Nothing typed means the default.

    Raises:
        NoAnswerError: it means none, or more than one choice.
    """
    text = typed.strip()
    if not text:
        if prompt.default is None:
            raise NoAnswerError("type an answer; it has no default")
        return prompt.default
    if not prompt.choices:
        return typed
    if text in prompt.choices:
        return text
    if numbered(prompt) and text.isdigit():
        number = int(text) if len(text) < 10 else 0
        if 1 <= number <= len(prompt.choices):
            return prompt.choices[number - 1]
        raise NoAnswerError(f"choose a number from 1 to {len(prompt.choices)}")
    for same in (str, str.casefold):
        begin = [c for c in prompt.choices if same(c).startswith(same(text))]
        whole = [c for c in begin if same(c) == same(text)]
        if len(whole) == 1 or len(begin) == 1:
            return (whole if len(whole) == 1 else begin)[0]
        if len(begin) > 1:
            raise NoAnswerError(f"'{text}' may be {' or '.join(begin[:3])}")
    raise NoAnswerError(f"'{text}' is none of the choices")


class LineEditor:
    """A line as it is typed: text, Backspace, Ctrl-W (word), Ctrl-U (all), Enter."""

    def __init__(self) -> None:
        self.text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._escape = ""  # the beginning of a sequence

    def press(self, keys: bytes) -> str | None:
        """Take keys as the terminal sends them; return the line at Enter.

        What follows an Enter in the same piece, as from a paste, is dropped.
        """
        text = _ESCAPE.sub("", self._escape + self._decode.decode(keys))
        unfinished = _UNFINISHED.search(text)
        self._escape = unfinished[0] if unfinished else ""
        for key in text[: unfinished.start()] if unfinished else text:
            if key in "\r\n":
                line, self.text = self.text, ""
                return line
            if key in "\x7f\b":
                self.text = self.text[:-1]
            elif key == "\x15":
                self.text = ""
            elif key == "\x17":
                head = self.text.rstrip()
                self.text = head[: head.rfind(" ") + 1]
            elif (key == "\t" or key.isprintable()) and len(self.text) < MOST_TYPED:
                self.text += key
        return None


@dataclass(slots=True)
class Asking:
    """The question that is asked now, if any.

    ``look`` chooses it, ``press`` and ``submit`` take the answer, and whoever
    sends it on tells with ``refuse`` that it wasn't taken.
    """

    prompt: Prompt | None = None
    more: int = 0  # open ones after it
    said: str = ""  # why the last answer wasn't taken
    sent: str | None = None  # an answer that is on its way
    editor: LineEditor = field(default_factory=LineEditor)

    def look(self, prompts: Mapping[str, Prompt]) -> bool:
        """Choose among the open prompts, oldest first; return whether it is another one now."""
        first = next(iter(prompts.values()), None)
        self.more = max(0, len(prompts) - 1)
        if first is self.prompt:
            return False
        self.prompt, self.said, self.sent, self.editor = first, "", None, LineEditor()
        return True

    def press(self, keys: bytes) -> str | None:
        """Take keys; return the answer to send, once there is one."""
        if self.prompt is None or self.sent is not None:
            return None
        line = self.editor.press(keys)
        return None if line is None else self.submit(line)

    def submit(self, line: str) -> str | None:
        """Take a whole line; return the answer to send, or None and tell why in ``said``."""
        if self.prompt is None:
            return None
        try:
            self.sent, self.said = answer_of(self.prompt, line), ""
        except NoAnswerError as exc:
            self.said = str(exc)
            return None
        return self.sent

    def refuse(self, prompt: Prompt, why: str) -> None:
        """Ask again: the answer to that prompt wasn't taken."""
        if self.prompt is prompt:
            self.sent, self.said = None, why
