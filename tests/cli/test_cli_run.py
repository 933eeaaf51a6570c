"""`tailrace run` and its kin without a daemon: real runners, real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from command_line import Site
from tailrace.cli.artifacts import safe_name
from tailrace.rundir.lock import is_held, read_holder
from tailrace.rundir.snapshot import read_snapshot

HELLO = r"""
params: {who: {type: string, default: world}}
steps:
  greet: {run: 'echo "hello $PARAM_WHO"; printf "no newline"'}
  list:
    needs: greet
    run: |
      printf "10%%\r20%%\rdone\n"; printf "\033[31mred\033[0m \033[2J\n"
      echo x > "$TAILRACE_ARTIFACTS/x.txt"
"""
SLOW = """
steps:
  wait: {run: 'echo waiting; sleep 60', grace: 1s}
  clean: {when: always(), needs: wait, run: echo cleaned}
"""


def until(holds: object, *, within_s: float = 20) -> None:
    """Wait until a callable holds."""
    deadline = time.monotonic() + within_s
    while not holds():  # type: ignore[operator]  # any callable
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begun(site: Site, word: str) -> None:
    """Wait until some step of the newest run has printed *word*."""

    def has_printed() -> bool:
        logs = site.state.runs.glob("*/steps/*/*.log")
        return any(word in log.read_text() for log in logs)

    until(has_printed)


def test_piped_output_is_step_and_text(site: Site) -> None:
    """Standard output holds lines alone; what else happens is said on standard error."""
    site.pipeline("hello", HELLO)
    done = site.tailrace("run", "hello", "-p", "who=you")
    assert done.returncode == 0
    assert done.stdout == "greet | hello you\ngreet | no newline\nlist | done\nlist | red \n"
    assert "tailrace: greet: success in" in done.stderr


def test_json_is_the_journal(site: Site) -> None:
    """Every event comes once, in order; of a log its text in place of its place."""
    site.pipeline("hello", HELLO)
    done = site.tailrace("run", "hello", "--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for event, record in zip(told, site.journal(), strict=True):
        if record["event"] == "log":
            record.pop("offset")
            record.pop("bytes")
            event.pop("text")
        assert event == record
    assert done.stderr == ""


@pytest.mark.parametrize(("text", "status"), [("exit 0", 0), ("exit 3", 1), ("kill -9 $$", 1)])
def test_the_exit_status_is_the_runs(site: Site, text: str, status: int) -> None:
    """0 for success, 1 for a failure, whatever the step's own was."""
    site.pipeline("one", f"steps: {{a: {{run: '{text}'}}}}\n")
    assert site.tailrace("run", "one").returncode == status


def test_a_path_is_accepted_for_a_pipeline(site: Site) -> None:
    """It needs no place in the pipelines' folder."""
    (site.folder / "mine.yaml").write_text("steps: {a: {run: echo mine}}\n")
    assert site.tailrace("run", "mine.yaml").stdout == "a | mine\n"
    assert site.tailrace("run", "./mine.yaml").stdout == "a | mine\n"
    assert site.tailrace("show", "mine/2", "--json").returncode == 0


def test_detached_runs_go_on_without_us(site: Site) -> None:
    """`run --detach` prints the ref and leaves; tail sees the end."""
    site.pipeline("slow", "steps: {a: {run: 'sleep 1; echo done'}}\n")
    begin = site.tailrace("run", "slow", "--detach")
    assert begin.stdout == "slow/1\n"
    assert not read_snapshot(site.latest()).is_final
    assert site.tailrace("tail", "slow/1").stdout == "a | done\n"


@pytest.mark.parametrize("keep", [True, False])
def test_keep_keeps_the_workspace_after_a_success(site: Site, keep: bool) -> None:
    """Without it a workspace goes when nothing can need it any more."""
    site.pipeline("one", "steps: {a: {run: touch here}}\n")
    site.tailrace("run", "one", *["--keep"][: int(keep)])
    until(lambda: not is_held(site.latest().lock))
    assert site.state.workspace(site.latest().id).exists() is keep


