"""What the doctor finds, and what it says to do about it."""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from disks import make_read_only, small_disk
from mcp_server import command
from tailrace import wire
from tailrace.bubblewrap import UnusableError
from tailrace.doctor import machine, places
from tailrace.doctor.examination import examine
from tailrace.pipeline.catalog import Entry
from tailrace.pipeline.model import Pipeline, StepDef
from tailrace.rundir.layout import StateDir
from tailrace.settings import Credential, Git, Limits, McpServer, Settings
from tailrace.store.tokens import TokenStore
from yard import SECRET, Yard


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty yard."""
    return Yard(tmp_path)


async def report(yard: Yard, *, every_server: bool = True, **more: Any) -> wire.DoctorReport:
    """Examine the yard."""
    settings, requirements = yard.settings(**more), yard.acceptor(**more).requirements
    entries = yard.catalog.entries()
    return await examine(settings, yard.state, entries, requirements, every_server=every_server)


def of(found: wire.DoctorReport, pipeline: str) -> list[tuple[str, str, str]]:
    """What was found about a pipeline."""
    return [(c.status, c.check, c.text) for c in found.checks if c.pipeline == pipeline]


def machine_check(found: wire.DoctorReport, name: str) -> wire.DoctorCheck:
    """The one check of that name."""
    (check,) = (c for c in found.checks if c.pipeline is None and c.check == name)
    return check


async def test_a_pipeline_that_has_what_it_requires_is_ok(yard: Yard) -> None:
    """Commands, a secret, a server, a host in the settings; what wasn't tried is told."""
    servers = {"docs": McpServer(command=command("well"))}
    hosts = {"box": {"address": "box.example"}}
    yard.pipeline("good", secrets="[TOKEN]", requires="{commands: [sh], mcp: [docs], hosts: [box]}")
    yard.pipeline("plain")

    found = await report(yard, mcp=servers, hosts=hosts)

    text = (
        "has what it requires: sh; 1 secret; MCP docs; hosts named in the settings, not tried: box"
    )
    assert of(found, "good") == [("ok", "pipeline", text)]
    assert of(found, "plain") == [("ok", "pipeline", "requires nothing")]
    assert found.mcp == (
        wire.McpHealth(name="docs", alive=True, tools=("search", "read", "quote")),
    )
    assert machine_check(found, "mcp.docs").text == "answers, and has 3 tools: search, read, quote"
    assert found.status in ("ok", "warning"), found  # as this machine is


async def test_all_that_a_pipeline_lacks_is_told(yard: Yard) -> None:
    """Under the names that its file has for it, each with what to do; never a secret's value."""
    yard.pipeline(
        "bad",
        secrets="[TOKEN, GONE]",
        requires="{commands: [sh, no-such-tool], mcp: [docs, other], hosts: [h]}",
    )
    (yard.pipelines / "broken.yaml").write_text("steps: {a: {rum: x}}\n")

    found = await report(yard, mcp={"docs": McpServer(command=command("die"))})

    died = "it ended (exit status 3) and gave no answer to initialize: API_KEY is not set"
    assert of(found, "bad") == [
        ("problem", "requires.commands", "'no-such-tool' isn't there"),
        ("problem", "requires.hosts", "'h' isn't there"),
        ("problem", "requires.mcp.docs", f"the server isn't alive: {died}"),
        ("problem", "requires.mcp.other", "'other' isn't there"),
        ("problem", "secrets.GONE", "no secret is named 'GONE'"),
    ]
    assert [check for _, check, _ in of(found, "broken")] == ["file", "file"]
    assert all(check.hint for check in found.checks if check.status != "ok")
    assert machine_check(found, "mcp.docs").status == "problem"
    assert found.status == "problem"
    assert SECRET not in str(found)


async def test_what_is_set_without_effect_is_told(yard: Yard) -> None:
    """Settings and triggers that this version only reads: each is a warning that names it."""
    yard.pipeline("hooked", on="{webhook: {secret: TOKEN}}")
    yard.pipeline("plain")
    hosts = {"box": {"address": "box.example"}}

    found = await report(yard, hosts=hosts, notify={"mail": "x"}, console={"listen": ":22"})

    told = [(c.pipeline, c.status, c.text) for c in found.checks if c.check == "unenforced"]
    assert [(of, status, text.partition(": nobody")[0]) for of, status, text in told[1:]] == [
        (None, "warning", "the setting notify has no effect yet"),
        (None, "warning", "the setting console has no effect yet: there is no SSH console"),
        ("hooked", "warning", "on.webhook has no effect yet: no delivery starts a run"),
    ]
    assert told[0][2].startswith("the setting hosts has no effect yet: no step runs by SSH")
    assert of(found, "hooked")[0] == ("ok", "pipeline", "requires nothing")
    plain = await report(yard)
    assert [c.pipeline for c in plain.checks if c.check == "unenforced"] == ["hooked"]


