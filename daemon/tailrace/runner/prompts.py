"""The questions of one run: asked, answered once, or expired."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tailrace import wire
from tailrace.core.events import Answered, Event, Prompt
from tailrace.core.narration import Question
from tailrace.wire import Reply


@dataclass(slots=True)
class _Open:
    question: Question
    step: str
    settle: Callable[[str | None], None]
    timer: asyncio.TimerHandle | None = None


class Prompts:
    """Asks, and hands each answer to whoever asked; used on one event loop.

    ``record`` writes an event and returns its number, or raises OSError, which
    *guard* reports where nobody else can; *mask* is how people are shown a
    text. ``settle`` of a prompt is
    called once, with the answer, or at expiry with the default, which is None
    where it has none; not at all where its attempt ends before (`forget`).
    """

    def __init__(
        self,
        record: Callable[[Event], int],
        guard: Callable[[], AbstractContextManager[None]],
        *,
        mask: Callable[[str], str] = lambda text: text,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._record = record
        self._guard = guard
        self._mask = mask
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, _Open] = {}
        self._closed: dict[str, str] = {}  # id -> answered or expired

    def ask(
        self, name: str, step: str, question: Question, settle: Callable[[str | None], None]
    ) -> None:
        """Ask the people watching; *name* is the prompt's id outside.

        Raises:
            OSError: the disk didn't take the event; nothing was asked.
        """
        expires_at = None
        if question.expires_ms is not None:
            expires_at = wire.timestamp(self._clock() + question.expires_ms / 1000)
        self._record(
            Prompt(
                id=name,
                step=step,
                question=question.question,
                choices=question.choices,
                default=question.default,
                expires_at=expires_at,
            )
        )
        asked = self._open[name] = _Open(question, step, settle)
        self._closed.pop(name, None)  # a later attempt asks again
        if question.expires_ms is not None:
            asked.timer = self._loop.call_later(question.expires_ms / 1000, self._expire, name)

    def is_waiting(self, step: str) -> bool:
        """Whether one of the step's prompts is open."""
        return any(asked.step == step for asked in self._open.values())

    def answer(self, name: str, text: str, *, by: str, via: str) -> Reply:
        """Settle a prompt, or say why not.

        A choice is meant by its text, or as people are shown it (with ``***``)
        where no other one looks the same.

        Raises:
            OSError: the disk didn't take the event; the prompt stays open.
        """
        asked = self._open.get(name)
        if asked is None:
            if state := self._closed.get(name):
                return Reply(
                    status="conflict", state=state, reason=f"prompt '{name}' is {state} already"
                )
            return Reply(status="unknown", reason=f"no prompt is named '{name}'")
        choices = asked.question.choices
        if choices and text not in choices:
            alike = [choice for choice in choices if self._mask(choice) == text]
            if len(alike) != 1:
                reason = f"the answer must be one of: {', '.join(choices)}"
                if alike:
                    reason = f"several choices look like '{text}'; give one in full"
                return Reply(status="invalid", reason=reason)
            text = alike[0]
        seq = self._record(Answered(id=name, answer=text, by=by, via=via))
        self._settle(name, "answered", text)
        return Reply(status="done", seq=seq)

    def _expire(self, name: str) -> None:
        default = self._open[name].question.default
        with self._guard():
            self._record(Answered(id=name, answer=default, by=None, via="expiry"))
        self._settle(name, "expired", default)

    def _settle(self, name: str, state: str, answer: str | None) -> None:
        asked = self._open.pop(name)
        if asked.timer is not None:
            asked.timer.cancel()
        self._closed[name] = state
        asked.settle(answer)

    def forget(self, step: str) -> None:
        """Close the prompts of a step whose attempt has ended; nobody waits for them any more."""
        for name, asked in tuple(self._open.items()):
            if asked.step == step:
                if asked.timer is not None:
                    asked.timer.cancel()
                del self._open[name]
                self._closed[name] = "closed"
