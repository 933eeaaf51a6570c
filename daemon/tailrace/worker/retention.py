"""Takes away what is kept no longer: finished runs, their workspaces, and what caches are over.

The rules are in `tailrace.core.retention`; here folders are measured and
removed. Nothing is asynchronous: measuring and removing take their time, so a
daemon does this in a thread. Any process may, at any time, next to a daemon or
without one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tailrace import wire
from tailrace.core import retention as rules
from tailrace.core.events import FINAL_RUN_STATUSES
from tailrace.core.plan import RunFile
from tailrace.core.ulid import is_ulid
from tailrace.rundir.layout import StateDir
from tailrace.rundir.lock import try_lock
from tailrace.rundir.snapshot import read_run_file
from tailrace.rundir.trees import measure, remove_tree
from tailrace.settings import Retention
from tailrace.store.index import Outline
from tailrace.store.rebuild import run_ids
from tailrace.worker.folder import LEAVING, put_aside
from tailrace.worker.workspace import holding_workspaces

MOST: Final = 500  # runs measured or removed at once; the next sweep goes on
LINK_HINT: Final = "what it leads to is left alone; for a cache elsewhere use a bind mount"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOWHERE: Final = Path("/proc/self/fd/none")  # nothing can be made there


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was removed, or would be."""

    name: str  # of a run its ref, of a workspace its run's id, of a cache PIPELINE/ENTRY
    why: str  # the bound: age, runs or bytes; done (its run succeeded) or orphan (its run is gone)
    bytes: int
    run: str | None = None  # the run's id


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the state folder took away."""

    runs: tuple[Gone, ...] = ()
    workspaces: tuple[Gone, ...] = ()
    caches: tuple[Gone, ...] = ()
    links: tuple[str, ...] = ()  # paths in place of caches' folders, which were left alone
    more: bool = False  # there was more to do than is done at once

    @property
    def all(self) -> tuple[Gone, ...]:
        """Everything."""
        return (*self.runs, *self.workspaces, *self.caches)


class Keeper:
    """Keeps one state folder within its bounds; remembers what finished runs take.

    Used by one thread at a time. ``stopped`` is asked between two removals.
    """

    def __init__(self, state: StateDir, stopped: Callable[[], bool] = lambda: False) -> None:
        self._state = state
        self._stopped = stopped
        self._sizes: dict[str, int] = {}  # of the folders of finished runs, which don't change
        self._files: dict[str, _Asked] = {}

    def sweep(
        self,
        outlines: Sequence[Outline],
        bounds: Retention,
        *,
        now_s: float,
        dry_run: bool = False,
        most: int = MOST,
    ) -> Sweep:
        """Take away what is over the bounds of the runs in *outlines*, which may be a bit old.

        Runs that aren't in it count as live. With *dry_run* nothing is removed.

        Raises:
            OSError: the state folder can't be read or written; what was removed is.
        """
        limits = _limits(bounds)
        known = {outline.id for outline in outlines}
        workspaces = {name for name in _names(self._state.workspaces) if is_ulid(name)}
        # After the workspaces: whatever works in one of them has its folder by now.
        unknown = self._facts_of_unknown(run_ids(self._state) - known)
        unmeasured = self._measure(outlines, most)
        facts = [*(self._facts(outline, now_s) for outline in outlines), *unknown]
        refs = {outline.id: outline.ref for outline in outlines}

        going = rules.runs_to_remove(facts, limits, now_s)
        chosen = dict(list(going.items())[:most])
        staying = [run for run in facts if run.id not in chosen]
        sizes = {name: measure(self._state.workspace(name)).bytes for name in workspaces}
        leaving = rules.workspaces_to_remove(sizes, staying, limits, now_s)
        runs = [
            Gone(name=refs[run_id], why=why, bytes=self._sizes.get(run_id, 0), run=run_id)
            for run_id, why in chosen.items()
        ]
        kept = [
            Gone(name=name, why=why, bytes=sizes[name], run=name) for name, why in leaving.items()
        ]
        busy = {outline.pipeline for outline in outlines if not _is_final(outline)}
        busy |= {run.pipeline for run in unknown}
        caches, links = self._caches(busy, limits)
        more = unmeasured or len(chosen) < len(going)
        if dry_run:
            return Sweep(
                runs=tuple(runs), workspaces=tuple(kept), caches=tuple(caches), links=links,
                more=more,
            )  # fmt: skip
        taken = self._take_away(known | {run.id for run in unknown}, runs, kept)
        self._take_caches(caches)
        self._remove_leftovers()
        self._forget(known)
        return Sweep(
            runs=tuple(run for run in runs if run in taken),
            workspaces=tuple(workspace for workspace in kept if workspace in taken),
            caches=tuple(caches),
            links=links,
            more=more,
        )

    # ---- looking -----------------------------------------------------------------------------

    def _measure(self, outlines: Sequence[Outline], most: int) -> bool:
        """Measure finished runs that weren't, *most* of them; return whether others are left."""
        new = [o.id for o in outlines if _is_final(o) and o.id not in self._sizes]
        for run_id in new[:most]:
            if self._stopped():
                return True
            self._sizes[run_id] = measure(self._state.run(run_id).path).bytes
        return len(new) > most

    def _facts(self, outline: Outline, now_s: float) -> rules.RunFacts:
        # Of an end whose time is unknown nobody can say that it is long ago.
        ended_s = _seconds(outline.finished_at, now_s) if _is_final(outline) else None
        asked = self._asked(outline, live=ended_s is None)
        return rules.RunFacts(
            id=outline.id,
            pipeline=outline.pipeline,
            status=outline.status,
            ended_s=ended_s,
            workspace=asked.workspace,
            keeps_workspace=asked.keeps_workspace,
            uses=asked.uses,
            size=self._sizes.get(outline.id, 0),
        )

    def _asked(self, outline: Outline, *, live: bool) -> _Asked:
        """Return what ``run.json`` says; it is read where that can matter."""
        found = self._files.get(outline.id)
        if found is None:
            matters = live or outline.retry_of or self._state.workspace(outline.id).exists()
            found = _Asked(workspace=outline.id)
            if matters:
                with contextlib.suppress(OSError, msgspec.MsgspecError):
                    found = _asked_of(read_run_file(self._state.run(outline.id)))
            if outline.retry_of or not live:
                self._files[outline.id] = found
        return found

    def _facts_of_unknown(self, ids: Collection[str]) -> list[rules.RunFacts]:
        """Return runs that the index doesn't know (yet): live ones, as far as we can tell."""
        found = []
        for run_id in sorted(ids):
            asked, pipeline = _Asked(workspace=run_id), ""
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                file = read_run_file(self._state.run(run_id))
                asked, pipeline = _asked_of(file), file.pipeline
            found.append(
                rules.RunFacts(
                    id=run_id, pipeline=pipeline, status="queued", ended_s=None,
                    workspace=asked.workspace, uses=asked.uses,
                )
            )  # fmt: skip
        return found

    def _caches(
        self, busy: Collection[str], limits: rules.Bounds
    ) -> tuple[list[Gone], tuple[str, ...]]:
        """Return what goes of the caches, and the links that stand in place of their folders."""
        going, links = [], []
        if self._state.caches.is_symlink():
            return [], (str(self._state.caches),)
        for pipeline in sorted(_names(self._state.caches) - set(busy)):
            if self._state.cache(pipeline).is_symlink():
                links.append(str(self._state.cache(pipeline)))
                continue
            with self._opened_cache(pipeline) as folder:
                measured = {name: measure(folder / name) for name in _names(folder)}
            entries = [
                rules.CacheEntry(name=name, size=found.bytes, used_s=found.used_s)
                for name, found in measured.items()
            ]
            going += [
                Gone(name=f"{pipeline}/{name}", why="bytes", bytes=measured[name].bytes)
                for name in rules.cache_entries_to_remove(entries, limits)
            ]
        return going, tuple(links)

    @contextlib.contextmanager
    def _opened_cache(self, pipeline: str) -> Iterator[Path]:
        """Give a path of that cache which stays the same folder, whatever takes its name.

        Where it is none, or a link that a step left there, nothing is found at the path.
        """
        fd: int | None = None
        try:
            root = os.open(self._state.caches, _FOLDER)
            try:
                fd = os.open(pipeline, _FOLDER, dir_fd=root)
            finally:
                os.close(root)
        except OSError:
            yield _NOWHERE
            return
        try:
            yield Path(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    # ---- removing ----------------------------------------------------------------------------

    def _take_away(
        self, known: Collection[str], runs: Sequence[Gone], workspaces: Sequence[Gone]
    ) -> list[Gone]:
        """Remove runs and workspaces, but what a run needs that came since; return what went.

        They are put aside while nobody can repeat a run, which takes a moment, and removed then.
        """
        taken: list[Gone] = []
        aside: list[Path] = []
        with holding_workspaces(self._state, alone=True):
            came = self._facts_of_unknown(run_ids(self._state) - set(known))
            needed = {run.workspace for run in came} | {name for run in came for name in run.uses}
            for gone in workspaces:
                if gone.run not in needed and (path := put_aside(self._path(gone))):
                    taken.append(gone)
                    aside.append(path)
            for gone in runs:
                if gone.run not in needed and (path := self._put_run_aside(gone)):
                    taken.append(gone)
                    aside.append(path)
        for path in aside:
            if self._stopped():
                break  # what lies aside goes with the next sweep
            remove_tree(path)
        return taken

    def _path(self, workspace: Gone) -> Path:
        return self._state.workspaces / workspace.name

    def _put_run_aside(self, gone: Gone) -> Path | None:
        """Put a run's folder aside, unless somebody holds it: its runner cleans up, or a reader."""
        assert gone.run is not None
        run = self._state.run(gone.run)
        try:
            lock_fd = try_lock(run.lock)
        except FileNotFoundError:  # it went meanwhile
            return None
        if lock_fd is None:
            return None
        try:
            return put_aside(run.path)
        finally:
            os.close(lock_fd)

    def _take_caches(self, entries: Sequence[Gone]) -> None:
        for gone in entries:
            if self._stopped():
                return
            pipeline, _, name = gone.name.partition("/")
            with self._opened_cache(pipeline) as folder:
                if path := put_aside(folder / name):  # an entry is whole or gone
                    remove_tree(path)

    def _remove_leftovers(self) -> None:
        """Remove what was put aside and not removed, by a process that ended meanwhile."""
        for folder in (self._state.runs, self._state.workspaces):
            self._remove_leftovers_in(folder)
        for pipeline in _names(self._state.caches):
            with self._opened_cache(pipeline) as folder:
                self._remove_leftovers_in(folder)

    def _remove_leftovers_in(self, folder: Path) -> None:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(folder) as entries,
        ):
            left = [folder / e.name for e in entries if e.name.startswith(LEAVING)]
            for path in left:
                if self._stopped():
                    return
                remove_tree(path)

    def _forget(self, known: Collection[str]) -> None:
        for remembered in (self._sizes, self._files):
            for run_id in remembered.keys() - set(known):
                del remembered[run_id]


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What counts of ``run.json``."""

    workspace: str
    keeps_workspace: bool = False
    uses: frozenset[str] = frozenset()


def _asked_of(file: RunFile) -> _Asked:
    return _Asked(
        workspace=file.workspace or file.id,
        keeps_workspace=file.keep_workspace,
        uses=frozenset(file.reused.values()),
    )


def _is_final(outline: Outline) -> bool:
    return outline.status in FINAL_RUN_STATUSES


def _seconds(moment: str | None, otherwise: float) -> float:
    """Return a time of the index; *otherwise* where it can't be read."""
    try:
        return wire.parse_timestamp(moment or "")
    except ValueError:
        return otherwise


def _names(folder: Path) -> set[str]:
    """Return what lies in a folder, there or not, but for what is being removed."""
    try:
        return {path.name for path in folder.iterdir() if not path.name.startswith(LEAVING)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _limits(bounds: Retention) -> rules.Bounds:
    return rules.Bounds(
        age_s=bounds.age / 1000,
        runs=bounds.runs,
        bytes=bounds.bytes,
        workspaces_s=bounds.workspaces / 1000,
        workspace_bytes=bounds.workspace_bytes,
        cache_bytes=bounds.cache_bytes,
    )