async def test_a_dead_server_that_nobody_requires_is_a_warning(yard: Yard) -> None:
    """It is asked only where every server is."""
    yard.pipeline("plain")
    servers = {"docs": McpServer(command=("no-such-server",))}
    found = await report(yard, mcp=servers)
    assert machine_check(found, "mcp.docs").status == "warning"
    assert [server.alive for server in found.mcp] == [False]
    found = await report(yard, mcp=servers, every_server=False)
    assert found.mcp == ()


async def test_secrets_that_would_be_refused_are_found_before(yard: Yard, tmp_path: Path) -> None:
    """A file that others may read, one that is too short, a credential that isn't there."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, text, mode in (("OPEN", "long enough", 0o644), ("PIN", "123", 0o600)):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    yard.pipeline("needs", secrets="[OPEN, PIN]")
    git = Git(credentials={"git.example": Credential(secret="ELSEWHERE")})

    found = await report(yard, secrets_dir=str(folder), git=git)

    first, second = of(found, "needs")
    assert first[:2] == ("problem", "secrets.OPEN")
    assert "is open to others (mode 0644)" in first[2]
    assert second == ("problem", "secrets.PIN", second[2])
    assert "shorter than 4 characters" in second[2]
    assert machine_check(found, "secrets").hint == f"chmod 600 {folder}/OPEN"
    missing = machine_check(found, "secrets.ELSEWHERE")
    assert missing.status == "warning"
    assert missing.text.startswith("git.credentials.git.example: no secret is named")


async def test_a_step_that_must_be_sandboxed_needs_bubblewrap(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the pipeline has a problem, and the machine a warning."""

    def none() -> None:
        raise UnusableError("bubblewrap isn't installed", "install the package 'bubblewrap'")

    monkeypatch.setattr("tailrace.worker.requirements.find_bubblewrap", none)
    monkeypatch.setattr("tailrace.doctor.machine.find_bubblewrap", none)
    (yard.pipelines / "boxed.yaml").write_text("steps: {a: {run: x, sandbox: required}}\n")
    found = await report(yard)
    assert of(found, "boxed") == [
        ("problem", "steps.a.sandbox", "bubblewrap isn't installed"),
    ]
    assert machine_check(found, "sandbox").hint == "install the package 'bubblewrap'"


async def test_the_containment_is_what_a_runner_chooses(yard: Yard) -> None:
    """Found out by a process such as a runner is."""
    found = machine_check(await report(yard), "containment")
    assert found.status in ("ok", "warning"), found
    limits = Limits(min_free=0, containment="process_group")
    asked = machine_check(await report(yard, limits=limits), "containment")
    assert asked.status == "warning"
    assert asked.text.startswith("weak: ")
    weaker = machine.Chosen(containment="pidns", why="cgroup: none is mounted")
    assert machine.told_containment(weaker).text.endswith("(cgroup: none is mounted)")


