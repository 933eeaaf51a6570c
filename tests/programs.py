"""Programs that a test needs and a fresh machine may lack."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest


def require(*programs: str) -> None:
    """Skip the calling test where a program is missing; fail it where nothing may be skipped.

    ``.ci/run`` installs everything and sets ``TAILRACE_TEST_NO_SKIP=1``.
    """
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return
    reason = f"needs {', '.join(missing)}: install it to run this test"
    if os.environ.get("TAILRACE_TEST_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_package(name: str) -> None:
    """Skip the calling test where an extra isn't installed; as `require` does."""
    if importlib.util.find_spec(name) is not None:
        return
    reason = f"needs the package {name}: pip install -e .[dev]"
    if os.environ.get("TAILRACE_TEST_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
