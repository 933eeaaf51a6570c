"""The clone step, against real repositories and servers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from disks import small_disk
from git_server import GitServer, Repository, make_repository, serve_git
from programs import require
from tailrace.core.git_policy import GitPolicy
from tailrace.core.git_progress import GitProgress
from tailrace.core.plan import CloneAction
from tailrace.runner.clone import CloneRequest, display_command, main
from tailrace.runner.git_access import GitCredentials, Resolve


@dataclass
class Ended:
    """How a clone step ended."""

    status: int
    raw: bytes
    outputs: dict[str, str]

    @property
    def text(self) -> str:
        return self.raw.decode(errors="replace")

    @property
    def last(self) -> str:
        return self.text.splitlines()[-1]


@contextmanager
def _joined_output() -> Iterator[int]:
    """Yield a descriptor of what is written to standard output and error meanwhile."""
    output = os.memfd_create("output")
    kept = os.dup(1), os.dup(2)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        yield output
    finally:
        for old, number in zip(kept, (1, 2), strict=True):
            os.dup2(old, number)
            os.close(old)


@dataclass
class Bench:
    """A workspace, and the clone step started the way the runner does."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def target(self) -> Path:
        return self.workspace / "clone"

    def request(self, url: str | Path, **more: Any) -> CloneRequest:
        defaults: dict[str, Any] = {
            "workspace": str(self.workspace),
            "target": str(self.target),
            "trusted": True,
        }
        return CloneRequest(**{"url": str(url), **defaults, **more})

    def start(self, url: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        return self.start_raw(msgspec.json.encode(self.request(url, **more)))

    def start_raw(self, body: bytes) -> subprocess.Popen[bytes]:
        memory = os.memfd_create("request")
        try:
            os.write(memory, body)
            return subprocess.Popen(
                [sys.executable, "-I", "-m", "tailrace.runner.clone", "--fd", str(memory)],
                pass_fds=[memory],
                cwd=self.workspace,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(memory)

    def clone(self, url: str | Path, *, resolve: Resolve | None = None, **more: Any) -> Ended:
        """Run the step in this process, which saves its imports, with the environment it gets."""
        (self.folder / "output").write_bytes(b"")
        request = os.memfd_create("request")  # the step closes it
        os.write(request, msgspec.json.encode(self.request(url, **more)))
        with patch.dict(os.environ, self.environment(), clear=True), _joined_output() as output:
            status = main(["--fd", str(request)], resolve=resolve)
        raw = Path(f"/proc/self/fd/{output}").read_bytes()
        os.close(output)
        return Ended(status, raw, self.outputs())

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "TAILRACE_OUTPUT": str(self.folder / "output"),
            **self.env,
        }

    def outputs(self) -> dict[str, str]:
        """Read the outputs as the contract says: ``name<<END … END``."""
        outputs: dict[str, str] = {}
        lines = iter((self.folder / "output").read_text().split("\n"))
        for line in lines:
            if line:
                name, _, end = line.partition("<<")
                outputs[name] = "\n".join(iter(lines.__next__, end))
        return outputs

    def git(self, *args: str) -> str:
        return Repository(self.target).git(*args)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty workspace."""
    bench = Bench(tmp_path / "bench")
    bench.workspace.mkdir(parents=True)
    return bench


@pytest.fixture
def source(tmp_path: Path, made_once: Path) -> Repository:
    """Three commits on main, two branches, two tags, and a pull request's ref."""
    shutil.copytree(made_once, tmp_path / "srv" / "source.git")
    return Repository(tmp_path / "srv" / "source.git")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `source` is a copy of."""
    source = make_repository(tmp_path_factory.mktemp("made") / "source")
    source.commit("First", readme="1\n")
    source.commit("Second", readme="2\n")
    source.git("branch", "dev")
    source.git("branch", "release/1.0")
    source.git("tag", "light")
    source.git("tag", "--annotate", "--message", "a tag", "v1")
    source.git("update-ref", "refs/pull/7/head", "HEAD~1")
    source.commit("Third", readme="3\n")
    return source.path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """Serves what is beneath ``srv``."""
    (tmp_path / "srv").mkdir(exist_ok=True)
    with serve_git(tmp_path / "srv") as server:
        yield server


@pytest.mark.parametrize(
    ("ref", "revision", "branch"),
    [
        ("HEAD", "main", "main"),
        ("main", "main", "main"),
        ("refs/heads/dev", "dev", "dev"),
        ("release/1.0", "release/1.0", "release/1.0"),
        ("light", "light^{commit}", ""),
        ("v1", "v1^{commit}", ""),
        ("refs/tags/v1", "v1^{commit}", ""),
        ("refs/pull/7/head", "main~2", ""),
    ],
)
def test_branches_tags_and_full_refs_are_checked_out(
    bench: Bench, source: Repository, ref: str, revision: str, branch: str
) -> None:
    """Only the wanted history comes, and the outputs tell what was checked out."""
    ended = bench.clone(source.path, ref=ref, history=1)

    sha = source.git("rev-parse", revision)
    assert ended.status == 0, ended.text
    assert ended.outputs == {
        "sha": sha,
        "short_sha": sha[:7],
        "author": "Ada Lovelace",
        "subject": source.git("log", "-1", "--format=%s", sha),
        "branch": branch,
    }
    assert ended.last.startswith(f'{branch or ref} {sha[:7]} "')
    assert bench.git("rev-list", "--count", "HEAD") == "1"
    assert bench.git("status", "--porcelain") == ""


@pytest.mark.parametrize("ref", ["HEAD", "main", "refs/pull/7/head"])
@pytest.mark.parametrize("length", [40, 9])
def test_a_commit_is_checked_out_exactly(
    bench: Bench, source: Repository, ref: str, length: int
) -> None:
    """Whole or abbreviated; on its branch's name where the ref is a branch."""
    sha = source.git("rev-parse", "main~1")

    ended = bench.clone(source.path, ref=ref, commit=sha[:length], history=1)

    assert ended.status == 0, ended.text
    assert ended.outputs["sha"] == sha
    assert ended.outputs["branch"] == ("main" if ref == "main" else "")
    assert (bench.target / "readme").read_text() == "2\n"


@pytest.mark.parametrize("length", [40, 9])
def test_a_commit_may_stand_in_the_place_of_the_ref(
    bench: Bench, source: Repository, length: int
) -> None:
    """``ref`` takes what people paste."""
    sha = source.git("rev-parse", "main~1")

    assert bench.clone(source.path, ref=sha[:length]).outputs["sha"] == sha


def test_the_step_runs_as_a_process_of_its_own(bench: Bench, source: Repository) -> None:
    """Started as the runner does, with nothing but a descriptor."""
    with bench.start(source.path, ref="dev") as process:
        raw, _ = process.communicate()

    assert process.returncode == 0, raw
    assert raw.endswith(b' "Second" by Ada Lovelace\n')
    assert bench.outputs()["branch"] == "dev"


def test_without_history_all_commits_come(bench: Bench, source: Repository) -> None:
    """None means all of the branch, and its tags."""
    ended = bench.clone(source.path, history=None)

    assert ended.status == 0, ended.text
    assert bench.git("rev-list", "--count", "HEAD") == "3"
    assert "v1" in bench.git("tag").splitlines()


def test_a_server_without_git_is_cloned_with_its_whole_history(
    bench: Bench, source: Repository, server: GitServer
) -> None:
    """Dumb HTTP can't cut history nor hand out a commit by its id."""
    source.git("update-server-info")
    server.is_dumb = True
    sha = source.git("rev-parse", "main~1")
    url = f"{server.url}/source.git/.git"

    assert bench.clone(url, history=1).outputs["branch"] == "main"
    ended = bench.clone(url, commit=sha, history=1)

    assert ended.status == 0, ended.text
    assert ended.outputs["sha"] == sha


def test_a_sha256_repository_is_cloned(bench: Bench, tmp_path: Path) -> None:
    """What GitPython can't read is read by git."""
    source = make_repository(tmp_path / "source", "--object-format=sha256")
    first = source.commit("First")
    second = source.commit("Second")

    assert bench.clone(source.path).outputs["sha"] == second
    ended = bench.clone(source.path, commit=first)
    assert (ended.outputs["sha"], ended.outputs["subject"]) == (first, "First")


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"ref": "mian"}, "has no branch or tag 'mian'; did you mean 'main'? its branches: dev, "),
        ({"ref": "pull/7/head"}, "did you mean 'refs/pull/7/head'?"),
        ({"ref": "refs/pull/8/head"}, "did you mean 'refs/pull/7/head'?"),
        ({"ref": "deadbee"}, "commit deadbee is on no branch or tag"),
        ({"commit": "12345678" * 5}, "is on no branch or tag"),
        ({"ref": "--upload-pack=id"}, "a ref can't begin with '-'"),
        ({"commit": "main"}, "this is no commit id"),
        ({"history": 0}, "history must be 1 or more"),
        ({"url": "ext::sh -c id"}, "remote helpers such as 'ext::' are never run"),
        ({"url": "--upload-pack=id"}, "can't begin with '-'"),
        ({"url": "."}, "relative path"),
        ({"url": "/nowhere/at/all"}, "there is no folder /nowhere/at/all"),
        ({"trusted": False}, "git.local_paths"),
        ({"url": "http://host.test/r", "trusted": False}, "git.protocols"),
        ({"url": "https://127.0.0.1/r", "trusted": False}, "git.private_addresses"),
        ({"url": "https://no-such-host.invalid/r", "trusted": False}, "can't be resolved"),
        ({"target": "/tmp"}, "outside the workspace"),
    ],
)
def test_what_cannot_be_cloned_is_told_in_one_line(
    bench: Bench, source: Repository, request_: dict[str, Any], told: str
) -> None:
    """Exit status 2, and what to do about it."""
    ended = bench.clone(**{"url": source.path, "history": 1, **request_})

    assert ended.status == 2, ended.text
    assert ended.last.startswith("clone: ")
    assert told in ended.last
    assert ended.outputs == {}


