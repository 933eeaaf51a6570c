"""Scheduled runs: each time once, over restarts, deaths, changed clocks and changed files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from tailrace import wire
from tailrace.errors import UnavailableError
from tailrace.pipeline.catalog import Catalog
from tailrace.rundir.snapshot import read_run_file
from tailrace.store.marks import ScheduleMarks
from tailrace.worker.schedule import Scheduler
from tailrace.worker.submission import Started, Submission
from yard import Yard, until

NIGHT = "30 4 * * *"


def at(text: str) -> float:
    """A moment of 2026, in UTC: ``03-01 04:30``."""
    return datetime.fromisoformat(f"2026-{text}Z").timestamp()


class Office:
    """Schedulers over one folder, one after the other; the test is clock and acceptor."""

    def __init__(self, path: Path) -> None:
        self.folder = path / "pipelines"
        self.folder.mkdir()
        self.catalog = Catalog(self.folder)
        self.database = path / "state.db"
        self.now_s = at("03-01 00:00")
        self.asked: list[Submission] = []
        self.refusal: Exception | None = None
        self.answer: asyncio.Future[Started] | None = None  # None: at once
        self._marks: ScheduleMarks | None = None
        self.open()

    def open(self) -> None:
        """Start a scheduler; the one before has died wherever it was."""
        self.close()
        self._marks = ScheduleMarks(self.database)
        self.scheduler = Scheduler(
            lambda: self.catalog, self._marks, self._submit, self._find, lambda: self.now_s
        )

    def close(self) -> None:
        """Close the file."""
        if self._marks is not None:
            self._marks.close()

    def write(self, name: str, schedule: str, more: str = "") -> None:
        """Write a pipeline."""
        text = f"on: {{schedule: {schedule}}}\n{more}\nsteps: {{only: {{run: 'true'}}}}\n"
        new = self.folder / ".new"
        new.write_text(text)
        new.replace(self.folder / f"{name}.yaml")

    async def _submit(self, submission: Submission) -> Started:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(submission)
        return await self.answer if self.answer is not None else Started(f"run{len(self.asked)}")

    def _find(self, key: str) -> str | None:
        keys = [submission.key for submission in self.asked]
        return f"run{keys.index(key) + 1}" if key in keys else None

    async def until(self, moment: str) -> list[tuple[str, str]]:
        """Look around at that moment; return the runs that it started: pipeline and time."""
        before = len(self.asked)
        self.now_s = at(moment)
        await self.scheduler.look_around()
        return [
            (s.pipeline, s.event["raw"]["time"][5:16].replace("T", " "))
            for s in self.asked[before:]
            if s.event is not None
        ]

    def view(self, name: str) -> wire.ScheduleView:
        """The pipeline's first schedule as it is shown."""
        return self.scheduler.timetable(self.catalog.get(name))[0]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """An empty one."""
    office = Office(tmp_path)
    yield office
    office.close()


async def test_a_time_starts_one_run_with_what_its_schedule_says(office: Office) -> None:
    """It comes from nobody who is trusted, and its event says what it was."""
    office.write(
        "night", f"[{{cron: '{NIGHT}', timezone: Europe/Berlin, params: {{n: 3}}, depth: deep}}]",
        "params: {n: {type: integer}}\ndepths: {fast: {}, deep: {}}",
    )  # fmt: skip
    assert await office.until("03-01 03:29") == []
    assert office.view("night").next_run_at == "2026-03-01T03:30:00.000Z"
    assert await office.until("03-01 03:30:01") == [("night", "03-01 03:30")]
    assert await office.until("03-01 03:30:03") == []
    (asked,) = office.asked
    assert (asked.params, asked.depth, asked.trusted) == ({"n": 3}, "deep", False)
    assert (asked.by, asked.via) == ("schedule", "schedule")
    assert asked.event is not None
    assert (asked.event["kind"], asked.event["branch"]) == ("schedule", None)
    assert asked.event["raw"] == {
        "cron": NIGHT, "timezone": "Europe/Berlin", "time": "2026-03-01T03:30:00.000Z",
        "made_up": False,
    }  # fmt: skip
    view = office.view("night")
    assert (view.next_run_at, view.last_run) == ("2026-03-02T03:30:00.000Z", "run1")


