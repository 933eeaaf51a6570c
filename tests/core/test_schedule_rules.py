"""Which of a schedule's times starts a run: met, missed, made up for, or seen to already."""

from __future__ import annotations

from tailrace.core.schedule import LATE_S, Mark, NextAfter, look, upcoming

HOUR = 3_600.0
DAY = 24 * HOUR
NOON = 1_000 * DAY + 12 * HOUR


def every(seconds: float) -> NextAfter:
    """A schedule of whole multiples of so many seconds."""
    return lambda after_s: (after_s // seconds + 1) * seconds


def test_a_time_that_has_come_starts_a_run_once() -> None:
    """Before it nothing is due, and afterwards it is seen to."""
    mark = Mark(done_s=NOON - HOUR)
    early = look(mark, every(HOUR), now_s=NOON - 1, followed_s=NOON - 600, catch_up="skip")
    assert (early.run_s, early.next_s, early.done_s) == (None, NOON, mark.done_s)

    met = look(mark, every(HOUR), now_s=NOON + 2, followed_s=NOON - 600, catch_up="skip")
    assert (met.run_s, met.made_up, met.missed_from_s) == (NOON, False, None)

    again = look(
        Mark(done_s=met.done_s), every(HOUR), now_s=NOON + 3, followed_s=0, catch_up="once"
    )
    assert (again.run_s, again.next_s) == (None, NOON + HOUR)


def test_what_came_while_nobody_followed_is_skipped_or_made_up_for_once() -> None:
    """However many there were; the run stands for the last of them."""
    mark = Mark(done_s=NOON - 5 * HOUR)
    skipped = look(mark, every(HOUR), now_s=NOON + 60, followed_s=NOON + 60, catch_up="skip")
    assert skipped.run_s is None
    made_up = look(mark, every(HOUR), now_s=NOON + 60, followed_s=NOON + 60, catch_up="once")
    assert (made_up.run_s, made_up.made_up) == (NOON, True)
    for found in (skipped, made_up):
        assert (found.missed_from_s, found.missed_to_s) == (NOON - 4 * HOUR, NOON)
        assert (found.done_s, found.next_s) == (NOON, NOON + HOUR)


def test_a_run_that_is_due_stands_for_what_was_missed_before_it() -> None:
    """One run, not two."""
    mark = Mark(done_s=NOON - 5 * HOUR)
    found = look(mark, every(HOUR), now_s=NOON + 1, followed_s=NOON - 1, catch_up="once")
    assert (found.run_s, found.made_up) == (NOON, False)
    assert (found.missed_from_s, found.missed_to_s) == (NOON - 4 * HOUR, NOON - HOUR)


def test_a_time_that_is_noticed_too_late_was_missed() -> None:
    """The machine slept, or the clock was put forward; a few minutes don't matter."""
    mark = Mark(done_s=NOON - 1)
    for late_s, runs in ((LATE_S, NOON), (LATE_S + 1, None)):
        found = look(mark, every(HOUR), now_s=NOON + late_s, followed_s=0, catch_up="skip")
        assert found.run_s == runs
    slept = look(mark, every(60), now_s=NOON + 30 * 60, followed_s=0, catch_up="skip")
    assert (slept.run_s, slept.missed_from_s) == (NOON + 30 * 60, NOON)


def test_a_time_whose_run_was_being_asked_for_as_the_daemon_died_is_met() -> None:
    """Also where nothing is made up for, if the next daemon comes soon."""
    mark = Mark(done_s=NOON - HOUR, begun_s=NOON)
    soon = look(mark, every(HOUR), now_s=NOON + 9, followed_s=NOON + 9, catch_up="skip")
    assert (soon.run_s, soon.made_up) == (NOON, False)
    late = look(mark, every(HOUR), now_s=NOON + 999, followed_s=NOON + 999, catch_up="skip")
    assert late.run_s is None
    newer = look(mark, every(60), now_s=NOON + 61, followed_s=NOON + 61, catch_up="skip")
    assert newer.run_s is None  # a newer time was missed, and it would stand for both


def test_a_clock_that_is_put_back_a_little_brings_no_time_twice() -> None:
    """What was seen to stays so; what is shown comes after it."""
    mark = Mark(done_s=NOON)
    found = look(mark, every(60), now_s=NOON - 59, followed_s=0, catch_up="once")
    assert (found.run_s, found.next_s, found.set_back) == (None, NOON + 60, False)
    assert upcoming(mark, every(60), now_s=NOON - 59) == NOON + 60


def test_a_clock_that_was_years_ahead_does_not_stop_schedules_for_years() -> None:
    """They go on from the right time."""
    mark = Mark(done_s=NOON + 3_000 * DAY)
    found = look(mark, every(HOUR), now_s=NOON + 1, followed_s=0, catch_up="once")
    assert (found.run_s, found.done_s, found.next_s) == (None, NOON + 1, NOON + HOUR)
    assert found.set_back
    assert upcoming(mark, every(HOUR), now_s=NOON + 1) == NOON + HOUR


def test_years_of_missed_minutes_are_passed_over_quickly() -> None:
    """They aren't walked through one by one."""
    asked: list[float] = []

    def minutes(after_s: float) -> float | None:
        asked.append(after_s)
        return every(60)(after_s)

    found = look(Mark(done_s=0), minutes, now_s=NOON, followed_s=NOON, catch_up="once")
    assert (found.run_s, found.missed_from_s) == (NOON, 60)
    assert len(asked) < 2_000


def test_rare_times_are_found_too() -> None:
    """Also one that was years ago, and none at all."""

    def single(after_s: float) -> float | None:
        return DAY if after_s < DAY else None

    found = look(Mark(done_s=0), single, now_s=NOON, followed_s=NOON, catch_up="once")
    assert (found.run_s, found.next_s) == (DAY, None)
    nothing = look(Mark(done_s=DAY), single, now_s=NOON, followed_s=0, catch_up="once")
    assert (nothing.run_s, nothing.next_s) == (None, None)