def test_the_first_ctrl_c_cancels_and_waits(site: Site) -> None:
    """Clean-up steps run, the end is told, and the exit status is 4."""
    site.pipeline("slow", SLOW)
    process = site.begin("run", "slow")
    begun(site, "waiting")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 4
    assert stdout == "wait | waiting\nclean | cleaned\n"
    assert "cancelling; Ctrl-C again leaves the run to itself" in stderr
    assert read_snapshot(site.latest()).status == "aborted"


def test_the_second_ctrl_c_leaves(site: Site) -> None:
    """The exit status is 130, and the run goes on being cancelled without us."""
    site.pipeline(
        "slow", "steps: {a: {run: 'trap \"\" TERM; echo waiting; sleep 60', grace: 2s}}\n"
    )
    process = site.begin("run", "slow")
    begun(site, "waiting")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "cancelling" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "left; slow/1 is on its own, `tailrace tail slow/1` shows it again" in stderr
    assert not read_snapshot(site.latest()).is_final
    until(lambda: read_snapshot(site.latest()).status == "aborted")


def test_a_reader_that_goes_ends_us_quietly(site: Site) -> None:
    """`tailrace run … | head -1` says nothing of broken pipes, and the run goes on."""
    site.pipeline("ticks", "steps: {a: {run: 'for i in 1 2 3 4 5; do echo $i; sleep 0.1; done'}}\n")
    process = site.begin("run", "ticks")
    assert process.stdout is not None
    assert process.stdout.readline() == "a | 1\n"
    process.stdout.close()
    assert process.wait(timeout=20) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == "tailrace: ticks/1 has 1 step\n"
    process.stderr.close()
    until(lambda: read_snapshot(site.latest()).status == "success")


GROUP = "concurrency: {group: g, on_conflict: %s}\nparams: {go: {}}\nsteps:\n"
WAITS = "  a: {run: 'while ! test -e \"$PARAM_GO\"; do sleep 0.05; done', grace: 1s}\n"


def test_a_group_is_kept_without_a_daemon(site: Site) -> None:
    """One run waits for the other, can be cancelled meanwhile, and is started in its turn."""
    site.pipeline("one", GROUP % "queue" + WAITS)
    go = site.folder / "go"
    assert site.tailrace("run", "one", "-p", f"go={go}", "--detach").stdout == "one/1\n"
    left, waits = (site.begin("run", "one", "-p", f"go={go}") for _ in range(2))
    for process in (left, waits):
        assert process.stderr is not None
        while not process.stderr.readline().startswith("tailrace: queued: waits for one/"):
            assert process.poll() is None
    left.send_signal(signal.SIGINT)
    left.communicate(timeout=20)
    assert left.returncode == 4
    assert waits.poll() is None
    go.touch()
    waits.communicate(timeout=20)
    assert waits.returncode == 0
    shown = [json.loads(site.tailrace("show", f"one/{n}", "--json").stdout) for n in (1, 2, 3)]
    assert sorted(run["status"] for run in shown) == ["aborted", "success", "success"]
    first, last = (run for run in shown if run["status"] == "success")
    assert first["finished_at"] <= last["started_at"]


def test_a_newer_run_replaces_or_is_skipped_without_a_daemon(site: Site) -> None:
    """As `on_conflict` says."""
    for wish in ("skip", "cancel-running"):
        site.pipeline(wish, GROUP % wish + WAITS)
        site.tailrace("run", wish, "-p", "go=never", "--detach")
    skipped = site.tailrace("run", "skip", "--json")
    reason = "skip/1 of group 'g' is not done"
    assert (skipped.returncode, json.loads(skipped.stdout)) == (0, {"run": None, "reason": reason})
    assert site.tailrace("run", "cancel-running", "-p", "go=/").returncode == 0
    old = json.loads(site.tailrace("show", "cancel-running/1", "--json").stdout)
    assert (old["status"], old["cause_code"]) == ("aborted", "superseded")
    assert site.tailrace("cancel", "skip/1").returncode == 0
    until(
        lambda: not any(is_held(site.state.run(run.name).lock) for run in site.state.runs.iterdir())
    )