def test_an_empty_repository_is_told_as_such(bench: Bench, tmp_path: Path) -> None:
    """There is nothing to check out."""
    make_repository(tmp_path / "empty")

    for ref in ("HEAD", "main"):
        ended = bench.clone(tmp_path / "empty", ref=ref)
        assert (ended.status, "push" in ended.last) == (2, True)


@pytest.mark.parametrize("kind", ["tree", "blob"])
def test_a_tag_that_names_no_commit_is_told_as_such(
    bench: Bench, source: Repository, kind: str
) -> None:
    """By either of its names; some versions of git die of it."""
    source.git("tag", "odd", {"tree": "HEAD^{tree}", "blob": "HEAD:readme"}[kind])
    for ref in ("odd", "refs/tags/odd"):
        ended = bench.clone(source.path, ref=ref)
        assert ended.status == 2
        assert f"'{ref}' names a {kind} and no commit" in ended.last


@pytest.mark.parametrize("history", [None, 1])
def test_a_head_that_names_no_branch_is_told_with_the_branches_there_are(
    bench: Bench, source: Repository, history: int | None
) -> None:
    """As after a rename of the default branch: nothing needs to be pushed."""
    source.git("symbolic-ref", "HEAD", "refs/heads/gone")
    ended = bench.clone(f"file://{source.path}", history=history)
    assert ended.status == 2
    assert ended.last.endswith("give one as ref; its branches: dev, main, release/1.0")


