"""What tests of the runner share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.rundir.layout import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """An empty state folder."""
    return StateDir(tmp_path / "state")
