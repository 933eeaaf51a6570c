"""Bubblewrap: what a sandbox shows of the system, and whether it can be made here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from programs import require
from runs import eventually
from tailrace import bubblewrap
from tailrace.bubblewrap import (
    Bind,
    UnusableError,
    find_bubblewrap,
    run_to_end,
    system_binds,
    system_options,
)
from tailrace.runner.containment import is_alive


def seen(options: list[str], kind: str) -> list[str]:
    """The places that options of a kind make."""
    width = {"--tmpfs": 1, "--remount-ro": 1}.get(kind, 2)
    return [options[i + width] for i, option in enumerate(options) if option == kind]


def bind(path: str, place: str | None = None, *, needed: bool = False) -> Bind:
    """A folder at its own place, or at another."""
    return Bind(Path(path), Path(place or path), needed=needed)


def test_what_is_hidden_is_covered_in_every_folder_that_holds_it(tmp_path: Path) -> None:
    """Also where a second name leads to it; a file is covered by nothing at all."""
    state = tmp_path / "state"
    state.mkdir()
    socket = tmp_path / "socket"
    socket.touch()
    outer, alias = bind(str(tmp_path)), bind(str(tmp_path), "/opt/alias")

    begin, end = system_options([outer, alias], [state, socket])

    assert seen(begin, "--tmpfs") == [f"/opt/alias/{state.name}", str(state)]
    covered = [begin[i + 2] for i, word in enumerate(begin) if begin[i + 1 : i + 2] == [os.devnull]]
    assert covered == ["/opt/alias/socket", str(socket)]
    assert end == ["--remount-ro", f"/opt/alias/{state.name}", "--remount-ro", str(state),
                   "--remount-ro", "/"]  # fmt: skip


def test_a_folder_within_what_is_hidden_is_shown_only_where_it_is_needed(tmp_path: Path) -> None:
    """An installation below the state folder works, and a folder of PATH there is left out."""
    state = tmp_path / "state"
    state.mkdir()
    begin, _ = system_options(
        [bind(f"{state}/bin"), bind(f"{state}/venv", needed=True), bind(str(tmp_path))], [state]
    )

    assert str(tmp_path) in seen(begin, "--ro-bind-try")
    assert seen(begin, "--ro-bind") == [f"{state}/venv"]
    assert f"{state}/bin" not in begin
    assert begin.index(f"{state}/venv") > begin.index("--tmpfs")


def test_links_at_the_top_stay_links_and_nothing_is_shown_twice() -> None:
    """A bind of /bin would be a second way to what is covered in /usr."""
    begin, _ = system_options([bind("/usr"), bind("/usr/bin", "/bin"), bind("/usr/bin")], [])

    assert seen(begin, "--symlink") == ["/bin"]
    shown = [place for place in seen(begin, "--ro-bind-try") if not place.startswith("/proc")]
    assert shown == ["/usr"]


def test_the_kernels_settings_are_read_only() -> None:
    """Uid 0 may write them without any capability, and bwrap alone doesn't cover them."""
    begin, _ = system_options([], [])

    assert begin.index("/proc/sys") > begin.index("--proc")
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(seen(begin, "--ro-bind-try"))


@pytest.mark.parametrize(
    "folder", ["/", "/root", "/home", "/home/ann", "/proc/self", "/dev/shm", ".", "no/such"]
)
def test_folders_of_path_that_are_not_for_programs_alone_stay_out(folder: str) -> None:
    """A PATH that names a home must not show it."""
    places = [str(item.place) for item in system_binds([folder])]
    assert folder not in places


def test_the_installation_is_shown_wherever_it_lies(tmp_path: Path) -> None:
    """The interpreter, its base, and the package; a folder of PATH besides."""
    tools = tmp_path / "tools"
    tools.mkdir()
    binds = system_binds([str(tools)])

    assert Bind(tools, tools) in binds
    needed = [item.place for item in binds if item.needed]
    for place in (sys.prefix, sys.base_prefix, str(Path(bubblewrap.__file__).parent)):
        assert any(Path(place).is_relative_to(item) for item in needed)


def test_etc_is_shown_without_what_is_secret() -> None:
    """Root may read its own files without any capability."""
    places = {str(item.place) for item in system_binds([])}
    assert "/etc/passwd" in places
    assert not places & {"/", "/etc", "/etc/shadow", "/etc/ssh", "/etc/tailrace", "/etc/ssl"}


def test_bubblewrap_that_is_missing_is_told_with_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What to install stands in the error."""
    monkeypatch.setattr(bubblewrap, "_found", [])
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnusableError, match="isn't installed; install the package 'bubblewrap'"):
        find_bubblewrap()


@pytest.mark.parametrize(
    ("switches", "hint"),
    [
        ({"kernel.unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        ({"kernel.apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"),
        ({"user.max_user_namespaces": "0"}, "raise the sysctl user.max_user_namespaces"),
        ({"kernel.unprivileged_userns_clone": "1"}, "containers often forbid them"),
    ],
)
def test_bubblewrap_that_is_forbidden_is_told_with_the_switch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, switches: dict[str, str], hint: str
) -> None:
    """Its own words are in the error, and which setting of the kernel to change."""
    program = tmp_path / "bwrap"
    program.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1"
    )
    program.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "_found", [])
    monkeypatch.setattr(bubblewrap, "_switches", lambda: switches)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnusableError, match="No permissions to create new namespace") as caught:
        find_bubblewrap()
    assert hint in caught.value.hint


def test_bubblewrap_is_tried_out_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A later step of the same run doesn't wait for it again."""
    require("bwrap")
    found = find_bubblewrap()
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_bubblewrap() is found


async def test_nothing_is_left_of_a_trial_that_does_not_end() -> None:
    """Nobody waits for what holds its output, and no Ctrl-C of a terminal reaches it."""
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_to_end(["sh", "-c", "sleep 600 & ps -o sid= -p $$; echo $$ $!"], timeout_s=0.5)
    session, leader, left = map(int, (caught.value.stdout or b"").split())
    assert session == leader
    await eventually(lambda: not is_alive(left))
