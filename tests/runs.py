"""The language of tests about runs: say what steps do, start a runner, read what it said."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from tailrace import wire
from tailrace.core import events
from tailrace.core.plan import CommandAction, Plan, RunAction, RunFile, StepPlan
from tailrace.core.run import Snapshot
from tailrace.core.ulid import new_ulid
from tailrace.rundir.changes import Changes
from tailrace.rundir.control import send_command
from tailrace.rundir.feed import Cursor, following
from tailrace.rundir.journal import JournalReader, JournalWriter
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.snapshot import read_snapshot
from tailrace.runner.containment import is_alive

Told = dict[str, Any]  # an event as watchers get it


def script(name: str, text: str, *needs: str, **more: Any) -> StepPlan:
    """A step that runs shell text."""
    return StepPlan(
        id=name, base=name, label=more.pop("label", name), needs=needs,
        action=RunAction(script=text), **more,
    )  # fmt: skip


def command(name: str, *argv: str, **more: Any) -> StepPlan:
    """A step that executes an argument list."""
    return StepPlan(id=name, base=name, label=name, action=CommandAction(argv=argv), **more)


def plan_of(*steps: StepPlan, **more: Any) -> Plan:
    """A plan of these steps, eight at once."""
    return Plan(pipeline="test", steps=steps, parallel=more.pop("parallel", 8), **more)


def accept(state: StateDir, plan: Plan, **more: Any) -> RunDir:
    """Make a run's folder as it is when it has been accepted."""
    run_id = new_ulid(int(time.time() * 1000), os.urandom(10))
    run = state.run(run_id)
    run.path.mkdir(parents=True)
    file = RunFile(
        id=run_id, ref="test/1", pipeline="test", plan=plan,
        trusted=more.pop("trusted", True), **more,
    )  # fmt: skip
    run.run_json.write_bytes(msgspec.json.encode(file))
    journal = JournalWriter(run)
    graph = tuple(events.GraphNode(id=s.id, label=s.label, needs=s.needs) for s in plan.steps)
    first = events.PlanEvent(
        run=run_id, ref="test/1", pipeline="test", depth=plan.depth, params=dict(file.params),
        by="ann", via="cli", retry_of=file.retry_of, steps=tuple(s.label for s in plan.steps),
        graph=graph,
    )  # fmt: skip
    for event in (first, events.Queued(position=0, reason=None, group=None)):
        journal.append(wire.timestamp(time.time()), msgspec.to_builtins(event))
    journal.close()
    return run


def read_events(run: RunDir, *, after: int = 0) -> list[Told]:
    """All that the journal tells, as watchers get it."""
    reader = JournalReader(run, after=after)
    told: list[Told] = []
    while frames := reader.read():
        told += [json.loads(frame.data) for frame in frames]
    reader.close()
    return told


class Execution:
    """A runner process and the run that it executes."""

    def __init__(self, run: RunDir, process: asyncio.subprocess.Process) -> None:
        self.run, self.process = run, process

    async def wait(self) -> list[Told]:
        """Wait until the runner has ended; return everything that was told."""
        await self.process.wait()
        return self.told()

    def told(self, event: str | None = None, *, step: str | None = None) -> list[Told]:
        """Everything told so far, or the events of a kind and step."""
        return [
            item
            for item in read_events(self.run)
            if event in (None, item["event"]) and step in (None, item.get("step"))
        ]

    def finished(self, step: str) -> Told:
        """How a step ended."""
        (item,) = self.told("step_finished", step=step)
        return item

    def text(self, step: str, attempt: int = 1) -> str:
        """The output of a step, put together from its ``log`` events."""
        return "".join(
            item["text"] + ("" if item.get("open") else "\n")
            for item in self.told("log", step=step)
            if item["attempt"] == attempt
        )

    def snapshot(self) -> Snapshot:
        """The run's state as its folder tells."""
        return read_snapshot(self.run)

    async def until(self, event: str, *, step: str | None = None, text: str = "") -> Told:
        """Wait for the first event of a kind, of that step, with that text in it."""
        async with Changes() as changes, following(self.run, changes) as feed:
            cursor = Cursor(feed)
            while frames := await cursor.read():
                for frame in frames:
                    if frame.event == event and step in (None, frame.step):
                        item: Told = json.loads(frame.data)
                        if text in json.dumps(item):
                            return item
        raise AssertionError(f"the run ended without {event} {step or ''} {text}")

    async def send(self, command: str, **more: Any) -> wire.Reply:
        """Ask the runner."""
        return await send_command(
            self.run, wire.Command(command=command, by="ann", via="cli", **more)  # type: ignore[arg-type] # text
        )  # fmt: skip


@asynccontextmanager
async def executing(
    run: RunDir,
    *,
    secrets: dict[str, str] | None = None,
    params: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    altered_by: str = "",
    **more: Any,
) -> AsyncIterator[Execution]:
    """Execute a run in a runner of its own, which is killed if the test leaves it running.

    *altered_by* is Python that the runner executes first, for faults that nothing else brings.
    """
    handover = wire.Handover(
        secrets=secrets or {}, params=params or {}, settings=settings or {}, **more
    )
    main = "import sys; from tailrace.runner.__main__ import main; sys.exit(main())"
    program = f"{altered_by}\n{main}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, *(("-c", program) if altered_by else ("-m", "tailrace.runner")),
        str(run.path), stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(handover))
    process.stdin.close()
    try:
        yield Execution(run, process)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def execute(state: StateDir, plan: Plan, **more: Any) -> Execution:
    """Accept and execute a run to its end."""
    file = {key: more.pop(key) for key in ("reused", "workspace", "keep_workspace") if key in more}
    run = accept(state, plan, **file)
    async with executing(run, **more) as execution:
        await execution.wait()
    return execution


def files_with(folder: Path, *texts: str) -> set[str]:
    """The files below a folder that hold one of the texts, or are named so."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if any(text in path.name for text in texts)
        or (path.is_file() and any(text.encode() in path.read_bytes() for text in texts))
    }


def processes_of(run: RunDir) -> list[int]:
    """The living processes whose environment names the run."""
    marker = f"TAILRACE_RUN_ID={run.id}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if folder.name.isdigit() and marker in environment.split(b"\0"):
            found.append(int(folder.name))
    return [pid for pid in found if is_alive(pid)]


async def eventually(holds: Callable[[], bool], *, within_s: float = 20) -> None:
    """Wait until it holds; fail when it still doesn't."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what it looks at is outside of this process
            await asyncio.sleep(0.01)
