"""Repeating a finished run on its workspace, with or without a daemon."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tailrace.core.cut import quoted
from tailrace.core.mask import MASK
from tailrace.core.reuse import reused_steps
from tailrace.errors import ConflictError, InvalidInputError, Problem, UnknownError
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.snapshot import read_run_file, read_snapshot
from tailrace.worker.submission import Repeat


def repeat_of(
    state: StateDir, run_id: str, *, start: str, by: str, via: str, trusted: bool
) -> Repeat:
    """Return what to ask an `Acceptor` for; ``start`` is ``failed``, ``start`` or a step.

    Results that the old run had taken over itself keep their origin.

    Raises:
        ConflictError: the run hasn't ended, or its workspace is gone.
        InvalidInputError: there is no such step.
        UnknownError: there is no such run.
    """
    run = state.run(run_id)
    try:
        old = read_run_file(run)
    except (OSError, msgspec.MsgspecError):
        raise UnknownError(f"there is no run '{run_id}'; `tailrace runs` lists them") from None
    snapshot = read_snapshot(run)
    if not snapshot.is_final:
        message = f"{old.ref} is {snapshot.status}; cancel it or wait for its end"
        raise ConflictError(message, state=snapshot.status)
    statuses = {step.id: step.status for step in snapshot.steps.values()}
    try:
        masked = [
            step.id
            for step in snapshot.steps.values()
            if step.masked
            or _has_masked_outputs(state.run(old.reused.get(step.id, old.id)), step.id)
        ]
        reused = reused_steps(old.plan, statuses, start=start, masked=masked)
    except KeyError:
        hint = "name a step of the run, or 'failed' or 'start'"
        problem = Problem("from", f"no step is named {quoted(start)}", hint)
        raise InvalidInputError([problem]) from None
    # One that never started made none.
    needs_workspace = snapshot.started_at is not None
    asked = Repeat(
        of=old,
        reused={step: old.reused.get(step, old.id) for step in reused},
        by=by,
        via=via,
        trusted=trusted,
        needs_workspace=needs_workspace,
    )
    check_workspace(state, asked)
    return asked


def check_unused(repeat: Repeat, users: Sequence[str], status: str) -> None:
    """Refuse to repeat a run, which ended as *status*, in a workspace that others use.

    *users* are the refs of the live and waiting runs that work in it.

    Raises:
        ConflictError: there are some.
    """
    if users:
        message = f"the workspace of {repeat.of.ref} is in use by {users[0]}; wait for it"
        raise ConflictError(message, state=status)


def _has_masked_outputs(run: RunDir, step: str) -> bool:
    """Whether the outputs that a step has left aren't what it told: what was masked is gone."""
    try:
        return MASK in run.outputs(step).read_bytes()
    except OSError:  # it has none, as a rule; the run that takes them over tells what is wrong
        return False


def check_workspace(state: StateDir, repeat: Repeat) -> None:
    """Refuse to repeat a run whose workspace is gone.

    Raises:
        ConflictError: it is.
    """
    old = repeat.of
    if repeat.needs_workspace and not state.workspace(old.workspace or old.id).is_dir():
        message = f"the workspace of {old.ref} is gone; start a new run"
        raise ConflictError(message, state=read_snapshot(state.run(old.id)).status)
