"""Templates and conditions, as a step meets them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.pipeline.cel import CEL_FUNCTIONS, CEL_TYPES, compile_condition
from tailrace.pipeline.expressions import (
    ConditionError,
    Scope,
    TemplateError,
    evaluate,
    matrix_facts,
    references,
    render,
    render_argv,
)
from tailrace.pipeline.paths import blank_event, parse_path

SCOPE = Scope(
    params={"repo": "https://x/y", "n": 3, "half": 0.5, "tiny": 1e-9, "big": 1e22, "yes": True,
            "no": False, "none": None, "dash": "-rf", "empty": "", "one": 1.0},
    depth="deep",
    matrix={"python": "3.10"},
    event={**blank_event("push"), "branch": "main", "raw": {"a": {"b": 1}}},
    run_id="01j",
    run_ref="build/7",
    steps={"clone": {"status": "success", "outputs": {"sha": "3f2a"}},
           "deep-scan": {"status": "absent", "outputs": {}},
           "test[3.10]": {"status": "error", "outputs": {"n": "1"}}},
)  # fmt: skip


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("${{ params.repo }}", "https://x/y"),
        ("${{params.n}}|${{ params.half }}|${{ params.one }}", "3|0.5|1"),
        ("${{ params.tiny }} ${{ params.big }}", "0.000000001 10000000000000000000000"),
        ("${{ params.yes }} ${{ params.no }}", "true false"),
        ("[${{ params.none }}]", "[]"),
        ("${{ depth }}-${{ matrix.python }}", "deep-3.10"),
        ("${{ run.id }} ${{ run.ref }}", "01j build/7"),
        ("${{ steps.clone.outputs.sha }}", "3f2a"),
        ("${{ steps.deep-scan.outputs.sha }}", ""),
        ("${{ steps['test[3.10]'].outputs.n }}", "1"),
        ('${{ steps["clone"].outputs.sha }}', "3f2a"),
        ("${{ event.branch }} ${{ event.pr.number }} ${{ event.raw.a.b }}", "main  1"),
        ("$ { {", "$ { {"),
        ("$PARAM ${X} {{ y }}", "$PARAM ${X} {{ y }}"),
    ],
)
def test_a_template_becomes_text(template: str, text: str) -> None:
    """Null and what isn't there is empty, booleans are words, numbers decimal."""
    assert render(template, SCOPE) == text


@pytest.mark.parametrize(
    "template",
    ["${{", "${{ params.x", "${{ }}", "${{ params.x + 1 }}", "${{ always() }}", "${{ 'x' }}",
     "${{ params. }}", "${{ ${{ params.x }} }}", "${{ params.x }} ${{", "${{ params['x }}"],
)  # fmt: skip
def test_what_is_no_path_is_refused(template: str) -> None:
    """A template never evaluates anything."""
    with pytest.raises(TemplateError):
        references(template)


def test_a_mapping_is_no_text() -> None:
    """It says which path, and what to do."""
    with pytest.raises(TemplateError, match=r"event\.raw is no text; name one of its keys"):
        render("${{ event.raw }}", SCOPE)


def test_without_an_event_templates_see_that_a_person_started_the_run() -> None:
    """``event.kind`` is manual, everything else null."""
    assert render("${{ event.kind }}:${{ event.branch }}", Scope()) == "manual:"


def test_a_value_stays_in_its_item_of_the_command() -> None:
    """Spaces, quotes and line breaks split nothing."""
    scope = Scope(params={"x": "a b; $(c) 'd'\n--e"})
    assert render_argv(["tool", "--name=${{ params.x }}", "${{ params.x }}"], scope) == [
        "tool",
        "--name=a b; $(c) 'd'\n--e",
        "a b; $(c) 'd'\n--e",
    ]


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ("${{ params.dash }}", "the value of params.dash"),
        ("${{ params.dash }}x", "the value of params.dash"),
        ("${{ params.empty }}${{ params.dash }}", "the value of params.dash"),
        ("${{ params.empty }}-x", "what follows params.empty, which is empty,"),
    ],
)
def test_a_value_can_not_turn_its_item_into_an_option(item: str, what: str) -> None:
    """The refusal names the value and the way out."""
    with pytest.raises(TemplateError) as refusal:
        render_argv(["tool", item], SCOPE)
    assert str(refusal.value).startswith(f"command item 2: {what} begins with '-' and would")
    assert "put '--' before it" in str(refusal.value)


