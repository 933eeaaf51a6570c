"""What tests of the worker share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.worker.lost import kill_processes
from yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """An empty yard; whatever its runs leave is ended."""
    yard = Yard(tmp_path)
    yield yard
    for run in yard.state.runs.iterdir():
        kill_processes(run.name)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork servers find the targets of tests, and what this process found besides."""
    found = (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, found)))
