"""Steps as real processes: what they get, how they end, what is told of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from git_server import make_repository
from runs import accept, eventually, execute, executing, plan_of, processes_of, script
from tailrace.core.plan import CloneAction, CommandAction, Retry, StepLimits, StepPlan
from tailrace.rundir.layout import StateDir


async def test_a_run_tells_its_steps_from_start_to_summary(state: StateDir) -> None:
    """One sequence without a gap, the summary last."""
    done = await execute(state, plan_of(script("hello", "echo hi"), script("after", ":", "hello")))

    told = done.told()
    assert [item["seq"] for item in told] == list(range(1, len(told) + 1))
    assert [item["event"] for item in told] == [
        "plan", "queued", "started", "step_started", "log", "step_finished", "step_started",
        "step_finished", "summary",
    ]  # fmt: skip
    assert told[-1]["status"] == "success"
    assert told[-1]["message"] == "2 steps: 2 succeeded"
    assert done.process.returncode == 0


async def test_an_exit_status_is_told_as_it_was(state: StateDir) -> None:
    """The step, the run and the runner's own status agree."""
    done = await execute(state, plan_of(script("bad", "exit 3")))

    finished = done.finished("bad")
    assert (finished["returncode"], finished["signal"]) == (3, None)
    assert (finished["cause"], finished["cause_code"]) == ("exit status 3", "exit")
    assert done.told("summary")[0]["cause"] == "step 'bad' failed: exit status 3"
    assert done.process.returncode == 1


async def test_a_death_by_signal_is_told_with_its_name(state: StateDir) -> None:
    """``-N`` and ``SIGNAME``, as waitpid(2) reports it."""
    done = await execute(state, plan_of(script("dies", "kill -SEGV $$")))

    finished = done.finished("dies")
    assert (finished["returncode"], finished["signal"]) == (-11, "SIGSEGV")
    assert (finished["cause"], finished["cause_code"]) == ("killed by SIGSEGV", "signal")
    assert finished["kill"] is None


@pytest.mark.parametrize("asked", [{"host": "build1"}])
async def test_a_step_that_must_run_elsewhere_does_not_run_here(
    state: StateDir, asked: dict[str, str], tmp_path: Path
) -> None:
    """What can't be had yet is refused; running without it would break the file's word."""
    trace = tmp_path / "trace"
    done = await execute(state, plan_of(script("boxed", f"touch {trace}", **asked)))

    finished = done.finished("boxed")
    assert (finished["status"], finished["cause_code"]) == ("error", "requirement")
    assert finished["cause"].endswith("is not part of this version")
    assert not trace.exists()


async def test_a_program_that_is_not_there_fails_its_step_with_the_reason(state: StateDir) -> None:
    """Nothing was started, and the cause names the program."""
    step = StepPlan(
        id="gone", base="gone", label="gone", action=CommandAction(argv=("no-such-program",))
    )
    done = await execute(state, plan_of(step))

    finished = done.finished("gone")
    assert (finished["status"], finished["cause_code"]) == ("error", "requirement")
    assert "no-such-program" in finished["cause"]
    assert finished["returncode"] is None


async def test_a_failing_command_of_a_pipe_fails_the_step(state: StateDir) -> None:
    """The default shell is ``bash -e -o pipefail -c``."""
    done = await execute(state, plan_of(script("pipe", "false | true; echo not reached")))

    assert done.finished("pipe")["status"] == "error"
    assert done.text("pipe") == ""


async def test_steps_that_do_not_need_each_other_run_at_the_same_time(state: StateDir) -> None:
    """Each waits for the other through a FIFO, which works only in parallel."""
    done = await execute(
        state,
        plan_of(
            script("fifo", 'mkfifo "$TAILRACE_WORKSPACE/meet"'),
            script("left", "echo from left > meet", "fifo"),
            script("right", "cat meet", "fifo"),
        ),
    )

    assert done.text("right") == "from left\n"


