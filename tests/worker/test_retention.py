"""Runs, workspaces and caches that go: by the daemon's sweeps, beside live runs and retries."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tailrace.errors import ConflictError, UnknownError
from tailrace.rundir.lock import try_lock
from tailrace.settings import Limits, Retention
from tailrace.store.index import Index, Outline
from tailrace.store.rebuild import catch_up, open_index, run_ids
from tailrace.worker.repeat import repeat_of
from tailrace.worker.retention import Keeper, Sweep
from tailrace.worker.worker import Worker
from yard import Yard, start, until

WIDE = Retention()
NOTHING = Retention(age=0, workspaces=0, cache_bytes=0)


def outlines(yard: Yard) -> list[Outline]:
    """The runs as the index has them now."""
    index: Index = open_index(yard.state)
    try:
        catch_up(yard.state, index)
        return index.outlines()
    finally:
        index.close()


def sweep(yard: Yard, bounds: Retention, **more: bool) -> Sweep:
    """Sweep once, as another process would."""
    return Keeper(yard.state).sweep(outlines(yard), bounds, now_s=time.time() + 1, **more)


async def finished(yard: Yard, worker: Worker, pipeline: str) -> str:
    """Run a pipeline to its end."""
    run_id = await start(worker, pipeline)
    await yard.settled(run_id)
    return run_id


async def test_a_daemon_keeps_within_its_bounds_from_its_start_on(yard: Yard) -> None:
    """What is over them goes from the folder, the index and memory; the last success stays."""
    yard.pipeline("good")
    yard.pipeline("bad", "echo text > file; exit 1")
    async with yard.worker() as worker:
        ids = [await finished(yard, worker, name) for name in ("good", "bad", "good", "bad")]
    async with yard.worker(retention=Retention(age=0)) as worker:
        await until(lambda: run_ids(yard.state) == {ids[2]}, "the others' end")
        await until(lambda: not yard.state.workspace(ids[1]).exists(), "its workspace's end")
        await until(lambda: worker.index.get(ids[3]) is None, "the index")
        with pytest.raises(UnknownError):
            await worker.snapshot(ids[3])
        assert [row.id for row in worker.list()[0]] == [ids[2]]
    assert sorted(path.name for path in yard.state.workspaces.iterdir()) == []


async def test_a_live_run_and_what_it_works_in_stay(yard: Yard) -> None:
    """Also the folder of the run that it repeats, whose results it takes over."""
    yard.pipeline(
        "bad", "test -e go || { touch go; exit 1; }\nwhile ! test -e on; do sleep 0.01; done"
    )
    async with yard.worker() as worker:
        first = await finished(yard, worker, "bad")
        second = await worker.retry(first, start="failed", by="ann", via="cli", trusted=True)
        await until(lambda: "step_started" in yard.journal(second), "the second attempt")
        done = sweep(yard, NOTHING)
        assert [gone.run for gone in done.all] == [first]  # nothing was to be taken over from it
        assert yard.state.workspace(first).is_dir()
        (yard.state.workspace(first) / "on").touch()
        await yard.settled(second)
        await until(lambda: not yard.state.workspace(first).exists(), "its tidying")


async def test_a_workspace_goes_when_its_time_is_over_and_its_run_stays(yard: Yard) -> None:
    """And with it the chance to repeat the run; a dry run only tells."""
    yard.pipeline("bad", "head -c 100000 /dev/zero > file; exit 1")
    async with yard.worker() as worker:
        run_id = await finished(yard, worker, "bad")
        bounds = Retention(workspaces=0)
        told = sweep(yard, bounds, dry_run=True)
        assert yard.state.workspace(run_id).is_dir()
        assert sweep(yard, bounds) == told
        (gone,) = told.all
        assert (gone.run, gone.why) == (run_id, "age")
        assert gone.bytes >= 100_000
        with pytest.raises(ConflictError, match="the workspace of bad/1 is gone"):
            await worker.retry(run_id, start="failed", by="ann", via="cli", trusted=True)


async def test_a_workspace_stays_while_a_run_that_repeats_is_being_made(yard: Yard) -> None:
    """Whoever comes first: the sweep waits for it, or the retry is refused."""
    yard.pipeline("bad", "exit 1")
    async with yard.worker() as worker:
        run_id = await finished(yard, worker, "bad")
    before = outlines(yard)
    acceptor = yard.acceptor()
    repeat = repeat_of(yard.state, run_id, start="failed", by="ann", via="cli", trusted=True)
    with acceptor.prepare_repeat(repeat) as prepared:
        work = asyncio.to_thread(Keeper(yard.state).sweep, before, NOTHING, now_s=time.time() + 1)
        sweeping = asyncio.create_task(work)
        accepted = await asyncio.to_thread(prepared.commit)
        await asyncio.sleep(0)
    assert (await sweeping).workspaces == ()
    assert yard.state.workspace(run_id).is_dir()
    os.close(accepted.lock_fd)
    yard.state.run(accepted.run.id).path.rename(yard.state.path / "away")

    assert [gone.run for gone in sweep(yard, NOTHING).workspaces] == [run_id]
    with pytest.raises(ConflictError, match="is gone"):
        acceptor.prepare_repeat(repeat)


async def test_a_run_that_somebody_holds_stays_until_the_next_sweep(yard: Yard) -> None:
    """Its runner may still clean up."""
    yard.pipeline("bad", "exit 1")
    async with yard.worker() as worker:
        run_id = await finished(yard, worker, "bad")
    lock = try_lock(yard.state.run(run_id).lock)
    assert lock is not None
    assert sweep(yard, NOTHING).runs == ()
    os.close(lock)
    assert [gone.run for gone in sweep(yard, NOTHING).runs] == [run_id]


def test_a_cache_is_cut_to_its_bound_the_least_recently_used_first(yard: Yard) -> None:
    """Entry by entry; another pipeline's is another bound, and foreign names are left alone."""
    for name, used in (("a/old", 1_000), ("a/new", 3_000), ("a/mid", 2_000), ("b/old", 1_000)):
        file = yard.state.caches / name / "deep/file"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 1_000_000)
        for path in (file, *list(file.parents)[:2]):
            os.utime(path, (used, used))
    done = sweep(yard, Retention(cache_bytes=1_500_000))
    assert [gone.name for gone in done.caches] == ["a/old", "a/mid"]
    assert sorted(str(p.relative_to(yard.state.caches)) for p in yard.state.caches.glob("*/*")) == [
        "a/new", "b/old",
    ]  # fmt: skip


