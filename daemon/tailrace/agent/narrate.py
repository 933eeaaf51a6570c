"""Telling what one does: lines of JSON on ``$TAILRACE_EVENTS``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_CHARACTERS_A_TOKEN: Final = 4  # as people reckon for models


@dataclass(slots=True)
class Call:
    """A tool call under way."""

    is_error: bool = False


class Narrator:
    """Writes events to the step channel; nowhere, outside of a run.

    What is read and written is counted as a model would: some four characters
    a token, at *price* dollars for a million in and out.
    """

    def __init__(self, channel: str | None, price: tuple[float, float] = (0, 0)) -> None:
        self._fd = os.open(channel, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC) if channel else None
        self._price = price
        self._calls = 0
        self._read = self._written = 0

    def close(self) -> None:
        """Close the channel."""
        if self._fd is not None:
            os.close(self._fd)

    def say(self, event: str, **fields: Any) -> None:
        """Write one event; a line holds 64 KiB, and one of 4 KiB mixes with no other writer's."""
        if self._fd is None:
            return
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        while line:  # a pipe takes what fits
            line = line[os.write(self._fd, line) :]

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[Call]:
        """Tell that a tool is used, then that it was; an OSError counts as its failure."""
        self._calls += 1
        call_id, call = f"call-{self._calls}", Call()
        self.say("tool_call", id=call_id, name=name, phase="started")
        began = time.monotonic()
        try:
            yield call
        except OSError:
            call.is_error = True
        finally:
            self.say(
                "tool_call", id=call_id, name=name, phase="finished", is_error=call.is_error,
                duration_ms=round((time.monotonic() - began) * 1_000),
            )  # fmt: skip

    def read(self, text: str) -> None:
        """Count what was read."""
        self._read += len(text)

    def text(self, text: str) -> None:
        """Say a sentence, word by word as agents do."""
        self._written += len(text)
        for word in re.findall(r"\s*\S+\s*", text):
            self.say("text", delta=word)

    def settle(self) -> None:
        """Tell the cost of what was read and written since the last time."""
        tokens_in, tokens_out = (-(-n // _CHARACTERS_A_TOKEN) for n in (self._read, self._written))
        self._read = self._written = 0
        if not (tokens_in or tokens_out):
            return
        usd = (tokens_in * self._price[0] + tokens_out * self._price[1]) / 1e6
        cost = {"usd": usd} if any(self._price) else {}
        self.say("cost", tokens_in=tokens_in, tokens_out=tokens_out, **cost)