async def test_a_step_gets_a_fresh_environment(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the daemon's environment holds doesn't get in; what the contract lists does."""
    monkeypatch.setenv("LEAKS_FROM_THE_DAEMON", "1")
    show = 'env -0 | python3 -c "import sys; print(sys.stdin.read())"'
    step = script("show", show, env={"MINE": "a b", "TAILRACE": "0"}, matrix={"py": "3.11"})
    done = await execute(state, plan_of(step, depth="deep"), settings={"step_env": {"OURS": "1"}})

    shown = dict(line.partition("=")[::2] for line in done.text("show").split("\0"))
    assert "LEAKS_FROM_THE_DAEMON" not in shown
    assert shown["MINE"] == "a b"
    assert shown["OURS"] == "1"
    assert shown["MATRIX_PY"] == "3.11"
    assert {key: shown[key] for key in ("LANG", "TERM", "CI")} == {
        "LANG": "C.UTF-8", "TERM": "dumb", "CI": "true",
    }  # fmt: skip
    assert shown["TAILRACE_RUN_ID"] == done.run.id
    assert (shown["TAILRACE_STEP"], shown["TAILRACE_ATTEMPT"]) == ("show", "1")
    assert shown["TAILRACE_DEPTH"] == "deep"
    for name in ("WORKSPACE", "ARTIFACTS", "COLLECTED", "OUTPUT", "EVENTS", "ANSWERS", "PARAMS"):
        assert Path(shown[f"TAILRACE_{name}"]).is_absolute()


async def test_params_reach_a_step_as_variables_and_with_their_types(state: StateDir) -> None:
    """Text, decimal, ``true`` or ``false``; null is unset; what is too long is in the file only."""
    params = {"name": "x y", "count": 3, "deep": True, "none": None, "long": "x" * 70_000}
    step = script(
        "show",
        'echo "$PARAM_NAME|$PARAM_COUNT|$PARAM_DEEP|${PARAM_NONE-unset}|${PARAM_LONG-unset}";'
        'cat "$TAILRACE_PARAMS"',
    )  # fmt: skip
    done = await execute(state, plan_of(step), params=params)

    variables, _, file = done.text("show").partition("\n")
    assert variables == "x y|3|true|unset|unset"
    assert json.loads(file) == params


async def test_a_step_has_no_terminal_an_empty_stdin_and_a_strict_umask(state: StateDir) -> None:
    """A child that opens ``/dev/tty`` fails at once and doesn't stop for ever."""
    done = await execute(
        state, plan_of(script("look", "cat; umask; (: > /dev/tty) 2>/dev/null || echo no tty"))
    )

    assert done.text("look") == "0077\nno tty\n"


async def test_stdout_and_stderr_come_in_the_order_they_were_written(state: StateDir) -> None:
    """Both are one pipe."""
    done = await execute(state, plan_of(script("both", "echo 1; echo 2 >&2; echo 3; echo 4 >&2")))

    assert done.text("both") == "1\n2\n3\n4\n"


async def test_outputs_reach_the_steps_that_need_them(state: StateDir) -> None:
    """As ``OUTPUT_<STEP>_<NAME>``, also through a step between, and in ``outputs.json``."""
    done = await execute(
        state,
        plan_of(
            script("first-one", 'echo sha=abc >> "$TAILRACE_OUTPUT"'),
            script("between", ":", "first-one"),
            script("last", 'echo "$OUTPUT_FIRST_ONE_SHA"', "between"),
        ),
    )

    assert done.text("last") == "abc\n"
    assert json.loads(done.run.outputs("first-one").read_bytes()) == {"sha": "abc"}


async def test_outputs_beyond_what_an_environment_holds_are_left_out_of_it(
    state: StateDir,
) -> None:
    """The longest of them, with a notice; one step's, up to the bound of a step, all have room."""
    fill = "head -c 64000 /dev/zero | tr '\\0' x"
    lines = f'for n in $(seq 16); do echo "v$n=$({fill})"; done >> "$TAILRACE_OUTPUT"'
    short = 'echo word=yes >> "$TAILRACE_OUTPUT"'
    show = 'echo "$OUTPUT_A_WORD"; env | grep -c "^OUTPUT_.*xxx"'
    done = await execute(
        state,
        plan_of(
            script("a", f"{lines}; {short}"), script("b", lines), script("c", lines),
            script("one", show, "a"), script("all", show, "a", "b", "c"),
        ),
    )  # fmt: skip

    assert done.text("one") == "yes\n16\n"
    assert done.told("notice", step="one") == []
    assert done.text("all") == "yes\n20\n"
    (notice,) = done.told("notice", step="all")
    assert notice["kind"] == "outputs"
    assert notice["text"].startswith("not in the environment: OUTPUT_A_V10, ")
    assert " and 23 more; " in notice["text"]


async def test_an_env_that_can_not_be_rendered_is_its_step_s_error_alone(state: StateDir) -> None:
    """Such as a template for what is no text."""
    bad = script("bad", "echo never", env={"ALL": "${{ event }}"}, allow_failure=True)
    done = await execute(state, plan_of(bad, script("after", "echo ran", "bad")))

    finished = done.finished("bad")
    assert (finished["status"], finished["cause_code"]) == ("error", "requirement")
    assert finished["cause"].startswith("its env ALL can't be rendered: event is no text")
    assert done.text("after") == "ran\n"


# Told as it happens, in the runner's log: what is synced, what gets its name, what is journalled.
TELL_ORDER = """
import os, pathlib, sys
from tailrace.rundir.journal import JournalWriter

def told(place, name, describe):
    do = getattr(place, name)
    def telling(*args, **more):
        print(name, describe(*args), file=sys.stderr)
        return do(*args, **more)
    setattr(place, name, telling)

for name in ("fsync", "fdatasync"):
    told(os, name, lambda fd: os.readlink(f"/proc/self/fd/{fd}"))
told(pathlib.Path, "replace", lambda path, target: target)
told(JournalWriter, "append", lambda journal, t, fields: fields["event"])
"""


async def test_outputs_are_on_disk_before_the_step_s_end_is_told(
    state: StateDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a power cut, the runner that goes on finds all of a finished step's outputs."""
    run = accept(state, plan_of(script("one", 'echo sha=abc >> "$TAILRACE_OUTPUT"')))
    async with executing(run, altered_by=TELL_ORDER) as execution:
        await execution.wait()

    outputs = run.outputs("one")
    order = capfd.readouterr().err.splitlines()
    wanted = [
        f"fdatasync {outputs.with_name('.outputs.json')}",
        f"replace {outputs}",
        *(f"fsync {folder}" for folder in (outputs.parent, outputs.parent.parent, run.path)),
        "append step_finished",
        f"fdatasync {run.journal}",
    ]
    assert [line for line in order[order.index(wanted[0]) :] if line in wanted][:7] == wanted
    assert sorted(path.name for path in outputs.parent.iterdir()) == ["1.log", "outputs.json"]


async def test_artifacts_are_collected_and_the_primary_one_ends_the_run(state: StateDir) -> None:
    """With size, hash and type; later steps find them in ``$TAILRACE_COLLECTED``."""
    done = await execute(
        state,
        plan_of(
            script(
                "make", 'echo "<h1>" > "$TAILRACE_ARTIFACTS/report.html"', primary="report.html"
            ),
            script("use", 'cat "$TAILRACE_COLLECTED/report.html"', "make"),
        ),
        public_url="http://127.0.0.1:8470",
    )

    (artifact,) = done.told("artifact")
    assert artifact["name"] == "report.html"
    assert (artifact["bytes"], artifact["media_type"]) == (5, "text/html")
    assert done.text("use") == "<h1>\n"
    summary = done.told("summary")[0]
    assert summary["artifacts"] == ["report.html"]
    assert summary["file_url"] == artifact["url"]
    assert artifact["url"].endswith(f"/api/v1/runs/{done.run.id}/artifacts/report.html")


async def test_the_primary_artifact_may_be_named_by_a_template(state: StateDir) -> None:
    """Its event says so, also where another step took the name before."""
    make = 'echo x > "$TAILRACE_ARTIFACTS/today.html"'
    steps = (
        script("first", make),
        script("second", make, "first", primary="${{ params.day }}.html"),
    )
    done = await execute(state, plan_of(*steps), params={"day": "today"})

    assert [(a["name"], a.get("primary")) for a in done.told("artifact")] == [
        ("today.html", None), ("second/today.html", True),
    ]  # fmt: skip
    assert done.told("summary")[0]["file_url"].endswith("/second/today.html")


async def test_a_file_below_a_steps_own_name_is_not_its_primary_artifact(state: StateDir) -> None:
    """Only that of the very name is, whether or not it got the step's name in front."""
    below = 'mkdir "$TAILRACE_ARTIFACTS/a"; echo x > "$TAILRACE_ARTIFACTS/a/r.html"'
    both = f'echo x > "$TAILRACE_ARTIFACTS/r.html"; {below}'
    found = []
    for make in (both, below):
        done = await execute(state, plan_of(script("a", make, primary="r.html")))
        found.append([a["name"] for a in done.told("artifact") if a.get("primary")])

    assert found == [["r.html"], []]
    assert done.told("notice")[0]["text"] == "artifacts.primary: no file is collected as r.html"


async def test_a_primary_artifact_that_no_file_is_has_a_notice(state: StateDir) -> None:
    """Whether the step left others or nothing."""
    make = 'echo x > "$TAILRACE_ARTIFACTS/other.html"'
    steps = (script("none", ":", primary="a.html"), script("other", make, primary="b.html"))
    done = await execute(state, plan_of(*steps))

    notices = {item["step"]: item["text"] for item in done.told("notice")}
    assert notices == {
        "none": "artifacts.primary: no file is collected as a.html",
        "other": "artifacts.primary: no file is collected as b.html",
    }
    assert done.told("summary")[0]["file_url"] is None


async def test_runs_of_a_pipeline_share_a_cache_that_others_cannot_read(state: StateDir) -> None:
    """What one run leaves in ``$TAILRACE_CACHE``, the next one finds; another pipeline doesn't."""
    text = 'cat "$TAILRACE_CACHE/kept" || echo warm > "$TAILRACE_CACHE/kept"'
    first = await execute(state, plan_of(script("a", text)))
    assert first.finished("a")["status"] == "success"
    second = await execute(state, plan_of(script("a", text)))
    assert second.text("a") == "warm\n"
    assert (state.cache("test") / "kept").read_text() == "warm\n"
    for folder in (state.caches, state.cache("test")):
        assert folder.stat().st_mode & 0o777 == 0o700


async def test_an_error_is_retried_and_only_the_last_attempt_counts(state: StateDir) -> None:
    """The artifacts and outputs of a repeated attempt are dropped; each attempt has its log."""
    text = (
        'echo "try $TAILRACE_ATTEMPT"; ls "$TAILRACE_ARTIFACTS" | wc -l;'
        'echo x > "$TAILRACE_ARTIFACTS/try$TAILRACE_ATTEMPT"; test "$TAILRACE_ATTEMPT" = 2'
    )
    done = await execute(state, plan_of(script("flaky", text, retry=Retry(attempts=3, delay_ms=1))))

    (retrying,) = done.told("step_retrying")
    assert (retrying["attempt"], retrying["cause"]) == (1, "exit status 1")
    assert done.finished("flaky")["status"] == "success"
    assert done.finished("flaky")["attempt"] == 2
    assert [item["name"] for item in done.told("artifact")] == ["try2"]
    assert (done.text("flaky", 1), done.text("flaky", 2)) == ("try 1\n0\n", "try 2\n0\n")


async def test_a_step_that_takes_too_long_is_stopped_and_is_an_error(state: StateDir) -> None:
    """SIGTERM, then SIGKILL once its grace is over; the kill report counts both."""
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    done = await execute(state, plan_of(script("slow", stubborn, timeout_ms=500, grace_ms=100)))

    finished = done.finished("slow")
    assert (finished["status"], finished["cause_code"]) == ("error", "timeout")
    assert finished["cause"] == "timed out after 500ms"
    assert finished["signal"] == "SIGKILL"
    assert finished["kill"]["forced"] >= 1
    assert finished["kill"]["survivors"] == []


async def test_a_silent_step_is_stopped_though_its_time_is_not_over(state: StateDir) -> None:
    """Output puts the end of patience off."""
    done = await execute(
        state, plan_of(script("quiet", "echo once; sleep 60", silence_ms=300, timeout_ms=60_000))
    )

    finished = done.finished("quiet")
    assert finished["cause_code"] == "silence"
    assert finished["cause"] == "no output for 300ms"
    assert done.text("quiet") == "once\n"


async def test_the_run_s_timeout_aborts_steps_and_is_an_error(state: StateDir) -> None:
    """A step for cleaning up still runs, and a step that was not begun is skipped."""
    done = await execute(
        state,
        plan_of(
            script("long", "sleep 60"),
            script("next", "echo never", "long"),
            script("tidy", "echo tidy", "long", when="always()"),
            timeout_ms=500,
        ),
    )

    assert done.finished("long")["status"] == "aborted"
    assert done.finished("long")["cause_code"] == "timeout"
    assert done.finished("next")["status"] == "skipped"
    assert done.text("tidy") == "tidy\n"
    summary = done.told("summary")[0]
    assert (summary["status"], summary["cause"]) == ("error", "the run timed out after 500ms")


async def test_what_a_step_leaves_behind_is_ended_with_it(state: StateDir) -> None:
    """In the background, in another session, doubly forked: none holds up the step or survives."""
    text = "sleep 600 & setsid sleep 600 & (setsid nohup sleep 600 &) ; echo done"
    run = accept(state, plan_of(script("messy", text)))
    async with executing(run) as execution:
        await execution.wait()

    assert execution.finished("messy")["status"] == "success"
    (notice,) = execution.told("notice")
    assert notice["kind"] == "leftover"
    await eventually(lambda: processes_of(run) == [])


async def test_a_grandchild_that_keeps_stdout_open_does_not_hang_the_step(state: StateDir) -> None:
    """The step ends with its leader, long before the grandchild would."""
    done = await execute(state, plan_of(script("held", "sleep 600 & exec echo out")))

    assert done.text("held") == "out\n"
    assert done.finished("held")["duration_ms"] < 60_000


async def test_a_hostile_value_can_not_become_an_option(state: StateDir) -> None:
    """It is refused before the step starts, unless ``--`` stands before it."""
    argv = ("echo", "${{ params.ref }}")
    plain = StepPlan(id="plain", base="plain", label="x", action=CommandAction(argv=argv))
    fenced = StepPlan(
        id="fenced", base="fenced", label="x", action=CommandAction(argv=("echo", "--", argv[1]))
    )
    done = await execute(state, plan_of(plain, fenced), params={"ref": "--help"})

    assert done.finished("plain")["cause_code"] == "requirement"
    assert "'-'" in done.finished("plain")["cause"]
    assert done.text("fenced") == "-- --help\n"


async def test_a_workdir_that_leads_out_of_the_workspace_is_refused(state: StateDir) -> None:
    """Also by a link that an earlier step made."""
    done = await execute(
        state,
        plan_of(
            script("link", "ln -s / out"),
            script("out", "pwd", "link", workdir="out/etc"),
            script("up", "pwd", "link", workdir="../.."),
        ),
    )

    for step in ("out", "up"):
        assert done.finished(step)["cause_code"] == "requirement"
        assert "leads out of the workspace" in done.finished(step)["cause"]


async def test_a_workdir_that_is_not_there_is_told_whole_so_that_it_can_be_masked(
    state: StateDir,
) -> None:
    """Of a secret with a slash in it, the last part of the path would be a piece that leaks."""
    step = script("lost", "pwd", workdir="${{ params.place }}")
    done = await execute(
        state,
        plan_of(step, secrets=("TOKEN",)),
        secrets={"TOKEN": "first-half/second-half"},
        params={"place": "in first-half/second-half"},
    )

    assert done.finished("lost")["cause"] == (
        "its workdir 'in ***' is not there; an earlier step makes it"
    )


async def test_the_workspace_is_gone_after_a_success_and_stays_after_a_failure(
    state: StateDir,
) -> None:
    """For `retry`; the folders of attempts never stay."""
    good = await execute(state, plan_of(script("ok", "touch file")))
    bad = await execute(state, plan_of(script("bad", "touch file; exit 1")))

    assert not state.workspace(good.run.id).exists()
    assert (state.workspace(bad.run.id) / "file").exists()
    assert not (bad.run.path / "attempts").exists()
    assert not bad.run.control.exists()


async def test_a_step_that_isn_t_echoed_does_not_show_its_command(state: StateDir) -> None:
    """``cmd`` is absent then."""
    done = await execute(state, plan_of(script("a", "echo hi", echo=False), script("b", "echo hi")))

    assert "cmd" not in done.told("step_started", step="a")[0]
    assert done.told("step_started", step="b")[0]["cmd"] == "echo hi"


@pytest.mark.parametrize("leads_to", ["other", "/tmp"])
async def test_a_link_at_the_place_of_a_clone_is_removed_and_not_followed(
    state: StateDir, tmp_path: Path, leads_to: str
) -> None:
    """Another clone keeps its files, and a link out of the workspace is no obstacle."""
    source = make_repository(tmp_path / "source")
    source.commit("First", file="x")
    clone = StepPlan(
        id="clone", base="clone", label="clone", needs=("before",),
        action=CloneAction(url=str(source.path), path="clone"),
    )  # fmt: skip
    before = script("before", f"mkdir other; touch other/kept; ln -s {leads_to} clone")
    after = script("after", "ls other; test ! -L clone && ls clone", "clone")

    done = await execute(state, plan_of(before, clone, after))

    assert done.text("after") == "kept\nfile\n"


async def test_a_clone_that_can_not_be_done_says_why_in_its_cause(state: StateDir) -> None:
    """Not just git's exit status."""
    clone = StepPlan(
        id="clone", base="clone", label="clone",
        action=CloneAction(url=str(state.path / "nowhere"), path="clone"),
    )  # fmt: skip
    done = await execute(state, plan_of(clone))

    finished = done.finished("clone")
    assert finished["cause_code"] == "exit"
    assert finished["cause"] != f"exit status {finished['returncode']}"
    assert f"clone: {finished['cause']}" in done.text("clone")


async def test_no_more_steps_run_at_once_than_limits_steps_allows(state: StateDir) -> None:
    """Over all runs of the state folder, whatever their own ``parallel`` says."""
    alone = f"mkdir '{state.path}/alone' && sleep 0.05 && rmdir '{state.path}/alone'"
    plan = plan_of(*(script(f"s{number}", alone) for number in range(4)))
    runs = [accept(state, plan), accept(state, plan)]
    one = {"limits": {"steps": 1}}
    async with executing(runs[0], settings=one) as first, executing(runs[1], settings=one) as other:
        await first.wait()
        await other.wait()

    assert [done.told()[-1]["status"] for done in (first, other)] == ["success", "success"]


async def test_a_step_that_waits_for_a_slot_can_be_cancelled(state: StateDir) -> None:
    """It never started, and says so."""
    plan = plan_of(script("holds", "echo ready; sleep 600"), script("waits", "echo never"))
    run = accept(state, plan)
    async with executing(run, settings={"limits": {"steps": 1}}) as execution:
        await execution.until("log", step="holds")
        await execution.send("cancel")
        await execution.wait()

    waits = execution.finished("waits")
    assert (waits["status"], waits["attempt"]) == ("skipped", 0)
    assert execution.told("step_started", step="waits") == []


async def test_what_has_no_effect_is_told(state: StateDir) -> None:
    """A run whose wish isn't granted runs all the same, and says so."""
    done = await execute(state, plan_of(script("a", "echo hi", limits=StepLimits(cpu=1.5))))

    told = [item["text"] for item in done.told("notice", step="a") if item["kind"] == "unenforced"]
    assert "limits.cpu: 1.5 counts as 2 cores: only whole ones can be given" in told
    assert done.finished("a")["status"] == "success"


async def test_events_of_a_step_are_in_the_stream(state: StateDir) -> None:
    """A line of JSON to ``$TAILRACE_EVENTS`` is an event; a malformed one is a notice."""
    text = """
    echo '{"event":"progress","percent":40,"note":"indexing"}' >> "$TAILRACE_EVENTS"
    echo 'nonsense' >> "$TAILRACE_EVENTS"
    """
    done = await execute(state, plan_of(script("tells", text)))

    (progress,) = done.told("progress")
    assert (progress["step"], progress["percent"], progress["note"]) == ("tells", 40, "indexing")
    assert [item["kind"] for item in done.told("notice")] == ["event"]
    assert done.finished("tells")["status"] == "success"


async def test_an_old_step_is_taken_over_with_its_outputs_and_artifacts(state: StateDir) -> None:
    """A run that repeats another does not run again what needn't."""
    steps = (
        script("a", 'echo n=1 | tee "$TAILRACE_OUTPUT"; echo x > "$TAILRACE_ARTIFACTS/x"; >here'),
        script("b", 'test -e here; echo "n=$OUTPUT_A_N"; cat "$TAILRACE_COLLECTED/x"; exit 1', "a"),
    )
    first = await execute(state, plan_of(*steps))
    again = await execute(
        state, plan_of(*steps), reused={"a": first.run.id}, workspace=first.run.id
    )

    assert again.finished("a")["reused"] is True
    assert (again.finished("a")["lines"], again.finished("a")["bytes"]) == (0, 0)  # no log here
    assert again.told("step_started", step="a") == []
    assert again.text("b") == "n=1\nx\n"
    assert [item["name"] for item in again.told("artifact")] == ["x"]


@pytest.mark.parametrize("gone", ["artifact", "folder"])
async def test_a_run_ends_with_a_cause_where_what_it_reuses_is_gone(
    state: StateDir, gone: str
) -> None:
    """It isn't its own folder that fails, and no step starts without what it needs."""
    steps = (
        script("a", 'echo x > "$TAILRACE_ARTIFACTS/x"'),
        script("b", "echo never", "a", when="always()"),
    )
    first = await execute(state, plan_of(*steps))
    if gone == "artifact":
        (first.run.artifacts / "x").unlink()
    else:
        shutil.rmtree(first.run.path)
    again = await execute(state, plan_of(*steps), reused={"a": first.run.id})

    last = again.told()[-1]
    assert (last["status"], last["cause_code"]) == ("error", "requirement")
    assert last["cause"] == (
        f"what step 'a' left in run {first.run.id} can't be read (No such file or directory); "
        "retry from the start"
    )
    assert again.told("step_started") == again.told("artifact") == []


# For as long as a huge artifact would take.
COPY_TAKES_LONG = """
import pathlib, shutil, sys, time

def copy(*args, **more):
    folder = pathlib.Path(sys.argv[1])
    (folder / "copies").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)

shutil.copyfileobj = shutil.copyfile = copy
"""


async def test_a_run_is_stopped_while_it_copies_what_it_reuses(state: StateDir) -> None:
    """It answers at once, and goes on with nothing."""
    steps = (script("a", 'echo x > "$TAILRACE_ARTIFACTS/x"'), script("b", "echo never", "a"))
    first = await execute(state, plan_of(*steps))
    run = accept(state, plan_of(*steps), reused={"a": first.run.id})
    async with executing(run, altered_by=COPY_TAKES_LONG) as execution:
        await eventually((run.path / "copies").exists)
        reply = await execution.send("cancel")
        (run.path / "go").touch()
        await execution.wait()

    assert reply.status == "done"
    assert execution.told()[-1]["event"] == "aborted"
    assert execution.finished("a")["status"] == "skipped"
    assert execution.told("artifact") == execution.told("step_started") == []


async def test_a_run_is_executed_once(state: StateDir) -> None:
    """Starting a runner for a run that has ended changes nothing."""
    done = await execute(state, plan_of(script("a", "echo once")))
    before = done.run.journal.read_bytes()

    async with executing(done.run) as again:
        await again.process.wait()

    assert again.process.returncode == 2
    assert done.run.journal.read_bytes() == before


async def test_a_runner_s_descriptors_do_not_reach_a_step(state: StateDir) -> None:
    """Neither the lock nor the journal is inherited."""
    done = await execute(state, plan_of(script("look", "ls -l /proc/self/fd")))

    assert str(os.fspath(state.runs)) not in done.text("look")
