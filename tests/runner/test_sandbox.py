"""A sandboxed step: what it can't do, what works all the same, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from git_server import Repository, make_repository, serve_git
from programs import require
from runs import accept, eventually, execute, executing, plan_of, processes_of, script
from tailrace.core.plan import CloneAction, CommandAction, StepPlan
from tailrace.rundir.layout import RunDir, StateDir
from tailrace.runner.containment import is_alive
from tailrace.worker.lost import kill_processes

HOSTILE = r"""
import contextlib, ctypes, json, os, signal, socket, stat, sys
targets = json.loads(os.environ["TARGETS"])
libc = ctypes.CDLL(None, use_errno=True)

def read(path):
    return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read()

def unix(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)

def tcp(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass

def write(path):
    with open(path, "ab"):
        pass

def system(result):
    if result:
        raise OSError(ctypes.get_errno())

attempts = {name: lambda path=path: read(path) for name, path in targets["read"].items()}
attempts |= {name: lambda path=path: unix(path) for name, path in targets["connect"].items()}
attempts["connect to a port of the machine"] = lambda: tcp(targets["port"])
attempts["signal a process outside"] = lambda: os.kill(targets["pid"], 0)
if sys.argv[1] == "boxed":
    attempts |= {f"write {path}": lambda path=path: write(path) for path in targets["write"]}
    attempts["trace a process outside"] = lambda: system(libc.ptrace(16, targets["pid"], 0, 0))
    attempts["mount"] = lambda: system(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
    attempts["make a device"] = lambda: os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, 0)
    attempts["be somebody else"] = lambda: os.setuid(4711)
    attempts["end the first process"] = lambda: (os.kill(1, signal.SIGKILL), os.stat("/nowhere"))

done = []
for name, attempt in attempts.items():
    with contextlib.suppress(OSError):
        attempt()
        done.append(name)
print(json.dumps({"done": done, "pids": [int(n) for n in os.listdir("/proc") if n.isdigit()],
                  "top": sorted(os.listdir("/")), "caps": open("/proc/self/status").read()}))
"""


def boxed(name: str, text: str, *needs: str, **more: Any) -> StepPlan:
    """A step of shell text that must be sandboxed."""
    return script(name, text, *needs, sandbox="required", **more)


@pytest.fixture(autouse=True)
def bwrap() -> None:
    """Every test here runs the real one."""
    require("bwrap")


@pytest.fixture
def doors(state: StateDir, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a step must not reach, each with something behind it."""
    for path in (state.path, state.run("other").step("a"), tmp_path / "secrets"):
        path.mkdir(parents=True, exist_ok=True)
    read = {
        "read the token": state.token,
        "read another run's log": state.run("other").log("a", 1),
        "read a secret's file": tmp_path / "secrets/TOKEN",
    }
    for path in read.values():
        path.write_text("secret")
    # Wherever the checkout lies, in a home for most: the package and its venv are seen, no more.
    read["read a file beside the installation"] = Path(__file__).parents[2] / "pyproject.toml"
    read |= {"list another run": state.run("other").path, "list a folder beside it": tmp_path}
    addresses = {"connect to the daemon": state.socket, "connect to an agent": tmp_path / "agent"}
    with (
        closing(socket.socket(socket.AF_UNIX)) as daemon,
        closing(socket.socket(socket.AF_UNIX)) as agent,
        closing(socket.create_server(("127.0.0.1", 0))) as server,
    ):
        for listener, path in zip((daemon, agent), addresses.values(), strict=True):
            listener.bind(str(path))
            listener.listen()
        yield {
            "read": {name: str(path) for name, path in read.items()},
            "connect": {name: str(path) for name, path in addresses.items()},
            "port": server.getsockname()[1],
            "pid": os.getpid(),
            "write": ["/usr/hostile", "/etc/hostile", "/hostile", sys.prefix + "/hostile",
                      "/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness"],
        }  # fmt: skip


async def test_a_hostile_step_reaches_nothing_but_its_own(
    state: StateDir, doors: dict[str, Any], tmp_path: Path
) -> None:
    """Every door that stands open to an ordinary step is closed to a sandboxed one."""
    modes: dict[str, Literal["off", "required"]] = {"open": "off", "boxed": "required"}
    steps = [
        StepPlan(
            id=name, base=name, label=name, sandbox=mode, env={"TARGETS": json.dumps(doors)},
            action=CommandAction(argv=(sys.executable, "-c", HOSTILE, name)),
        )
        for name, mode in modes.items()
    ]  # fmt: skip
    done = await execute(
        state, plan_of(*steps), settings={"secrets_dir": str(tmp_path / "secrets")}
    )

    free, held = json.loads(done.text("open")), json.loads(done.text("boxed"))
    assert set(free["done"]) >= {*doors["read"], *doors["connect"]}
    assert len(free["done"]) == len(doors["read"]) + len(doors["connect"]) + 2
    # The folder beside the state folder leads to the step's own places, and shows no more.
    assert [name for name in held["done"] if name != "list a folder beside it"] == []
    assert os.getpid() in free["pids"]
    assert max(held["pids"]) < 100  # a namespace of its own
    assert not set(held["top"]) & {"srv", "mnt", "media", "boot", "sys"}
    assert "CapEff:\t0000000000000000" in held["caps"]
    assert "CapBnd:\t0000000000000000" in held["caps"]
    assert "NoNewPrivs:\t1" in held["caps"]


async def test_what_leads_to_its_own_places_shows_nothing_else(state: StateDir) -> None:
    """Of the state folder it sees the way to its own places, and can't write on it."""
    (state.path / "workspaces/other").mkdir(parents=True)
    done = await execute(
        state,
        plan_of(
            boxed(
                "look",
                f"find {state.path} -mindepth 1 -maxdepth 3 | sort; touch {state.path}/x || echo no"
                "; ls -A ~; ls -A /run",
            )
        ),
    )

    run, path = done.run, state.path
    text = done.text("look")
    lines = [line for line in text.splitlines() if line.startswith(str(path))]
    assert lines == sorted(
        str(item)
        for item in (
            state.runs, run.path, run.path / "artifacts", run.path / "attempts",
            state.workspaces, state.workspace(run.id), state.caches, state.cache("test"),
        )
    )  # fmt: skip
    assert text.endswith("Read-only file system\nno\n")


async def test_the_ordinary_life_of_a_step_goes_on_in_a_sandbox(state: StateDir) -> None:
    """Outputs, events, artifacts, params, secrets, the workspace, the installation's programs."""
    text = (
        f"python={sys.executable}\n"
        r"""
    echo "sum=$((40 + 2))" >> "$TAILRACE_OUTPUT"
    echo '{"event":"progress","percent":40}' >> "$TAILRACE_EVENTS"
    echo page > "$TAILRACE_ARTIFACTS/page.txt"; chmod u+s "$TAILRACE_ARTIFACTS/page.txt"
    echo kept > "$TAILRACE_CACHE/kept"
    cat "$TAILRACE_PARAMS"; echo; cat "$TAILRACE_COLLECTED/before.txt"
    ! echo x 2>/dev/null > "$TAILRACE_COLLECTED/before.txt"
    cd "$TAILRACE_WORKSPACE" && git init -q . && git status --short | sort | wc -l
    $python -c 'import tailrace; print("ours")'; tailrace-report --help >/dev/null
    date > "$HOME/a"; date > /tmp/b; date > "$TMPDIR/c"; date > /dev/shm/d; date >/dev/null
    ls "$TMPDIR/b" /tmp/c >/dev/null && mkfifo /tmp/pipe
    cat /tmp/pipe & echo through > /tmp/pipe; wait
    echo "token $TOKEN in $PWD"; test ! -t 0; umask; ps -o sid= -p $$ | tr -d ' '; echo "$$"
    """
    )
    done = await execute(
        state,
        plan_of(
            script("before", 'echo early > "$TAILRACE_ARTIFACTS/before.txt"'),
            boxed("work", text, "before", secrets=("TOKEN",)),
            boxed("after", 'echo "$OUTPUT_WORK_SUM"; ls -d .git', "work"),
        ),
        secrets={"TOKEN": "tok-5ecret-value"},
        keep_workspace=True,
    )

    assert done.finished("work")["status"] == "success", done.text("work")
    assert (state.cache("test") / "kept").read_text() == "kept\n"
    workspace = state.workspace(done.run.id)
    said = done.text("work").splitlines()
    assert said[:5] == ["{}", "early", "0", "ours", "through"]
    assert said[5:7] == [f"token *** in {workspace}", "0077"]
    assert said[7] == said[8]  # it leads a session
    assert done.told("progress", step="work")[0]["percent"] == 40
    assert done.text("after") == "42\n.git\n"
    names = [item["name"] for item in done.told("artifact")]
    assert names == ["before.txt", "page.txt"]
    assert (done.run.artifacts / "page.txt").stat().st_mode & 0o7777 == 0o600  # not setuid
    assert not list(Path("/dev/shm").glob("d"))


async def test_a_network_is_there_where_it_is_asked_for(
    state: StateDir, doors: dict[str, Any]
) -> None:
    """Loopback exists in both, and only one of them is the machine's."""
    code = "import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
    connect = f'{sys.executable} -c "{code.format(port=doors["port"])}"'
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); "
    listen = f'{sys.executable} -c "{code}socket.create_connection(s.getsockname(), 5)"'
    done = await execute(
        state,
        plan_of(
            boxed("with", connect, network=True), boxed("without", connect), boxed("own", listen)
        ),
    )

    assert done.finished("with")["status"] == "success"
    assert "Connection refused" in done.text("without")
    assert done.finished("own")["status"] == "success"


