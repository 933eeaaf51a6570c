"""Questions to the people watching: of `ask` steps, and of steps that run."""

from __future__ import annotations

from msgspec.structs import replace

from runs import accept, executing, plan_of, script
from tailrace.core.plan import AskAction, StepPlan
from tailrace.rundir.layout import StateDir

ASKS = """
echo '{"event":"prompt","id":"p1","question":"Go on?","choices":["yes","no"]}' >> "$TAILRACE_EVENTS"
echo asked
while ! [ -e "$TAILRACE_ANSWERS/p1" ]; do sleep 0.02; done
echo "said $(cat "$TAILRACE_ANSWERS/p1")"
"""


def ask(name: str, *needs: str, **more: object) -> StepPlan:
    """A step that asks."""
    fields = {key: more.pop(key) for key in tuple(more) if key in ("timeout_ms", "when")}
    action = AskAction(question="Deploy?", **more)  # type: ignore[arg-type] # what a test gives
    return StepPlan(id=name, base=name, label=name, needs=needs, action=action, **fields)  # type: ignore[arg-type] # the same


async def test_an_answer_lets_an_ask_step_succeed_and_is_its_output(state: StateDir) -> None:
    """While it is open the step waits, and so does a run in which nothing else runs."""
    run = accept(
        state,
        plan_of(
            ask("ok", choices=("yes", "no")),
            script("go", 'echo "$OUTPUT_OK_ANSWER"', "ok", when='steps.ok.outputs.answer == "yes"'),
        ),
    )
    async with executing(run) as execution:
        prompt = await execution.until("prompt")
        snapshot = execution.snapshot()
        assert (snapshot.status, snapshot.steps["ok"].status) == ("waiting", "waiting")
        wrong = await execution.send("answer", prompt="ok", answer="maybe")
        nobody = await execution.send("answer", prompt="other", answer="yes")
        good = await execution.send("answer", prompt="ok", answer="yes")
        again = await execution.send("answer", prompt="ok", answer="no")
        await execution.wait()

    assert (prompt["id"], prompt["step"], prompt["question"]) == ("ok", "ok", "Deploy?")
    assert (prompt["choices"], prompt["default"], prompt["expires_at"]) == (
        ["yes", "no"],
        None,
        None,
    )
    assert (wrong.status, nobody.status, good.status) == ("invalid", "unknown", "done")
    assert (again.status, again.state) == ("conflict", "answered")
    (answered,) = execution.told("answered")
    assert (answered["answer"], answered["by"], answered["via"]) == ("yes", "ann", "cli")
    assert answered["seq"] == good.seq
    assert execution.text("go") == "yes\n"
    assert execution.told()[-1]["status"] == "success"


async def test_at_expiry_the_default_is_the_answer(state: StateDir) -> None:
    """Told as an answer that nobody gave."""
    run = accept(state, plan_of(ask("ok", default="no", expires_ms=50)))
    async with executing(run) as execution:
        await execution.wait()

    (answered,) = execution.told("answered")
    assert (answered["answer"], answered["by"], answered["via"]) == ("no", None, "expiry")
    assert execution.finished("ok")["status"] == "success"


async def test_a_question_that_expires_without_a_default_ends_its_step(state: StateDir) -> None:
    """As an error that says so."""
    run = accept(state, plan_of(ask("ok", expires_ms=50)))
    async with executing(run) as execution:
        await execution.wait()

    finished = execution.finished("ok")
    assert (finished["status"], finished["cause_code"]) == ("error", "expired")
    assert finished["cause"] == "nobody answered in 50ms"
    (answered,) = execution.told("answered")
    assert answered["answer"] is None


async def test_an_ask_step_can_time_out_be_skipped_and_be_cancelled(state: StateDir) -> None:
    """As any other step; a late answer is refused."""
    run = accept(
        state,
        plan_of(
            ask("slow", timeout_ms=50), ask("skipped"), ask("stopped"), script("a", "sleep 600")
        ),
    )
    async with executing(run) as execution:
        await execution.until("step_finished", step="slow")
        late = await execution.send("answer", prompt="slow", answer="x")
        await execution.until("prompt", step="skipped")
        await execution.send("skip", step="skipped")
        await execution.until("step_finished", step="skipped")
        await execution.send("cancel")
        await execution.wait()

    assert (late.status, late.state) == ("conflict", "closed")
    assert execution.finished("slow")["cause_code"] == "timeout"
    assert execution.finished("skipped")["status"] == "skipped"
    assert execution.finished("stopped")["status"] == "aborted"
    assert execution.snapshot().prompts == {}


async def test_a_running_step_asks_and_finds_the_answer_as_a_file(state: StateDir) -> None:
    """Known outside as STEP.p1; the run isn't waiting while another step runs."""
    run = accept(state, plan_of(script("work", ASKS), script("other", "sleep 600")))
    async with executing(run) as execution:
        prompt = await execution.until("prompt")
        await execution.until("step_started", step="other")
        snapshot = execution.snapshot()
        assert (snapshot.status, snapshot.steps["work"].status) == ("running", "waiting")
        await execution.send("answer", prompt="work.p1", answer="yes")
        await execution.until("step_finished", step="work")
        await execution.send("cancel")
        await execution.wait()

    assert prompt["id"] == "work.p1"
    assert execution.text("work") == "asked\nsaid yes\n"


