"""What becomes of a schedule's times: which one starts a run now, and which are over.

Pure rules. All times are seconds since 1970; *next_after* gives a schedule's
first time behind a moment (None: none will come).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

NextAfter = Callable[[float], float | None]

LATE_S: Final = 300.0  # a time that is noticed later than this was missed
# How far back the last missed time is looked for before all of them are walked through: a
# schedule of every minute has half a million times a year.
_LOOKS_BACK_S: Final = (86_400.0, 31 * 86_400.0, 366 * 86_400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is known of a schedule; kept in ``state.db``."""

    done_s: float  # every time up to here has been seen to
    begun_s: float | None = None  # a time whose run was being asked for
    run: str | None = None  # id of the last run that it started
    refusal: str | None = None  # why the last time started none


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at a schedule found."""

    done_s: float  # the mark from now on
    next_s: float | None
    run_s: float | None = None  # the time that a run is to be started for
    made_up: bool = False  # it was missed, and is made up for
    missed_from_s: float | None = None  # the first and the last of the times that were missed
    missed_to_s: float | None = None
    set_back: bool = False  # the clock was: times that come again are told by their runs


def look(
    mark: Mark,
    next_after: NextAfter,
    *,
    now_s: float,
    followed_s: float,
    catch_up: Literal["skip", "once"],
) -> Look:
    """Say what is to be done about a schedule now.

    A time is met when it came while the schedule was followed (from
    *followed_s* on), no more than `LATE_S` ago; or when its run was being asked
    for as the daemon died. All others were missed. One run at most stands for
    everything that is over: for the last time that was met, else, where
    *catch_up* is ``once``, for the last one that was missed.
    """
    set_back = was_set_back(mark, now_s=now_s)
    done_s = now_s if set_back else mark.done_s
    last_s = _last(next_after, done_s, now_s)
    if last_s is None:
        return Look(done_s=done_s, next_s=next_after(done_s), set_back=set_back)
    met = now_s - last_s <= LATE_S and (last_s > followed_s or last_s == mark.begun_s)
    first_s = next_after(done_s)
    missed = not met or first_s != last_s
    return Look(
        done_s=last_s,
        next_s=next_after(last_s),
        run_s=last_s if met or catch_up == "once" else None,
        made_up=not met and catch_up == "once",
        missed_from_s=first_s if missed else None,
        missed_to_s=(_last(next_after, done_s, last_s - 1) if met else last_s) if missed else None,
        set_back=set_back,
    )


def was_set_back(mark: Mark, *, now_s: float) -> bool:
    """Whether the clock was, by so much that the mark says nothing any more."""
    return mark.done_s > now_s + LATE_S


def upcoming(mark: Mark, next_after: NextAfter, *, now_s: float) -> float | None:
    """Return a schedule's first time that is neither over nor seen to."""
    return next_after(now_s if was_set_back(mark, now_s=now_s) else max(mark.done_s, now_s))


def _last(next_after: NextAfter, after_s: float, upto_s: float) -> float | None:
    """Return the schedule's last time behind *after_s*, up to *upto_s* inclusive."""
    for back_s in _LOOKS_BACK_S:
        if upto_s - back_s > after_s:
            found = _walk(next_after, upto_s - back_s, upto_s)
            if found is not None:
                return found
    return _walk(next_after, after_s, upto_s)


def _walk(next_after: NextAfter, after_s: float, upto_s: float) -> float | None:
    found = None
    at_s = next_after(after_s)
    while at_s is not None and at_s <= upto_s:
        found = at_s
        at_s = next_after(at_s)
    return found