@pytest.mark.parametrize(
    ("text", "returncode", "signal"),
    [
        ("exit 143", 143, None),
        ("kill -TERM $$", -15, "SIGTERM"),
        ("kill -9 0", -9, "SIGKILL"),
        ("for fd in /proc/1/fd/*; do (echo 'exited 0' > $fd) || :; done; exit 5", 5, None),
    ],
)
async def test_a_sandboxed_step_ends_as_it_ended(
    state: StateDir, text: str, returncode: int, signal: str | None
) -> None:
    """A death by signal and the exit status that shells make of it are told apart."""
    done = await execute(state, plan_of(boxed("a", text)))

    finished = done.finished("a")
    assert (finished["returncode"], finished["signal"]) == (returncode, signal)
    assert finished["kill"] is None


async def test_a_program_that_is_missing_in_the_sandbox_is_named(state: StateDir) -> None:
    """As outside."""
    step = StepPlan(
        id="gone", base="gone", label="gone", sandbox="required",
        action=CommandAction(argv=("no-such-program",)),
    )  # fmt: skip
    finished = (await execute(state, plan_of(step))).finished("gone")

    assert finished["cause"] == "could not start 'no-such-program': No such file or directory"
    assert (finished["cause_code"], finished["returncode"]) == ("requirement", None)


