"""Accepting runs: everything checked, whole or not at all, and no secret on disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mcp_server import command
from runs import read_events
from tailrace.bubblewrap import UnusableError
from tailrace.core.ulid import is_ulid
from tailrace.errors import InvalidInputError, UnavailableError, UnknownError
from tailrace.rundir.layout import StateDir
from tailrace.rundir.lock import is_held
from tailrace.rundir.snapshot import read_run_file, read_snapshot
from tailrace.settings import Git, Limits, Masking, McpServer
from tailrace.worker.accept import Acceptor
from tailrace.worker.folder import remove_unfinished
from tailrace.worker.prepared import Accepted
from tailrace.worker.submission import Submission
from yard import SECRET, Yard, start


def accept(acceptor: Acceptor, pipeline: str, **more: Any) -> Accepted:
    """Accept a run and let go of its lock."""
    accepted = acceptor.accept(Submission(pipeline=pipeline, **more))
    assert is_held(accepted.run.lock)
    os.close(accepted.lock_fd)
    return accepted


def on_disk(state: StateDir) -> bytes:
    """Everything below a state folder."""
    files = (path for path in state.path.rglob("*") if path.is_file())
    return b"\n".join(path.read_bytes() for path in files)


def refusals(acceptor: Acceptor, state: StateDir, pipeline: str, **more: Any) -> list[str]:
    """What accepting complains about, after a look that nothing was left."""
    before = sorted(path.name for path in state.runs.iterdir())
    with pytest.raises(InvalidInputError) as caught:
        accept(acceptor, pipeline, **more)
    assert sorted(path.name for path in state.runs.iterdir()) == before
    return [str(problem) for problem in caught.value.problems]


def test_an_accepted_run_has_its_folder_its_first_events_and_its_lock(yard: Yard) -> None:
    """All of section 7's files, private, before anybody else can see it."""
    yard.pipeline("hello", params="{who: {default: world}}")
    accepted = yard.acceptor().accept(
        Submission(pipeline="hello", by="ann", via="cli"), position=2, reason="1 run is ahead"
    )
    try:
        run = accepted.run
        assert is_ulid(run.id)
        assert is_held(run.lock)
        assert run.path.stat().st_mode & 0o777 == 0o700
        assert run.run_json.stat().st_mode & 0o777 == 0o600
        assert read_run_file(run) == accepted.run_file
        assert accepted.run_file.ref == "hello/1"
        assert yard.journal(run.id) == ["plan", "queued"]
        snapshot = read_snapshot(run)
        assert (snapshot.position, snapshot.reason) == (2, "1 run is ahead")
        assert (snapshot.by, snapshot.via, snapshot.params) == ("ann", "cli", {"who": "world"})
        assert sorted(path.name for path in yard.state.runs.iterdir()) == [run.id]
    finally:
        os.close(accepted.lock_fd)