def test_tail_shows_part_of_a_runs_output(site: Site) -> None:
    """By step, by lines, by a pattern, raw."""
    site.pipeline("hello", HELLO)
    site.tailrace("run", "hello")

    def tail(*options: str) -> str:
        return site.tailrace("tail", *options).stdout

    assert tail("--step", "list") == "list | done\nlist | red \n"
    assert tail("-n", "2", "--no-follow") == "list | done\nlist | red \n"
    assert tail("hello/1", "--grep", "^(hello|red)") == "greet | hello world\nlist | red \n"
    assert tail("--raw", "--step", "greet") == "hello world\nno newline"
    assert tail("-n", "0") == ""
    events = [json.loads(line) for line in tail("-n", "0", "--json").splitlines()]
    assert [event["event"] for event in events if event["event"] == "log"] == []
    assert site.tailrace("tail", "--step", "nope").returncode == 2


def test_tail_ends_as_its_run_does(site: Site) -> None:
    """Following gives the run's status, a mere look gives 0."""
    site.pipeline("bad", "steps: {a: {run: exit 1}}\n")
    site.tailrace("run", "bad")
    assert site.tailrace("tail").returncode == 1
    assert site.tailrace("tail", "--no-follow").returncode == 0


def test_a_look_at_a_flooding_run_ends(site: Site) -> None:
    """`--no-follow` shows what was there when it was asked, and isn't drawn along."""
    site.pipeline("flood", "steps: {a: {run: 'while :; do echo y; done', grace: 1s}}\n")
    site.tailrace("run", "flood", "--detach")
    begun(site, "y")
    assert site.tailrace("tail", "-n", "1", "--no-follow").stdout == "a | y\n"
    assert site.tailrace("cancel", "latest").returncode == 0


def test_runs_and_show_tell_what_happened(site: Site) -> None:
    """For people and, with --json, for programs."""
    site.pipeline("hello", HELLO)
    site.pipeline("bad", "steps: {a: {label: Breaking, run: 'echo oops; exit 3'}}\n")
    site.tailrace("run", "hello")
    site.tailrace("run", "bad")
    listed = site.tailrace("runs").stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["bad/1", "error"], ["hello/1", "success"]]
    page = json.loads(site.tailrace("runs", "--json", "-n", "1").stdout)
    assert [run["ref"] for run in page["runs"]] == ["bad/1"]
    rest = json.loads(site.tailrace("runs", "--json", "--cursor", page["next_cursor"]).stdout)
    assert [run["ref"] for run in rest["runs"]] == ["hello/1"]
    shown = site.tailrace("show", "bad/1").stdout
    assert "✗ Breaking  a  exit status 3" in shown
    assert "oops" in shown
    view = json.loads(site.tailrace("show", "latest", "--json").stdout)
    assert (view["status"], view["steps"][0]["returncode"]) == ("error", 3)


