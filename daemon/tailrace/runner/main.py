"""A runner's life: take the lock and the hand-over, execute the run, clean up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import traceback
from pathlib import Path

import msgspec

from tailrace import wire
from tailrace.core.mask_rules import MaskRules
from tailrace.core.plan import ParamValue, RunFile
from tailrace.core.walk import Walk
from tailrace.errors import ConflictError, InvalidInputError, Problem
from tailrace.rundir.attempts import remove_attempts
from tailrace.rundir.journal import room_for
from tailrace.rundir.layout import RunDir
from tailrace.rundir.lock import try_lock, write_holder
from tailrace.rundir.snapshot import read_run_file, read_snapshot
from tailrace.rundir.trees import remove_tree
from tailrace.runner.containment import become_subreaper, end_descendants
from tailrace.runner.context import RunContext
from tailrace.runner.continuation import check_settled, take_up
from tailrace.runner.engine import Engine
from tailrace.runner.mechanism import Mechanism, choose
from tailrace.runner.recorder import Recorder
from tailrace.settings import Settings


def run(folder: Path, lock_fd: int | None, handover: wire.Handover) -> int:
    """Execute the run of that folder to its end; return 0, or 1 when it isn't a success.

    *lock_fd* is the run's lock, taken by whoever made the run; None takes it.

    Raises:
        InvalidInputError: the folder isn't a run's, or secrets that it needs weren't handed over.
        ConflictError: another process holds the lock, or the run has started before.
        OSError: not even the run's end could be written.
    """
    run_dir = RunDir(folder.resolve())
    file = _read(run_dir)
    if lock_fd is None:
        lock_fd = try_lock(run_dir.lock)
        if lock_fd is None:
            raise ConflictError(f"{file.ref} is being executed by another runner", state="running")
    os.set_inheritable(lock_fd, False)
    before = read_snapshot(run_dir)
    if handover.continues:
        check_settled(file.ref, before)
    elif before.status != "queued":
        raise ConflictError(f"{file.ref} has started before: {before.status}", state=before.status)
    _check_handover(file, handover)
    os.umask(0o077)
    become_subreaper()
    write_holder(lock_fd)
    settings = msgspec.convert(handover.settings, Settings)
    mechanism = choose(settings.limits.containment, file.id)
    try:
        return asyncio.run(_execute(run_dir, file, handover, settings, mechanism))
    finally:
        mechanism.close()
        os.close(lock_fd)


async def _execute(
    run_dir: RunDir,
    file: RunFile,
    handover: wire.Handover,
    settings: Settings,
    mechanism: Mechanism,
) -> int:
    ctx = _context(run_dir, file, handover, settings, mechanism)
    engine = Engine(ctx)
    ctx.disk_failed, ctx.spent = engine.disk_failed, engine.check_budget
    try:
        if handover.continues:
            take_up(ctx)
        await engine.run()
    except Exception:  # noqa: BLE001 - the boundary of a run: its watchers must see an end
        ctx.log_bug(traceback.format_exc())
        if engine.ended is None:
            with contextlib.suppress(OSError):  # then the daemon ends it as lost
                engine.give_up()
    finally:
        await asyncio.to_thread(ctx.mechanism.close)
        await end_descendants()
        ctx.recorder.close()
    snapshot = read_snapshot(ctx.run)
    await asyncio.to_thread(_clean_up, ctx, succeeded=snapshot.status == "success")
    return 0 if snapshot.status == "success" else 1


def _context(
    run_dir: RunDir,
    file: RunFile,
    handover: wire.Handover,
    settings: Settings,
    mechanism: Mechanism,
) -> RunContext:
    params: dict[str, ParamValue] = {**file.params, **handover.params}
    return RunContext(
        run=run_dir,
        file=file,
        params=params,
        secrets=handover.secrets,
        settings=settings,
        public_url=handover.public_url,
        recorder=Recorder(
            run_dir,
            MaskRules(handover.secrets, handover.shapes),
            room=room_for(len(file.plan.steps)),
        ),
        mechanism=mechanism,
        walk=Walk(file.plan),
        disk_failed=_raise,
        spent=lambda: None,
    )


def _raise(error: OSError) -> None:
    raise error


def _read(run_dir: RunDir) -> RunFile:
    try:
        return read_run_file(run_dir)
    except (OSError, msgspec.MsgspecError) as exc:
        raise InvalidInputError(
            [
                Problem(
                    str(run_dir.run_json), str(exc), "give the folder of a run: <state>/runs/<id>"
                )
            ]
        ) from None


def _check_handover(file: RunFile, handover: wire.Handover) -> None:
    missing = [name for name in file.plan.secrets if name not in handover.secrets]
    masked = [name for name in file.params_masked if name not in handover.params]
    problems = [
        Problem(f"secrets.{name}", "wasn't handed over", "give it on standard input")
        for name in missing
    ] + [
        Problem(f"params.{name}", "its parameters held a secret", "start the run anew")
        for name in masked
    ]
    if problems:
        raise InvalidInputError(problems)


def _clean_up(ctx: RunContext, *, succeeded: bool) -> None:
    remove_attempts(ctx.run)
    if succeeded and not ctx.file.keep_workspace:
        remove_tree(ctx.workspace)
