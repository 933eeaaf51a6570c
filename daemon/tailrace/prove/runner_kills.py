"""Runners are killed in mid-run: nothing of theirs lives on, and their runs end truthfully.

Every run has a step that has finished, and one with processes in the
background, in sessions of their own and orphaned. Its runner gets SIGKILL at a
random moment; in the middle of it the daemon is killed as well, so that some
runners die while nobody is there to see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from functools import partial
from typing import Any, Final

from tailrace.core.units import format_duration
from tailrace.prove.ground import FINAL, Ground, pid_of_runner, tell_containment, until
from tailrace.prove.marks import Mark, check_survivors, end_all, look, try_the_look
from tailrace.prove.proof import Ledger, Promise, Trial, promises_zero
from tailrace.prove.records import Watcher, check_sequence, compare, read_journal
from tailrace.prove.trees import HIDING, in_background

_AT_ONCE: Final = 5
_END_S: Final = 60.0  # from a runner's death to its run's end; it takes seconds at most

_PIPELINE: Final = """\
params: {mark: {required: true}, folder: {required: true}, hide: {default: ""}}
env: {PROOF_MARK: "${{ params.mark }}", PROOF_FOLDER: "${{ params.folder }}"}
timeout: 5m
steps:
  before:
    run: echo "$PARAM_MARK" >> "$PROOF_FOLDER/before"
  work:
    needs: before
    grace: 300ms
    run: |
SCRIPT
  after:
    needs: work
    run: echo "$PARAM_MARK" >> "$PROOF_FOLDER/after"
