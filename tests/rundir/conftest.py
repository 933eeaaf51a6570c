"""What tests of the run folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.rundir.layout import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """An empty run folder."""
    folder = tmp_path / "01jd5zk3v8h2m4n6p8q0r2s4t6"
    folder.mkdir()
    return RunDir(folder)
