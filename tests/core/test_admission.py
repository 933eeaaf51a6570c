"""Which runs start, wait, are skipped or replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.admission import Entry, decide, place


def entry(text: str) -> Entry:
    """``3:g`` is run 3 of group g; with ``!`` it cancels on conflict, with ``?`` it skips."""
    number, _, group = text.partition(":")
    conflict = {"!": "cancel-running", "?": "skip"}.get(group[-1:], "queue")
    return Entry(
        run_id=number,
        ref=f"p/{number}",
        pipeline="p",
        group=group.rstrip("!?") or None,
        on_conflict=conflict,  # type: ignore[arg-type]  # a literal by construction
    )


def entries(text: str) -> list[Entry]:
    """Entries by words."""
    return [entry(word) for word in text.split()]


@pytest.mark.parametrize(
    ("running", "queued", "most", "starts", "ended"),
    [
        ("", "", 2, "", ""),
        ("", "1 2 3", 2, "1 2", ""),
        ("1", "2 3", 2, "2", ""),
        ("1 2", "3", 2, "", ""),
        ("1 2 3", "4", 2, "", ""),  # max_runs was lowered
        ("1:g", "2:g", 4, "", ""),
        ("1:g", "2:g 3", 4, "3", ""),  # who waits for its group holds nobody up
        ("1:g", "2:h", 4, "2", ""),
        ("", "1:g 2:g", 4, "1", ""),  # creation order in a group
        ("", "1:g 2:g 3:h", 2, "1 3", ""),
        ("1:g", "2:g!", 4, "", "1"),
        ("1:g", "2:g 3:g!", 4, "", "1 2"),  # those that wait are replaced too
        ("", "1:g 2:g! 3:g!", 4, "3", "1 2"),
        ("", "1:g! 2:g", 4, "1", ""),  # a later one that queues waits for it
        ("1:g", "2:h!", 4, "2", ""),
        ("1:g", "2:!", 4, "2", ""),  # without a group there is no conflict
        ("", "1:g?", 4, "1", ""),
    ],
)
def test_the_rules_of_admission(
    running: str, queued: str, most: int, starts: str, ended: str
) -> None:
    """Each row is a situation and what happens in it."""
    decision = decide(entries(running), entries(queued), max_runs=most)
    assert " ".join(decision.start) == starts
    assert " ".join(sorted(decision.superseded)) == ended


@pytest.mark.parametrize(
    ("running", "queued", "new", "position", "reason"),
    [
        ("", "", "1", 0, None),
        ("1", "", "2", 0, None),
        ("1 2", "", "3", 1, "2 running, the most at once is 2 (max_runs)"),
        ("1 2", "3", "4", 2, "1 run is ahead"),
        ("1 2", "3 4", "5", 3, "2 runs are ahead"),
        ("1:g", "", "2:g", 1, "waits for p/1 of group 'g'"),
        ("1:g", "2:g", "3:g", 2, "waits for p/2 of group 'g'"),
        ("1:g", "", "2:g!", 1, "replaces p/1 of group 'g'"),
        ("1:g", "2:g", "3:g!", 1, "replaces p/2 of group 'g'"),
        ("1:g", "", "2:h?", 0, None),
    ],
)
def test_a_new_run_is_told_its_place_and_why(
    running: str, queued: str, new: str, position: int, reason: str | None
) -> None:
    """The words of the ``queued`` event."""
    found = place(entry(new), entries(running), entries(queued), max_runs=2)
    assert (found.position, found.reason, found.skip) == (position, reason, False)


@pytest.mark.parametrize(("running", "queued"), [("1:g", ""), ("", "1:g")])
def test_a_run_that_skips_on_conflict_is_not_made(running: str, queued: str) -> None:
    """The reason names the run that is in its way."""
    found = place(entry("2:g?"), entries(running), entries(queued), max_runs=4)
    assert found.skip
    assert found.reason == "p/1 of group 'g' is not done"


def test_the_group_of_all_runs_has_no_name_to_tell() -> None:
    """A pipeline whose ``concurrency`` names no group: its text is empty."""
    first, new = (Entry(run_id=n, ref=f"p/{n}", pipeline="p", group="") for n in "12")
    skips = replace(new, on_conflict="skip")
    assert place(new, [first], [], max_runs=4).reason == "waits for p/1"
    assert place(skips, [first], [], max_runs=4).reason == "p/1 is not done"


def test_groups_are_per_pipeline() -> None:
    """The same name in another pipeline is another group."""
    other = Entry(run_id="2", ref="q/2", pipeline="q", group="g")
    assert decide([entry("1:g")], [other], max_runs=4).start == ("2",)


_word = st.tuples(st.sampled_from(["", "g", "h"]), st.sampled_from(["", "!", "?"])).map("".join)


@given(st.lists(_word, max_size=4), st.lists(_word, max_size=8), st.integers(1, 5))
def test_no_two_runs_of_a_group_run_and_never_more_than_the_most(
    running: list[str], queued: list[str], most: int
) -> None:
    """Whatever the situation, what starts keeps both promises, and asking again changes nothing."""
    live = [entry(f"{number}:{word}") for number, word in enumerate(running)]
    waiting = [entry(f"{number}:{word}") for number, word in enumerate(queued, len(live))]
    decision = decide(live, waiting, max_runs=most)
    started = [run for run in waiting if run.run_id in decision.start]
    assert len(live) + len(started) <= max(most, len(live))
    assert not set(decision.start) & decision.superseded.keys()
    groups = [run.group for run in started if run.group]
    assert len(groups) == len(set(groups))
    assert not set(groups) & {run.group for run in live}
    left = [run for run in waiting if run.run_id not in decision.start]
    assert decide([*live, *started], left, max_runs=most).start == ()