async def test_a_cancel_gives_sandboxed_processes_their_grace(state: StateDir) -> None:
    """SIGTERM reaches each once, its handler runs, and its exit status is told."""
    child = "(trap 'echo child; exit' TERM; echo ready; while :; do sleep 0.05; done) & "
    own = "trap 'wait; echo bye; exit 3' TERM; while :; do sleep 0.05; done"
    run = accept(state, plan_of(boxed("work", child + own, grace_ms=20_000)))
    async with executing(run) as execution:
        await execution.until("log", step="work", text="ready")
        await execution.send("cancel")
        await execution.wait()

    finished = execution.finished("work")
    assert (finished["status"], finished["returncode"]) == ("aborted", 3)
    assert finished["kill"]["survivors"] == []
    assert finished["kill"]["forced"] == 0
    words = execution.text("work").split()
    assert [word for word in words if word in ("ready", "child", "bye")] == [
        "ready", "child", "bye",
    ]  # fmt: skip


# It leaves its session, its parent and its environment, and is deaf to SIGTERM.
HIDDEN = (
    "(trap '' TERM; env -i setsid -f bash -c 'echo hidden; while :; do sleep 0.1; done' "
    '"$TAILRACE_RUN_ID"); sleep 600'
)


def left_of(run: RunDir) -> list[int]:
    """The living processes that have the run in their environment or their arguments."""
    found = processes_of(run)
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and run.id.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if is_alive(pid)]


async def test_nothing_outlives_a_sandbox_that_is_stopped(state: StateDir) -> None:
    """Not even what takes care to be found by nothing."""
    run = accept(state, plan_of(boxed("nasty", HIDDEN, grace_ms=100)))
    async with executing(run) as execution:
        await execution.until("log", step="nasty", text="hidden")
        assert len(left_of(run)) >= 3
        await execution.send("cancel")
        await execution.wait()

    kill = execution.finished("nasty")["kill"]
    assert kill["survivors"] == []
    assert kill["forced"] >= 1
    assert execution.finished("nasty")["status"] == "aborted"
    assert left_of(run) == []


