"""Watchers come and go, and each of them holds exactly the journal in the end.

They leave after random numbers of events, in the middle of what was sent, and
come back with the number of the last one that they took in; through all the
shapes of the stream, by header and by query. The daemon is killed meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Final

from tailrace.core.units import format_size
from tailrace.prove.ground import Ground, tell_containment
from tailrace.prove.proof import Ledger, Promise, Trial
from tailrace.prove.records import Stay, Watcher, check_sequence, compare, read_journal

_STEPS: Final = 5
_LINES: Final = 1_500
_END_S: Final = 120.0
_LONGEST_STAY: Final = 60  # events

_STEP: Final = f"""\
      i=0
      while [ $i -lt {_LINES // 50} ]; do
        i=$((i + 1)); seq -f "$TAILRACE_STEP.$i line %g é€🙂" 1 50
        printf 'open…'; sleep 0.06; echo closed
      done
"""


async def prove(trial: Trial) -> None:
    """Have ``counts.watchers`` watchers follow one run, and compare what they hold."""
    ledger = trial.ledger
    steps = "".join(f"  s{n}:\n    run: |\n{_STEP}" for n in range(_STEPS))
    async with Ground(
        trial.folder / "ground", {"talk": f"parallel: {_STEPS}\nsteps:\n{steps}"}
    ) as ground:
        await ground.start()
        run_id = await ground.submit("talk")
        watchers = [Watcher(ground, run_id) for _ in range(trial.counts.watchers)]
        choices = [random.Random(trial.random.random()) for _ in watchers]
        try:
            async with asyncio.timeout(_END_S), asyncio.TaskGroup() as tasks:
                for watcher, choice in zip(watchers, choices, strict=True):
                    tasks.create_task(_come_and_go(ledger, watcher, choice), name="watcher")
                for _ in range(trial.counts.kills_while_watching):
                    await asyncio.sleep(trial.random.uniform(0.1, trial.counts.longest_s))
                    await ground.kill(signal.SIGKILL)
                    await ground.start()
        except TimeoutError:
            ledger.miss("lost", f"after {_END_S:.0f} s some watchers haven't seen the end")
        run = ground.state.run(run_id)
        journal = read_journal(run)
        if "lost" in trial.planted:
            del watchers[0].told[3]
        if "doubled" in trial.planted:
            watchers[-1].told.append(watchers[-1].told[0])
        check_sequence(ledger, "the run", journal)
        tell_containment(ledger, journal)
        for number, watcher in enumerate(watchers):
            if watcher.problem:
                ledger.miss("lost", f"watcher {number}: {watcher.problem}")
            compare(ledger, f"watcher {number}", watcher.told, journal)
            ledger.add("resumed", watcher.resumed)
            ledger.add("received", len(watcher.told))
        ledger.figures["events"] = len(journal)
        ledger.figures["bytes"] = run.journal.stat().st_size
    ledger.figures["kills"] = trial.counts.kills_while_watching
    _say(ledger, len(watchers))


async def _come_and_go(ledger: Ledger, watcher: Watcher, choice: random.Random) -> None:
    shape = choice.choice(("events", "events", "message", "ndjson"))
    while not watcher.problem:
        stay = Stay(
            events=choice.randint(1, _LONGEST_STAY), shape=shape, by_header=choice.random() < 0.7
        )
        if await watcher.watch(stay):
            break
    ledger.step()


def _say(ledger: Ledger, watchers: int) -> None:
    figures = ledger.figures
    ledger.say(
        f"{figures['resumed']:,} resumes after random events and after deaths of the daemon "
        f"({figures['kills']})",
        f"each of {watchers} held against the {figures['events']:,} events of the journal "
        f"({format_size(figures['bytes'])}), in order and word for word",
    )


PROMISE: Final = Promise(
    name="watchers",
    title="{} watchers dropped and resumed",
    judges=("lost", "doubled"),
    plants=("lost", "doubled"),
    size=lambda counts: counts.watchers,
    prove=prove,
)