async def test_it_looks_again_when_the_next_time_comes_and_soon_in_any_case(office: Office) -> None:
    """A time isn't late, and a change is noticed."""
    office.write("p", "'* * * * *'")
    office.now_s = at("03-01 00:00:59.5")
    assert await office.scheduler.look_around() == pytest.approx(0.5)
    office.now_s = at("03-01 00:01:02")
    assert await office.scheduler.look_around() == 2.0


@pytest.mark.parametrize(("catch_up", "runs"), [("skip", []), ("once", [("p", "03-04 04:30")])])
async def test_what_came_while_no_daemon_lived(
    office: Office, catch_up: str, runs: list[tuple[str, str]]
) -> None:
    """It is skipped, or made up for by one run, also when daemons come and go after it."""
    office.write("p", f"[{{cron: '{NIGHT}', catch_up: {catch_up}}}]")
    await office.until("03-01 12:00")
    office.open()
    with structlog.testing.capture_logs() as told:
        assert await office.until("03-04 12:00") == runs
    (missed,) = (entry for entry in told if entry["event"] == "schedule_missed")
    assert (missed["first"][:10], missed["last"][:10]) == ("2026-03-02", "2026-03-04")
    for _ in range(2):
        office.open()
        assert await office.until("03-04 12:01") == []
    assert await office.until("03-05 04:30") == [("p", "03-05 04:30")]


async def test_a_schedule_that_is_new_makes_up_for_nothing(office: Office) -> None:
    """Its times begin when it is first seen, and are kept from then on."""
    await office.until("03-01 12:00")
    office.write("p", f"[{{cron: '{NIGHT}', catch_up: once}}]")
    office.open()
    assert await office.until("03-04 12:00") == []
    office.open()
    assert await office.until("03-05 12:00") == [("p", "03-05 04:30")]


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_daemon_that_dies_while_it_asks_for_a_run_leaves_one(
    office: Office, accepted: bool
) -> None:
    """The next one finds the run by its key, or asks again."""
    office.write("p", f"'{NIGHT}'")
    await office.until("03-01 04:29")
    office.answer = asyncio.get_running_loop().create_future()
    office.now_s = at("03-01 04:30")
    asking = asyncio.create_task(office.scheduler.look_around())
    await until(lambda: office.asked, "the submission")
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    office.answer = None
    if not accepted:
        office.asked.clear()
    office.open()
    await office.until("03-01 04:30:20")
    assert [s.pipeline for s in office.asked] == ["p"]
    assert office.view("p").last_run == "run1"
    office.open()
    assert await office.until("03-01 04:30:30") == []


async def test_what_is_refused_because_the_daemon_stops_is_the_next_ones(office: Office) -> None:
    """It isn't counted as refused, and not lost."""
    office.write("p", f"'{NIGHT}'")
    await office.until("03-01 04:29")
    office.answer = asyncio.get_running_loop().create_future()
    office.now_s = at("03-01 04:30")
    asking = asyncio.create_task(office.scheduler.look_around())
    await until(lambda: office.asked, "the submission")
    office.scheduler.stop()
    office.answer.set_exception(UnavailableError("the daemon is stopping", retry_after_s=1))
    await asking
    assert office.scheduler.refusals == 0
    office.answer = None
    office.asked.clear()
    office.open()
    assert await office.until("03-01 04:30:20") == [("p", "03-01 04:30")]


