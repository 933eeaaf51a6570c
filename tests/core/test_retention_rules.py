"""What is kept and what goes, as rules over times, sizes and statuses."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.retention import (
    Bounds,
    CacheEntry,
    RunFacts,
    cache_entries_to_remove,
    runs_to_remove,
    workspaces_to_remove,
)

DAY = 86_400.0
NOW = 1_000 * DAY


def bounds(**more: Any) -> Bounds:
    """Bounds that nothing reaches, but for those given."""
    wide: dict[str, Any] = {
        "age_s": 1e12, "runs": 10**9, "bytes": 10**18, "workspaces_s": 1e12,
        "workspace_bytes": 10**18, "cache_bytes": 10**18,
    }  # fmt: skip
    return Bounds(**{**wide, **more})


def run(name: str, status: str = "error", *, days_ago: float = 0, **more: Any) -> RunFacts:
    """A run; one that is queued or running is live."""
    live = status in ("queued", "running")
    facts: dict[str, Any] = {
        "pipeline": "p", "workspace": name, "ended_s": None if live else NOW - days_ago * DAY
    }  # fmt: skip
    return RunFacts(id=name, status=status, **{**facts, **more})


def test_runs_go_by_age() -> None:
    """Whatever ended before the bound; live ones never, however long they have waited."""
    runs = [run("a", days_ago=90), run("b", days_ago=89.9), run("c", "queued")]
    assert runs_to_remove(runs, bounds(age_s=90 * DAY), NOW) == {"a": "age"}


def test_runs_go_by_count_for_each_pipeline() -> None:
    """The newest stay, and another pipeline's don't count."""
    runs = [run(name, days_ago=ago) for name, ago in (("a", 4), ("b", 3), ("c", 2), ("d", 1))]
    others = [run("e", pipeline="q", days_ago=9), run("f", "running")]
    assert runs_to_remove([*runs, *others], bounds(runs=2), NOW) == {"a": "runs", "b": "runs"}


def test_runs_go_by_size_until_the_rest_fits() -> None:
    """The oldest first, over all pipelines; what goes for another reason counts no more."""
    runs = [
        run("a", days_ago=50, size=100), run("b", days_ago=3, size=30),
        run("c", days_ago=2, size=30, pipeline="q"), run("d", "running", size=30),
    ]  # fmt: skip
    assert runs_to_remove(runs, bounds(bytes=60, age_s=30 * DAY), NOW) == {"a": "age", "b": "bytes"}
    assert runs_to_remove(runs, bounds(bytes=0), NOW) == dict.fromkeys("abc", "bytes")


def test_the_last_success_of_a_pipeline_stays() -> None:
    """Under every bound; an earlier success goes like any run."""
    runs = [
        run("a", "success", days_ago=9, size=9), run("b", "success", days_ago=8, size=9),
        run("c", days_ago=7, size=9), run("d", "success", days_ago=6, size=9, pipeline="q"),
    ]  # fmt: skip
    for tight in (bounds(age_s=0), bounds(bytes=0)):
        assert set(runs_to_remove(runs, tight, NOW)) == {"a", "c"}
    assert set(runs_to_remove(runs, bounds(runs=1), NOW)) == {"a"}


def test_what_a_live_run_takes_over_from_stays() -> None:
    """A repeated run copies its results when it starts, which may be late."""
    runs = [run("a", days_ago=99), run("b", "queued", uses=frozenset("a"), workspace="a")]
    assert runs_to_remove(runs, bounds(age_s=0), NOW) == {}


def test_a_workspace_stays_after_a_failure_for_a_while() -> None:
    """It goes at once after a success, unless it was asked to be kept, and with its run."""
    runs = [
        run("a", days_ago=2), run("b", "aborted", days_ago=0.5), run("c", "success"),
        run("d", "success", keeps_workspace=True), run("e", "running"),
    ]  # fmt: skip
    found = workspaces_to_remove(dict.fromkeys("abcdez", 1), runs, bounds(workspaces_s=DAY), NOW)
    assert found == {"a": "age", "c": "done", "z": "orphan"}


def test_the_last_run_in_a_workspace_decides() -> None:
    """A retry renews it, its success ends it, and one that lives holds it."""
    first = run("a", days_ago=9)
    bound = bounds(workspaces_s=DAY, workspace_bytes=0)
    again = {
        "running": {},
        "success": {"a": "done"},
        "error": {"a": "bytes"},
    }
    for status, gone in again.items():
        second = run("b", status, workspace="a")
        assert workspaces_to_remove({"a": 5}, [first, second], bound, NOW) == gone
        assert workspaces_to_remove({"a": 5}, [second], bound, NOW) == gone


def test_workspaces_go_by_size_the_oldest_first() -> None:
    """Those in use neither go nor count."""
    runs = [run("a", days_ago=3), run("b", days_ago=2), run("c", days_ago=1), run("d", "running")]
    sizes = {"a": 10, "b": 10, "c": 10, "d": 99}
    assert workspaces_to_remove(sizes, runs, bounds(workspace_bytes=20), NOW) == {"a": "bytes"}


def test_cache_entries_go_the_least_recently_used_first() -> None:
    """Until the rest fits."""
    entries = [
        CacheEntry(name=name, size=10, used_s=used) for name, used in (("x", 3), ("y", 1), ("z", 2))
    ]
    assert cache_entries_to_remove(entries, bounds(cache_bytes=30)) == []
    assert cache_entries_to_remove(entries, bounds(cache_bytes=10)) == ["y", "z"]


STATUSES = st.sampled_from(["queued", "running", "success", "error", "aborted"])


@given(
    st.lists(st.tuples(STATUSES, st.integers(0, 9), st.integers(0, 50), st.sampled_from("pq"))),
    st.integers(0, 10), st.integers(1, 5), st.integers(0, 200),
)  # fmt: skip
def test_the_rules_hold_for_every_set_of_runs(
    told: list[tuple[str, int, int, str]], days: int, count: int, size: int
) -> None:
    """Live runs and last successes stay, and what stays is within the bounds otherwise."""
    runs = [
        run(f"{n:04}", status, days_ago=ago, size=each, pipeline=pipeline)
        for n, (status, ago, each, pipeline) in enumerate(told)
    ]
    going = runs_to_remove(runs, bounds(age_s=days * DAY, runs=count, bytes=size), NOW)
    newest = sorted((r for r in runs if r.ended_s is not None), key=lambda r: (r.ended_s, r.id))
    last = {r.pipeline: r.id for r in newest if r.status == "success"}
    for each in runs:
        if each.ended_s is None or each.id in last.values():
            assert each.id not in going
        elif each.id not in going:
            assert each.ended_s > NOW - days * DAY
            behind = newest[newest.index(each) + 1 :]
            assert sum(other.pipeline == each.pipeline for other in behind) < count
    free = [r for r in newest if r.id not in going and r.id not in last.values()]
    assert not free or sum(r.size for r in runs if r.id not in going) <= size
