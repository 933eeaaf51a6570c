"""What the tests of the proofs share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command_line import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A command line whose temporary files are below the test's folder."""
    (tmp_path / "temporary").mkdir()
    kept = ("PATH", "HOME", "LANG", "USER", "VIRTUAL_ENV")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    return Site(tmp_path, {**env, "TMPDIR": str(tmp_path / "temporary")})