async def test_a_clock_that_is_put_back_starts_nothing_twice(office: Office) -> None:
    """A little or a lot; times that it hasn't had come."""
    office.write("p", "'0 * * * *'")
    await office.until("03-01 09:59")
    assert await office.until("03-01 10:00") == [("p", "03-01 10:00")]
    assert await office.until("03-01 09:58") == []
    assert await office.until("03-01 10:00") == []
    assert await office.until("03-01 11:00") == [("p", "03-01 11:00")]
    assert await office.until("03-01 08:30") == []
    assert await office.until("03-01 09:00") == [("p", "03-01 09:00")]
    for hour in ("10", "11"):
        assert await office.until(f"03-01 {hour}:00") == []
    assert await office.until("03-01 12:00") == [("p", "03-01 12:00")]


async def test_a_clock_that_was_years_ahead_is_forgotten(office: Office) -> None:
    """The daemon is restarted with the right time."""
    office.write("p", f"[{{cron: '{NIGHT}', catch_up: once}}]")
    office.now_s = at("03-01 12:00") + 9 * 366 * 86_400
    await office.scheduler.look_around()
    office.open()
    assert await office.until("03-01 12:00") == []
    assert office.view("p").next_run_at == "2026-03-02T04:30:00.000Z"
    assert await office.until("03-02 04:30") == [("p", "03-02 04:30")]


async def test_a_file_that_changes_counts_at_once(office: Office) -> None:
    """A broken one isn't scheduled, and says so once; mended, its schedules go on."""
    office.write("p", f"[{{cron: '{NIGHT}', catch_up: once}}]")
    await office.until("03-01 12:00")
    office.write("p", f"[{{cron: '{NIGHT}', catch_up: once}}, '0 13 * * *']")
    assert await office.until("03-01 12:01") == []
    assert await office.until("03-01 13:00") == [("p", "03-01 13:00")]

    office.write("p", "'0 25 * * *'")
    with structlog.testing.capture_logs() as told:
        assert await office.until("03-02 04:30") == []
        assert await office.until("03-02 04:31") == []
    assert [(e["event"], e["pipeline"]) for e in told] == [("pipeline_not_scheduled", "p")]
    assert "hour" in told[0]["mistake"]

    office.write("p", f"[{{cron: '{NIGHT}', catch_up: once}}]")
    assert await office.until("03-02 05:00") == [("p", "03-02 04:30")]
    (office.folder / "p.yaml").unlink()
    assert await office.until("03-03 04:30") == []
    assert office.scheduler.followed == 0


async def test_what_a_run_gets_may_be_edited_and_moved(office: Office) -> None:
    """A schedule is known by its times: none of them is forgotten, or comes twice."""
    params = "params: {n: {type: integer, default: 0}}"
    two = f"{{cron: '{NIGHT}', params: {{n: 1}}}}, {{cron: '{NIGHT}', params: {{n: 2}}}}"
    office.write("p", f"[{two}]", params)
    await office.until("03-01 04:29")
    assert len(await office.until("03-01 04:30")) == 2
    assert [s.params for s in office.asked] == [{"n": 1}, {"n": 2}]
    office.write("p", f"['0 1 * * *', {{cron: '{NIGHT}', params: {{n: 3}}}}]", params)
    assert await office.until("03-01 04:30:30") == []
    await office.until("03-02 04:29")
    assert await office.until("03-02 04:30") == [("p", "03-02 04:30")]
    assert office.asked[-1].params == {"n": 3}


async def test_a_time_that_is_refused_is_told_and_over(office: Office) -> None:
    """In the log, in the figures, and with the pipeline, until a run starts again."""
    office.write("p", f"'{NIGHT}'")
    await office.until("03-01 04:29")
    office.refusal = UnavailableError("10000 runs wait already (max_queued)", retry_after_s=1)
    with structlog.testing.capture_logs() as told:
        assert await office.until("03-01 04:30") == []
    (entry,) = (entry for entry in told if entry["event"] == "schedule_refused")
    assert "max_queued" in entry["reason"]
    assert office.scheduler.refusals == 1
    assert "max_queued" in (office.view("p").refusal or "")
    office.open()
    office.refusal = None
    assert await office.until("03-01 04:31") == []
    assert "max_queued" in (office.view("p").refusal or "")
    await office.until("03-02 04:30")
    assert (office.view("p").refusal, office.view("p").last_run) == (None, "run1")


