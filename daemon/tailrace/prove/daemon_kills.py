"""The daemon is killed again and again while runs go on: none is lost, none is done twice.

Each round submits a run, with an ``Idempotency-Key`` and as often as it takes
to be answered, and kills the daemon at a random moment: while it serves, or
before it has begun to. Three steps of each run print numbered lines in
parallel. In the end every run must have succeeded, with every number once; no
step may have been started twice, which the steps write down themselves; and a
watcher of each run, who came back after each death, must hold its journal.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tailrace.core.units import format_duration
from tailrace.prove.ground import FINAL, Ground, tell_containment, until
from tailrace.prove.proof import Ledger, Promise, Trial
from tailrace.prove.records import Event, Watcher, check_sequence, compare, read_journal
from tailrace.rundir.layout import RunDir

STEPS: Final = ("a", "b", "c")
LINES: Final = 150
_AT_ONCE: Final = 3  # runs; what comes faster waits in the queue, which has to survive as well
_START_SHARE: Final = 0.25  # of the kills hit a daemon that is just starting
_END_S: Final = 120.0  # for all runs to end, once nobody kills any more

_SCRIPT: Final = f"""\
echo "$TAILRACE_RUN_ID $TAILRACE_STEP" >> "$PROOF_STARTS"
i=0
while [ $i -lt {LINES} ]; do
  i=$((i + 1)); echo "$TAILRACE_STEP $i"
  [ $((i % 10)) -ne 0 ] || sleep 0.1
done
"""


def _pipeline(starts: Path) -> str:
    script = "".join(f"      {line}\n" for line in _SCRIPT.splitlines())
    steps = "".join(f"  {step}:\n    run: |\n{script}" for step in STEPS)
    return f"env: {{PROOF_STARTS: '{starts}'}}\nparallel: {len(STEPS)}\nsteps:\n{steps}"


async def prove(trial: Trial) -> None:
    """Kill the daemon ``counts.daemon_kills`` times, and look at what became of the runs."""
    starts = trial.folder / "starts"
    ledger = trial.ledger
    ground = Ground(
        trial.folder / "ground", {"count": _pipeline(starts)}, settings=f"max_runs: {_AT_ONCE}\n"
    )
    async with ground, asyncio.TaskGroup() as tasks:
        await ground.start()
        watchers: dict[str, Watcher] = {}
        submitting = []
        for number in range(trial.counts.daemon_kills):
            submitting.append(tasks.create_task(_submit(tasks, ground, watchers, f"run-{number}")))
            await _kill(trial, ground)
            ledger.step()
        await asyncio.gather(*submitting)
        await _check(ledger, ground, watchers)
        _check_starts(trial, starts, list(watchers))
    _say(ledger, len(watchers))


async def _submit(
    tasks: asyncio.TaskGroup, ground: Ground, watchers: dict[str, Watcher], key: str
) -> None:
    """Start a run, however often its request is cut off, and have it watched to its end."""
    run_id = await ground.submit("count", key=key)
    watchers[run_id] = Watcher(ground, run_id)
    tasks.create_task(watchers[run_id].to_the_end(), name=f"watch {run_id}")


async def _kill(trial: Trial, ground: Ground) -> None:
    """Kill the daemon at a random moment, perhaps once more at its start, and start it again."""
    ledger, random = trial.ledger, trial.random
    await asyncio.sleep(random.uniform(0, trial.counts.longest_s))
    number = random.choice((signal.SIGKILL, signal.SIGTERM))
    began = time.monotonic()
    await ground.kill(number)
    ledger.add(number.name)
    if random.random() < _START_SHARE:
        await ground.spawn()
        await asyncio.sleep(random.uniform(0, trial.counts.longest_s))
        await ground.kill(signal.SIGKILL)
        ledger.add("at_start")
    await ground.start()
    ledger.most("longest_absence_ms", round((time.monotonic() - began) * 1000))


async def _check(ledger: Ledger, ground: Ground, watchers: dict[str, Watcher]) -> None:
    """Wait for the runs' ends, and hold what they printed and what was seen of it to account."""
    watching = list(watchers.values())
    over = await until(
        lambda: all(w.problem or (w.told and w.told[-1]["event"] in ("summary", "aborted"))
                    for w in watching),
        within_s=_END_S,
    )  # fmt: skip
    if not over:
        for watcher in watching:
            watcher.problem = watcher.problem or "never ended"  # and so it watches no longer
    for run_id, watcher in watchers.items():
        view = await ground.view(run_id)
        who = str(view.get("ref", run_id))
        if view.get("status") != "success":
            ledger.miss("lost", f"{who} is {view.get('status')}: {view.get('cause')}")
        if watcher.problem:
            ledger.miss("lost", f"the watcher of {who}: {watcher.problem}")
        run = ground.state.run(run_id)
        journal = read_journal(run)
        check_sequence(ledger, who, journal)
        compare(ledger, f"the watcher of {who}", watcher.told, journal)
        _check_lines(ledger, who, run, journal)
        tell_containment(ledger, journal)
        ledger.add("resumed", watcher.resumed)
    listed = await ground.list_runs()
    extra = {row["id"] for row in listed} - set(watchers)
    if extra:
        ledger.miss("doubled", f"{len(extra)} runs nobody asked for: {', '.join(sorted(extra))}")
    if stuck := [row["ref"] for row in listed if row["status"] not in FINAL]:
        ledger.miss("lost", f"still not at an end: {', '.join(stuck)}")