def test_artifacts_are_listed_and_got(site: Site) -> None:
    """To a file of a safe name that wasn't there, or wherever -o says."""
    site.pipeline("hello", HELLO)
    site.tailrace("run", "hello")
    assert "x.txt" in site.tailrace("artifacts", "latest").stdout
    assert site.tailrace("artifacts", "latest", "--get", "x.txt", "-o", "-").stdout == "x\n"
    assert site.tailrace("artifacts", "latest", "--get", "x.txt").returncode == 0
    assert (site.folder / "x.txt").read_text() == "x\n"
    site.pipeline("bare", "steps: {a: {run: 'true'}}\n")
    site.tailrace("run", "bare")
    assert "bare/1 left no files" in site.tailrace("artifacts", "latest").stderr
    assert "bare/1 is deleted" in site.tailrace("rm", "latest").stderr
    again = site.tailrace("artifacts", "latest", "--get", "x.txt")
    assert (again.returncode, "x.txt exists" in again.stderr) == (2, True)
    unknown = site.tailrace("artifacts", "latest", "--get", "../run.json")
    assert (unknown.returncode, "left no artifact" in unknown.stderr) == (2, True)
    assert sorted(path.name for path in site.folder.glob("*.*")) == ["x.txt"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.html", "report.html"),
        ("deep/in/report.html", "report.html"),
        ("../../.bashrc", "bashrc"),
        ("a/..", "artifact"),
        ("-rf", "rf"),
        ("\x1b[2J", "_[2J"),
    ],
)
def test_an_artifacts_name_is_made_safe(name: str, safe: str) -> None:
    """Whatever a step called its file, ours lies in the current folder, and shows."""
    assert safe_name(name) == safe


def test_a_failed_run_is_retried_on_its_workspace(site: Site) -> None:
    """What had succeeded is taken over, the rest runs again."""
    site.pipeline(
        "flaky",
        "steps:\n  a: {run: 'echo once'}\n"
        "  b: {needs: a, run: 'test -e here || { touch here; exit 1; }; echo twice'}\n",
    )
    assert site.tailrace("run", "flaky").returncode == 1
    until(lambda: not is_held(site.latest().lock))
    again = site.tailrace("retry", "latest")
    assert (again.returncode, again.stdout) == (0, "b | twice\n")
    view = json.loads(site.tailrace("show", "flaky/2", "--json").stdout)
    assert [step["reused"] for step in view["steps"]] == [True, False]


def test_finished_runs_are_removed_and_live_ones_are_not(site: Site) -> None:
    """`rm` takes folder and workspace, and refuses what lives."""
    site.pipeline("slow", SLOW)
    site.pipeline("bad", "steps: {a: {run: exit 1}}\n")
    site.tailrace("run", "bad")
    until(lambda: not is_held(site.latest().lock))
    assert site.tailrace("rm", "bad/1").returncode == 0
    assert list(site.state.runs.iterdir()) == []
    site.tailrace("run", "slow", "--detach")
    begun(site, "waiting")
    refused = site.tailrace("rm", "slow/1")
    assert (refused.returncode, "cancel it first" in refused.stderr) == (2, True)


def test_a_run_that_lost_its_runner_is_not_removed_before_its_end(site: Site) -> None:
    """It may have left processes; `cancel` ends them and writes the end."""
    site.pipeline("slow", SLOW)
    site.tailrace("run", "slow", "--detach")
    begun(site, "waiting")
    holder = read_holder(site.latest().lock)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    until(lambda: not is_held(site.latest().lock))
    refused = site.tailrace("rm", "slow/1")
    assert (refused.returncode, "lost its runner; cancel it" in refused.stderr) == (2, True)
    assert site.tailrace("cancel", "slow/1").returncode == 0
    assert site.tailrace("rm", "slow/1").returncode == 0
    assert list(site.state.runs.iterdir()) == []


def test_a_step_is_skipped_by_name(site: Site) -> None:
    """What needs it goes on as if it had succeeded."""
    site.pipeline(
        "slow",
        "steps:\n  a: {run: 'echo waiting; sleep 60', grace: 1s}\n  b: {needs: a, run: echo b}\n",
    )
    process = site.begin("run", "slow")
    begun(site, "waiting")
    assert site.tailrace("skip", "slow/1", "a").returncode == 0
    stdout, _ = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (0, "a | waiting\nb | b\n")
    assert site.tailrace("cancel", "slow/1").returncode == 2  # it has ended


def test_who_watches_a_run_whose_runner_died_ends_it(site: Site) -> None:
    """Where no daemon lives, the next one to hold the lock writes the end."""
    site.pipeline("slow", SLOW)
    process = site.begin("run", "slow")
    begun(site, "waiting")
    os.kill(_runner(site.latest().path), signal.SIGKILL)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "its runner died" in stderr
    assert read_snapshot(site.latest()).cause_code == "lost"


