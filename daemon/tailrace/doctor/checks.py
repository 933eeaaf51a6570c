"""Makes checks: what was found, and what to do next."""

from __future__ import annotations

from tailrace.wire import DoctorCheck


def ok(check: str, text: str, *, pipeline: str | None = None) -> DoctorCheck:
    """Make one that found everything as it should be."""
    return DoctorCheck(check=check, status="ok", text=text, pipeline=pipeline)


def warning(check: str, text: str, hint: str, *, pipeline: str | None = None) -> DoctorCheck:
    """Make one that found what works, and could be better."""
    return DoctorCheck(check=check, status="warning", text=text, hint=hint, pipeline=pipeline)


def problem(check: str, text: str, hint: str, *, pipeline: str | None = None) -> DoctorCheck:
    """Make one that found what keeps something from working."""
    return DoctorCheck(check=check, status="problem", text=text, hint=hint, pipeline=pipeline)
