"""The backup of the how-to, taken while a daemon and a run live, and put back elsewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from daemons import serving
from documents import ROOT, blocks_of, clean_environment
from programs import require
from runs import eventually

PAGE = ROOT / "docs/how-to/back-up-and-upgrade.md"
PIPELINES = {
    "hello": "steps:\n  only:\n    run: echo well\n",
    "long": "steps:\n  only:\n    run: while ! test -e $GO; do sleep 0.01; done\n",
}


def follow(block: str, state: Path, backup: Path) -> None:
    """Run a block of the page with other places."""
    text = re.sub(r"^(STATE|BACKUP)=.*\n", "", block, flags=re.MULTILINE)
    places = {"STATE": str(state), "BACKUP": str(backup), "TAILRACE_STATE_DIR": str(state)}
    subprocess.run(["bash", "-e", "-c", text], check=True, env=clean_environment(**places))


async def test_a_backup_can_be_taken_and_put_back_as_the_page_says(tmp_path: Path) -> None:
    """Runs, tokens and numbers are there again; a run that lived is told as lost."""
    require("bash")
    take, put_back = (block.text for block in blocks_of(PAGE) if "tar -C" in block.text)
    old, new, backup = tmp_path / "old", tmp_path / "new", tmp_path / "backups/today"
    for folder in (old, new):
        folder.mkdir()
    env = {"TAILRACE_STEP_ENV": f'{{"GO": "{tmp_path / "go"}"}}'}
    async with serving(old, PIPELINES, env=env) as daemon:
        first = await daemon.start("hello")
        await daemon.until_final(first["id"])
        lived = await daemon.start("long")
        log = daemon.state.run(lived["id"]).log("only", 1)
        await eventually(log.exists)
        token = daemon.token
        follow(take, daemon.state.path, backup)
        assert backup.stat().st_mode & 0o777 == 0o700
        (tmp_path / "go").touch()
        assert (await daemon.until_final(lived["id"]))["status"] == "success"

    follow(put_back, new / "state", backup)
    async with serving(new, PIPELINES, env=env) as daemon:
        assert daemon.token == token
        runs = (await daemon.get("/runs"))["runs"]
        assert [(run["id"], run["ref"]) for run in runs] == [
            (lived["id"], "long/1"), (first["id"], "hello/1"),
        ]  # fmt: skip
        ended = await daemon.until_final(lived["id"])
        assert (ended["status"], ended["cause_code"]) == ("error", "lost")
        assert (await daemon.start("hello"))["ref"] == "hello/2"
