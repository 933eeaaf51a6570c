"""Deadlines: they pass, stand still during a pause, and move."""

from __future__ import annotations

from tailrace.core.deadline import Deadline


def test_a_deadline_passes() -> None:
    """What is left never goes below nothing."""
    deadline = Deadline(2_000, 100.0)
    assert deadline.left_s(100.5) == 1.5
    assert deadline.left_s(103.0) == 0.0


def test_a_pause_does_not_count() -> None:
    """However long it is, and however often it is asked for."""
    deadline = Deadline(2_000, 100.0)
    deadline.pause(101.0)
    deadline.pause(150.0)
    assert deadline.left_s(1_000.0) is None
    deadline.resume(1_001.0)
    assert deadline.left_s(1_001.0) == 1.0
    deadline.resume(2_000.0)
    assert deadline.left_s(1_002.0) == 0.0


def test_an_extension_adds_to_what_is_allowed() -> None:
    """Each time it is asked for."""
    deadline = Deadline(2_000, 100.0)
    assert deadline.extend(500)
    assert deadline.extend(500)
    assert deadline.left_s(100.0) == 3.0
    assert deadline.allowed_ms == 3_000


def test_without_a_limit_nothing_passes_and_nothing_is_extended() -> None:
    """None is for ever."""
    deadline = Deadline(None, 100.0)
    assert deadline.left_s(1e9) is None
    assert not deadline.extend(1)
