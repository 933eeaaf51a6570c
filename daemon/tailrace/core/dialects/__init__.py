"""Lines of a step's output that narrate: each dialect reads one way of writing them.

A dialect gets the output as it was read, before it is masked, and answers with
the part that is output still and with what the step says by the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tailrace.core.said import Saying


@dataclass(slots=True)
class Heard:
    """What a piece of output comes to."""

    output: bytes = b""  # goes the way of every output
    said: list[Saying] = field(default_factory=list)  # in order; masks count for `output` too


class Dialect(Protocol):
    """Reads one attempt's output.

    All outputs of `feed` and `close`, put together, are the same for every way
    of cutting the output into chunks, and so is what is said.
    """

    @property
    def held(self) -> int:
        """Bytes held back."""

    def feed(self, chunk: bytes) -> Heard:
        """Take what was read."""

    def close(self) -> Heard:
        """Take the end: what is held back is decided."""
