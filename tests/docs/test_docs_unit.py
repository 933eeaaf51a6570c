"""The units for systemd and the page that tells how to install them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("hierarchy", ["", "unified"])
def test_what_runs_after_a_stop_takes_back_controllers(tmp_path: Path, hierarchy: str) -> None:
    """In the unit's own group and all below it, and in no other: here on files like the kernel's.

    The machine that boots a systemd for the tests has no controllers to try it with.
    """
    unit = (ROOT / "systemd" / "tailrace.service").read_text().replace("\\\n", "")
    (command,) = re.findall(r"^ExecStopPost=-/bin/sh -c '(.*)'$", unit, re.MULTILINE)
    group = tmp_path / hierarchy / "system.slice/tailrace.service"
    within = [group, group / ".control", group / "runs", group / "runs/a step"]
    others = [tmp_path / hierarchy, group.parent, group.parent / "other.service"]
    for folder in (*others, *within):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("memory pids\n")
    groups = tmp_path / "cgroup"
    groups.write_text("4:memory:/elsewhere\n0::/system.slice/tailrace.service/.control\n")
    # systemd.service(5): two dollar signs stand for one, two percent signs likewise.
    script = command.replace("$$", "$").replace("%%", "%")
    script = script.replace("/sys/fs/cgroup", str(tmp_path))
    script = script.replace("/proc/self/cgroup", str(groups))

    subprocess.run(["/bin/sh", "-c", script], check=True)

    told = {f: (f / "cgroup.subtree_control").read_text() for f in (*others, *within)}
    # The kernel takes each word; a file keeps the last one.
    assert {f for f, text in told.items() if text == "-pids\n"} == set(within)
