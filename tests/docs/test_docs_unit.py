"""The unit for systemd and the page that shows it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_unit_as_it_is() -> None:
    """One text, in two places."""
    unit = (ROOT / "systemd" / "tailrace.service").read_text()

    assert f"```ini\n{unit}```" in (ROOT / "docs" / "how-to" / "run-the-daemon.md").read_text()


def test_steps_outlive_the_daemon_s_restart_by_the_unit() -> None:
    """Whatever else changes in it."""
    lines = (ROOT / "systemd" / "tailrace.service").read_text().splitlines()

    assert "KillMode=process" in lines
    assert "Delegate=yes" in lines
