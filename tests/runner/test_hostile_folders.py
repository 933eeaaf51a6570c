"""Steps that put links, circles and impossible names where their run works."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs import Execution, execute, plan_of, script
from tailrace.core.plan import CloneAction, StepPlan
from tailrace.rundir.layout import StateDir

LEAVE = 'echo x > "$TAILRACE_ARTIFACTS/kept"; '


def collected(done: Execution) -> list[str]:
    """Names of the run's artifacts."""
    return [str(item["name"]) for item in done.told("artifact")]


@pytest.mark.parametrize("leads_to", ["{outside}", "repo"])
async def test_nothing_is_collected_through_a_link_in_place_of_the_workdir(
    state: StateDir, tmp_path: Path, leads_to: str
) -> None:
    """Wherever it leads, in a circle too: a notice tells, and what the step gave is there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    link = leads_to.format(outside=outside)
    steps = (
        script("make", "mkdir repo"),
        script(
            "swap", LEAVE + f"cd ..; rm -rf repo; ln -s {link} repo", "make",
            workdir="repo", artifacts=("secret",),
        ),
        script("after", "echo ran", "swap"),
    )  # fmt: skip
    done = await execute(state, plan_of(*steps))

    assert done.finished("swap")["status"] == "success"
    assert collected(done) == ["kept"]
    texts = [item["text"] for item in done.told("notice", step="swap")]
    assert any("the working directory is not collected" in text for text in texts)
    assert done.text("after") == "ran\n"


async def test_a_workspace_that_became_a_link_is_neither_collected_nor_worked_in(
    state: StateDir, tmp_path: Path
) -> None:
    """Later steps are refused: nobody asked for their work to happen elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    swap = f'{LEAVE} cd /; rm -r "$TAILRACE_WORKSPACE"; ln -s {outside} "$TAILRACE_WORKSPACE"'
    steps = (
        script("swap", swap, artifacts=("secret",)),
        script("after", "touch made", "swap"),
        script("below", "touch made", "swap", workdir="."),
    )
    done = await execute(state, plan_of(*steps))

    assert collected(done) == ["kept"]
    texts = [item["text"] for item in done.told("notice", step="swap")]
    assert any("the workspace can't be read" in text for text in texts)
    for step in ("after", "below"):
        finished = done.finished(step)
        assert (finished["status"], finished["cause_code"]) == ("error", "requirement")
        assert "replaced the workspace by a link" in finished["cause"]
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.parametrize("path", ["loop", "loop/x", "x" * 300, "a\0b"], ids=len)
async def test_a_workdir_that_can_not_be_is_its_step_s_error_alone(
    state: StateDir, path: str
) -> None:
    """Links in a circle, a name too long or none: neither a crash nor a failing disk."""
    steps = (
        script("before", "ln -s loop loop"),
        script("lost", "pwd", "before", workdir=path, allow_failure=True),
        script("after", "echo ran", "lost"),
    )
    done = await execute(state, plan_of(*steps))

    finished = done.finished("lost")
    assert (finished["status"], finished["cause_code"]) == ("error", "requirement")
    assert finished["cause"].startswith("its workdir ")
    assert done.text("after") == "ran\n"
    assert done.told()[-1]["status"] == "success"


@pytest.mark.parametrize("path", ["loop/x", "x" * 300], ids=len)
async def test_a_place_for_a_clone_that_can_not_be_is_its_step_s_error_alone(
    state: StateDir, path: str
) -> None:
    """The steps that use the clone, too, are told."""
    clone = StepPlan(
        id="clone", base="clone", label="clone", needs=("before",), allow_failure=True,
        action=CloneAction(url=str(state.path), path=path),
    )  # fmt: skip
    after = script("after", "echo ran", "clone", when="always()", workdir_of="clone")
    done = await execute(state, plan_of(script("before", "ln -s loop loop"), clone, after))

    assert done.finished("clone")["status"] == "error"
    assert done.finished("clone")["cause_code"] in ("requirement", "exit")
    assert done.finished("after")["cause_code"] in (None, "requirement")
