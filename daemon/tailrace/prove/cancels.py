"""Runs with nasty trees of processes are cancelled: nothing survives, whatever it did to hide.

After the cancel the process table is searched for the tree's marks, whatever
the run's kill report claims; and what that claims must agree.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from tailrace.core.units import format_duration
from tailrace.prove.ground import Ground, tell_containment, until
from tailrace.prove.marks import Mark, check_survivors, end_all, look, try_the_look
from tailrace.prove.proof import Ledger, Promise, Trial
from tailrace.prove.records import Watcher, check_sequence, compare, read_journal
from tailrace.prove.trees import TREES, script

_AT_ONCE: Final = 4
_GRACE_MS: Final = 300
_DELAY_S: Final = 0.2  # a cancel comes at a random moment within
_END_S: Final = 60.0


def _pipeline(tree: str) -> str:
    return (
        "params: {mark: {required: true}, folder: {required: true}}\n"
        'env: {PROOF_MARK: "${{ params.mark }}", PROOF_FOLDER: "${{ params.folder }}"}\n'
        f"timeout: 5m\nsteps:\n  nasty:\n    grace: {_GRACE_MS}ms\n"
        f"    run: |\n      {script(tree)}\n"
    )


async def prove(trial: Trial) -> None:
    """Cancel ``counts.cancels`` runs, each with a tree, and look who is left."""
    names = {f"tree-{number}": tree for number, tree in enumerate(TREES)}
    order = list(names)
    trial.random.shuffle(order)
    ground = Ground(
        trial.folder / "ground",
        {name: _pipeline(tree) for name, tree in names.items()},
        settings=f"max_runs: {_AT_ONCE}\n",
    )
    waiting: asyncio.Queue[str] = asyncio.Queue()
    for number in range(trial.counts.cancels):
        waiting.put_nowait(order[number % len(order)])
    marks: list[Mark] = []
    try:
        async with ground:
            await try_the_look(trial.folder / "marks")
            await ground.start()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_AT_ONCE):
                    tasks.create_task(_cancel_in_turn(trial, ground, waiting, names, marks))
    finally:
        await asyncio.to_thread(end_all, marks)
    _say(trial.ledger, len(set(order[: trial.counts.cancels])))


async def _cancel_in_turn(
    trial: Trial, ground: Ground, waiting: asyncio.Queue[str], names: dict[str, str],
    marks: list[Mark],
) -> None:  # fmt: skip
    while not waiting.empty():
        name = waiting.get_nowait()
        mark = Mark.make(trial.folder / "marks", f"mark-{trial.random.randbytes(8).hex()}")
        marks.append(mark)
        await _cancel(trial, ground, name, names[name], mark)
        trial.ledger.step()


async def _cancel(trial: Trial, ground: Ground, name: str, tree: str, mark: Mark) -> None:
    ledger = trial.ledger
    run_id = await ground.submit(name, {"mark": mark.text, "folder": str(mark.folder)})
    watcher = Watcher(ground, run_id)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watcher.to_the_end(), name=f"watch {run_id}")
        stands = await until(lambda: any(e["event"] == "log" for e in watcher.told))
        await asyncio.sleep(trial.random.uniform(0, _DELAY_S))
        found = (await asyncio.to_thread(look, [mark]))[mark.text]
        ledger.add("processes", len(found))
        began = time.monotonic()
        await ground.ask("POST", f"/runs/{run_id}/cancel", {"reason": "to prove it"})
        over = await until(
            lambda: bool(watcher.told) and watcher.told[-1]["event"] == "aborted", within_s=_END_S
        )
        ledger.most("longest_stop_ms", round((time.monotonic() - began) * 1000))
        watcher.problem = watcher.problem or (None if over else "never ended")
    who = f"the tree {tree!r}"
    if not stands or not found:
        ledger.miss("lost", f"{who} never stood: {watcher.told[-1:]}")
    if not over:
        ledger.miss("lost", f"{who}: its cancel never ended it")
        return
    await ground.left(ground.state.run(run_id))
    planted = mark.plant() if "survivors" in trial.planted else None
    try:
        await check_survivors(ledger, who, mark)
    finally:
        if planted is not None:
            planted.kill()
            await asyncio.to_thread(planted.wait)
    await _check_report(ledger, ground, who, watcher)


async def _check_report(ledger: Ledger, ground: Ground, who: str, watcher: Watcher) -> None:
    journal = read_journal(ground.state.run(watcher.run_id))
    check_sequence(ledger, who, journal)
    compare(ledger, f"the watcher of {who}", watcher.told, journal)
    tell_containment(ledger, journal)
    (end,) = [e for e in journal if e["event"] == "step_finished"]
    kill: dict[str, Any] = end["kill"] or {}
    if end["status"] != "aborted" or not kill:
        ledger.miss("lost", f"{who}: its end tells no enforced stop: {end}")
        return
    for left in kill["survivors"]:
        ledger.miss("survivors", f"{who}: the kill report itself names {left}")
    ledger.add("signalled", kill["signalled"])
    ledger.add("forced", kill["forced"])


def _say(ledger: Ledger, kinds: int) -> None:
    figures = ledger.figures
    ledger.say(
        f"{kinds} kinds of trees, {figures['processes']:,} processes when the cancels came",
        f"{figures.get('signalled', 0):,} got SIGTERM, {figures.get('forced', 0):,} were killed "
        f"after a grace of {_GRACE_MS} ms",
        f"longest from a cancel to the run's end {format_duration(figures['longest_stop_ms'])}",
        "processes known by environment, argv and open files; a planted one was found",
    )


PROMISE: Final = Promise(
    name="cancels",
    title="{} nasty trees cancelled",
    judges=("survivors", "lost", "doubled"),
    plants=("survivors",),
    size=lambda counts: counts.cancels,
    prove=prove,
)