def test_numbers_are_counted_per_pipeline_and_never_given_twice(yard: Yard) -> None:
    """Also by several processes at once, and after the counter was lost."""
    yard.pipeline("one")
    yard.pipeline("two")
    refs: list[str] = []

    def several() -> None:
        acceptor = Yard.acceptor(yard)
        refs.extend(accept(acceptor, "one").run_file.ref for _ in range(5))

    threads = [threading.Thread(target=several) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(refs, key=lambda ref: int(ref[4:])) == [f"one/{n}" for n in range(1, 16)]
    acceptor = yard.acceptor()
    assert accept(acceptor, "two").run_file.ref == "two/1"
    yard.state.counter("one").unlink()
    assert accept(acceptor, "one").run_file.ref == "one/16"
    yard.state.counter("one").write_text("garbage")
    assert accept(acceptor, "one").run_file.ref == "one/17"


def test_what_is_refused_uses_no_number_up(yard: Yard) -> None:
    """The next run has the number that the refused one would have had."""
    yard.pipeline("hello", secrets="[TOKEN, MISSING]")
    yard.pipeline("fine")
    acceptor = yard.acceptor()
    (found,) = refusals(acceptor, yard.state, "hello")
    assert found.startswith("secrets.MISSING: no secret is named 'MISSING'; put it into the folder")
    assert found.endswith("or set TAILRACE_SECRET_MISSING for the daemon")
    yard.pipeline("hello")
    assert accept(acceptor, "hello").run_file.ref == "hello/1"


def test_mistakes_in_params_and_depth_are_told_together(yard: Yard) -> None:
    """Whoever mends one needn't come back for the other."""
    yard.pipeline("hello", params="{n: {type: integer}}", depths="{fast: {}}")
    found = refusals(yard.acceptor(), yard.state, "hello", params={"n": "x"}, depth="deep")
    assert [problem.split(":")[0] for problem in found] == ["params.n", "depth"]


def test_a_disk_that_is_too_full_accepts_nothing(yard: Yard) -> None:
    """The message names the setting."""
    yard.pipeline("hello")
    acceptor = yard.acceptor(limits=Limits(min_free=1 << 60))
    with pytest.raises(UnavailableError, match=r"limits\.min_free"):
        accept(acceptor, "hello")


def test_a_folder_that_cannot_be_written_leaves_nothing(yard: Yard) -> None:
    """Half of a run is removed again, and its number used up at most."""
    yard.pipeline("hello")
    acceptor = yard.acceptor()
    with acceptor.prepare(Submission(pipeline="hello")) as prepared:
        clash = yard.state.run(prepared.run_file.id).path
        (clash / "in the way").mkdir(parents=True)
        with pytest.raises(UnavailableError, match="can't be written"):
            prepared.commit()
        assert sorted(path.name for path in yard.state.runs.iterdir()) == [clash.name]
    assert accept(acceptor, "hello").run_file.ref == "hello/2"


def test_what_a_dead_acceptor_left_is_removed_and_a_live_ones_is_not(yard: Yard) -> None:
    """Folders are made under another name, with their lock held."""
    yard.pipeline("hello")
    accepted = yard.acceptor().accept(Submission(pipeline="hello"))
    held = accepted.run.path.rename(yard.state.runs / f".new-{accepted.run.id}")
    dead = yard.state.runs / ".new-dead"
    dead.mkdir()
    os.utime(dead, (0, 0))
    begun = yard.state.runs / ".new-begun"  # its maker takes the lock next
    begun.mkdir()
    remove_unfinished(yard.state)
    assert (held.exists(), begun.exists()) == (True, True)
    assert not dead.exists()
    os.close(accepted.lock_fd)
    remove_unfinished(yard.state)
    assert not held.exists()


def test_a_param_that_holds_a_secret_is_masked_on_disk_and_handed_over(yard: Yard) -> None:
    """Userinfo of a URL, and a declared secret given as a param."""
    yard.pipeline(
        "hello",
        secrets="[TOKEN]",
        params="{repo: {type: git-url}, note: {}, plain: {}}",
        concurrency='{group: "${{ params.repo }}"}',
    )
    repo = "https://bob:pa55-w0rd@example.org/x.git"
    params = {"repo": repo, "note": f"it is {SECRET}!", "plain": "text"}
    accepted = accept(yard.acceptor(), "hello", params=params, by=f"ann {SECRET}")
    assert accepted.run_file.params["plain"] == "text"
    assert accepted.run_file.params["note"] == "it is ***!"
    assert set(accepted.run_file.params_masked) == {"repo", "note"}
    assert accepted.handover.params == {"repo": repo, "note": f"it is {SECRET}!"}
    assert accepted.handover.secrets["TOKEN"] == SECRET
    assert "pa55-w0rd" in accepted.handover.secrets.values()
    written = on_disk(yard.state)
    assert b"pa55-w0rd" not in written
    assert SECRET.encode() not in written


@pytest.mark.parametrize(
    ("concurrency", "group"), [("{}", None), ("{group: one}", "one"), ("{group: ''}", None)]
)
def test_a_run_is_queued_in_the_group_that_its_pipeline_names(
    yard: Yard, concurrency: str, group: str | None
) -> None:
    """One without a name is told as none, though all its runs exclude each other."""
    yard.pipeline("hello", concurrency=concurrency)
    accepted = accept(yard.acceptor(), "hello")
    (queued,) = (item for item in read_events(accepted.run) if item["event"] == "queued")
    assert queued["group"] == group
    assert accepted.run_file.plan.group == (group or "")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://t0ken-alone@example.org/x", ["t0ken-alone"]),
        ("https://u:p%40ssword@example.org/x", ["p%40ssword", "p@ssword"]),
        ("https://u:abc@example.org/x", []),  # too short to look for; masked in the address
        ("ssh://git@example.org/x", []),  # an account's name, no token
    ],
)
def test_what_an_address_says_before_its_host_is_a_secret_of_the_run(
    yard: Yard, url: str, masked: list[str]
) -> None:
    """The password, or over http a user's name without one; in every spelling that it has."""
    yard.pipeline("hello", params="{repo: {type: git-url}}")
    accepted = accept(yard.acceptor(), "hello", params={"repo": url})
    assert sorted(accepted.handover.secrets.values()) == sorted(masked)
    if "abc@" in url:
        assert accepted.run_file.params["repo"] == "https://***@example.org/x"