"""
_WORK: Final = f"""\
export NAP="$PROOF_FOLDER/sleep"; exec 9> "$PROOF_FOLDER/held"
{in_background()}
if [ "$PARAM_HIDE" = yes ]; then {HIDING} fi
i=0; while :; do i=$((i + 1)); echo "line $i"; "$NAP" 0.05; done
"""


async def prove(trial: Trial) -> None:
    """Kill ``counts.runner_kills`` runners, and look at what they left."""
    script = "".join(f"      {line}\n" for line in _WORK.splitlines())
    pipeline = _PIPELINE.replace("SCRIPT\n", script)
    ground = Ground(trial.folder / "ground", {"work": pipeline}, settings=f"max_runs: {_AT_ONCE}\n")
    marks: list[Mark] = []
    try:
        async with ground:
            await try_the_look(trial.folder / "marks")
            await ground.start()
            hiding = promises_zero(await ground.containment())
            left = trial.counts.runner_kills
            while left > 0:
                size = min(left, _AT_ONCE)
                batch = [
                    Mark.make(trial.folder / "marks", f"mark-{trial.random.randbytes(8).hex()}")
                    for _ in range(size)
                ]
                marks += batch
                await _kill_a_batch(trial, ground, batch, hiding=hiding)
                left -= size
    finally:
        await asyncio.to_thread(end_all, marks)
    _say(trial.ledger)


async def _kill_a_batch(trial: Trial, ground: Ground, marks: list[Mark], *, hiding: bool) -> None:
    """Start runs, kill their runners one by one and the daemon in the middle of it, and look."""
    ledger, random = trial.ledger, trial.random
    watchers: list[Watcher] = []
    async with asyncio.TaskGroup() as tasks:
        for mark in marks:
            params = {"mark": mark.text, "folder": str(mark.folder)}
            if hiding:
                params["hide"] = "yes"
                ledger.add("hiding")
            watcher = Watcher(ground, await ground.submit("work", params))
            watchers.append(watcher)
            tasks.create_task(watcher.to_the_end(), name=f"watch {watcher.run_id}")
        await until(lambda: all(_works(watcher) for watcher in watchers))
        for watcher in watchers:
            tell_containment(ledger, watcher.told)
        found = await asyncio.to_thread(look, marks)
        ledger.add("processes", sum(map(len, found.values())))
        killing = [
            tasks.create_task(
                _kill_runner(ground, watcher, random.uniform(0, trial.counts.longest_s))
            )
            for watcher in watchers
        ]
        await asyncio.sleep(random.uniform(0, trial.counts.longest_s))
        gone = time.monotonic()
        await ground.kill(signal.SIGKILL)
        died = await asyncio.gather(*killing)
        await ground.start()
        back = time.monotonic()
        ledger.add("unseen", sum(gone <= moment <= back for moment in died))
        for mark, watcher, moment in zip(marks, watchers, died, strict=True):
            over = await until(partial(_is_over, watcher), within_s=_END_S)
            # The daemon can't see it before it is back: that absence isn't the runner's.
            ledger.most("longest_end_ms", round((time.monotonic() - max(moment, back)) * 1000))
            if not over:
                watcher.problem = watcher.problem or "never ended"
            await _check(trial, ground, mark, watcher)
            ledger.step()


def _works(watcher: Watcher) -> bool:
    return _is_over(watcher) or any(
        event["event"] == "log" and event["step"] == "work" for event in watcher.told
    )


def _is_over(watcher: Watcher) -> bool:
    return bool(
        watcher.problem or (watcher.told and watcher.told[-1]["event"] in ("summary", "aborted"))
    )


async def _kill_runner(ground: Ground, watcher: Watcher, delay_s: float) -> float:
    """Kill the runner of a run after a while; return when."""
    pid = await pid_of_runner(ground.state.run(watcher.run_id))
    await asyncio.sleep(delay_s)
    if pid is not None:  # its run has ended otherwise, which the look at its end tells
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return time.monotonic()


async def _check(trial: Trial, ground: Ground, mark: Mark, watcher: Watcher) -> None:
    ledger = trial.ledger
    view: dict[str, Any] = await ground.view(watcher.run_id)
    who = str(view.get("ref", watcher.run_id))
    if (view["status"], view["cause_code"]) != ("error", "lost"):
        ledger.miss("lost", f"{who} isn't told as lost but {view['status']}: {view['cause']}")
    if view["status"] not in FINAL:
        ledger.miss("lost", f"{who} is stuck")
        return
    planted = mark.plant() if "survivors" in trial.planted else None
    try:
        await check_survivors(ledger, who, mark)
    finally:
        if planted is not None:
            planted.kill()
            await asyncio.to_thread(planted.wait)
    run = ground.state.run(watcher.run_id)
    journal = read_journal(run)
    check_sequence(ledger, who, journal)
    compare(ledger, f"the watcher of {who}", watcher.told, journal)
    told = "".join(e["text"] + ("" if e.get("open") else "\n")
                   for e in journal if e["event"] == "log" and e["step"] == "work")  # fmt: skip
    if told != run.log("work", 1).read_text():
        ledger.miss("lost", f"{who}: its journal doesn't tell all of its log")
    ended = Counter(e["step"] for e in journal if e["event"] == "step_finished")
    if ended != Counter(("before", "work", "after")):
        ledger.miss("lost", f"{who}: the ends of its steps are told as {dict(ended)}")
    if (mark.folder / "before").read_text().count("\n") != 1:
        ledger.miss("doubled", f"{who}: its finished step was run again")
    if (mark.folder / "after").exists():
        ledger.miss("doubled", f"{who}: a step was run that needs the one that was lost")


def _say(ledger: Ledger) -> None:
    figures = ledger.figures
    ledger.say(
        f"{figures['processes']:,} processes lived when the runners got SIGKILL",
        f"{figures['unseen']} of them died while the daemon was dead, too",
        f"longest from a death to the run's end {format_duration(figures['longest_end_ms'])}",
        "processes known by environment, argv and open files; a planted one was found",
    )
    if not figures.get("hiding"):
        ledger.notes.append(
            "processes that wipe their environment and leave their session and their parent; "
            f"containment is {', '.join(sorted(ledger.containments))} here, which doesn't promise "
            "to find them once the runner is dead"
        )


PROMISE: Final = Promise(
    name="runner-kills",
    title="{} runners killed in mid-run",
    judges=("lost", "doubled", "survivors"),
    size=lambda counts: counts.runner_kills,
    prove=prove,
)
