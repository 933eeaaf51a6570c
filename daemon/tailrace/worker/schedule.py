"""Starts the runs of ``on.schedule``, each time once, whatever becomes of daemon and clock.

The rules are in `tailrace.core.schedule`. A time's run carries a key made of
pipeline, schedule and time, so that its folder tells that it was started even
where the mark in ``state.db`` couldn't be kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from tailrace import wire
from tailrace.core.schedule import Look, Mark, look, upcoming, was_set_back
from tailrace.errors import TailraceError, UnavailableError
from tailrace.pipeline.catalog import Catalog, Entry
from tailrace.pipeline.cron import Cron
from tailrace.pipeline.model import Pipeline, Schedule
from tailrace.pipeline.paths import blank_event
from tailrace.store.marks import ScheduleMarks
from tailrace.worker.submission import Started, Submission

log = structlog.get_logger()

_LOOK_S: Final = 2.0  # how soon a changed file or a changed clock is noticed
_LEAST_S: Final = 0.001  # a sleep may end a little before its time

Name = tuple[str, str]  # of a pipeline, and of a schedule within it


@dataclass(slots=True)
class _Followed:
    """A schedule of a pipeline without mistakes."""

    schedule: Schedule
    cron: Cron
    mark: Mark
    since_s: float  # followed without a gap
    next_s: float | None
    is_kept: bool = True  # the mark is in state.db


class Scheduler:
    """The timetable of all pipelines. Belongs to one event loop.

    ``find`` returns the id of the run that a key started, however long ago;
    ``clock`` the seconds since 1970.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        marks: ScheduleMarks,
        submit: Callable[[Submission], Awaitable[Started]],
        find: Callable[[str], str | None],
        clock: Callable[[], float],
    ) -> None:
        """Read the marks.

        Raises:
            UnavailableError: they can't be read.
        """
        self._catalog = catalog
        self._marks = marks
        self._submit = submit
        self._find = find
        self._clock = clock
        self._known = marks.all()  # of schedules that aren't followed now
        self._followed: dict[Name, _Followed] = {}
        self._entries: dict[str, Entry] = {}  # as they were last looked at
        self._stopping = False
        self._can_keep = True
        self.refusals = 0  # times that started no run, since this daemon started

    @property
    def followed(self) -> int:
        """How many schedules there are."""
        return len(self._followed)

    def stop(self) -> None:
        """Begin nothing more; what is refused because the daemon stops is the next one's."""
        self._stopping = True

    async def keep(self) -> None:
        """Start runs when their times come, until cancelled."""
        while True:
            try:
                wait_s = await self.look_around()
            except Exception:  # the boundary: a bug in one look must not end all schedules
                log.exception("schedule_failed")
                wait_s = _LOOK_S
            await asyncio.sleep(wait_s)

    async def look_around(self) -> float:
        """See to everything that is due; return how long nothing will be, at most `_LOOK_S`."""
        self._follow()
        for name, followed in sorted(self._followed.items()):
            if self._stopping:
                break
            if not followed.is_kept:
                self._keep_mark(name, followed, followed.mark)
            now_s = self._clock()
            followed.since_s = min(followed.since_s, now_s)
            due = followed.next_s is not None and followed.next_s <= now_s
            if due or was_set_back(followed.mark, now_s=now_s):
                await self._see_to(name, followed, now_s)
        coming = [each.next_s for each in self._followed.values() if each.next_s is not None]
        return max(_LEAST_S, min([_LOOK_S, *(at_s - self._clock() for at_s in coming)]))

    # ---- what there is -----------------------------------------------------------------------

    def _follow(self) -> None:
        """Follow the schedules that the files have now."""
        entries = {entry.name: entry for entry in self._catalog().entries()}
        for name in self._entries.keys() - entries.keys():
            self._leave(name)  # its marks stay: it may come back
        for name, entry in entries.items():
            if self._entries.get(name) is entry:
                continue
            if entry.pipeline is None:
                self._leave(name)
                log.warning("pipeline_not_scheduled", pipeline=name, mistake=str(entry.problems[0]))
            else:
                self._take_up(entry.pipeline)
        self._entries = entries

    def _leave(self, pipeline: str) -> None:
        for name in [name for name in self._followed if name[0] == pipeline]:
            self._known[name] = self._followed.pop(name).mark

    def _take_up(self, pipeline: Pipeline) -> None:
        now_s = self._clock()
        named = _named(pipeline)
        for name in named.keys() - self._followed.keys():
            cron = Cron(named[name].cron, named[name].timezone)
            mark = self._known.pop(name, None)
            followed = _Followed(named[name], cron, mark or Mark(done_s=now_s), now_s, None)
            followed.next_s = cron.next_after(followed.mark.done_s)
            self._followed[name] = followed
            if mark is None:
                self._keep_mark(name, followed, followed.mark)
        for name in [n for n in self._followed if n[0] == pipeline.name and n not in named]:
            del self._followed[name]
        for name in [n for n in self._known if n[0] == pipeline.name and n not in named]:
            del self._known[name]
            try:
                self._marks.remove(*name)
            except UnavailableError as exc:
                log.warning("schedule_mark_not_removed", schedule=name[1], reason=str(exc))
        for name, schedule in named.items():
            self._followed[name].schedule = schedule

    # ---- what is due -------------------------------------------------------------------------

    async def _see_to(self, name: Name, followed: _Followed, now_s: float) -> None:
        found = look(
            followed.mark,
            followed.cron.next_after,
            now_s=now_s,
            followed_s=followed.since_s,
            catch_up=followed.schedule.catch_up,
        )
        pipeline, schedule = name
        if found.set_back:
            log.warning("clock_set_back", pipeline=pipeline, schedule=schedule)
        if found.missed_from_s is not None and found.missed_to_s is not None:
            log.warning(
                "schedule_missed", pipeline=pipeline, schedule=schedule,
                first=wire.timestamp(found.missed_from_s), last=wire.timestamp(found.missed_to_s),
                catch_up=followed.schedule.catch_up,
            )  # fmt: skip
        mark = replace(followed.mark, done_s=found.done_s, begun_s=None)
        if found.run_s is not None:
            begun = await self._start(name, followed, found, found.run_s)
            if begun is None:
                return
            mark = replace(mark, run=begun.run_id or mark.run, refusal=begun.reason)
        followed.next_s = found.next_s
        self._keep_mark(name, followed, mark)

    async def _start(
        self, name: Name, followed: _Followed, found: Look, at_s: float
    ) -> Started | None:
        """Start a time's run; return what became of it, None to leave it to the next daemon."""
        pipeline, schedule = name
        # No token's name begins so: nobody else's key can be the same.
        key = f"/schedule:{pipeline}:{schedule}:{wire.timestamp(at_s)}"
        if run_id := self._find(key):
            return Started(run_id, repeated=True)
        self._keep_mark(name, followed, replace(followed.mark, begun_s=at_s))
        try:
            started = await self._submit(_submission(pipeline, followed.schedule, found, at_s, key))
        except (TailraceError, OSError) as exc:
            started = Started(None, str(exc))
        if started.run_id is not None:
            log.info(
                "schedule_started", pipeline=pipeline, schedule=schedule, run_id=started.run_id
            )
        elif self._stopping:
            return None
        else:
            self.refusals += 1
            log.warning(
                "schedule_refused", pipeline=pipeline, schedule=schedule,
                time=wire.timestamp(at_s), reason=started.reason,
            )  # fmt: skip
        return started

    def _keep_mark(self, name: Name, followed: _Followed, mark: Mark) -> None:
        """Keep a mark in memory, and on disk as soon as that takes it."""
        followed.mark = mark
        try:
            self._marks.put(*name, mark)
        except UnavailableError as exc:
            followed.is_kept = False
            if self._can_keep:
                log.warning("schedule_marks_not_kept", reason=str(exc))
            self._can_keep = False
            return
        followed.is_kept = True
        if not self._can_keep:
            log.info("schedule_marks_kept_again")
        self._can_keep = True

    # ---- what is shown -----------------------------------------------------------------------

    def timetable(self, pipeline: Pipeline) -> tuple[wire.ScheduleView, ...]:
        """Return a pipeline's schedules with their next time and what became of the last one."""
        views = []
        for name, schedule in _named(pipeline).items():
            followed = self._followed.get(name)
            mark = followed.mark if followed else self._known.get(name, Mark(done_s=0))
            cron = Cron(schedule.cron, schedule.timezone)
            next_s = upcoming(mark, cron.next_after, now_s=self._clock())
            views.append(
                wire.ScheduleView(
                    cron=schedule.cron,
                    timezone=schedule.timezone,
                    catch_up=schedule.catch_up,
                    next_run_at=None if next_s is None else wire.timestamp(next_s),
                    last_run=mark.run,
                    refusal=mark.refusal,
                )
            )
        return tuple(views)


def _named(pipeline: Pipeline) -> dict[Name, Schedule]:
    """Return a pipeline's schedules by name.

    The name says when they are: what a run gets may be edited, and their place
    in the list, without any of their times being forgotten or coming twice.
    """
    seen: Counter[str] = Counter()
    named = {}
    for schedule in pipeline.on.schedule:
        when = f"{' '.join(schedule.cron.split())} {schedule.timezone}"
        seen[when] += 1
        more = f" #{seen[when]}" if seen[when] > 1 else ""
        named[pipeline.name, when + more] = schedule
    return named


def _submission(
    pipeline: str, schedule: Schedule, found: Look, at_s: float, key: str
) -> Submission:
    raw = {
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "time": wire.timestamp(at_s),
        "made_up": found.made_up,
    }
    return Submission(
        pipeline=pipeline,
        params=dict(schedule.params),
        depth=schedule.depth,
        by="schedule",
        via="schedule",
        key=key,
        event={**blank_event("schedule"), "raw": raw},
    )
