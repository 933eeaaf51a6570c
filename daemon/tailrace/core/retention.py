"""What is kept of finished runs, their workspaces and the caches, and what goes: pure rules.

Whichever bound is reached first counts, and the oldest go first. Nothing that
a live run needs ever goes, nor the last success of a pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Why = Literal["age", "runs", "bytes", "done", "orphan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run, as far as keeping it goes."""

    id: str  # sorts by creation
    pipeline: str
    status: str
    ended_s: float | None  # seconds since 1970; None while it is live
    workspace: str  # id of the run whose workspace it works in
    keeps_workspace: bool = False  # also after a success
    uses: frozenset[str] = frozenset()  # ids of the runs whose results it takes over
    size: int = 0  # bytes of its folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What may stay."""

    age_s: float
    runs: int  # finished ones of a pipeline
    bytes: int  # of all run folders together
    workspaces_s: float  # after the end of the last run that worked in it
    workspace_bytes: int  # of all kept workspaces together
    cache_bytes: int  # of a pipeline's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A file or folder that lies directly in a pipeline's cache."""

    name: str
    size: int
    used_s: float


def runs_to_remove(runs: Iterable[RunFacts], bounds: Bounds, now_s: float) -> dict[str, Why]:
    """Return the ids of the runs that go, oldest first, each with the bound that it exceeds.

    Live runs, what they take over from, and each pipeline's last success stay,
    and count.
    """
    runs = list(runs)
    # The end decides what is old: a run may wait for days before it starts.
    newest = sorted(runs, key=lambda run: (run.ended_s or 0.0, run.id), reverse=True)
    held = _held(newest)
    going: dict[str, Why] = {}
    kept: Counter[str] = Counter()
    for run in newest:
        if run.ended_s is None:
            continue
        kept[run.pipeline] += 1
        if run.id in held:
            continue
        if run.ended_s + bounds.age_s <= now_s:
            going[run.id] = "age"
        elif kept[run.pipeline] > bounds.runs:
            going[run.id] = "runs"
    total = sum(run.size for run in runs if run.id not in going)
    for run in reversed(newest):
        if total <= bounds.bytes:
            break
        if run.ended_s is not None and run.id not in held and run.id not in going:
            going[run.id] = "bytes"
            total -= run.size
    return {run.id: going[run.id] for run in reversed(newest) if run.id in going}


def _held(newest: Sequence[RunFacts]) -> set[str]:
    """Return the ids of the runs that no bound reaches."""
    held: set[str] = set()
    succeeded: set[str] = set()
    for run in newest:
        if run.ended_s is None:
            held |= run.uses
        elif run.status == "success" and run.pipeline not in succeeded:
            succeeded.add(run.pipeline)
            held.add(run.id)
    return held


def workspaces_to_remove(
    sizes: Mapping[str, int], runs: Iterable[RunFacts], bounds: Bounds, now_s: float
) -> dict[str, Why]:
    """Return the workspaces that go, oldest first, of those in *sizes* (bytes by run id).

    *runs* are those that stay. A workspace goes when the last run that worked
    in it succeeded (and wasn't told to keep it), or is gone; one of a failed
    run stays for a while, so that it can be repeated.
    """
    users: dict[str, list[RunFacts]] = {}
    for run in runs:
        users.setdefault(run.workspace, []).append(run)
    going: dict[str, Why] = {}
    kept: list[tuple[float, str]] = []
    for name in sorted(sizes):
        ends = [run.ended_s for run in users.get(name, ()) if run.ended_s is not None]
        if len(ends) < len(users.get(name, ())):
            continue  # a live run works in it
        if not ends:
            going[name] = "orphan"
            continue
        last = max(users[name], key=lambda run: (run.ended_s or 0.0, run.id))
        if last.status == "success" and not last.keeps_workspace:
            going[name] = "done"
        elif max(ends) + bounds.workspaces_s <= now_s:
            going[name] = "age"
        else:
            kept.append((max(ends), name))
    total = sum(sizes[name] for _, name in kept)
    for _, name in sorted(kept):
        if total <= bounds.workspace_bytes:
            break
        going[name] = "bytes"
        total -= sizes[name]
    return going


def cache_entries_to_remove(entries: Iterable[CacheEntry], bounds: Bounds) -> list[str]:
    """Return the entries of one pipeline's cache that go, the least recently used first."""
    oldest = sorted(entries, key=lambda entry: (entry.used_s, entry.name))
    total = sum(entry.size for entry in oldest)
    going = []
    for entry in oldest:
        if total <= bounds.cache_bytes:
            break
        going.append(entry.name)
        total -= entry.size
    return going