def _check_lines(ledger: Ledger, who: str, run: RunDir, journal: list[Event]) -> None:
    for step in STEPS:
        wanted = [f"{step} {n}" for n in range(1, LINES + 1)]
        try:
            told = run.log(step, 1).read_text().splitlines()
        except FileNotFoundError:
            told = []
        count = Counter(told)
        ledger.add("lines", len(told))
        missing = sum(line not in count for line in wanted)
        twice = sum(count[line] > 1 for line in wanted)
        if missing:
            ledger.miss("lost", f"{who}, step {step}: {missing} of {LINES} lines are missing")
        if twice:
            ledger.miss("doubled", f"{who}, step {step}: {twice} lines came twice")
        if not missing and not twice and told != wanted:
            ledger.miss("lost", f"{who}, step {step}: its lines are out of order or damaged")
        begun = sum(e["event"] == "step_started" and e["step"] == step for e in journal)
        if begun > 1:
            ledger.miss("doubled", f"{who}, step {step} is told to have started {begun} times")


def _check_starts(trial: Trial, starts: Path, runs: list[str]) -> None:
    """Look at what the steps wrote down themselves when they began."""
    begun = Counter(starts.read_text().splitlines())
    if "doubled" in trial.planted and begun:
        begun[next(iter(begun))] += 1
    wanted = {f"{run} {step}" for run in runs for step in STEPS}
    if "lost" in trial.planted:
        wanted.add("planted a")
    for missing in sorted(wanted - set(begun)):
        trial.ledger.miss("lost", f"never begun: {missing}")
    for name, times in begun.items():
        if times > 1:
            trial.ledger.miss("doubled", f"begun {times} times: {name}")


def _say(ledger: Ledger, runs: int) -> None:
    figures = ledger.figures
    ledger.figures["runs"] = runs
    deaths = " and ".join(
        f"{figures[name]} by {name}" for name in ("SIGKILL", "SIGTERM") if name in figures
    )
    ledger.say(
        f"{deaths}, and {figures.get('at_start', 0)} more while it was starting",
        f"{runs} runs of {len(STEPS)} parallel steps went on: {figures['lines']:,} lines",
        f"{runs} watchers resumed {figures['resumed']:,} times",
        f"longest absence {format_duration(figures['longest_absence_ms'])}",
    )


PROMISE: Final = Promise(
    name="daemon-kills",
    title="The daemon killed {} times while runs went on",
    judges=("lost", "doubled"),
    plants=("lost", "doubled"),
    size=lambda counts: counts.daemon_kills,
    prove=prove,
)
