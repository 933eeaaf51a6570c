"""Runners are killed in mid-run: nothing of theirs lives on, and their runs end truthfully.

Every run has a step that has finished, and one with processes in the
background, in sessions of their own and orphaned. Its runner gets SIGKILL at a
random moment; in the middle of it the daemon is killed as well, so that some
runners die while nobody is there to see it. Every other run is of a pipeline
with ``on_lost: retry``: another runner must go on with it, to its success; the
others must end as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tailrace.core.units import format_duration
from tailrace.prove.ground import FINAL, Ground, pid_of_runner, tell_containment, until
from tailrace.prove.marks import Mark, check_survivors, end_all, look, try_the_look
from tailrace.prove.proof import Kind, Ledger, Promise, Trial, promises_zero
from tailrace.prove.records import Event, Watcher, check_sequence, compare, read_journal
from tailrace.prove.trees import HIDING, in_background
from tailrace.rundir.layout import RunDir

_AT_ONCE: Final = 5
_ON_LOST: Final = ("fail", "retry")  # in turn, and the names of the two pipelines
_END_S: Final = 60.0  # from a runner's death to its run's end; it takes seconds at most

# A step's first attempt ends by its runner's death only; the next one prints so many lines.
_LINES: Final = 60

_PIPELINE: Final = """\
on_lost: ON_LOST
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
echo "$TAILRACE_ATTEMPT" >> "$PROOF_FOLDER/work"
i=0
while [ "$TAILRACE_ATTEMPT" = 1 ] || [ $i -lt {_LINES} ]; do
  i=$((i + 1)); echo "line $i"; [ $((i % 2)) = 0 ] || "$NAP" 0.03
