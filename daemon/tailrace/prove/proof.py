"""What a proof says in the end: how often it tried, what was missed, and its evidence."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from tailrace.errors import TailraceError

Kind = Literal["lost", "doubled", "survivors", "leaks"]
KINDS: Final[tuple[Kind, ...]] = ("lost", "doubled", "survivors", "leaks")

# What the `started` event calls it -> what people call it.
_CONTAINMENTS: Final = {
    "cgroup": "cgroup v2",
    "pidns": "PID namespace",
    "weak": "weak (process groups)",
}
_PROMISING_NOTHING: Final = "weak"
_SHOWN: Final = 6  # misses of a proof that people are shown; programs get them all


class ProofError(TailraceError):
    """A proof can't be made here: nothing was shown, neither for nor against."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How often each proof tries."""

    daemon_kills: int = 20
    runner_kills: int = 10
    cancels: int = 20
    watchers: int = 50
    kills_while_watching: int = 2
    longest_s: float = 0.6  # a random moment lies within; killed daemons live as long


QUICK: Final = Counts(
    daemon_kills=2, runner_kills=2, cancels=4, watchers=6, kills_while_watching=1, longest_s=0.2
)


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """One promise that wasn't kept."""

    kind: Kind
    what: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One proof's result.

    ``misses`` are counted by kind; a kind that isn't in ``judges`` wasn't
    looked for. ``figures`` are for programs, ``evidence`` and ``notes`` for
    people: what was tried and seen, and what wasn't tried, with the reason.
    """

    name: str
    title: str
    tried: int
    judges: tuple[Kind, ...]
    misses: tuple[Miss, ...]
    evidence: tuple[str, ...]
    notes: tuple[str, ...]
    figures: dict[str, int]
    containments: tuple[str, ...]
    duration_ms: int

    def missed(self, kind: Kind) -> int | None:
        """Return how many misses of a kind there were; None where it wasn't looked for."""
        if kind not in self.judges:
            return None
        return sum(miss.kind == kind for miss in self.misses)

    @property
    def shown(self) -> list[tuple[str, str]]:
        """The misses that people are shown, as kind and sentence."""
        shown: list[tuple[str, str]] = [(miss.kind, miss.what) for miss in self.misses[:_SHOWN]]
        more = len(self.misses) - len(shown)
        return [*shown, ("", f"and {more} more")] if more else shown


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """All proofs together."""

    proofs: tuple[Proof, ...]
    seed: int
    began_at: str  # RFC 3339
    duration_ms: int
    version: str
    machine: str

    @property
    def passed(self) -> bool:
        """Whether nothing was missed."""
        return not any(proof.misses for proof in self.proofs)

    def missed(self, kind: Kind) -> int:
        """Return the misses of a kind, of all proofs."""
        return sum(proof.missed(kind) or 0 for proof in self.proofs)

    @property
    def containments(self) -> tuple[str, ...]:
        """What `started` said, each once."""
        return tuple(sorted({name for proof in self.proofs for name in proof.containments}))

    @property
    def line(self) -> str:
        """The whole in one line."""
        counts = " · ".join(f"{kind} {self.missed(kind)}" for kind in KINDS)
        return f"{counts} · containment: {words_for(self.containments)}"


def words_for(containments: tuple[str, ...]) -> str:
    """Return how people call what `started` said."""
    return ", ".join(_CONTAINMENTS.get(name, name) for name in containments) or "not seen"


def promises_zero(containment: str) -> bool:
    """Whether processes that hide are promised to be ended, too."""
    return containment != _PROMISING_NOTHING


class Ledger:
    """What a proof writes down while it goes on; ``tell`` gets how far it is."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.misses: list[Miss] = []
        self.evidence: list[str] = []
        self.notes: list[str] = []
        self.figures: dict[str, int] = {}
        self.containments: set[str] = set()
        self._tell = tell
        self._done = 0

    def miss(self, kind: Kind, what: str) -> None:
        """Write down a promise that wasn't kept."""
        self.misses.append(Miss(kind=kind, what=what))

    def say(self, *evidence: str) -> None:
        """Write down what people should know of what was tried and seen."""
        self.evidence += evidence

    def add(self, figure: str, value: int = 1) -> None:
        """Add to a figure."""
        self.figures[figure] = self.figures.get(figure, 0) + value

    def most(self, figure: str, value: int) -> None:
        """Keep the largest of a figure's values."""
        self.figures[figure] = max(self.figures.get(figure, 0), value)

    def step(self) -> None:
        """One more try is over."""
        self._done += 1
        self._tell(self._done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one proof is made with; *planted* are misses that it must find."""

    folder: Path  # of its own
    counts: Counts
    random: random.Random
    ledger: Ledger
    planted: frozenset[Kind] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One of Tailrace's promises and how it is tried."""

    name: str
    title: str  # "{}" is the number of tries
    judges: tuple[Kind, ...]
    plants: tuple[Kind, ...]  # of those the ones that it can make on purpose
    size: Callable[[Counts], int]
    prove: Callable[[Trial], Awaitable[None]]