async def test_nothing_outlives_a_sandbox_whose_runner_is_killed(state: StateDir) -> None:
    """Whoever ends the lost run finds the first process of the sandbox, and all end with it."""
    run = accept(state, plan_of(boxed("nasty", HIDDEN)))
    async with executing(run) as execution:
        await execution.until("log", step="nasty", text="hidden")
        execution.process.kill()
        await execution.process.wait()
        kill_processes(run.id)

    await eventually(lambda: left_of(run) == [])


async def test_what_a_sandboxed_step_leaves_behind_is_ended_and_counted(state: StateDir) -> None:
    """The sandbox's own processes don't count."""
    done = await execute(state, plan_of(boxed("a", "sleep 600 & setsid -f sleep 600; exit 0")))

    (notice,) = done.told("notice")
    assert notice["text"] == "2 processes outlived the step and had to be ended"
    assert done.finished("a")["status"] == "success"


def without_bwrap(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put a bwrap first that can't do anything."""
    program = folder / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


async def test_without_bubblewrap_a_step_runs_as_ever_or_not_at_all(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`true` says so, once for all of its steps; `required` keeps its word."""
    without_bwrap(monkeypatch, tmp_path)
    steps = [script(name, "echo hi", sandbox="on") for name in ("a", "b")]
    done = await execute(state, plan_of(*steps, boxed("must", "echo never")))

    (notice,) = done.told("notice")
    assert notice["kind"] == "unenforced"
    assert notice["text"].startswith("sandbox: true has no effect on a, b: bubblewrap doesn't work")
    assert (done.text("a"), done.text("b"), done.text("must")) == ("hi\n", "hi\n", "")
    must = done.finished("must")
    assert (must["status"], must["cause_code"], must["returncode"]) == (
        "error", "requirement", None,
    )  # fmt: skip
    assert "No permissions" in must["cause"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A git repository with one commit."""
    made = make_repository(tmp_path / "site" / "source")
    made.commit("first", readme="hello")
    return made


async def test_a_clone_in_a_sandbox_reaches_its_server(
    state: StateDir, tmp_path: Path, repository: Repository
) -> None:
    """It has the network without being told, and what it clones is there for the next step."""
    require("git")
    with serve_git(tmp_path / "site") as server:
        clone = StepPlan(
            id="clone", base="clone", label="clone", sandbox="required",
            action=CloneAction(url=f"{server.url}/source", path="src"),
        )  # fmt: skip
        done = await execute(state, plan_of(clone, boxed("next", "cat src/readme", "clone")))

    assert done.finished("clone")["status"] == "success", done.text("clone")
    assert done.text("next") == "hello"
    assert done.told("notice") == []


async def test_a_folder_is_cloned_without_a_sandbox_or_not_at_all(
    state: StateDir, repository: Repository
) -> None:
    """A repository's parts may lie anywhere on the machine, and git shall find them."""
    modes: tuple[Literal["on", "required"], ...] = ("on", "required")
    done = await execute(
        state,
        plan_of(
            *(
                StepPlan(
                    id=mode, base=mode, label=mode, sandbox=mode,
                    action=CloneAction(url=str(repository.path), path=mode),
                )
                for mode in modes
            )
        ),
    )  # fmt: skip

    why = "a folder of this machine isn't cloned in a sandbox"
    assert done.finished("on")["status"] == "success"
    (notice,) = done.told("notice")
    assert why in notice["text"]
    assert done.finished("required")["status"] == "error"
    assert why in done.finished("required")["cause"]


async def test_params_that_hold_a_secret_are_there_in_a_sandbox(state: StateDir) -> None:
    """They are in a file in memory, outside of the attempt's folder."""
    run = accept(
        state,
        plan_of(boxed("a", 'test "$(cat "$TAILRACE_PARAMS")" = \'{"key":"k-5ecret"}\'')),
        params={"key": "***"},
        params_masked=("key",),
    )
    async with executing(run, params={"key": "k-5ecret"}) as execution:
        await execution.wait()

    assert execution.finished("a")["status"] == "success"