def test_a_git_that_a_signal_ended_is_told_as_such(bench: Bench, tmp_path: Path) -> None:
    """By the signal's name, not by a number that nobody looks up."""
    fake = tmp_path / "bin/git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nkill -SEGV $$\n")
    fake.chmod(0o755)
    make_repository(tmp_path / "there")
    bench.env["PATH"] = f"{fake.parent}:{os.environ['PATH']}"
    ended = bench.clone(tmp_path / "there")
    assert (ended.status, "git was ended by SIGSEGV" in ended.last) == (139, True)


def test_when_git_fails_its_exit_status_is_ours(bench: Bench, tmp_path: Path) -> None:
    """With its own words first and our advice last."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    ended = bench.clone(f"http://127.0.0.1:{port}/r")
    assert ended.status == 128
    assert "fatal: " in ended.text
    assert ended.last.endswith("the server doesn't answer; check host, port and network")

    ended = bench.clone(tmp_path)
    assert (ended.status, "no repository" in ended.last) == (128, True)


def test_what_was_at_the_target_is_gone_before(bench: Bench, source: Repository) -> None:
    """Files, folders without permissions, and trees deeper than any stack."""
    deep = bench.target
    deep.mkdir()
    handle = os.open(deep, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    (deep / "locked" / "inner").mkdir(parents=True)
    (deep / "locked" / "inner" / "file").touch()
    (deep / ".tailrace-moved-0").mkdir()
    (deep / "locked" / "inner").chmod(0o000)
    (deep / "locked").chmod(0o500)

    ended = bench.clone(source.path)

    assert ended.status == 0, ended.text
    assert sorted(p.name for p in bench.target.iterdir()) == [".git", "readme"]


@pytest.mark.parametrize(
    ("target", "told"), [("clone", "'clone' can't be removed"), ("", "the workspace can't be")]
)
def test_what_is_mounted_in_the_target_is_kept_and_nothing_is_cloned_over_it(
    bench: Bench, source: Repository, target: str, told: str
) -> None:
    """It isn't the run's, whoever mounted it there."""
    place = bench.workspace / "clone" / "disk"
    place.mkdir(parents=True)
    with small_disk(place):
        (place / "kept").touch()

        ended = bench.clone(source.path, target=str(bench.workspace / target))

        assert [path for path in bench.workspace.rglob("*") if path.is_file()] == [place / "kept"]
    assert (ended.status, told in ended.last) == (2, True)


def test_links_at_or_in_the_target_lead_nowhere(
    bench: Bench, source: Repository, tmp_path: Path
) -> None:
    """The link goes, what it points to stays; a link on the way is refused."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    bench.target.symlink_to(precious)
    assert bench.clone(source.path).status == 0
    (bench.target / "out").symlink_to(precious)
    assert bench.clone(source.path).status == 0
    (bench.workspace / "way").symlink_to(precious)

    ended = bench.clone(source.path, target=str(bench.workspace / "way" / "in"))

    assert (ended.status, "'way' is a link" in ended.last) == (2, True)
    assert [p.name for p in precious.iterdir()] == ["file"]
    assert not bench.target.is_symlink()


