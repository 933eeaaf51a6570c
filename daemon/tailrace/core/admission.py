"""Which runs may start: the most at once, concurrency groups, and what a newer run does to others.

Pure: the worker asks after every change and does what it is told. Asking again
about the same runs gives the same answer, so nothing is forgotten when a daemon
restarts between deciding and doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

WAITS_ELSEWHERE: Final = "waits for its group in another `tailrace`; stop that one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A run as far as its admission goes."""

    run_id: str
    ref: str
    pipeline: str
    group: str | None = None  # per pipeline; "": all its runs; None: it excludes nobody
    on_conflict: Literal["queue", "cancel-running", "skip"] = "queue"
    waits: bool = False  # it runs, and all that runs of it waits for people: it holds no place

    @property
    def excludes(self) -> tuple[str, str] | None:
        """What only one run at a time may have."""
        return None if self.group is None else (self.pipeline, self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now."""

    start: tuple[str, ...]  # ids of queued runs, in order
    superseded: dict[str, Entry]  # id of a run to end -> the newer run that replaces it


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a new run stands."""

    position: int  # 0: it may start at once
    reason: str | None = None  # why not
    skip: bool = False  # it must not be made at all


def decide(running: Sequence[Entry], queued: Sequence[Entry], *, max_runs: int) -> Decision:
    """Return which of the *queued* (in creation order) start, and which runs a newer one ends.

    In a group one run at a time runs, in creation order; who waits for its
    group doesn't hold up others. A run that is superseded counts as running
    until it has ended. One that waits for people goes on at once when they
    answer, so that more than *max_runs* may run for a while.
    """
    superseded = _superseded(running, queued)
    busy = {entry.excludes for entry in running} - {None}
    free = max_runs - sum(not entry.waits for entry in running)
    start: list[str] = []
    for entry in queued:
        if free <= 0:
            break
        if entry.run_id in superseded or entry.excludes in busy:
            continue
        start.append(entry.run_id)
        free -= 1
        if entry.excludes is not None:
            busy.add(entry.excludes)
    return Decision(start=tuple(start), superseded=superseded)


def _superseded(running: Sequence[Entry], queued: Sequence[Entry]) -> dict[str, Entry]:
    replacers: dict[tuple[str, str], tuple[int, Entry]] = {}
    for place, entry in enumerate(queued):
        if entry.on_conflict == "cancel-running" and entry.excludes is not None:
            replacers[entry.excludes] = place, entry  # the newest wins
    if not replacers:
        return {}
    ended: dict[str, Entry] = {}
    for place, entry in (*((-1, run) for run in running), *enumerate(queued)):
        if entry.excludes in replacers and place < replacers[entry.excludes][0]:
            ended[entry.run_id] = replacers[entry.excludes][1]
    return ended


def place(new: Entry, running: Sequence[Entry], queued: Sequence[Entry], *, max_runs: int) -> Place:
    """Return where *new* would stand if it were made now, behind all the *queued*."""
    rivals = [run for run in (*running, *queued) if run.excludes is not None]
    rivals = [run for run in rivals if run.excludes == new.excludes]
    if rivals and new.on_conflict == "skip":
        return Place(position=0, skip=True, reason=f"{rivals[0].ref}{_of_group(new)} is not done")
    decision = decide(running, [*queued, new], max_runs=max_runs)
    if new.run_id in decision.start:
        return Place(position=0)
    leaving = {*decision.superseded, *decision.start}
    ahead = sum(run.run_id not in leaving for run in queued)
    if rivals:
        verb = "replaces" if new.on_conflict == "cancel-running" else "waits for"
        reason = f"{verb} {rivals[-1].ref}{_of_group(new)}"
    elif ahead:
        reason = f"{ahead} {'run is' if ahead == 1 else 'runs are'} ahead"
    else:
        reason = f"{len(running)} running, the most at once is {max_runs} (max_runs)"
    return Place(position=ahead + 1, reason=reason)


def _of_group(entry: Entry) -> str:
    return f" of group '{entry.group}'" if entry.group else ""