@pytest.mark.parametrize(
    ("repo", "trusted", "problem"),
    [
        ("http://example.org/x", False, "params.repo: the protocol 'http' isn't allowed; "),
        ("https://127.0.0.1/x", False, "params.repo: 127.0.0.1 is, or resolves to, an address"),
        ("https://localhost/x", False, "params.repo: localhost is, or resolves to, an address"),
        ("/srv/repo", False, "params.repo: a repository in a folder of this machine isn't"),
        ("ext::sh -c x", True, "params.repo: "),
        ("--upload-pack=x", True, "params.repo: "),
    ],
)
def test_an_address_that_may_not_be_cloned_is_refused(
    yard: Yard, repo: str, trusted: bool, problem: str
) -> None:
    """At submission, with the setting's name; nothing is made."""
    yard.pipeline("hello", params="{repo: {type: git-url}}")
    found = refusals(yard.acceptor(), yard.state, "hello", params={"repo": repo}, trusted=trusted)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_the_address_of_a_clone_step_is_checked_too(yard: Yard) -> None:
    """With its templates filled in; what takes outputs waits until its step starts."""
    (yard.pipelines / "hello.yaml").write_text(
        "params: {host: {default: 10.0.0.1}}\n"
        "steps:\n"
        '  a: {clone: {url: "https://${{ params.host }}/x"}}\n'
        "  b: {needs: a, clone: {url: 'https://${{ steps.a.outputs.host }}/x'}}\n"
    )
    acceptor = yard.acceptor()
    assert [text.split(":")[0] for text in refusals(acceptor, yard.state, "hello")] == [
        "steps.a.clone.url"
    ]
    accept(acceptor, "hello", params={"host": "example.org"})
    accept(acceptor, "hello", trusted=True)


def test_a_link_does_not_lead_out_of_an_allowed_folder(yard: Yard, tmp_path: Path) -> None:
    """git.local_paths means the folders themselves."""
    yard.pipeline("hello", params="{repo: {type: git-url}}")
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    (allowed / "repo").mkdir(parents=True)
    other.mkdir()
    (allowed / "link").symlink_to(other)
    acceptor = yard.acceptor(git=Git(local_paths=(str(allowed),)))
    accept(acceptor, "hello", params={"repo": str(allowed / "repo")})
    found = refusals(acceptor, yard.state, "hello", params={"repo": str(allowed / "link")})
    assert "git.local_paths" in found[0]


def test_relative_folders_are_those_of_who_asks(yard: Yard, tmp_path: Path) -> None:
    """The machine's owner may name a repository from where they stand."""
    yard.pipeline("hello", params="{repo: {type: git-url}}")
    asked: dict[str, Any] = {"trusted": True, "cwd": str(tmp_path)}
    for repo in (".", "./", f"{tmp_path}"):
        accepted = accept(yard.acceptor(), "hello", params={"repo": repo}, **asked)
        assert accepted.run_file.params["repo"] == str(tmp_path)


def test_a_path_names_a_pipeline_only_for_who_is_trusted(yard: Yard, tmp_path: Path) -> None:
    """A web client must not read files of this machine."""
    path = tmp_path / "mine.yaml"
    path.write_text("steps: {a: {run: 'true'}}\n")
    accepted = accept(yard.acceptor(), "./mine.yaml", trusted=True, cwd=str(tmp_path))
    assert accepted.run_file.ref == "mine/1"
    found = refusals(yard.acceptor(), yard.state, str(path))
    assert found == [f"pipeline: '{path}' is a path; give the name of a pipeline"]


def test_bad_names_params_and_depths_are_refused(yard: Yard) -> None:
    """Each with its own place."""
    yard.pipeline("hello", params="{n: {type: integer}}")
    acceptor = yard.acceptor()
    with pytest.raises(UnknownError, match="did you mean 'hello'"):
        accept(acceptor, "helo")
    assert refusals(acceptor, yard.state, "hello", params={"n": "x"}, text=True)[0].startswith(
        "params.n: "
    )
    assert refusals(acceptor, yard.state, "hello", depth="deep")[0].startswith("depth: ")
    (yard.pipelines / "broken.yaml").write_text("steps: {a: {rum: x}}\n")
    assert "broken.yaml:1:" in refusals(acceptor, yard.state, "broken")[0]