def test_a_workspace_behind_a_link_is_the_same_workspace(
    bench: Bench, source: Repository, tmp_path: Path
) -> None:
    """The state folder may be a link of the operator's; the target comes resolved or not."""
    link = tmp_path / "link"
    link.symlink_to(bench.workspace)

    assert bench.clone(source.path, workspace=str(link)).status == 0
    assert bench.clone(source.path, workspace=str(link), target=str(link / "clone")).status == 0


def test_the_workspace_itself_can_be_the_target(bench: Bench, source: Repository) -> None:
    """It is emptied, not removed."""
    (bench.workspace / "old").touch()

    assert bench.clone(source.path, target=str(bench.workspace)).status == 0
    assert sorted(p.name for p in bench.workspace.iterdir()) == [".git", "readme"]


def test_neither_the_repository_nor_the_machine_gets_code_run(
    bench: Bench, source: Repository, tmp_path: Path
) -> None:
    """No hook, filter, template, askpass or editor from config, environment or tree."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/sprung\n")
    trap.chmod(0o755)
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    shutil.copy(trap, hooks / "post-checkout")
    home = bench.folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {hooks}\n\tfsmonitor = {trap}\n[filter "evil"]\n\tsmudge = {trap}\n'
        f"[init]\n\ttemplateDir = {tmp_path}/template\n[credential]\n\thelper = {trap}\n"
    )
    source.commit("Filtered", __gitattributes="* filter=evil\n", file="x")
    bench.env = {
        "GIT_TEMPLATE_DIR": str(tmp_path / "template"),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_ASKPASS": str(trap),
        "SSH_ASKPASS": str(trap),
        "GIT_SSH_COMMAND": str(trap),
        "GIT_DIR": str(tmp_path / "elsewhere"),
        "XDG_CONFIG_HOME": str(home),
    }

    ended = bench.clone(source.path)

    assert ended.status == 0, ended.text
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_hostile_words_of_a_commit_stay_in_their_output(bench: Bench, tmp_path: Path) -> None:
    """Control characters become spaces, and no line of it begins another output."""
    source = make_repository(tmp_path / "source")
    tree = source.git("write-tree")
    message = "Su\x1b[31mbject\r\x85END\nsha<<END\nbad\n\nbody"
    commit = source.git(
        "hash-object", "-t", "commit", "-w", "--stdin", "--literally",
        text=f"tree {tree}\nauthor A\x1b]0;x\x07da <a@b> 1 +0000\n"
        f"committer A <a@b> 1 +0000\n\n{message}",
    )  # fmt: skip
    source.git("update-ref", "refs/heads/main", commit)

    ended = bench.clone(source.path)

    assert ended.status == 0, ended.text
    assert ended.outputs["sha"] == commit
    assert ended.outputs["subject"] == "Su [31mbject  END sha<<END bad"
    assert ended.outputs["author"] == "A ]0;x da"
    assert set(ended.outputs) == {"sha", "short_sha", "author", "subject", "branch"}


def test_a_very_long_subject_is_told_by_its_length(bench: Bench, tmp_path: Path) -> None:
    """What a cut would leave of a secret at its end, no masker would know."""
    source = make_repository(tmp_path / "source")
    subject = "x" * 985 + "hunter2-but-longer"
    source.git("commit", "--allow-empty", "-q", "-m", subject)
    whole = bench.clone(source.path)
    source.git("commit", "--allow-empty", "-q", "-F", "-", text="x" * 9_990 + "hunter2-but-longer")
    long = bench.clone(source.path)

    assert (whole.status, whole.outputs["subject"]) == (0, subject), whole.text
    assert (long.status, long.outputs["subject"]) == (0, "(10,008 characters)"), long.text
    assert '"(10,008 characters)" by' in long.text
    assert "hunter2" not in long.text


def test_an_encoding_that_python_does_not_know_is_no_obstacle(bench: Bench, tmp_path: Path) -> None:
    """Git reads the commit where GitPython can't."""
    source = make_repository(tmp_path / "source")
    commit = source.git(
        "hash-object", "-t", "commit", "-w", "--stdin", "--literally",
        text=f"tree {source.git('write-tree')}\nauthor A <a@b> 1 +0000\n"
        "committer A <a@b> 1 +0000\nencoding klingon\n\nSubject\n",
    )  # fmt: skip
    source.git("update-ref", "refs/heads/main", commit)

    ended = bench.clone(source.path)

    assert (ended.status, ended.outputs["subject"]) == (0, "Subject"), ended.text


