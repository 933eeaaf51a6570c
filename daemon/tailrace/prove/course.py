"""All proofs, one after the other, each in a folder of its own."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from tailrace import __version__, wire
from tailrace.prove import canaries, cancels, daemon_kills, runner_kills, watchers
from tailrace.prove.proof import Counts, Kind, Ledger, Promise, Proof, ProofError, Trial, Verdict

PROMISES: Final[tuple[Promise, ...]] = (
    daemon_kills.PROMISE,
    watchers.PROMISE,
    cancels.PROMISE,
    runner_kills.PROMISE,
    canaries.PROMISE,
)

Tell = Callable[[Promise, int, int], None]  # a proof, how many tries are over, of how many


async def prove_all(
    folder: Path,
    counts: Counts,
    *,
    seed: int,
    tell: Tell = lambda promise, done, size: None,
    ended: Callable[[Proof], None] = lambda proof: None,
    planted: Collection[Kind] = (),
    promises: Sequence[Promise] = PROMISES,
) -> Verdict:
    """Make all proofs below *folder* and return what came out.

    The same *seed* draws the same moments, signals and secrets. *planted* are
    misses that are made on purpose, by each promise that ``plants`` them, and
    must be found. Cancelling it ends everything that was started, and then raises.

    Raises:
        ProofError: a proof can't be made on this machine.
    """
    began, began_at = time.monotonic(), wire.timestamp(time.time())
    proofs = []
    for promise in promises:
        proof = await _prove(promise, folder, counts, seed, tell, frozenset(planted))
        proofs.append(proof)
        ended(proof)
    return Verdict(
        proofs=tuple(proofs),
        seed=seed,
        began_at=began_at,
        duration_ms=round((time.monotonic() - began) * 1000),
        version=__version__,
        machine=_machine(),
    )


async def _prove(
    promise: Promise, folder: Path, counts: Counts, seed: int, tell: Tell,
    planted: frozenset[Kind],
) -> Proof:  # fmt: skip
    began, size = time.monotonic(), promise.size(counts)
    tell(promise, 0, size)
    ledger = Ledger(lambda done: tell(promise, min(done, size), size))
    trial = Trial(
        folder=folder / promise.name,
        counts=counts,
        random=random.Random(f"{seed} {promise.name}"),
        ledger=ledger,
        planted=planted & set(promise.plants),
    )
    trial.folder.mkdir()
    try:
        await promise.prove(trial)
    except* ProofError as group:
        raise _first(group) from None
    return Proof(
        name=promise.name,
        title=promise.title.format(size),
        tried=size,
        judges=promise.judges,
        misses=tuple(ledger.misses),
        evidence=tuple(ledger.evidence),
        notes=tuple(ledger.notes),
        figures=ledger.figures,
        containments=tuple(sorted(ledger.containments)),
        duration_ms=round((time.monotonic() - began) * 1000),
    )


def _first(group: ExceptionGroup[ProofError]) -> ProofError:
    """Return one error of a group: who sees several of them needs the first only."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, ExceptionGroup) else inner


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    return (
        f"{cores} core{'s' if cores != 1 else ''}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {platform.machine()}, as {user}"
    )