async def test_the_cache_of_a_pipeline_that_runs_is_left_alone(yard: Yard) -> None:
    """A build must not lose what it has just looked up."""
    yard.pipeline("long", "sleep 60")
    yard.state.cache("long").mkdir(parents=True)
    (yard.state.cache("long") / "entry").write_bytes(b"x" * 100_000)
    async with yard.worker() as worker:
        await start(worker, "long")
        assert sweep(yard, NOTHING).all == ()


def test_what_a_dead_process_put_aside_is_removed(yard: Yard) -> None:
    """And what isn't ours is left alone."""
    for folder in (yard.state.runs, yard.state.workspaces, yard.state.cache("p")):
        (folder / ".old-x/deep").mkdir(parents=True)
        (folder / "mine").mkdir()
    sweep(yard, WIDE)
    left = {path.name for folder in (yard.state.runs, yard.state.workspaces, yard.state.cache("p"))
            for path in folder.iterdir()}  # fmt: skip
    assert left == {"mine"}


async def test_a_sweep_does_a_bounded_piece_and_says_that_there_is_more(yard: Yard) -> None:
    """A large folder is brought down in steps."""
    yard.pipeline("bad", "exit 1")
    async with yard.worker(limits=Limits(min_free=0)) as worker:
        for _ in range(3):
            await finished(yard, worker, "bad")
    keeper, now_s = Keeper(yard.state), time.time() + 1
    first = keeper.sweep(outlines(yard), NOTHING, now_s=now_s, most=2)
    assert (len(first.runs), first.more) == (2, True)
    second = keeper.sweep(outlines(yard), NOTHING, now_s=now_s, most=2)
    assert (len(second.runs), second.more) == (1, False)


async def test_a_workspace_that_is_a_link_leads_nowhere(yard: Yard, tmp_path: Path) -> None:
    """A step may have put one in its place: the link goes, and what it names stays."""
    yard.pipeline("bad", "exit 1")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    async with yard.worker() as worker:
        run_id = await finished(yard, worker, "bad")
    yard.state.workspace(run_id).rmdir()
    yard.state.workspace(run_id).symlink_to(outside)
    sweep(yard, NOTHING)
    assert not yard.state.workspace(run_id).is_symlink()
    assert (outside / "kept").exists()


def test_what_a_link_in_place_of_a_cache_leads_to_is_left_alone(yard: Yard, tmp_path: Path) -> None:
    """A step may have put it there: neither entries go, nor what looks like a sweep's leftovers."""
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    (outside / ".old-kept").mkdir()
    yard.state.caches.mkdir()
    yard.state.cache("p").symlink_to(outside)
    done = sweep(yard, NOTHING)
    assert (done.caches, done.links) == ((), (str(yard.state.cache("p")),))
    assert sorted(path.name for path in outside.iterdir()) == [".old-kept", "kept"]


def test_what_a_link_in_place_of_all_caches_leads_to_is_left_alone(
    yard: Yard, tmp_path: Path
) -> None:
    """Whatever lies two levels below a folder of somebody's would count as an entry."""
    kept = tmp_path / "outside/p/kept"
    kept.mkdir(parents=True)
    yard.state.caches.symlink_to(tmp_path / "outside")
    done = sweep(yard, NOTHING)
    assert (done.caches, done.links) == ((), (str(yard.state.caches),))
    assert kept.is_dir()
