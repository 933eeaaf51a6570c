"""From a pipeline to the plan of one run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline_files import read
from tailrace.core.plan import AskAction, Budget, CloneAction, CommandAction, Plan, RunAction
from tailrace.errors import InvalidInputError
from tailrace.pipeline.params import check_params
from tailrace.pipeline.paths import blank_event
from tailrace.pipeline.planner import PlanDefaults, graph_of, make_plan

ONE = "steps: {a: {run: x}}"


def plan(text: str, *, params: dict[str, object] | None = None, **asked: Any) -> Plan:
    """Return the plan of a run of a pipeline with this text."""
    pipeline = read(text)
    return make_plan(pipeline, check_params(pipeline, params or {}, text=False), **asked)


def test_a_plan_holds_what_the_file_says_and_the_defaults_for_the_rest() -> None:
    """Nothing is left to look up."""
    defaults = PlanDefaults(timeout_ms=1_000, parallel=7)
    found = plan(ONE, defaults=defaults)
    assert (found.pipeline, found.depth, found.group, found.absent) == ("build", None, None, ())
    assert (found.timeout_ms, found.parallel) == (1_000, 7)
    step = found.step("a")
    assert (step.base, step.label, step.action) == ("a", "a", RunAction(script="x"))
    assert (step.workdir, step.workdir_of, step.shell, step.when) == (None, None, None, None)


def test_a_plan_survives_its_way_through_json() -> None:
    """It is stored in run.json."""
    found = plan("""
        steps:
          clone: {clone: {url: ./x}}
          lint: {command: [a, b], needs: clone, matrix: {v: [1, 2]}}
          ask: {ask: {question: Really?}}
        """)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Plan) == found


DEPTHS = """
    timeout: 30m
    secrets: [A]
    env: {X: pipeline, Y: pipeline}
    depths:
      fast: {timeout: 5m, usd: 1.5}
      deep: {timeout: none, tokens: 1000, env: {X: deep, Z: deep}, default: true}
      plain: {}
    steps:
      clone: {clone: {url: ./x}}
      scan: {run: scan, needs: clone, depth: deep, secrets: [B, A]}
      report: {run: report, needs: [scan], env: {Z: step}, secrets: C}
"""


def test_the_default_depth_is_the_one_marked_else_the_first() -> None:
    """Without depths there is none."""
    assert plan(DEPTHS).depth == "deep"
    assert plan("{depths: {b: , a: }, steps: {a: {run: x}}}").depth == "b"


def test_an_unknown_depth_is_refused_with_a_hint() -> None:
    """Also where the pipeline has none."""
    with pytest.raises(InvalidInputError) as refusal:
        plan(DEPTHS, depth="dep")
    assert str(refusal.value) == "depth: no depth is named 'dep'; did you mean 'deep'?"
    with pytest.raises(InvalidInputError) as refusal:
        plan(ONE, depth="deep")
    assert str(refusal.value).startswith("depth: no depth is named 'deep'; ")


def test_dependents_of_a_step_that_the_depth_leaves_out_inherit_its_needs() -> None:
    """The absent step is named, and its secrets aren't asked for."""
    found = plan(DEPTHS, depth="fast")
    assert found.absent == ("scan",)
    assert [step.id for step in found.steps] == ["clone", "report"]
    assert found.step("report").needs == ("clone",)
    assert found.step("report").workdir_of == "clone"
    assert found.secrets == ("A", "C")


def test_the_depth_overrides_timeout_environment_and_budget() -> None:
    """``none`` lifts the timeout; a depth without one keeps the pipeline's."""
    fast, deep, plain = (plan(DEPTHS, depth=name) for name in ("fast", "deep", "plain"))
    assert (fast.timeout_ms, deep.timeout_ms, plain.timeout_ms) == (300_000, None, 1_800_000)
    assert (fast.budget, deep.budget) == (Budget(usd=1.5), Budget(tokens=1_000))
    assert fast.step("report").env == {"X": "pipeline", "Y": "pipeline", "Z": "step"}
    assert deep.step("report").env == {"X": "deep", "Y": "pipeline", "Z": "step"}
    assert deep.step("scan").secrets == ("A", "B")
    assert deep.secrets == ("A", "B", "C")


def test_a_lifted_timeout_of_the_pipeline_is_no_default() -> None:
    """``timeout: none`` wins over the settings."""
    assert plan("timeout: none\n" + ONE).timeout_ms is None


