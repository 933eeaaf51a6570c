"""A run's events read from its folder, as they are written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from tailrace import wire
from tailrace.core.events import LAST_EVENTS
from tailrace.errors import ConflictError, UnknownError
from tailrace.rundir.changes import Changes
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.rundir.lock import is_held
from tailrace.rundir.places import last_lines, tail_frames
from tailrace.rundir.snapshot import read_snapshot

_CHUNK = 1 << 18
_LOOK_S = 1.0  # how often the lock is looked at while the journal is still
_LOOKS = 5  # at a free lock, while a daemon that was started anew would take it


async def journal_events(
    run: RunDir,
    *,
    after: int,
    tail: int | None,
    step: str | None,
    follow: bool,
    texts: bool,
    settle: Callable[[RunDir], None],
) -> AsyncGenerator[list[wire.Frame], None]:
    """Give a run's events as its journal has them, from after event *after* or its last lines.

    While it follows, ``settle`` is called, in a thread, with a run that nobody executes.

    Raises:
        UnknownError: the run has been deleted.
        ConflictError: it waits for a daemon, and for some seconds none took it.
    """
    try:
        if tail is not None:
            last = await asyncio.to_thread(last_lines, run, tail, step=step)
            frames = await asyncio.to_thread(lambda: list(tail_frames(run, last)))
            after = last.upto
            if shown := _of_step(frames, step):
                yield shown
            if frames and frames[-1].event in LAST_EVENTS:
                return
        if not follow:
            # Bounded by now: a run that floods would never be caught up with.
            upto = after if tail is not None else last_lines(run, 0).upto
        reader = JournalReader(run, after=after, texts=texts)
        try:
            async with Changes() as changes, changes.of(run.journal) as changed:
                found = _growing(reader, run, changed, settle) if follow else _until(reader, upto)
                async with contextlib.aclosing(found) as batches:
                    async for frames in batches:
                        if shown := _of_step(frames, step):
                            yield shown
        finally:
            reader.close()
    except FileNotFoundError:
        raise UnknownError(f"the run '{run.id}' has been deleted") from None


async def _until(reader: JournalReader, upto: int) -> AsyncGenerator[list[wire.Frame], None]:
    """Give a journal's events up to that one."""
    while reader.seq < upto and (frames := await asyncio.to_thread(reader.read, _CHUNK)):
        yield [frame for frame in frames if frame.seq <= upto]


async def _growing(
    reader: JournalReader, run: RunDir, changed: asyncio.Event, settle: Callable[[RunDir], None]
) -> AsyncGenerator[list[wire.Frame], None]:
    """Give a journal's events until the last one."""
    idle = 0
    while idle < _LOOKS:
        changed.clear()
        while frames := await asyncio.to_thread(reader.read, _CHUNK):
            idle = 0
            yield frames
            if frames[-1].event in LAST_EVENTS:
                return
        if not await _wait(run, changed):
            await asyncio.to_thread(settle, run)
            idle += 1
    snapshot = await asyncio.to_thread(read_snapshot, run)
    ref = snapshot.ref or run.id
    raise ConflictError(
        f"{ref} is {snapshot.status}, and nobody executes it: no daemon runs; "
        f"`tailrace serve` goes on with it, `tailrace cancel {ref}` ends it",
        state=snapshot.status,
    )


async def _wait(run: RunDir, changed: asyncio.Event) -> bool:
    """Return True when the journal may have grown, False where nobody holds the run's lock."""
    while True:
        try:
            async with asyncio.timeout(_LOOK_S):
                await changed.wait()
                return True
        except TimeoutError:
            if not is_held(run.lock):
                return False


def _of_step(frames: list[wire.Frame], step: str | None) -> list[wire.Frame]:
    """Return what ``?step=`` leaves of the frames."""
    if step is None:
        return frames
    kept = ("plan", *LAST_EVENTS)
    return [frame for frame in frames if frame.step == step or frame.event in kept]
