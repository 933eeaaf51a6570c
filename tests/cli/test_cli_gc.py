"""``tailrace gc``: what is kept no longer goes, with or without a daemon."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from command_line import Site
from daemons import serving
from tailrace.store.rebuild import run_ids

BAD = "steps:\n  only:\n    run: exit 1\n"


def test_gc_tells_and_removes(site: Site) -> None:
    """The dry run names what goes and why; then it goes, and afterwards nothing is left to do."""
    site.pipeline("bad", BAD)
    site.tailrace("run", "bad")
    ended = site.latest()
    nothing = site.tailrace("gc")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "0 runs, 0 workspaces" in nothing.stderr

    soon = {"TAILRACE_RETENTION__AGE": "1ms", "TAILRACE_RETENTION__WORKSPACES": "1ms"}
    told = site.tailrace("gc", "--dry-run", **soon)
    assert "run bad/1 " in told.stdout
    assert "older than retention.age" in told.stdout
    assert "would be freed" in told.stderr
    assert ended.path.exists()

    done = json.loads(site.tailrace("gc", "--json", **soon).stdout)
    assert done["dry_run"] is False
    assert [(gone["run"], gone["name"], gone["why"]) for gone in done["runs"]] == [
        (ended.id, "bad/1", "age")
    ]
    assert done["bytes"] >= done["runs"][0]["bytes"] > 0
    assert not ended.path.exists()
    assert "no run" in site.tailrace("show", "bad/1").stderr
    assert not site.state.workspace(ended.id).exists()


async def test_gc_works_beside_a_daemon(tmp_path: Path) -> None:
    """The daemon doesn't list any more what went, and goes on."""
    async with serving(tmp_path, {"bad": BAD}) as daemon:
        run = await daemon.start("bad")
        await daemon.until_final(run["id"])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tailrace.cli.main", "gc", "--state", str(daemon.state.path),
            env={**os.environ, "TAILRACE_RETENTION__AGE": "1ms"}, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0
        assert run_ids(daemon.state) == set()
        assert (await daemon.get("/runs"))["runs"] == []
        async with daemon.client.get(f"{daemon.url}/api/v1/runs/{run['id']}") as answer:
            assert answer.status == 404
        again = await daemon.start("bad")
        assert again["ref"] == "bad/2"
        await daemon.until_final(again["id"])


def test_gc_tells_of_a_link_in_place_of_a_cache(site: Site, tmp_path: Path) -> None:
    """Who put it there on purpose learns why the cache isn't kept within its bound."""
    site.pipeline("bad", BAD)
    site.tailrace("run", "bad")
    kept = tmp_path / "elsewhere/kept"
    kept.parent.mkdir()
    kept.write_bytes(b"x" * 100_000)
    cache = site.state.cache("bad")
    cache.rmdir()
    cache.symlink_to(kept.parent)
    done = site.tailrace("gc", TAILRACE_RETENTION__CACHE_BYTES="1K")
    assert f"{cache} is a link; what it leads to is left alone" in done.stderr
    assert done.stdout == ""
    assert kept.is_file()