def test_after_two_dashes_a_value_may_begin_with_one() -> None:
    """``--`` ends the options, if the file itself wrote it."""
    assert render_argv(["rm", "--", "${{ params.dash }}"], SCOPE) == ["rm", "--", "-rf"]
    with pytest.raises(TemplateError, match="begins with '-'"):
        render_argv(["rm", "${{ params.x }}", "${{ params.x }}"], Scope(params={"x": "--"}))


def test_a_value_may_stand_behind_an_option_of_the_file() -> None:
    """``--ref=-rf`` is one item that the file began."""
    assert render_argv(["t", "--ref=${{ params.dash }}"], SCOPE) == ["t", "--ref=-rf"]


def test_a_nul_in_a_command_is_refused() -> None:
    """execve(2) would end the argument there."""
    with pytest.raises(TemplateError, match="NUL"):
        render_argv(["t", "${{ params.x }}"], Scope(params={"x": "a\0b"}))


@given(st.text(alphabet="${}ab.['\"] \n", max_size=40))
def test_any_text_is_a_template_or_a_clear_refusal(text: str) -> None:
    """Nothing but TemplateError."""
    try:
        paths = references(text)
    except TemplateError:
        return
    assert all(parse_path(str(path)) == path for path in paths)


@pytest.mark.parametrize(
    ("when", "success", "failure", "cancelled", "starts"),
    [
        (None, True, False, False, True),
        (None, False, True, False, False),
        ("always()", False, True, True, True),
        ("success()", True, False, False, True),
        ("success()", False, False, False, False),
        ("failure()", False, True, False, True),
        (" ! failure( ) ", False, True, False, False),
        ("!failure()", False, False, True, True),
        ("cancelled()", False, False, True, True),
        ("params.n == 3", True, False, False, True),
        ("params.n == 3", False, True, False, False),
        ("params.n == 3 && failure()", False, True, False, True),
        ("params.yes", True, False, False, True),
        ("always() && params.n == 4", True, False, False, False),
        ("params.repo == 'always()'", False, False, False, False),
        ("[1, 2].exists(x, failure())", False, True, False, True),
        ("steps.clone.status == 'success'", True, False, False, True),
        ("steps['deep-scan'].status == 'absent'", True, False, False, True),
        ("has(steps.clone.outputs.nope)", True, False, False, False),
        ("'sha' in steps.clone.outputs", True, False, False, True),
        ("depth == 'deep' && matrix.python == '3.10'", True, False, False, True),
        ("event.kind == 'push' && event.branch.startsWith('ma')", True, False, False, True),
        ("params.none == null", True, False, False, True),
        ("params.half < 1", True, False, False, True),
    ],
)
def test_a_condition_decides_whether_a_step_starts(
    when: str | None, success: bool, failure: bool, cancelled: bool, starts: bool
) -> None:
    """Without a status function success() is required too."""
    facts: dict[str, Any] = {name: getattr(SCOPE, name) for name in Scope.__struct_fields__}
    facts |= {"success": success, "failure": failure, "cancelled": cancelled}
    assert evaluate(when, Scope(**facts)) is starts


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("params.zz == 1", "'params.zz == 1': nothing is named 'zz'"),
        ("params.n", "'params.n' is neither true nor false"),
        ("params.n +", "isn't CEL: mismatched input end at character 11"),
        ("nope()", "'nope()': Undefined variable or function: 'nope'"),
        ("params.n / 0 == 1", "'params.n / 0 == 1': division by zero in CEL expression"),
        ("[1, 2][5] == 1", "'[1, 2][5] == 1': index out of bounds: 5"),
        ("'a'.matches('(')", "'(' not a valid regex: regex parse error: ("),
        ("(" * 200 + "true" + ")" * 200, "isn't CEL: nested too deeply"),
        ("true" + " " * 5_000, "is over 4096 characters long"),
    ],
)
def test_a_condition_that_can_not_be_evaluated_says_why(when: str, message: str) -> None:
    """In one sentence."""
    with pytest.raises(ConditionError) as error:
        evaluate(when, SCOPE)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_loop_variables_are_no_names_of_a_condition() -> None:
    """What a macro binds needs no declaration; what it reads does."""
    condition = compile_condition("params.list.exists(p, p == foo) && steps['a-b'].status == ''")
    assert condition.names == {"params", "steps", "foo"}
    assert [str(path) for path in condition.paths] == ["params.list", "steps.a-b.status"]