def test_a_repository_of_another_owner_is_cloned(bench: Bench, source: Repository) -> None:
    """Git's ownership check doesn't know who asked; the policy does."""
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away; run as root to run this test")
    for path in [source.path, *source.path.rglob("*")]:
        os.chown(path, 65_534, 65_534)

    assert bench.clone(source.path).status == 0


def test_progress_is_read_from_what_the_step_prints(
    bench: Bench, source: Repository, server: GitServer
) -> None:
    """Every stage of a clone over HTTP, the last one complete."""
    for number in range(40):
        (source.path / f"file{number}").write_bytes(os.urandom(2_000))
    source.commit("Many files")

    ended = bench.clone(f"{server.url}/source.git", history=1)
    phases = GitProgress().feed(ended.raw)

    received = [p for p in phases if p.stage == "Receiving objects"]
    assert {"Counting objects", "Receiving objects"} <= {p.stage for p in phases}
    assert received[-1].percent == 100
    assert received[-1].done == received[-1].total == 43
    assert [p.percent for p in received] == sorted(p.percent or 0 for p in received)


def test_userinfo_logs_in_and_is_found_nowhere(
    bench: Bench, source: Repository, server: GitServer, tmp_path: Path
) -> None:
    """Not in argv, the environment of git, its output, or the clone."""
    server.login = "tester:s3cr3t/pw"
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    spy = tmp_path / "bin" / "git"
    spy.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >> {tmp_path}/seen\nexec {real} "$@"\n')
    spy.chmod(0o755)
    bench.env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}

    ended = bench.clone(server.url.replace("//", "//tester:s3cr3t%2Fpw@") + "/source.git")

    assert ended.status == 0, ended.text
    kept = [p.read_bytes() for p in bench.target.rglob("*") if p.is_file()]
    seen = (tmp_path / "seen").read_bytes()
    assert b"clone --progress" in seen
    for text in (ended.raw, seen, *kept):
        assert b"s3cr3t" not in text
        assert b"tester" not in text


def test_without_a_login_the_step_fails_at_once_and_says_why(
    bench: Bench, source: Repository, server: GitServer
) -> None:
    """Nobody is there to be asked."""
    server.login = "tester:right"

    for url in (server.url, server.url.replace("//", "//tester:wrong@")):
        ended = bench.clone(f"{url}/source.git")
        assert ended.status == 128
        assert "git.credentials" in ended.last