async def test_a_step_is_told_that_nobody_answered(state: StateDir) -> None:
    """By the file p1.expired; with a default by that."""
    text = """
    ask() { echo "{\\"event\\":\\"prompt\\",\\"question\\":\\"?\\",\\"expires\\":\\"50ms\\",$1}"; }
    ask '"id":"a"' >> "$TAILRACE_EVENTS"
    ask '"id":"b","default":"x"' >> "$TAILRACE_EVENTS"
    cd "$TAILRACE_ANSWERS"
    while ! [ -e a.expired ] || ! [ -e b ]; do sleep 0.02; done
    ls; cat b; echo
    """
    run = accept(state, plan_of(script("work", text)))
    async with executing(run) as execution:
        await execution.wait()

    assert execution.text("work") == "a.expired\nb\nx\n"


async def test_waiting_for_an_answer_is_no_silence(state: StateDir) -> None:
    """People may take longer than programs."""
    run = accept(state, plan_of(script("work", ASKS, silence_ms=400)))
    async with executing(run) as execution:
        await execution.until("prompt")
        started = execution.told("step_started")[0]
        late = await execution.send("answer", prompt="work.nope", answer="yes")
        assert late.status == "unknown"
        other = accept(state, plan_of(script("clock", "sleep 1")))
        async with executing(other) as clock:  # more than the silence that is allowed
            await clock.wait()
        await execution.send("answer", prompt="work.p1", answer="no")
        await execution.wait()

    assert started["step"] == "work"
    assert execution.finished("work")["status"] == "success"


async def test_an_answer_goes_nowhere_but_into_the_steps_folder(state: StateDir) -> None:
    """A step that puts a link there gets a notice, and no file is written elsewhere."""
    text = """
    mkdir "$TAILRACE_WORKSPACE/else"
    rmdir "$TAILRACE_ANSWERS"; ln -s "$TAILRACE_WORKSPACE/else" "$TAILRACE_ANSWERS"
    echo '{"event":"prompt","id":"p1","question":"Go on?"}' >> "$TAILRACE_EVENTS"
    read -r line < "$TAILRACE_WORKSPACE/go" || true
    ls "$TAILRACE_WORKSPACE/else" | wc -l
    """
    run = accept(state, plan_of(script("work", "mkfifo $TAILRACE_WORKSPACE/go;" + text)))
    async with executing(run) as execution:
        await execution.until("prompt")
        await execution.send("answer", prompt="work.p1", answer="yes")
        notice = await execution.until("notice", text="can't be handed over")
        (state.workspace(run.id) / "go").write_text("on\n")
        await execution.wait()

    assert notice["kind"] == "answer"
    assert execution.text("work").strip() == "0"


async def test_a_choice_that_holds_a_secret_is_never_told_and_can_be_chosen(
    state: StateDir,
) -> None:
    """A wrong answer's reason is masked as the prompt is; what is shown of it is an answer."""
    choices = ("hunter2-but-longer", "no", "a hunter2-but-longer")
    run = accept(state, plan_of(replace(ask("ok", choices=choices), secrets=("PASSWORD",))))
    async with executing(run, secrets={"PASSWORD": "hunter2-but-longer"}) as execution:
        prompt = await execution.until("prompt")
        wrong = await execution.send("answer", prompt="ok", answer="zz")
        shown = await execution.send("answer", prompt="ok", answer="***")
        await execution.wait()

    assert prompt["choices"] == ["***", "no", "a ***"]
    assert wrong.reason == "the answer must be one of: ***, no, a ***"
    assert shown.status == "done"
    assert execution.told("answered")[0]["answer"] == "***"
    assert execution.finished("ok")["status"] == "success"


async def test_a_prompt_whose_id_is_masked_is_not_asked(state: StateDir) -> None:
    """It would be shown by a name that no answer can give; a notice says so."""
    text = """
    echo '{"event":"prompt","id":"hunter2-id","question":"Go on?"}' >> "$TAILRACE_EVENTS"
    echo '{"event":"prompt","id":"p2","question":"Go on?"}' >> "$TAILRACE_EVENTS"
    while ! [ -e "$TAILRACE_ANSWERS/p2" ]; do sleep 0.02; done
    """
    run = accept(state, plan_of(replace(script("work", text), secrets=("PASSWORD",))))
    async with executing(run, secrets={"PASSWORD": "hunter2-id"}) as execution:
        prompt = await execution.until("prompt")
        await execution.send("answer", prompt="work.p2", answer="yes")
        await execution.wait()

    assert prompt["id"] == "work.p2"
    (notice,) = execution.told("notice")
    assert notice["kind"] == "event"
    assert "whose id is masked" in notice["text"]


async def test_choices_that_look_the_same_are_answered_in_full(state: StateDir) -> None:
    """Nobody can tell which of them was meant by ``***``."""
    secrets = {"ONE": "hunter2-one", "TWO": "hunter2-two"}
    asks = ask("ok", choices=tuple(secrets.values()))
    run = accept(state, plan_of(replace(asks, secrets=tuple(secrets))))
    async with executing(run, secrets=secrets) as execution:
        await execution.until("prompt")
        unclear = await execution.send("answer", prompt="ok", answer="***")
        await execution.send("answer", prompt="ok", answer="hunter2-two")
        await execution.wait()

    assert unclear.status == "invalid"
    assert unclear.reason == "several choices look like '***'; give one in full"
    assert execution.finished("ok")["status"] == "success"
