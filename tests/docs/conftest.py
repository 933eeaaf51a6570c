"""One daemon for all pages, as the documentation tells to start it, and a repository to clone."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import NO_SHAPES
from documents import ROOT, House, clean_environment
from programs import require

# The network isn't there in tests: these addresses stand for a repository of ours.
ADDRESSES = ("https://github.com/pallets/flask",)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Start the daemon in a folder with the shipped pipelines."""
    require("git", "bash", "curl", "jq")
    home = tmp_path_factory.mktemp("home")
    work, repo = home / "work", home / "repo"
    shutil.copytree(ROOT / "pipelines", work / "pipelines")
    _make_repository(repo)
    env = clean_environment(
        HOME=str(home), TAILRACE_LISTEN="127.0.0.1:0", TAILRACE_LIMITS__MIN_FREE="1K", **NO_SHAPES
    )
    found = House(home, work, env, dict.fromkeys(ADDRESSES, str(repo)))
    with (home / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            ["tailrace", "serve"],
            cwd=work,
            env={**env, "TAILRACE_GIT__LOCAL_PATHS": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        while not (found.state / "address").exists():
            assert daemon.poll() is None, (home / "daemon.log").read_text()
            time.sleep(0.01)
        yield found
    finally:
        daemon.terminate()
        daemon.wait()


def _make_repository(folder: Path) -> None:
    folder.mkdir()
    (folder / "README.md").write_text("# Words\n\nThese are five words.\n")
    (folder / "app.py").write_text("import os\n\nprint('hello')\n")
    git = ["git", "-C", str(folder), "-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "First commit"], check=True)
