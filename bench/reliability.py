"""The proofs of ``tailrace prove``, with counts that take minutes."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure, Goal
from tailrace.prove.course import prove_all
from tailrace.prove.proof import KINDS, QUICK, Counts, Proof, Verdict, words_for

_MANY = Counts(daemon_kills=100, runner_kills=50, cancels=200, watchers=200)
_NONE = Goal(kind="most", limit=0)

# The figures of a proof that are worth a row: name, unit, what it is.
_TOLD = {
    "daemon-kills": (("longest_absence_ms", "ms", "from a kill to the next daemon that serves"),),
    "cancels": (("longest_stop_ms", "ms", "from a cancel to the run's end"),),
    "runner-kills": (("longest_end_ms", "ms", "from a runner's death to its run's end"),),
}


def measure(*, quick: bool) -> list[Figure]:
    """Return what was missed, which must be nothing, and the longest times.

    Raises:
        RuntimeError: something was missed; with what it was.
    """
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        verdict = asyncio.run(
            prove_all(Path(folder), QUICK if quick else _MANY, seed=random.randrange(1 << 32))
        )
    if not verdict.passed:
        missed = [miss.what for proof in verdict.proofs for miss in proof.misses]
        raise RuntimeError(f"{verdict.line} (seed {verdict.seed}): {'; '.join(missed[:5])}")
    return list(_figures(verdict))


def _figures(verdict: Verdict) -> Iterator[Figure]:
    for kind in KINDS:
        tried = [proof.title for proof in verdict.proofs if kind in proof.judges]
        note = f"{'; '.join(tried)}; containment: {words_for(verdict.containments)}"
        yield Figure(name=kind, value=verdict.missed(kind), unit="", goal=_NONE, note=note)
    for proof in verdict.proofs:
        yield from _times(proof)


def _times(proof: Proof) -> Iterator[Figure]:
    for name, unit, what in _TOLD.get(proof.name, ()):
        note = f"{what}; {', '.join(proof.evidence[:2])}"
        yield Figure(
            name=name.removesuffix("_ms").replace("_", " "), value=proof.figures[name], unit=unit,
            note=note,
        )  # fmt: skip
