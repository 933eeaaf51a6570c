"""Removes a finished run, or its workspace alone, but nothing that a run still needs.

The rule is the same with and without a daemon, because the folders tell it: a
run that repeats another one works in its workspace until it has ended, and
takes its results over when it starts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from tailrace.errors import ConflictError
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.lock import try_lock
from tailrace.rundir.snapshot import read_snapshot
from tailrace.rundir.trees import remove_tree
from tailrace.store.rebuild import run_ids
from tailrace.worker.folder import put_aside
from tailrace.worker.workspace import holding_workspaces


def remove_run(state: StateDir, run_id: str) -> None:
    """Remove a finished run's folder, there or not, and its workspace unless a run works in it.

    Both are gone at once for readers, their contents soon after.

    Raises:
        ConflictError: it hasn't ended, its runner still cleans up, or a run needs its results.
        OSError: the state folder can't be read or written.
    """
    run = state.run(run_id)
    with _alone_with(state, run_id) as users:
        for user in users:
            if user.waits:
                message = f"{user.ref} is about to take its results over; wait for that"
                raise ConflictError(message, state=read_snapshot(run).status)
        lock_fd = _lock_finished(run)
        try:
            aside = [put_aside(run.path)]
        finally:
            if lock_fd is not None:
                os.close(lock_fd)
        if not users:
            aside.append(put_aside(state.workspace(run_id)))
    for path in aside:
        if path is not None:
            remove_tree(path)


def remove_workspace(state: StateDir, run_id: str) -> bool:
    """Remove that run's workspace, there or not, unless a run works in it.

    Returns False where something of it is left that nobody needs.

    Raises:
        OSError: the state folder can't be read or written.
    """
    if not state.workspace(run_id).exists():  # as a rule its runner has removed it
        return True
    with _alone_with(state, run_id) as users:
        path = None if users else put_aside(state.workspace(run_id))
    return path is None or remove_tree(path)


def _lock_finished(run: RunDir) -> int | None:
    """Lock a run that has ended; None where its folder is gone.

    Raises:
        ConflictError: it hasn't ended, or its runner still cleans up.
    """
    try:
        lock_fd = try_lock(run.lock)
    except FileNotFoundError:
        return None
    snapshot = read_snapshot(run)
    if lock_fd is not None and snapshot.is_final:
        return lock_fd
    if lock_fd is not None:
        os.close(lock_fd)
    ref, status = snapshot.ref or run.id, snapshot.status
    if snapshot.is_final:
        raise ConflictError(f"{ref} has ended, and its runner cleans up; try again", state=status)
    raise ConflictError(f"{ref} is {status}; cancel it first", state=status)


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What counts here of ``run.json``."""

    ref: str
    reused: dict[str, str] = {}
    workspace: str | None = None


@dataclass(frozen=True, slots=True)
class _User:
    """A run that goes on, and works in another one's workspace or with its results."""

    ref: str
    waits: bool  # it has still to take results over


_decoder: Final = msgspec.json.Decoder(_Claim)


@contextlib.contextmanager
def _alone_with(state: StateDir, run_id: str) -> Iterator[list[_User]]:
    """Give the runs that go on with what that run left; while it is held, none is added.

    Most folders are read before, so that others wait for milliseconds.
    """
    known = run_ids(state)
    users = _users(state, run_id, known)
    with holding_workspaces(state, alone=True):
        yield users + _users(state, run_id, run_ids(state) - known)


def _users(state: StateDir, run_id: str, ids: Collection[str]) -> list[_User]:
    found = []
    for other in sorted(ids):
        run = state.run(other)
        try:
            claim = _decoder.decode(run.run_json.read_bytes())
        except (OSError, msgspec.MsgspecError):  # gone or damaged: it claims nothing
            continue
        taken_over = [step for step, origin in claim.reused.items() if origin == run_id]
        if claim.workspace != run_id and not taken_over:
            continue
        snapshot = read_snapshot(run)
        if not snapshot.is_final:
            done = {step.id for step in snapshot.steps.values() if step.is_final}
            waits = not done.issuperset(taken_over)
            found.append(_User(claim.ref, waits))
    return found
