"""What holds a step's processes together on this machine."""

from __future__ import annotations

import os
from typing import Final

import pytest

from programs import require
from tailrace.cgroup import why_unusable

MECHANISMS: Final = ("cgroup", "pidns", "process_group")


def require_mechanism(name: str) -> None:
    """Skip the calling test where a mechanism doesn't work; fail it where nothing may be."""
    if name == "pidns":
        require("bwrap")
    reason = why_unusable() if name == "cgroup" else None
    if reason is None:
        return
    if os.environ.get("TAILRACE_TEST_NO_SKIP") == "1":
        pytest.fail(f"needs a writable cgroup2: {reason}")
    pytest.skip(f"needs a writable cgroup2: {reason}")
