"""Programs that a test needs and a fresh machine may lack."""

from __future__ import annotations

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