async def test_marks_that_cannot_be_written_stop_nothing(office: Office) -> None:
    """It goes on by what it remembers, and keeps it when the file can be written again."""
    office.write("p", "'* * * * *'")
    await office.until("03-01 00:00:30")
    with contextlib.closing(sqlite3.connect(office.database, isolation_level=None)) as db:
        db.execute("ALTER TABLE schedule_marks RENAME TO away")
        assert await office.until("03-01 00:01") == [("p", "03-01 00:01")]
        assert await office.until("03-01 00:01:30") == []
        db.execute("ALTER TABLE away RENAME TO schedule_marks")
    await office.until("03-01 00:01:32")
    marks = ScheduleMarks(office.database)
    assert [mark.run for mark in marks.all().values()] == ["run1"]
    marks.close()


# ---- with a worker ---------------------------------------------------------------------------


class Clock:
    """Stands still until it is set."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """The seconds since 1970."""
        return self.now_s


@contextlib.asynccontextmanager
async def followed(yard: Yard, clock: Clock, **more: Any) -> AsyncIterator[Any]:
    """A worker that follows one schedule."""
    async with yard.worker(clock=clock, **more) as worker:

        async def is_followed() -> bool:
            return (await worker.gauges())["schedules"] == 1

        while not await is_followed():  # noqa: ASYNC110 - only its figures tell
            await asyncio.sleep(0.01)
        yield worker


async def test_a_daemon_runs_what_its_timetable_says_over_restarts(yard: Yard) -> None:
    """A real run, untrusted, with its event; a restart at the same minute starts no other."""
    yard.pipeline("p", 'echo "$KIND"', env='{KIND: "${{ event.kind }} ${{ event.raw.time }}"}',
                  on="{schedule: '* * * * *'}")  # fmt: skip
    clock = Clock(at("03-01 04:29:59.99"))
    async with followed(yard, clock) as worker:
        assert worker.list()[0] == []
        clock.now_s = at("03-01 04:30")
        (row,) = await until(lambda: worker.list()[0], "the run")
        await yard.settled(row.id)
        assert (row.ref, row.via, row.by) == ("p/1", "schedule", "schedule")
        (view,) = worker.timetable(yard.catalog.get("p"))
        await until(lambda: worker.timetable(yard.catalog.get("p"))[0].last_run, "its mark")
        assert view.next_run_at == "2026-03-01T04:31:00.000Z"
    run = yard.state.run(row.id)
    assert run.log("only", 1).read_text() == "schedule 2026-03-01T04:30:00.000Z\n"
    assert read_run_file(run).trusted is False

    yard.state.state_db.unlink()  # the mark is lost; the run's folder knows
    clock.now_s = at("03-01 04:29:59.99")
    async with followed(yard, clock) as worker:
        clock.now_s = at("03-01 04:30:02")
        await until(lambda: worker.timetable(yard.catalog.get("p"))[0].last_run == row.id, "it")
        assert len(worker.list()[0]) == 1


async def test_a_scheduled_clone_may_reach_only_what_the_settings_allow(
    yard: Yard, tmp_path: Path
) -> None:
    """A local path is for who owns the machine, and a schedule doesn't; it is told."""
    (yard.pipelines / "p.yaml").write_text(
        f"on: {{schedule: '* * * * *'}}\nsteps: {{only: {{clone: {{url: 'file://{tmp_path}'}}}}}}\n"
    )
    clock = Clock(at("03-01 04:29:59.99"))
    async with followed(yard, clock) as worker:
        clock.now_s = at("03-01 04:30")
        refusal = await until(
            lambda: worker.timetable(yard.catalog.get("p"))[0].refusal, "the refusal"
        )
        assert "git." in refusal
        assert worker.list()[0] == []
        assert (await worker.gauges())["schedule_refusals"] == 1
        assert msgspec.json.encode(worker.timetable(yard.catalog.get("p")))