async def test_a_machine_that_starts_no_process_is_told_of(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even the look at the containment can be started, the report comes all the same."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))

    found = machine_check(await report(yard), "containment")

    assert found.status == "problem"
    assert found.text.startswith("no process can be started to find it out: [Errno 2]")


def test_whoever_runs_the_daemon_lends_steps_their_powers() -> None:
    """Told for every user; for root it is a warning."""
    steps = {"a": StepDef(id="a", run="x")}
    boxed = {"a": StepDef(id="a", run="x", sandbox="on")}
    pipelines = [Pipeline(name="p", steps=steps), Pipeline(name="q", steps=boxed)]
    text = "a step that isn't sandboxed is as mighty as {}; 1 of 2 pipelines have such steps"
    nobody = pwd.getpwnam("nobody")
    ordinary = machine.user(nobody.pw_uid, pipelines)
    assert (ordinary.status, ordinary.text) == ("ok", text.format("nobody"))
    root = machine.user(0, pipelines)
    assert (root.status, root.text) == ("warning", text.format("root"))
    assert machine.user(3_999_999_999, []).status == "problem"


def test_low_limits_of_inotify_are_a_warning(tmp_path: Path) -> None:
    """With the command that raises them."""
    (tmp_path / "max_user_watches").write_text("100\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    low = machine.inotify(tmp_path)
    assert low.status == "warning"
    assert low.hint == "raise it: sysctl fs.inotify.max_user_watches=8192"
    (tmp_path / "max_user_watches").write_text("65536\n")
    assert machine.inotify(tmp_path).status == "ok"
    assert machine.inotify(tmp_path / "none").status == "warning"


async def test_a_full_disk_is_a_problem(yard: Yard) -> None:
    """As it is for a run: `limits.min_free` decides."""
    found = machine_check(await report(yard, limits=Limits(min_free=1 << 60)), "disk")
    assert found.status == "problem"
    assert "no run starts under" in found.text


def test_the_state_folder_is_looked_at_and_not_made(tmp_path: Path) -> None:
    """Absent, closed, open to others, of a newer version, no folder at all."""
    state = StateDir(tmp_path / "state")
    assert places.state_folder(state).text.endswith("isn't there yet, and is made by the first run")
    assert not state.path.exists()
    state.path.mkdir(mode=0o700)
    assert places.state_folder(state).status == "ok"
    state.version.write_text("999\n")
    assert "was written by a newer Tailrace (format 999)" in places.state_folder(state).text
    state.version.unlink()
    state.path.chmod(0o755)
    opened = places.state_folder(state)
    assert (opened.status, opened.hint) == ("warning", f"chmod 700 {state.path}")
    (tmp_path / "file").write_text("")
    assert places.state_folder(StateDir(tmp_path / "file")).status == "problem"


def test_a_state_folder_that_every_command_refuses_is_a_problem(tmp_path: Path) -> None:
    """A version that is none, a link to nowhere, a read-only disk."""
    state = StateDir(tmp_path / "state")
    state.path.symlink_to(tmp_path / "nowhere")
    found = places.state_folder(state)
    assert (found.status, "is a link to what isn't there" in found.text) == ("problem", True)
    state.path.unlink()
    state.path.mkdir(mode=0o700)
    state.version.write_text("abc\n")
    found = places.state_folder(state)
    assert (found.status, found.text) == (
        "problem", f"{state.version} holds 'abc' and not a format's number",
    )  # fmt: skip
    with small_disk(tmp_path / "disk") as disk:
        assert places.state_folder(StateDir(disk)).status == "ok"
        make_read_only(disk)
        found = places.state_folder(StateDir(disk))
        assert (found.status, found.text) == ("problem", f"{disk} is on a read-only disk")


def test_the_state_folder_of_somebody_else_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of the daemon's user, for who calls the doctor as another."""
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    found = places.state_folder(StateDir(tmp_path))
    assert found.status == "problem"
    assert (
        found.hint == f"call tailrace as its owner: sudo -u '#{tmp_path.stat().st_uid}' tailrace …"
    )


def test_a_token_that_others_can_read_is_a_problem(tmp_path: Path) -> None:
    """The daemon wouldn't start with it."""
    state = StateDir(tmp_path)
    tmp_path.chmod(0o700)
    settings = Settings(limits=Limits(min_free=0))
    assert [c.check for c in places.checks(settings, state)] == ["state", "disk"]
    state.token.write_text("tr_x\n")
    state.token.chmod(0o644)
    (found,) = (c for c in places.checks(settings, state) if c.check == "token")
    assert found.status == "problem"
    state.token.chmod(0o600)
    (found,) = (c for c in places.checks(settings, state) if c.check == "token")
    assert found.status == "ok"
    assert not state.state_db.exists()


def test_a_first_token_that_was_revoked_is_a_warning(tmp_path: Path) -> None:
    """The page that it would open asks for another."""
    state = StateDir(tmp_path)
    with contextlib.closing(TokenStore(state.state_db)) as store:
        store.ensure_first(state, now=time.time())
        settings = Settings(limits=Limits(min_free=0))
        (found,) = (c for c in places.checks(settings, state) if c.check == "token")
        assert found.status == "ok"
        store.revoke("owner", now=time.time())
    (found,) = (c for c in places.checks(settings, state) if c.check == "token")
    assert (found.status, "was revoked" in found.text) == ("warning", True)


async def test_no_pipeline_at_all_is_a_warning(yard: Yard) -> None:
    """Nothing is wrong, and nothing can be run."""
    settings = yard.settings()
    entries: list[Entry] = []
    found = await examine(settings, yard.state, entries, yard.acceptor().requirements)
    assert machine_check(found, "pipelines").status == "warning"
