"""A run that spends more than its depth allows is stopped."""

from __future__ import annotations

from runs import execute, plan_of, processes_of, script
from tailrace.core.plan import Budget
from tailrace.rundir.layout import StateDir

SPEND = """echo '{"event":"cost","usd":%s,"tokens_in":%d}' >> "$TAILRACE_EVENTS"\n"""


async def test_a_run_over_its_budget_stops_and_cleans_up(state: StateDir) -> None:
    """What runs is stopped, ``always()`` and ``failure()`` steps go on, and the run is error."""
    done = await execute(
        state,
        plan_of(
            script("first", SPEND % (0.5, 1)),
            script("agent", SPEND % (0.74, 1) + "sleep 600", "first"),
            script("next", "echo never", "agent"),
            # What cleaning up costs is counted, and doesn't stop it.
            script("tidy", SPEND % (1, 1) + "sleep 0.1; echo tidied", "next", when="always()"),
            script("tell", "echo told", "agent", when="failure()"),
            budget=Budget(usd=1.0),
        ),
    )  # fmt: skip

    cause = "spent $1.24 of the $1.00 allowed"
    agent = done.finished("agent")
    assert (agent["status"], agent["cause"], agent["cause_code"]) == ("aborted", cause, "budget")
    assert agent["kill"]["survivors"] == []
    assert done.finished("next")["status"] == "skipped"
    assert (done.text("tidy"), done.text("tell")) == ("tidied\n", "told\n")
    last = done.told()[-1]
    assert (last["event"], last["status"]) == ("summary", "error")
    assert (last["cause"], last["cause_code"]) == (cause, "budget")
    assert last["cost"] == {"usd": 2.24, "tokens_in": 3, "tokens_out": 0}
    assert [notice for notice in done.told("notice") if notice["kind"] == "unenforced"] == []
    assert processes_of(done.run) == []


async def test_a_run_may_spend_its_whole_budget(state: StateDir) -> None:
    """Sums are compared as they read: ten times ten cents are a dollar."""
    done = await execute(
        state,
        plan_of(script("spend", SPEND % (0.1, 10) * 10), budget=Budget(usd=1.0, tokens=100)),
    )
    assert done.told()[-1]["status"] == "success"


async def test_what_the_last_step_says_as_it_ends_counts(state: StateDir) -> None:
    """An agent tells its cost last, when nothing is left to stop: the run has overspent still."""
    done = await execute(
        state, plan_of(script("agent", SPEND % (0, 101)), budget=Budget(tokens=100))
    )
    last = done.told()[-1]
    assert (last["status"], last["cause_code"]) == ("error", "budget")
    assert last["cause"] == "spent 101 of the 100 tokens allowed"
