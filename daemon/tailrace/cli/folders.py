"""Runs without a daemon: started, read, steered and deleted by way of their folders."""

from __future__ import annotations

import asyncio
import getpass
import os
import stat
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tailrace import wire
from tailrace.cli.journal import journal_events
from tailrace.cli.source import Asked
from tailrace.core.admission import WAITS_ELSEWHERE
from tailrace.core.events import FINAL_RUN_STATUSES, Control
from tailrace.core.units import parse_duration
from tailrace.errors import (
    ConflictError,
    InvalidInputError,
    Problem,
    TailraceError,
    UnknownError,
)
from tailrace.pipeline.catalog import Catalog
from tailrace.rundir.control import send_command
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.rundir.lock import is_held, try_lock
from tailrace.rundir.snapshot import read_run_file, read_snapshot
from tailrace.settings import Settings
from tailrace.store.steady import SteadyIndex
from tailrace.views import pipeline_view, run_summary, run_view

if TYPE_CHECKING:
    from tailrace.cli.turns import Turns
    from tailrace.worker.accept import Acceptor
    from tailrace.worker.prepared import Accepted, Prepared
    from tailrace.worker.submission import Repeat

_CHUNK = 1 << 18
_LISTEN_S = 5.0  # how long a runner may take until it listens


class Folders:
    """The runs of a state folder, with the same methods as a daemon's; an async context manager."""

    def __init__(self, state: StateDir, settings: Settings, catalog: Catalog) -> None:
        self._state = state
        self._settings = settings
        self._catalog = catalog
        self._index: SteadyIndex | None = None
        self._turns: Turns | None = None  # made with the first run that is started here
        self._only_acceptor: Acceptor | None = None
        self._started: set[str] = set()  # runs that were handed to a runner here

    async def __aenter__(self) -> Folders:
        """Make ready."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Wait until what was started here needs us no more; close the index.

        Who is cancelled doesn't wait: runs whose turn hasn't come are ended.
        """
        try:
            if self._turns is not None and (kind is None or issubclass(kind, Exception)):
                await self._turns.settle()
            elif self._turns is not None:
                await self._turns.give_up()
        finally:
            if self._index is not None:
                self._index.close()

    def _indexed(self) -> SteadyIndex:
        """Return the index, brought up to date with the folders."""
        if self._index is None:
            self._index = SteadyIndex(self._state)
        return self._index

    # ---- starting ----------------------------------------------------------------------------

    async def start(self, asked: Asked) -> tuple[str | None, str | None]:
        """Accept the run and start its runner, which outlives us, when its group lets it."""
        from tailrace.worker.submission import Submission

        submission = Submission(
            pipeline=asked.pipeline,
            params=dict(asked.params),
            text=True,
            depth=asked.depth,
            on_disconnect=asked.on_disconnect,
            by=_user(),
            via=asked.via,
            trusted=True,
            keep_workspace=asked.keep_workspace,
            cwd=str(Path.cwd()),
        )
        acceptor = self._acceptor()
        await acceptor.ready(submission)
        with acceptor.prepare(submission) as prepared:
            return self._begin(prepared)

    async def retry(self, run_id: str, start: str) -> str:
        """Accept a run that repeats another one, and start its runner."""
        from tailrace.worker.repeat import repeat_of

        try:
            repeat = repeat_of(
                self._state, run_id, start=start, by=_user(), via="cli", trusted=True
            )
        except ConflictError as exc:
            raise _or_lost(self._state.run(run_id), exc) from None
        acceptor = self._acceptor()
        await acceptor.requirements.look(repeat.of.plan.requires)
        with acceptor.prepare_repeat(repeat) as prepared:
            self._check_workspace(repeat)  # who repeats it too waits for the counter
            new_id, reason = self._begin(prepared)
        if new_id is None:
            raise ConflictError(f"no run was started: {reason}", state="")
        return new_id

    def _check_workspace(self, repeat: Repeat) -> None:
        from tailrace.cli.turns import live_runs
        from tailrace.worker.repeat import check_unused

        old = repeat.of
        workspace = old.workspace or old.id
        users = [
            run.ref
            for run in live_runs(self._state, old.pipeline)
            if run.id != old.id and (run.workspace or run.id) == workspace
        ]
        check_unused(repeat, users, read_snapshot(self._state.run(old.id)).status)

    def _begin(self, prepared: Prepared) -> tuple[str | None, str | None]:
        from tailrace.cli.turns import Turns

        if self._turns is None:
            self._turns = Turns(self._state, self._spawn, lambda run: _end(run, None))
        return self._turns.begin(prepared)

    def _acceptor(self) -> Acceptor:
        if self._only_acceptor is None:
            from tailrace.undumpable import become_undumpable
            from tailrace.worker.accept import Acceptor
            from tailrace.worker.secrets import SecretStore

            become_undumpable()  # steps run as the same user; secrets stay in /proc/PID/environ
            secrets = SecretStore.take(self._settings, os.environ)  # once: they leave it
            self._only_acceptor = Acceptor(self._state, self._settings, self._catalog, secrets)
        return self._only_acceptor

    def _settle(self, run: RunDir) -> None:
        """End a run whose runner died, or start another one where it is to go on.

        One that nobody has started is a daemon's to start, unless it was our runner that died.

        Raises:
            ConflictError: it is to go on, and a secret that it needs isn't at hand here.
        """
        from tailrace.worker.lost import Fate, settle_lost
        from tailrace.worker.prepared import Accepted
        from tailrace.worker.unstarted import DIED, end_unstarted

        lock = try_lock(run.lock)
        if lock is None:
            return
        try:
            if read_snapshot(run).status == "queued":
                if run.id in self._started:
                    end_unstarted(run, DIED)
                return
            file, handover = read_run_file(run), None
            if file.plan.on_lost == "retry" and not file.params_masked:
                try:
                    handover = self._acceptor().handover(file)
                except InvalidInputError as exc:
                    message = f"{file.ref} lost its runner, and can't go on from here: {exc}"
                    raise ConflictError(message, state="running") from None
            if settle_lost(run) is Fate.CONTINUES:
                assert handover is not None
                handover = msgspec.structs.replace(handover, continues=True)
                theirs = os.dup(lock)
                self._spawn(Accepted(run=run, run_file=file, lock_fd=theirs, handover=handover))
        finally:
            os.close(lock)

    def _spawn(self, accepted: Accepted) -> None:
        """Start the runner, which outlives us."""
        from tailrace.worker.spawn import spawn_runner

        self._started.add(accepted.run.id)
        process = spawn_runner(accepted)
        process.returncode = 0  # its own from now on: Popen must not complain that it still runs

    async def settle(self) -> None:
        """Return when no run of ours waits for its turn any more."""
        if self._turns is not None:
            await self._turns.settle()

    # ---- reading -----------------------------------------------------------------------------

    async def resolve(self, text: str) -> str:
        """Return the id of the run that *text* means."""
        return self._indexed().resolve(text)

    async def page(
        self, *, pipeline: str | None, status: str | None, limit: int, cursor: str | None
    ) -> tuple[list[wire.RunSummary], str | None]:
        """Return runs, newest first, and the cursor of the next page."""
        rows, next_cursor = self._indexed().list(
            pipeline=pipeline, status=status, limit=limit, cursor=cursor
        )
        return [run_summary(row, None) for row in rows], next_cursor

    async def view(self, run_id: str) -> wire.RunView:
        """Return a run's state as its folder has it."""
        run = self._state.run(run_id)
        if not run.journal.exists():  # the index may be older than a run that we started
            raise UnknownError(f"there is no run '{run_id}'; `tailrace runs` lists them")
        return run_view(read_snapshot(run), None)

    def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        tail: int | None = None,
        step: str | None = None,
        follow: bool = True,
        texts: bool = True,
    ) -> AsyncGenerator[list[wire.Frame], None]:
        """Give a run's events as its journal has them."""
        return journal_events(
            self._state.run(run_id),
            after=after,
            tail=tail,
            step=step,
            follow=follow,
            texts=texts,
            settle=self._settle,
        )

    def log_reader(self, run_id: str) -> Callable[[str, int, int, int], bytes] | None:
        """Return what reads a log of that run; bytes that aren't there read as none."""
        run = self._state.run(run_id)

        def read(step: str, attempt: int, start: int, end: int) -> bytes:
            try:
                fd = os.open(run.log(step, attempt), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                return b""
            try:
                return os.pread(fd, end - start, start)
            finally:
                os.close(fd)

        return read

    async def artifact(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]:
        """Give an artifact's bytes."""
        known = {a.name for a in read_snapshot(self._state.run(run_id)).artifacts}
        if name not in known:
            raise UnknownError(f"it left no artifact '{name}'; without --get they are listed")
        path = self._state.run(run_id).artifacts / name
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise UnknownError(f"{path} is no regular file")
            while chunk := file.read(_CHUNK):
                yield chunk

    async def pipelines(self) -> list[wire.PipelineView]:
        """Return the pipelines, broken ones with their mistakes."""
        return [pipeline_view(entry, [], None) for entry in self._catalog.entries()]

    # ---- steering ----------------------------------------------------------------------------

    async def cancel(
        self, run_id: str, reason: str | None = None, *, key: str | None = None
    ) -> None:
        """Ask the runner to cancel."""
        command = wire.Command(command="cancel", id=key, reason=reason)
        run = self._state.run(run_id)
        if self._turns is not None and await self._turns.leave(run_id):
            await asyncio.to_thread(_end, run, reason)
            return
        try:
            await self._command(run_id, command)
        except NoRunnerError:
            # Its runner died, or it waits for a daemon that isn't there: the end is ours to write.
            if not await asyncio.to_thread(_end, run, reason):
                raise

    async def pause(self, run_id: str) -> None:
        """Ask the runner to pause."""
        await self._command(run_id, wire.Command(command="pause"))

    async def resume(self, run_id: str) -> None:
        """Ask the runner to go on."""
        await self._command(run_id, wire.Command(command="resume"))

    async def answer(self, run_id: str, prompt: str, answer: str) -> None:
        """Hand the runner an answer."""
        await self._command(run_id, wire.Command(command="answer", prompt=prompt, answer=answer))

    async def progress(self, run_id: str, body: wire.ProgressBody) -> None:
        """Hand the runner what is told of a step's progress."""
        told = msgspec.structs.asdict(body)
        await self._command(run_id, wire.Command(command="progress", **told))

    async def skip(self, run_id: str, step: str) -> None:
        """Ask the runner to skip a step."""
        await self._command(run_id, wire.Command(command="skip", step=step))

    async def extend(self, run_id: str, step: str, by: str) -> None:
        """Ask the runner to give a step's attempt more time."""
        by_ms = parse_duration(by)
        await self._command(run_id, wire.Command(command="extend", step=step, by_ms=by_ms))

    async def _command(self, run_id: str, command: wire.Command) -> None:
        run = self._state.run(run_id)
        command = msgspec.structs.replace(command, by=_user(), via="cli")
        deadline = asyncio.get_running_loop().time() + _LISTEN_S
        while True:
            try:
                reply = await send_command(run, command)
                break
            except (ConnectionError, TimeoutError) as exc:
                # A runner holds the lock before it listens.
                if not is_held(run.lock) or asyncio.get_running_loop().time() > deadline:
                    raise _no_runner(run, exc) from None
                await asyncio.sleep(0.05)
        match reply.status:
            case "done" | "unchanged":
                return
            case "unknown":
                raise UnknownError(reply.reason or f"it has no step '{command.step}'")
            case "invalid":
                raise InvalidInputError([Problem(command.command, reply.reason or "is refused")])
            case _:
                said = reply.reason or f"it is {reply.state}"
                raise ConflictError(said, state=reply.state or "")

    async def delete(self, run_id: str) -> None:
        """Delete a finished run's folder and workspace."""
        from tailrace.worker.removal import remove_run

        try:
            await asyncio.to_thread(remove_run, self._state, run_id)
        except ConflictError as exc:
            raise _or_lost(self._state.run(run_id), exc) from None
        self._indexed().remove(run_id)


def _end(run: RunDir, reason: str | None) -> bool:
    """Write the end of a run that nobody executes; return False where it isn't ours to end."""
    from tailrace.worker.lost import end_lost
    from tailrace.worker.unstarted import Reason, end_unstarted

    lock = try_lock(run.lock)
    if lock is None:
        return False
    try:
        who = _user()
        if read_snapshot(run).status != "queued":
            return end_lost(run, asked=Control(action="cancel", by=who, via="cli"))
        end_unstarted(
            run,
            Reason(
                status="aborted",
                cause=reason or f"cancelled by {who}",
                cause_code="cancelled",
                by=who,
                control=Control(action="cancel", by=who, via="cli"),
            ),
        )
        return True
    finally:
        os.close(lock)


class NoRunnerError(ConflictError):
    """Nobody executes the run."""


def _no_runner(run: RunDir, exc: Exception) -> TailraceError:
    snapshot = read_snapshot(run)
    ref = snapshot.ref or run.id
    if snapshot.is_final:
        return ConflictError(f"{ref} has ended: {snapshot.status}", state=snapshot.status)
    if is_held(run.lock):
        if snapshot.status == "queued":
            return ConflictError(f"{ref} {WAITS_ELSEWHERE}", state=snapshot.status)
        return TailraceError(f"the runner of {ref} doesn't answer: {exc}")
    what = "is queued, and no daemon runs" if snapshot.status == "queued" else "lost its runner"
    return NoRunnerError(f"{ref} {what}", state=snapshot.status)


def _or_lost(run: RunDir, exc: ConflictError) -> ConflictError:
    """Return *exc*, or what is true where the run that hasn't ended has no runner any more."""
    if exc.state in ("", "queued", *FINAL_RUN_STATUSES) or is_held(run.lock):
        return exc
    ref = read_snapshot(run).ref or run.id
    return NoRunnerError(f"{ref} lost its runner; cancel it, which ends it", state=exc.state)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"