CALLS = (
    "size('a') == 1", "'ab'.contains('a')", "'ab'.startsWith('a')", "'ab'.endsWith('b')",
    "'ab'.matches('a.')", "int('1') == 1", "uint(1) == 1u", "double('1') == 1.0",
    "string(1) == '1'", "bytes('a') == b'a'", "type(1) == int", "dyn(1) == 1",
    "duration('1s') < duration('2s')",
    "timestamp('2024-01-02T03:04:05Z') < timestamp('2025-01-01T00:00:00Z')", "has(params.n)",
    "[1].all(x, x == 1)", "[1].exists(x, x == 1)", "[1].exists_one(x, x == 1)",
    "[1].existsOne(x, x == 1)", "[1].map(x, x + 1) == [2]", "[1].filter(x, x > 1) == []",
    *(
        f"timestamp('2024-01-02T03:04:05Z').{name}() >= 0"
        for name in ("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear",
                     "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds")
    ),
)  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_the_functions_that_the_loader_lets_pass_work(call: str) -> None:
    """One call of each is true."""
    assert evaluate(call, SCOPE)


def test_there_is_a_call_of_each_function_that_the_loader_lets_pass() -> None:
    """So that none is listed that the evaluator hasn't."""
    called = {name for name in CEL_FUNCTIONS for call in CALLS if f"{name}(" in call}
    assert called == CEL_FUNCTIONS


def test_the_type_names_that_the_loader_knows_are_those_that_cel_has() -> None:
    """``type(x) == int`` names no variable of ours."""
    for name in CEL_TYPES:
        assert evaluate(f"type({name}) == type", SCOPE) in (True, False)


def test_of_a_matrix_step_the_worst_status_and_the_last_output_count() -> None:
    """Combinations come in the file's order."""
    facts = [
        {"status": "success", "outputs": {"a": "1", "b": "1"}},
        {"status": "error", "outputs": {}},
        {"status": "success", "outputs": {"a": "2"}},
    ]
    assert matrix_facts(facts) == {"status": "error", "outputs": {"a": "2", "b": "1"}}


def test_a_bare_status_function_loads_no_cel() -> None:
    """Nor YAML: a runner pays for what its pipeline uses."""
    program = (
        "import sys\n"
        "from tailrace.pipeline.expressions import Scope, evaluate, render\n"
        "assert evaluate('!failure()', Scope()) and render('${{ depth }}', Scope()) == ''\n"
        "print([m for m in ('cel', 'cel.cel', 'yaml', 're2', 'asyncio') if m in sys.modules])\n"
        "assert evaluate('1 == 1', Scope())\n"
        "print([m for m in ('cel', 'typer', 'rich') if m in sys.modules])\n"
        "import cel\n"
        "print(cel.evaluate('1 + 1'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[]", "2"], done.stderr