def test_a_secret_that_is_too_short_is_refused_by_its_name(yard: Yard, tmp_path: Path) -> None:
    """Masking it would destroy the log."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "PIN").write_text("123\n")
    (secrets / "PIN").chmod(0o600)
    yard.pipeline("hello", secrets="[PIN]")
    found = refusals(yard.acceptor(secrets_dir=str(secrets)), yard.state, "hello")
    assert len(found) == 1
    assert found[0].startswith("secrets.PIN: the secret PIN is shorter than 4 characters")
    assert "123" not in found[0]


def test_a_step_that_must_be_sandboxed_where_nothing_can_be_is_refused(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install; where it can be, and where it needn't, the run is accepted."""

    def none() -> None:
        raise UnusableError("bubblewrap isn't installed", "install the package 'bubblewrap'")

    steps = "{a: {run: x, sandbox: required}, b: {run: x, sandbox: true}}"
    (yard.pipelines / "boxed.yaml").write_text(f"steps: {steps}\n")
    monkeypatch.setattr("tailrace.worker.requirements.find_bubblewrap", none)
    assert refusals(yard.acceptor(), yard.state, "boxed") == [
        "steps.a.sandbox: bubblewrap isn't installed; install the package 'bubblewrap'"
    ]

    (yard.pipelines / "boxed.yaml").write_text("steps: {b: {run: x, sandbox: true}}\n")
    accept(yard.acceptor(), "boxed")


def test_what_a_pipeline_requires_must_be_there(yard: Yard) -> None:
    """Commands, hosts and MCP servers, all told at once."""
    yard.pipeline("hello", requires="{commands: [sh, no-such-tool], hosts: [h], mcp: [m]}")
    found = refusals(yard.acceptor(), yard.state, "hello")
    assert [text.split(";")[0] for text in found] == [
        "requires.commands: 'no-such-tool' isn't there",
        "requires.hosts: 'h' isn't there",
        "requires.mcp.m: 'm' isn't there",
    ]


def test_the_mistakes_of_a_file_are_told_masked(yard: Yard) -> None:
    """They go to whoever asks for a run or lists pipelines, and into the daemon's log."""
    (yard.pipelines / "bad.yaml").write_text("steps: {a: {run: x, needs: ticket-778899}}\n")
    acceptor = yard.acceptor(masking=Masking(shapes=False, patterns={"ticket": "ticket-[0-9]+"}))

    with pytest.raises(InvalidInputError) as caught:
        acceptor.accept(Submission(pipeline="bad"))
    (entry,) = yard.catalog.entries()
    for problems in (caught.value.problems, entry.problems):
        assert [problem.problem for problem in problems] == ["no step is named '***'"]


def test_the_operators_shapes_are_masked(yard: Yard) -> None:
    """Patterns of the settings, besides those that Tailrace ships."""
    yard.pipeline("hello", params="{note: {}}")
    masking = Masking(patterns={"ticket": "TKT-[0-9]{6,}"})
    accepted = accept(yard.acceptor(masking=masking), "hello", params={"note": "TKT-123456"})
    assert accepted.run_file.params == {"note": "***"}
    assert any(shape.name == "ticket" for shape in accepted.handover.shapes)


async def test_a_pipeline_whose_mcp_server_is_dead_is_refused_until_it_lives(
    yard: Yard, tmp_path: Path
) -> None:
    """With what the server said; a retry of an earlier run, too."""
    ready = tmp_path / "ready"
    script = f"test -e {ready} || exit 5; exec {' '.join(command('well'))}"
    yard.pipeline("agent", requires="{mcp: [docs]}")
    async with yard.worker(mcp={"docs": McpServer(command=("sh", "-c", script))}) as worker:
        with pytest.raises(InvalidInputError) as refusal:
            await worker.submit(Submission(pipeline="agent"))
        (problem,) = refusal.value.problems
        assert problem.where == "requires.mcp.docs"
        assert "exit status 5" in problem.problem

        ready.touch()
        await worker.requirements.servers.look(["docs"], fresh=True)
        run_id = await start(worker, "agent", keep_workspace=True)
        await yard.settled(run_id)

        ready.unlink()
        await worker.requirements.servers.look(["docs"], fresh=True)
        with pytest.raises(InvalidInputError, match=r"requires\.mcp\.docs"):
            await worker.retry(run_id, start="start", by="", via="", trusted=True)


async def test_a_command_that_went_away_refuses_a_retry_too(yard: Yard, tmp_path: Path) -> None:
    """It is looked for where steps find it: on the PATH of the settings, if they have one."""
    tool = tmp_path / "bin/tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    yard.pipeline("hello", "tool", requires="{commands: [tool]}")
    path = f"{tool.parent}:/usr/bin:/bin"
    async with yard.worker(step_env={"PATH": path}) as worker:
        run_id = await start(worker, "hello", keep_workspace=True)
        await yard.settled(run_id)
        assert yard.last(run_id).status == "success"
        tool.unlink()
        with pytest.raises(InvalidInputError, match=r"requires\.commands: 'tool' isn't there"):
            await worker.retry(run_id, start="start", by="", via="", trusted=True)
