"""The units for systemd and the page that tells how to install them."""

from __future__ import annotations

from machines import COMMANDS, ROOT


def test_the_page_has_the_commands_that_the_tests_install_with() -> None:
    """In their order; tests/e2e/test_systemd.py tries the result."""
    page = (ROOT / "docs/how-to/run-the-daemon.md").read_text()
    commands = "".join(f"sudo {line}\n" for line in COMMANDS.strip().splitlines())

    assert commands in page


def test_steps_outlive_the_daemon_s_restart_by_the_unit() -> None:
    """Whatever else changes in it."""
    lines = (ROOT / "systemd" / "tailrace.service").read_text().splitlines()

    assert "KillMode=process" in lines
    assert "Delegate=yes" in lines
    assert "RuntimeDirectoryPreserve=yes" in lines
    assert "PrivateTmp=yes" not in lines