def test_configured_credentials_go_to_their_scope_over_https_alone(
    bench: Bench, source: Repository, tmp_path: Path
) -> None:
    """A host and path prefix over TLS with its own authority; never over http."""
    require("openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip

    def login(scope: str) -> GitCredentials:
        return GitCredentials(scope=scope, username="bot", password="t0k3n")

    with serve_git(tmp_path / "srv", tls=(certificate, key)) as server:
        server.login = "bot:t0k3n"
        url = f"{server.url}/source.git"
        trust: dict[str, Any] = {"ca_file": str(certificate)}
        assert "git.ca_file" in bench.clone(url).last
        for scope in ("127.0.0.1", "127.0.0.1/source.git", server.url.removeprefix("https://")):
            assert bench.clone(url, credentials=login(scope), **trust).status == 0
        for scope in ("elsewhere.test", "127.0.0.1/source", "127.0.0.1/source.git/in"):
            assert bench.clone(url, credentials=login(scope), **trust).status == 128
        server.authorizations.clear()
        inside = url.replace("/source.git", "/acme/../source.git")
        ended = bench.clone(inside, credentials=login("127.0.0.1/acme"), **trust)
        assert (ended.status, server.authorizations) == (2, [])
    with serve_git(tmp_path / "srv") as plain:
        plain.login = "bot:t0k3n"
        ended = bench.clone(f"{plain.url}/source.git", credentials=login("127.0.0.1"))
        assert ended.status == 128
        assert set(plain.authorizations) == {None}


def test_a_redirect_is_not_followed(bench: Bench, source: Repository, server: GitServer) -> None:
    """The address that was checked is the one that is asked."""
    with serve_git(server.root) as other:
        server.redirect_to = other.url
        ended = bench.clone(f"{server.url}/source.git")

    assert ended.status == 128
    assert "which is not followed" in ended.last
    assert other.requests == []


def _resolves(host: str, address: str) -> Resolve:
    """Return a resolver that knows one host."""

    def resolve(name: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        assert name == host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve


@pytest.mark.parametrize("is_old", [False, True])
def test_git_connects_to_the_address_that_was_checked(
    bench: Bench, source: Repository, server: GitServer, tmp_path: Path, is_old: bool
) -> None:
    """A name that only our resolver knows: git can't have looked it up itself.

    A git before 2.37 goes through the relay, which needs no option of git's.
    """
    if is_old:
        (tmp_path / "bin").mkdir()
        old = tmp_path / "bin" / "git"
        old.write_text(
            '#!/bin/sh\n[ "$1" = version ] && echo git version 2.34.1 && exit\n'
            f'exec {shutil.which("git")} -c http.curloptResolve= "$@"\n'
        )
        old.chmod(0o755)
        bench.env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    policy = GitPolicy(protocols=("http",), private_addresses=("127.0.0.0/8",))
    url = server.url.replace("127.0.0.1", "pinned.test") + "/source.git"

    ended = bench.clone(
        url, trusted=False, policy=policy, resolve=_resolves("pinned.test", "127.0.0.1")
    )

    assert ended.status == 0, ended.text
    assert server.requests


def test_a_name_that_resolves_to_a_private_address_is_refused(bench: Bench) -> None:
    """Before anything connects, with the setting's name."""
    resolve = _resolves("rebound.test", "169.254.169.254")

    ended = bench.clone("https://rebound.test/r", trusted=False, resolve=resolve)

    assert (ended.status, "git.private_addresses" in ended.last) == (2, True)


def _add_submodule(source: Repository, url: str, commit: str, *, path: str = "sub") -> None:
    """Commit a submodule without asking git whether it likes it."""
    source.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    _name_submodule(source, path, path, url)


def _name_submodule(source: Repository, name: str, path: str, url: str) -> None:
    """Add an entry to .gitmodules and commit it."""
    with (source.path / ".gitmodules").open("a") as file:
        file.write(f'[submodule "{name}"]\n\tpath = {path}\n\turl = "{url}"\n')
    source.git("add", ".gitmodules")
    source.git("commit", "--quiet", "--message", "Name a submodule")


def test_submodules_come_level_by_level_from_the_same_server(
    bench: Bench, source: Repository, server: GitServer
) -> None:
    """Relative addresses, nested, with the login of the clone."""
    server.login = "u:pw"
    inner = make_repository(server.root / "inner.git")
    inner_commit = inner.commit("Inner", deepest="here")
    middle = make_repository(server.root / "middle.git")
    middle.commit("Middle", file="middle")
    _add_submodule(middle, "../inner.git", inner_commit, path="with space")
    _add_submodule(source, "../middle.git", middle.git("rev-parse", "HEAD"))

    ended = bench.clone(
        server.url.replace("//", "//u:pw@") + "/source.git", submodules=True, history=1
    )

    assert ended.status == 0, ended.text
    assert (bench.target / "sub" / "with space" / "deepest").read_text() == "here"
    configs = [p.read_text() for p in (bench.target / ".git").rglob("config")]
    assert len(configs) == 3
    assert not any("pw" in text for text in configs)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ext::sh -c id", "never run"),
        ("-u./payload", "git ended with exit status 128"),
        ("../other.git", "git.local_paths"),
        ("/etc", "git.local_paths"),
        ("http://127.0.0.1:1/r", "git.protocols"),
        ("https://10.0.0.1/r", "git.private_addresses"),
        ("ssh://-oProxyCommand=id/r", "don't belong"),
    ],
)
def test_a_hostile_submodule_is_refused_though_the_run_is_trusted(
    bench: Bench, source: Repository, url: str, told: str
) -> None:
    """Who asked vouches for the address they typed, not for what is in the repository."""
    _add_submodule(source, url, source.git("rev-parse", "HEAD"))

    ended = bench.clone(source.path, submodules=True)

    assert ended.status != 0
    assert ended.last.startswith("clone: ")
    assert told in ended.last, ended.text
    assert not (bench.target / "sub" / ".git").exists()