MATRIX = """
    steps:
      clone: {clone: {url: ./x}}
      test:
        label: Testing
        needs: clone
        matrix: {python: [3.10, 3.11], os: [linux, mac]}
        command: [tox, "${{ matrix.python }}"]
      own: {label: "On ${{ matrix.os }}", matrix: {os: [linux]}, run: x}
      bare: {matrix: {os: [linux]}, run: x}
      report: {run: x, needs: [test, clone]}
      copies: {clone: {url: ./x}, matrix: {v: [1, 2.0]}}
"""


def test_a_matrix_makes_one_step_for_each_combination() -> None:
    """The first name varies slowest; ids hold the values in order."""
    found = plan(MATRIX)
    tests = [step for step in found.steps if step.base == "test"]
    assert [step.id for step in tests] == [
        "test[3.10,linux]", "test[3.10,mac]", "test[3.11,linux]", "test[3.11,mac]",
    ]  # fmt: skip
    assert tests[1].matrix == {"python": "3.10", "os": "mac"}
    assert tests[1].needs == ("clone",)
    assert tests[1].workdir_of == "clone"
    assert tests[1].action == CommandAction(argv=("tox", "${{ matrix.python }}"))


def test_needing_a_matrix_step_needs_all_its_combinations() -> None:
    """In their order, where the need stood."""
    assert plan(MATRIX).step("report").needs == (
        "test[3.10,linux]", "test[3.10,mac]", "test[3.11,linux]", "test[3.11,mac]", "clone",
    )  # fmt: skip


def test_labels_tell_combinations_apart() -> None:
    """Unless the file's label does so itself."""
    found = plan(MATRIX)
    assert found.step("test[3.10,linux]").label == "Testing (3.10, linux)"
    assert found.step("own[linux]").label == "On ${{ matrix.os }}"
    assert found.step("bare[linux]").label == "bare[linux]"


def test_each_combination_of_a_clone_has_a_folder_of_its_own() -> None:
    """Named after the step, without signs that mean something to a shell."""
    found = plan(MATRIX)
    paths = [step.action.path for step in found.steps if isinstance(step.action, CloneAction)]
    assert paths == ["clone", "copies@1", "copies@2.0"]


def test_the_concurrency_group_is_rendered() -> None:
    """It decides before any step runs."""
    text = """
        params: {repo: {}}
        depths: {fast: }
        concurrency:
          group: "${{ params.repo }} ${{ depth }} ${{ event.branch }}"
          on_conflict: skip
        steps: {a: {run: x}}
        """
    found = plan(text, params={"repo": "r"}, event={**blank_event("push"), "branch": "main"})
    assert (found.group, found.on_conflict) == ("r fast main", "skip")
    assert plan("concurrency: {on_conflict: queue}\n" + ONE).group == ""


def test_what_a_webhook_causes_is_sandboxed_unless_the_file_says_otherwise() -> None:
    """What a person or a schedule starts isn't, unless the file says so."""
    text = "steps: {a: {run: x}, b: {run: x, sandbox: false}, c: {run: x, sandbox: true}}"
    for kind in ("push", "tag", "pull_request", "release"):
        modes = [step.sandbox for step in plan(text, event=blank_event(kind)).steps]
        assert modes == ["required", "off", "on"]
    for event in (None, blank_event("manual"), blank_event("schedule"), blank_event("retry")):
        assert [step.sandbox for step in plan(text, event=event).steps] == ["off", "off", "on"]


def test_a_step_that_says_its_workdir_works_there() -> None:
    """The nearest clone counts only for those that don't."""
    found = plan("""
        steps:
          one: {clone: {url: ./x}}
          two: {clone: {url: ./y}, needs: one}
          near: {run: x, needs: two}
          said: {run: x, needs: two, workdir: one/src}
          free: {run: x}
          ask: {ask: {question: x, expires: 1m, choices: [a]}, needs: one}
        """)
    where = {step.id: (step.workdir, step.workdir_of) for step in found.steps}
    assert where == {
        "one": (None, None), "two": (None, None), "near": (None, "two"),
        "said": ("one/src", None), "free": (None, None), "ask": (None, None),
    }  # fmt: skip
    assert found.step("ask").action == AskAction(question="x", choices=("a",), expires_ms=60_000)


def test_all_commits_are_cloned_unless_history_bounds_them() -> None:
    """0 means the same as nothing."""
    for history, meant in (("", None), (", history: 0", None), (", history: 5", 5)):
        action = plan(f"steps: {{a: {{clone: {{url: ./x{history}}}}}}}").step("a").action
        assert isinstance(action, CloneAction)
        assert action.history == meant


def test_listings_show_the_graph_as_the_file_draws_it() -> None:
    """Before depth and matrix."""
    assert graph_of(read(DEPTHS)) == {"clone": (), "scan": ("clone",), "report": ("scan",)}