done
"""


@dataclass(frozen=True, slots=True)
class _Kill:
    """One run whose runner is killed."""

    on_lost: str
    mark: Mark
    watcher: Watcher

    @property
    def repeats(self) -> bool:
        return self.on_lost == "retry"


async def prove(trial: Trial) -> None:
    """Kill ``counts.runner_kills`` runners, and look at what they left."""
    script = "".join(f"      {line}\n" for line in _WORK.splitlines())
    pipelines = {
        on_lost: _PIPELINE.replace("ON_LOST", on_lost).replace("SCRIPT\n", script)
        for on_lost in _ON_LOST
    }
    ground = Ground(trial.folder / "ground", pipelines, settings=f"max_runs: {_AT_ONCE}\n")
    marks: list[Mark] = []
    try:
        async with ground:
            await try_the_look(trial.folder / "marks")
            await ground.start()
            hiding = promises_zero(await ground.containment())
            marks += [
                Mark.make(trial.folder / "marks", f"mark-{trial.random.randbytes(8).hex()}")
                for _ in range(trial.counts.runner_kills)
            ]
            kinds = list(zip(marks, itertools.cycle(_ON_LOST), strict=False))
            for first in range(0, len(kinds), _AT_ONCE):
                await _kill_a_batch(trial, ground, kinds[first : first + _AT_ONCE], hiding=hiding)
    finally:
        await asyncio.to_thread(end_all, marks)
    _say(trial.ledger)


async def _kill_a_batch(
    trial: Trial, ground: Ground, kinds: list[tuple[Mark, str]], *, hiding: bool
) -> None:
    """Start runs, kill their runners one by one and the daemon in the middle of it, and look."""
    ledger, random = trial.ledger, trial.random
    kills: list[_Kill] = []
    async with asyncio.TaskGroup() as tasks:
        for mark, on_lost in kinds:
            params = {"mark": mark.text, "folder": str(mark.folder)}
            if hiding:
                params["hide"] = "yes"
                ledger.add("hiding")
            kill = _Kill(on_lost, mark, Watcher(ground, await ground.submit(on_lost, params)))
            kills.append(kill)
            tasks.create_task(kill.watcher.to_the_end(), name=f"watch {kill.watcher.run_id}")
        await until(lambda: all(_works(kill.watcher) for kill in kills))
        found = await asyncio.to_thread(look, [kill.mark for kill in kills])
        ledger.add("processes", sum(map(len, found.values())))
        killing = [
            tasks.create_task(
                _kill_runner(ground, kill.watcher, random.uniform(0, trial.counts.longest_s))
            )
            for kill in kills
        ]
        await asyncio.sleep(random.uniform(0, trial.counts.longest_s))
        gone = time.monotonic()
        await ground.kill(signal.SIGKILL)
        died = await asyncio.gather(*killing)
        await ground.start()
        back = time.monotonic()
        ledger.add("unseen", sum(gone <= moment <= back for moment in died))
        # Those that another runner goes on with come last: they take their time.
        for kill, moment in sorted(zip(kills, died, strict=True), key=lambda pair: pair[0].repeats):
            over = await until(partial(_is_over, kill.watcher), within_s=_END_S)
            if not kill.repeats:
                # The daemon can't see it before it is back: that absence isn't the runner's.
                ended_ms = round((time.monotonic() - max(moment, back)) * 1000)
                ledger.most("longest_end_ms", ended_ms)
            if not over:
                kill.watcher.problem = kill.watcher.problem or "never ended"
            await _check(trial, ground, kill)
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


async def _check(trial: Trial, ground: Ground, kill: _Kill) -> None:
    ledger, mark = trial.ledger, kill.mark
    view: dict[str, Any] = await ground.view(kill.watcher.run_id)
    who = f"{view.get('ref', kill.watcher.run_id)}"
    wanted = ("success", None) if kill.repeats else ("error", "lost")
    if (view["status"], view["cause_code"]) != wanted:
        how = "go on to its success" if kill.repeats else "end as lost"
        ledger.miss("lost", f"{who} doesn't {how}: {view['status']}, {view['cause']}")
    if view["status"] not in FINAL:
        ledger.miss("lost", f"{who} is stuck")
        return
    run = ground.state.run(kill.watcher.run_id)
    await ground.left(run)
    planted = mark.plant() if "survivors" in trial.planted else None
    try:
        await check_survivors(ledger, who, mark)
    finally:
        if planted is not None:
            planted.kill()
            await asyncio.to_thread(planted.wait)
    journal = read_journal(run)
    tell_containment(ledger, journal)
    check_sequence(ledger, who, journal)
    compare(ledger, f"the watcher of {who}", kill.watcher.told, journal)
    for attempt in (1, 2) if kill.repeats else (1,):
        _check_output(ledger, who, run, journal, attempt)
    ended = Counter(e["step"] for e in journal if e["event"] == "step_finished")
    if ended != Counter(("before", "work", "after")):
        ledger.miss("lost", f"{who}: the ends of its steps are told as {dict(ended)}")
    _check_marks(ledger, who, kill)


def _check_output(
    ledger: Ledger, who: str, run: RunDir, journal: list[Event], attempt: int
) -> None:
    """Hold what an attempt's events tell against its log, and that against what it printed."""
    told = "".join(
        e["text"] + ("" if e.get("open") else "\n") for e in journal
        if e["event"] == "log" and e["step"] == "work" and e["attempt"] == attempt
    )  # fmt: skip
    log = run.log("work", attempt)
    written = log.read_text() if log.exists() else ""
    if told != written:
        ledger.miss("lost", f"{who}: its journal doesn't tell all of attempt {attempt}'s log")
    lines = written.splitlines()
    ledger.add("lines", len(lines))
    wanted = [f"line {n}" for n in range(1, 1 + (_LINES if attempt > 1 else len(lines)))]
    if attempt == 1 and lines and wanted[-1].startswith(lines[-1]):
        lines[-1] = wanted[-1]  # its runner died in the middle of it
    if len(set(lines)) < len(lines):
        ledger.miss("doubled", f"{who}: lines of attempt {attempt} came twice")
    elif lines != wanted:
        ledger.miss("lost", f"{who}: of attempt {attempt} came {len(lines)} of {len(wanted)} lines")


def _check_marks(ledger: Ledger, who: str, kill: _Kill) -> None:
    """Look at what the steps wrote down themselves when they began."""

    def begun(step: str) -> int:
        file = kill.mark.folder / step
        return len(file.read_text().splitlines()) if file.exists() else 0

    wanted = {"before": 1, "work": 2, "after": 1} if kill.repeats else {"before": 1, "work": 1}
    for step in ("before", "work", "after"):
        times, right = begun(step), wanted.get(step, 0)
        if times != right:
            kind: Kind = "doubled" if times > right else "lost"
            ledger.miss(kind, f"{who}: step {step} was begun {times} times and not {right}")
    if kill.repeats:
        ledger.add("continued")


def _say(ledger: Ledger) -> None:
    figures = ledger.figures
    ledger.say(
        f"{figures['processes']:,} processes lived when the runners got SIGKILL",
        f"{figures['unseen']} of them died while the daemon was dead, too",
        f"{figures.get('continued', 0)} runs with on_lost: retry went on, no finished step again",
        f"the others ended as lost, at most {format_duration(figures['longest_end_ms'])} later",
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
    plants=("survivors",),
    size=lambda counts: counts.runner_kills,
    prove=prove,
)
