"""What a runner answered to commands: asked again with the same id, it says the same again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tailrace import wire

_REMEMBERED: Final = 1_000  # answers by id


class Answers:
    """What was answered to commands with an id; a daemon keeps its own for longer."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, tuple[bytes, wire.Reply]] = OrderedDict()

    def known(self, command: wire.Command) -> wire.Reply | None:
        """Return the answer that this command got before; an id given to another is refused."""
        if command.id is None or (found := self._answers.get(command.id)) is None:
            return None
        digest, reply = found
        return reply if digest == wire.asked_digest(command) else wire.OTHER_COMMAND

    def keep(self, command: wire.Command, reply: wire.Reply) -> wire.Reply:
        """Remember and return an answer; refusals aren't remembered."""
        if command.id is not None and reply.status in ("done", "unchanged"):
            self._answers[command.id] = (wire.asked_digest(command), reply)
            if len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        return reply