def test_a_run_that_lost_its_runner_is_not_told_to_be_waited_for(site: Site) -> None:
    """Nobody would end it; cancelling it does, and says how."""
    site.pipeline("slow", SLOW)
    process = site.begin("run", "slow", "--detach")
    assert process.communicate(timeout=20)[0] == "slow/1\n"
    begun(site, "waiting")
    run = site.latest()
    os.kill(_runner(run.path), signal.SIGKILL)
    until(lambda: not is_held(run.lock))
    for command in ("retry", "rm"):
        done = site.tailrace(command, "slow/1")
        assert done.returncode == 2
        assert "slow/1 lost its runner; cancel it, which ends it" in done.stderr
    assert "slow/1 has ended: error" in site.tailrace("cancel", "slow/1").stderr
    assert "slow/1 is deleted" in site.tailrace("rm", "latest").stderr


def test_a_run_ends_whose_runner_died_before_it_had_started(site: Site) -> None:
    """Out of memory, say, or by an import that fails: nobody else would start it."""
    faults = site.folder / "faults"
    faults.mkdir()
    (faults / "sitecustomize.py").write_text(
        "import os, sys\nif 'tailrace.runner' in sys.orig_argv: os._exit(9)\n"
    )
    site.pipeline("hello", "steps: {a: {run: echo hi}}\n")
    process = site.begin("run", "hello", PYTHONPATH=str(faults))
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, "its runner died before it started" in stderr) == (1, True)
    assert read_snapshot(site.latest()).cause_code == "lost"


def test_two_do_not_repeat_a_run_at_once(site: Site) -> None:
    """One run at a time has a workspace, as with a daemon."""
    site.pipeline("flag", "steps: {a: {run: 'test -e flag || exit 1; sleep 60', grace: 1s}}\n")
    assert site.tailrace("run", "flag").returncode == 1
    (site.state.workspace(site.latest().id) / "flag").touch()
    assert site.tailrace("retry", "flag/1", "--detach").stdout == "flag/2\n"
    second = site.tailrace("retry", "flag/1")
    assert second.returncode == 2
    assert "the workspace of flag/1 is in use by flag/2; wait for it" in second.stderr
    assert site.tailrace("cancel", "flag/2").returncode == 0
    site.tailrace("tail", "flag/2")


def test_who_watches_a_run_that_goes_on_after_its_runner_died_starts_another(site: Site) -> None:
    """With ``on_lost: retry``, in the same journal, with the secrets of the command line."""
    wait = 'test -n "$KEY"; echo "attempt $TAILRACE_ATTEMPT"; until [ -e go ]; do sleep 0.05; done'
    site.pipeline("again", f"on_lost: retry\nsecrets: [KEY]\nsteps: {{a: {{run: '{wait}'}}}}\n")
    process = site.begin("run", "again", TAILRACE_SECRET_KEY="s3cret-value")
    begun(site, "attempt 1")
    run = site.latest()
    os.kill(_runner(run.path), signal.SIGKILL)
    begun(site, "attempt 2")
    (site.state.workspace(run.id) / "go").touch()
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    assert stdout == "a | attempt 1\na | attempt 2\n"


def _runner(run: Path) -> int:
    """Return the pid of the runner of that folder."""
    listed = subprocess.run(
        ["pgrep", "-f", f"tailrace.runner {run}"], capture_output=True, text=True
    )
    return int(listed.stdout.split()[0])


def test_the_index_is_made_anew_from_the_folders(site: Site) -> None:
    """`reindex` counts what is there."""
    site.pipeline("one", "steps: {a: {run: 'true'}}\n")
    site.tailrace("run", "one")
    site.state.index.unlink(missing_ok=True)
    assert site.tailrace("reindex").stdout == "1 run is in the index\n"