def test_local_submodules_come_where_the_setting_allows_the_folder(
    bench: Bench, source: Repository
) -> None:
    """``git.local_paths`` covers both."""
    other = make_repository(source.path.parent / "other.git")
    _add_submodule(source, "../other.git", other.commit("Other", file="x"))
    policy = GitPolicy(local_paths=(str(source.path.parent),))

    ended = bench.clone(source.path, submodules=True, trusted=False, policy=policy, history=1)

    assert ended.status == 0, ended.text
    assert (bench.target / "sub" / "file").exists()


def _file_that_points(place: Path, foreign: Path) -> None:
    place.mkdir()
    (place / ".git").write_text(f"gitdir: {foreign}/.git\n")


def _link(place: Path, foreign: Path) -> None:
    place.mkdir()
    (place / ".git").symlink_to(foreign / ".git")


def _work_tree(place: Path, foreign: Path) -> None:
    own = make_repository(place).path / ".git"
    (own / "commondir").write_text(f"{foreign}/.git\n")


def _alternate(place: Path, foreign: Path) -> None:
    make_repository(place)
    (place / ".git/objects/info/alternates").write_text(f"{foreign}/.git/objects\n")


def _alternate_of_alternate(place: Path, foreign: Path) -> None:
    _alternate(place.with_name("between"), foreign)
    _alternate(place, place.with_name("between"))


def _linked_pack(place: Path, foreign: Path) -> None:
    pack = make_repository(place).path / ".git/objects/pack"
    pack.rmdir()
    pack.symlink_to(foreign / ".git/objects/pack")


def _folder_with_suffix(place: Path, foreign: Path) -> None:
    place.mkdir()
    place.with_name(f"{place.name}.git").symlink_to(foreign / ".git")


@pytest.mark.parametrize(
    "lead_to",
    [_file_that_points, _link, _work_tree, _alternate, _alternate_of_alternate, _linked_pack,
     _folder_with_suffix],
)  # fmt: skip
def test_an_allowed_folder_leads_to_no_repository_elsewhere(
    bench: Bench, tmp_path: Path, lead_to: Callable[[Path, Path], None]
) -> None:
    """Whatever git would follow from it; who owns the machine may clone all the same."""
    foreign = make_repository(tmp_path / "foreign")
    foreign.commit("Secret", file="x")
    (tmp_path / "allowed").mkdir()
    lead_to(tmp_path / "allowed" / "repo", foreign.path)
    policy = GitPolicy(local_paths=(str(tmp_path / "allowed"),))

    ended = bench.clone(tmp_path / "allowed" / "repo", trusted=False, policy=policy)

    assert (ended.status, "git.local_paths" in ended.last) == (2, True), ended.text


def test_a_work_tree_and_borrowed_objects_within_the_allowed_folder_are_cloned(
    bench: Bench, tmp_path: Path
) -> None:
    """What leads from one allowed repository to another one is as fine as they are."""
    main = make_repository(tmp_path / "allowed" / "main")
    main.commit("First", file="x")
    main.git("worktree", "add", "--quiet", str(tmp_path / "allowed" / "tree"), "-b", "side")
    main.git("clone", "--quiet", "--shared", ".", str(tmp_path / "allowed" / "borrows"))
    policy = GitPolicy(local_paths=(str(tmp_path / "allowed"),))

    for name in ("main", "tree", "borrows"):
        ended = bench.clone(tmp_path / "allowed" / name, trusted=False, policy=policy)
        assert ended.status == 0, ended.text


def test_a_submodule_cannot_bring_another_one_along_unchecked(
    bench: Bench, source: Repository, server: GitServer
) -> None:
    """A path that covers other submodules, and a path named twice, are not updated."""
    commit = source.git("rev-parse", "HEAD")
    _add_submodule(source, f"{server.url}/source.git", commit, path="folder/b")
    _name_submodule(source, "a", "folder", f"{server.url}/source.git")
    ended = bench.clone(source.path, submodules=True)
    assert (ended.status, "submodule 'folder/b'" in ended.last) == (2, True), ended.text
    assert server.requests == []

    _name_submodule(source, "c", "folder/b", "https://host.test/r")
    ended = bench.clone(source.path, submodules=True)
    assert (ended.status, "twice" in ended.last) == (2, True), ended.text


def test_ssh_gets_pinned_options_and_a_key_that_is_on_no_disk(
    bench: Bench, source: Repository, tmp_path: Path
) -> None:
    """A stand-in for ssh notes its argv and key, and runs the command here."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"open({str(tmp_path / 'argv')!r}, 'w').write('\\n'.join(sys.argv[1:]))\n"
        "key = next(a[13:] for a in sys.argv if a.startswith('IdentityFile='))\n"
        f"open({str(tmp_path / 'key')!r}, 'w').write(open(key).read())\n"
        "assert os.stat(key).st_mode & 0o77 == 0\n"
        "os.execvp('sh', ['sh', '-c', sys.argv[-1]])\n"
    )
    ssh.chmod(0o755)
    bench.env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}

    ended = bench.clone(
        f"ssh://git@host.test:2222{source.path}",
        trusted=False,
        credentials=GitCredentials(scope="host.test", ssh_key="PRIVATE KEY"),
        known_hosts="/etc/known hosts",
        resolve=_resolves("host.test", "8.8.8.8"),
    )

    assert ended.status == 0, ended.text
    argv = (tmp_path / "argv").read_text().split("\n")
    assert argv[:2] == ["-F", "/dev/null"]
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes"} <= {*argv}
    assert {"HostName=8.8.8.8", "HostKeyAlias=[host.test]:2222"} <= {*argv}
    assert 'UserKnownHostsFile="/etc/known hosts"' in argv
    assert "git@host.test" in argv
    assert (tmp_path / "key").read_text() == "PRIVATE KEY\n"
    key = next(a for a in argv if a.startswith("IdentityFile=")).partition("=")[2]
    assert key.startswith("/proc/")


def test_a_signal_to_the_group_ends_step_and_git(bench: Bench) -> None:
    """While a server keeps git waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = bench.start(f"http://127.0.0.1:{silent.getsockname()[1]}/r")
        connection, _ = silent.accept()  # git is there
        with connection, process:
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait() == -signal.SIGTERM
            assert process.stdout is not None
            process.stdout.read()  # ends once nobody in the group holds the pipe


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"url": "https://u:hunter2@h/r"}'])
def test_a_request_that_cannot_be_read_is_refused_without_a_traceback(
    bench: Bench, body: bytes
) -> None:
    """And without quoting it."""
    with bench.start_raw(body) as process:
        raw, _ = process.communicate()

    assert process.returncode == 2
    assert raw.count(b"\n") == 1
    assert raw.startswith(b"clone: the request can't be read")
    assert b"hunter2" not in raw


def test_a_machine_without_git_is_told_so(bench: Bench, source: Repository, tmp_path: Path) -> None:
    """With what to install."""
    bench.env = {"PATH": str(tmp_path)}

    ended = bench.clone(source.path)

    assert (ended.status, "install git" in ended.last) == (2, True)


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ({"url": "https://u:pw@host.test/r", "history": 1, "ref": "main"},
         "git clone --depth 1 --branch main https://host.test/r"),
        ({"url": "git@host.test:o/r", "submodules": True},
         "git clone --recurse-submodules git@host.test:o/r"),
        ({"url": "/srv/a b", "commit": "3f2a91c"},
         "git clone '/srv/a b' && git checkout 3f2a91c"),
        ({"url": "https://u:pw@x y/r", "ref": "a;b"}, "git clone --branch 'a;b' URL"),
    ],
)  # fmt: skip
def test_the_command_is_shown_without_userinfo(action: dict[str, Any], shown: str) -> None:
    """Quoted as a shell would need it."""
    assert display_command(CloneAction(path="clone", **action)) == shown
