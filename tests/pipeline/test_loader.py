"""Pipeline files: what they become, and every mistake in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_files import ANALYZE, mistake, mistakes, read
from tailrace.core.plan import Retry, StepLimits
from tailrace.errors import InvalidInputError
from tailrace.pipeline.keys import TABLES
from tailrace.pipeline.loader import load_pipeline, read_pipeline
from tailrace.pipeline.model import Clone, Param, Schedule


def test_the_example_of_the_contract_loads(tmp_path: Path) -> None:
    """Every value typed, every default in its place."""
    path = tmp_path / "analyze.yaml"
    path.write_text(ANALYZE)

    pipeline = load_pipeline(path)

    assert pipeline.name == "analyze"
    assert pipeline.params["ref"] == Param(type="git-ref", default="HEAD")
    assert pipeline.timeout_ms == 1_800_000
    assert pipeline.depths["fast"].default
    assert pipeline.on.webhook is not None
    assert pipeline.on.webhook.secret == ("HOOK_SECRET",)
    assert list(pipeline.steps) == ["clone", "lint", "deep-scan", "report"]
    assert pipeline.steps["clone"].clone == Clone(
        url="${{ params.repo }}", ref="${{ params.ref }}", history=1
    )
    assert pipeline.steps["lint"].needs == ("clone",)
    assert pipeline.steps["lint"].retry == Retry(attempts=3, delay_ms=2_000)
    assert pipeline.steps["deep-scan"].depth == ("deep",)
    assert pipeline.steps["report"].artifacts.primary == "report.html"


def test_mistakes_read_as_the_contract_shows(tmp_path: Path) -> None:
    """File, line, column, where, problem and hint, in the file's order."""
    lines = [""] * 24 + [
        "steps:",
        "  lint:",
        "    needs: [cloen]",
        "    run: x",
        "  clone: {run: x}",
        "  lint2:",
        "    timeuot: 1m",
        "    run: x",
        *[""] * 7,
        "  a: {run: x, needs: b}",
        "  b: {run: x, needs: a}",
    ]
    path = tmp_path / "analyze.yaml"
    path.write_text("\n".join(lines))

    with pytest.raises(InvalidInputError) as refusal:
        load_pipeline(path, display="pipelines/analyze.yaml")

    assert str(refusal.value).split("\n") == [
        "pipelines/analyze.yaml:27:13: steps.lint.needs: no step is named 'cloen'; did you mean 'clone'?",  # noqa: E501 - as the contract shows it
        "pipelines/analyze.yaml:31:5: steps.lint2.timeuot: unknown key; did you mean 'timeout'?",
        "pipelines/analyze.yaml:40:3: steps: cycle a -> b -> a; remove one of these needs",
    ]


def test_scalars_keep_their_spelling_where_text_is_expected() -> None:
    """And are numbers and booleans where those are."""
    pipeline = read("""
        params:
          version: {default: 3.10}
          count: {type: integer, default: "3"}
          half: {type: number, default: 0.5}
          fast: {type: boolean, default: yes}
          none: {default: null}
          text: {default: "null"}
        env: {PYTHON: 3.10, ANSWER: no, EMPTY: , NULL_: null}
        fail_fast: yes
        steps:
          test: {run: "true", matrix: {python: [3.10, 3.9], flag: on}, echo: no}
        """)
    defaults = {name: param.default for name, param in pipeline.params.items()}
    assert defaults == {
        "version": "3.10", "count": 3, "half": 0.5, "fast": True, "none": None, "text": "null",
    }  # fmt: skip
    assert pipeline.env == {"PYTHON": "3.10", "ANSWER": "no", "EMPTY": "", "NULL_": "null"}
    assert pipeline.steps["test"].matrix == {"python": ("3.10", "3.9"), "flag": ("on",)}
    assert pipeline.fail_fast
    assert not pipeline.steps["test"].echo


def test_every_key_of_a_step_is_read() -> None:
    """Those whose behaviour belongs elsewhere too."""
    step = read("""
        depths: {fast: , deep: }
        steps:
          all:
            command: [make, "V=${{ matrix.v }}", ""]
            label: Make
            depth: [fast, deep]
            matrix: {v: [1]}
            workdir: src/${{ matrix.v }}
            env: {A: "${{ depth }}"}
            secrets: TOKEN
            timeout: none
            silence: 5m
            grace: 0s
            retry: 3
            limits: {memory: 2G, cpu: 1.5, pids: 100, log: 1M, artifacts: 64K}
            sandbox: required
            network: false
            host: builder
            artifacts: ["*.log", "out/${{ matrix.v }}"]
            narration: claude
        """).steps["all"]
    assert step.command == ("make", "V=${{ matrix.v }}", "")
    assert step.retry == Retry(attempts=3)
    assert step.limits == StepLimits(
        memory=2 << 30, cpu=1.5, pids=100, log=1 << 20, artifacts=65_536
    )
    assert (step.timeout_ms, step.silence_ms, step.grace_ms) == (None, 300_000, 0)
    assert (step.sandbox, step.network, step.host) == ("required", False, "builder")
    assert step.artifacts.paths == ("*.log", "out/${{ matrix.v }}")
    assert step.secrets == ("TOKEN",)


def test_an_ask_a_shell_and_schedules_are_read() -> None:
    """A schedule is cron text or a list, its params typed by the pipeline's."""
    pipeline = read("""
        params: {n: {type: integer, required: true}}
        on:
          schedule:
            - {cron: "*/5 8-18 * jan-mar mon-fri", timezone: Europe/Berlin, params: {n: 3}}
            - {cron: "@daily", catch_up: once, params: {n: 4}}
        steps:
          go: {ask: {question: Deploy?, choices: [yes, no], default: no, expires: 1h, scope: admin}}
          sh: {run: print(1), shell: [python3, -c], needs: go}
        """)
    assert pipeline.on.schedule == (
        Schedule(cron="*/5 8-18 * jan-mar mon-fri", timezone="Europe/Berlin", params={"n": 3}),
        Schedule(cron="@daily", catch_up="once", params={"n": 4}),
    )
    ask = pipeline.steps["go"].ask
    assert ask is not None
    assert (ask.choices, ask.default, ask.expires_ms) == (("yes", "no"), "no", 3_600_000)
    assert read("{on: {schedule: 0 4 * * *}, steps: {a: {run: x}}}").on.schedule == (
        Schedule(cron="0 4 * * *"),
    )


def test_a_choice_may_be_spelled_as_null_is() -> None:
    """Text keeps its source spelling; only a default says with it that there is none."""
    params = read("""
        params:
          a: {type: enum, choices: [null, ~, b], default: b}
          b: {choices: [null, b], default: null}
        steps: {a: {run: x}}
        """).params
    assert (params["a"].choices, params["a"].default) == (("null", "~", "b"), "b")
    assert (params["b"].choices, params["b"].default) == (("null", "b"), None)


def test_anchors_and_free_keys_are_for_what_repeats() -> None:
    """``x-`` keys hold anything; merged keys count as the step's own."""
    pipeline = read("""
        x-common: &common
          timeout: 1m
          env: {A: 1}
        steps:
          a: {<<: *common, run: a}
          b: {<<: *common, run: b, timeout: 2m}
        """)
    assert [step.timeout_ms for step in pipeline.steps.values()] == [60_000, 120_000]


def test_a_mistake_in_an_anchor_is_told_for_each_place_that_uses_it() -> None:
    """At the anchor's own line."""
    assert mistakes("""\
        x-common: &common {timeuot: 1m}
        steps:
          a: {<<: *common, run: a}
          b: {<<: *common, run: b}
        """) == [
        "build.yaml:1:20: steps.a.timeuot: unknown key; did you mean 'timeout'?",
        "build.yaml:1:20: steps.b.timeuot: unknown key; did you mean 'timeout'?",
    ]


STEP = "steps:\n  a: {run: x}\n"
PARAMS = "params: {repo: {}, n: {type: integer}}\n"


def _written_mistakes() -> list[tuple[str, str]]:
    text = (Path(__file__).parent / "mistakes.txt").read_text()
    blocks = [block for block in text.split("\n\n") if not block.startswith("#")]
    return [
        (file + "\n", told) for file, _, told in (b.rstrip().rpartition("\n=> ") for b in blocks)
    ]


@pytest.mark.parametrize(("text", "told"), _written_mistakes())
def test_a_mistake_says_where_what_and_what_to_do(text: str, told: str) -> None:
    """One mistake, one line; those of a template stand at the template, not at its text."""
    assert mistake(text) == f"build.yaml:{told}"


def test_each_template_in_code_is_told_with_its_variable() -> None:
    """Also where another one takes no path, or has no end."""
    told = mistakes(
        f"{PARAMS}steps: {{a: {{run: 'x ${{{{ params.n }}}} ${{{{ 1 + 1 }}}} ${{{{ depth'}}}}"
    )
    assert [line.partition(": steps.a.run: ")[0] for line in told] == [
        "build.yaml:2:21", "build.yaml:2:37", "build.yaml:2:50",
    ]  # fmt: skip
    assert told[0].endswith("('params.n'); write \"$PARAM_N\"")
    assert told[1].endswith('; read "$PARAM_NAME" and its like')


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("params.rep == 'x'", "no param is named 'rep'; did you mean 'repo'?"),
        ("parms.repo == 'x'", "nothing is named 'parms'; did you mean 'params'?"),
        ("steps.deep-scan.status == 'x'", ("CEL reads 'steps.deep-scan' as a subtraction;"
         " write steps['deep-scan'].status")),
        ("steps['deep-scn'].status == ''", ("no step is named 'deep-scn';"
         " did you mean 'deep-scan'?")),
        ("steps['deep-scan'].stats == 'x'", "a step has no 'stats'; did you mean 'status'?"),
        ("steps.other.status == 'x'", ("'other' isn't among the steps that it needs;"
         " add other to its needs")),
        ("matrix.v == '1'", "no matrix value is named 'v'; declare it under 'matrix'"),
        ("event.brnch == 'x'", "an event has no 'brnch'; did you mean 'branch'?"),
        ("alwys()", "no function is named 'alwys'; did you mean 'always'?"),
        ("params.repo = 'x'", ("isn't CEL: token recognition error at: '= ' at character 13;"
         " compare with ==")),
        ("failure() and success()", ("isn't CEL: mismatched input 'and' at character 11;"
         " write && || and !")),
        ("'${{ params.repo }}' == 'x'", None),
    ],
)  # fmt: skip
def test_a_condition_that_can_not_work_is_a_mistake(when: str, expected: str | None) -> None:
    """Names are checked when the file is read, not when a run has reached the step."""
    text = f"""\
{PARAMS}steps:
  deep-scan: {{run: x}}
  other: {{run: x}}
  a:
    run: x
    needs: deep-scan
    when: >-
      {when}
"""
    if expected is None:
        found = mistake(text)
        assert found.startswith("build.yaml:9:8: steps.a.when: a condition is CEL and takes no")
    else:
        assert mistake(text) == f"build.yaml:8:11: steps.a.when: {expected}"


@pytest.mark.parametrize(
    "when",
    ["always()", "!failure()", "params.n > 3 && steps['deep-scan'].status == 'absent'",
     "[1, 2].exists(x, x == params.n)", "has(event.pr) && event.raw.any.thing == 1",
     "steps['deep-scan'].outputs.anything == '1'", "size(params) > 1", "type(params.n) == int",
     "'3' in steps['deep-scan'].outputs", "depth == null"],
)  # fmt: skip
def test_a_condition_that_can_work_is_none(when: str) -> None:
    """Macros, types and whole mappings too."""
    text = f"{PARAMS}steps:\n  deep-scan: {{run: x}}\n  a:\n    run: x\n    needs: deep-scan\n"
    assert read(f'{text}    when: "{when}"\n').steps["a"].when == when


def test_a_webhook_condition_that_names_more_than_the_event_is_a_mistake() -> None:
    """Params don't exist yet, nor does success()."""
    text = "on: {webhook: {secret: S, if: 'CONDITION'}}\nsteps: {a: {run: x}}"
    assert mistake(text.replace("CONDITION", "depth == null")) == (
        "build.yaml:1:31: on.webhook.if: 'depth' isn't known here; use event"
    )
    assert "no function is named 'always'" in mistake(text.replace("CONDITION", "always()"))
    webhook = read(text.replace("CONDITION", 'event.branch == "x"')).on.webhook
    assert webhook is not None
    assert webhook.condition == 'event.branch == "x"'


def test_an_unquoted_negation_is_told_to_be_a_tag() -> None:
    """YAML reads ``!failure()`` as one."""
    assert mistake("steps:\n  a:\n    run: x\n    when: !failure()\n").startswith(
        "build.yaml:4:11: steps.a.when: the tag '!failure()' means nothing here; quote text"
    )
    assert mistake("steps: {a: {run: x, when: !failure()}}").endswith(
        "; quote text that begins with '!'"
    )


def test_two_clones_equally_near_at_one_depth_are_a_mistake() -> None:
    """What a step inherits at a depth counts, and a step that says its workdir is fine."""
    text = """\
        depths: {{fast: , deep: }}
        steps:
          one: {{clone: {{url: ./x}}}}
          two: {{clone: {{url: ./y}}, needs: one}}
          mid: {{run: x, needs: one, depth: deep, workdir: one}}
          end: {{run: x, needs: [mid, two]{workdir}}}
        """
    assert read(text.format(workdir=", workdir: two")).steps["end"].workdir == "two"
    assert mistake(text.format(workdir="")).startswith(
        "build.yaml:6:3: steps.end.workdir: 'one' and 'two' are equally near"
    )


def test_clones_may_lie_apart_or_in_one_that_they_need() -> None:
    """By their order, by their matrix, or because a name only begins alike."""
    assert read("""
        steps:
          a: {clone: {url: /x}}
          ab: {clone: {url: /x}}
          in: {clone: {url: /y, path: a/vendor}, needs: mid}
          mid: {run: x, needs: a}
          m: {clone: {url: /z, path: "m/${{ matrix.v }}"}, matrix: {v: [1, 2]}}
        """).steps


def test_a_matrix_has_at_most_256_combinations() -> None:
    """More are refused before they are made."""
    values = ", ".join(str(n) for n in range(17))
    names = ", ".join(f"m{n}: [{values}]" for n in range(8))
    assert "makes 289 combinations" in mistake(
        f"steps: {{a: {{run: x, matrix: {{a: [{values}], b: [{values}]}}}}}}"
    )
    assert f"makes {17**8} combinations" in mistake(
        f"steps: {{a: {{run: x, matrix: {{{names}}}}}}}"
    )


def test_a_step_id_that_no_folder_can_have_is_a_mistake() -> None:
    """Folders end at 255 bytes."""
    assert "over 200 characters" in mistake(f"steps: {{{'a' * 201}: {{run: x}}}}")
    values = f"{{a: {'x' * 64}, b: {'x' * 64}, c: {'x' * 64}, d: {'x' * 64}}}"
    assert "over 200 characters" in mistake(f"steps: {{a: {{run: x, matrix: {values}}}}}")


def test_what_is_broken_elsewhere_hides_no_other_mistake() -> None:
    """A step that can't be read is still a step that others may need."""
    assert mistakes("""\
        params: {bad: 3}
        steps:
          one: 3
          two: {run: x, needs: one, when: params.bad == 1, tiemout: 3}
          three: {run: x, needs: twoo}
        """) == [
        "build.yaml:1:15: params.bad: expects a mapping (param), not '3'; write 'key: value'",
        "build.yaml:3:8: steps.one: expects a mapping (step), not '3'; write 'key: value'",
        "build.yaml:4:52: steps.two.tiemout: unknown key; did you mean 'timeout'?",
        "build.yaml:5:26: steps.three.needs: no step is named 'twoo'; did you mean 'two'?",
    ]


@pytest.mark.parametrize("name", ["Build", "a b", "-a", "a_b", "a.b", "ü", ""])
def test_a_file_name_that_is_no_pipeline_name_is_a_mistake(name: str) -> None:
    """It tells what to rename it to."""
    assert mistake(STEP, name=name).endswith(
        "can't be a pipeline's name; rename the file: a-z, 0-9 and '-', as in analyze.yaml"
    )


@pytest.mark.parametrize("kind", ["absent", "folder", "unreadable", "FIFO", "device"])
def test_a_file_that_can_not_be_read_is_a_mistake(tmp_path: Path, kind: str) -> None:
    """With the system's reason and the path as it was given."""
    path = tmp_path / "a.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "unreadable":
        path.symlink_to(path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(InvalidInputError) as refusal:
        load_pipeline(path)
    assert str(refusal.value).startswith(f"{path}: file: ")
    assert str(refusal.value).endswith("; name a YAML file")


def test_no_file_steers_the_terminal_that_shows_its_mistakes() -> None:
    """Escapes in keys and values come out as text, each mistake on one line."""
    text = 'steps: {"a\\e[2J\\n": {run: x, needs: "b\\e]0;x\\a", when: "\\e == 1", "k\\r": 1}}'
    found = mistakes(text)
    assert len(found) == 4
    assert all(line.isprintable() for line in found)
    assert found[0].startswith("build.yaml:1:9: steps.a\\x1b[2J\\n: isn't a step id")


def test_every_problem_has_a_place_and_a_hint() -> None:
    """So that each line reads FILE:LINE:COLUMN: WHERE: PROBLEM; HINT."""
    with pytest.raises(InvalidInputError) as refusal:
        read_pipeline(b"steps: {a: {x: 1, run: '${{', needs: b}}\nb: [", name="a", display="a.yaml")
    for problem in refusal.value.problems:
        assert problem.where
        assert problem.hint
        assert problem.position


def test_the_tables_of_keys_are_those_of_the_model() -> None:
    """Whatever a table reads has a field, and no field is out of reach."""
    for name, table in TABLES.items():
        if name in ("steps", "pipeline"):
            continue  # their builders rename; the example above reads them whole
        fields = {key: declared.field or key for key, declared in table.keys.items()}
        empty = read("{steps: {a: {run: x}}}")
        assert set(fields.values()) <= _fields_of(name, empty), name


def _fields_of(name: str, _: object) -> set[str]:
    from tailrace.core import plan
    from tailrace.pipeline import model

    structs: dict[str, type[msgspec.Struct]] = {
        "params": model.Param, "depths": model.Depth, "requires": plan.Requires,
        "concurrency": model.Concurrency, "on": model.Triggers, "on.webhook": model.Webhook,
        "on.schedule": model.Schedule, "clone": model.Clone, "ask": model.Ask,
        "retry": plan.Retry, "limits": plan.StepLimits, "artifacts": model.Artifacts,
    }  # fmt: skip
    return {field.name for field in msgspec.structs.fields(structs[name])}


KEYS = sorted({key for table in TABLES.values() for key in table.keys})
SCALARS = st.sampled_from(
    ["", "x", "3", "1m", "64K", "true", "none", "always()", "${{ params.x }}", "${{", "a-b", "-c",
     "params.x == 1", "steps.a.status", "bash", "../x", "/x", "*", "é", "\x00", "3.10", "[",
     "@daily"]
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), SCALARS), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6))
def test_any_tree_is_a_pipeline_or_mistakes(tree: dict[str, object]) -> None:
    """Wrong kinds of values anywhere end in problems, never in a traceback."""
    _load(msgspec.json.encode(tree))


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "a-b", "c_d"]),
        st.dictionaries(st.sampled_from(sorted(TABLES["steps"].keys)), TREES, max_size=5),
        max_size=4,
    )
)
def test_any_steps_are_a_pipeline_or_mistakes(steps: dict[str, object]) -> None:
    """The same deeper in the file."""
    _load(msgspec.json.encode({"steps": steps, "params": {"x": {}}}))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_pipeline_or_mistakes(data: bytes) -> None:
    """Behind a good beginning."""
    _load(b"steps:\n  a:\n    run: x\n" + data)


LAUGHS = b"x-a: &a [lol]\n" + b"".join(
    b"x-%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefghi"
)
YAML = st.sampled_from(
    [b"steps:\n  a:\n    run: x\n", b"steps:\n", b"  a:\n", b"    ", b"run: x\n", b"needs: ",
     b"- ", b"? ", b": ", b"&x ", b"*x", b"*x : 1\n", b"<<: *x\n", b"<<: [*x, *x]\n",
     b"!!binary ", b"!!set ", b"!!python/object:os.system ", b"!!int ", b"!t ",
     b"%TAG ! tag:x\n", b"%YAML 9.9\n", b"---\n", b"...\n", b"|\n", b">-\n", b"|9\n", b"'", b'"',
     b'"\\ud800"', b'"\\x00"', b'"\\U00110000"', b"\\", b"{", b"}", b"[", b"]", b",", b"#",
     b"\t", b"\r", b"\r\n", b"\n", b"\0", b"\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff\xfe",
     b"\xed\xa0\x80", b"9" * 5000, b"0x" + b"f" * 5000, b"1e999999", b".inf", b".nan", b"0o777",
     b"12:30:45", b"2024-13-45", b"~", b"=", b"\xc3\xa9", b"timeout: ", b"99999999999999999999d",
     b"params: {x: {type: integer, default: ", b"minimum: ", b"matrix: {a: [1, 2]}\n",
     b"on: {schedule: ", b"'61 * * * *'", b"when: ", b"a" * 300, b"((" * 200, b"[" * 2000,
     b"{a: " * 500, b"- " * 500, b"? " * 500, b"!" * 500, b"&" * 50, LAUGHS, b"*i\n"]
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(YAML | st.binary(max_size=4), max_size=14).map(b"".join))
def test_any_yaml_is_a_pipeline_or_mistakes(data: bytes) -> None:
    """Anchors, tags, bombs, depths, odd characters and numbers, and scraps of syntax."""
    _load(data)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=30_000, derandomize=False)
@given(st.lists(YAML | st.binary(max_size=4), max_size=14).map(b"".join))
def test_thirty_thousand_files_are_pipelines_or_mistakes(data: bytes) -> None:
    """The same, for longer."""
    _load(data)


def test_an_explosive_file_is_refused_soon() -> None:
    """A billion laughs, and nesting without end: mistakes with their places, in a moment."""
    begin = time.process_time()
    for data in (
        LAUGHS + b"steps: {a: {run: *i}}",
        b"steps: " + b"[" * 500_000,
        b"steps: " + b"{a: " * 200_000,
        b"steps: {a: {run: " + b"9" * 900_000 + b"}}",
        b"steps: {a: {run: x, timeout: " + b"9" * 900_000 + b"d}}",
        b"params: {x: {type: integer, default: " + b"9" * 900_000 + b"}}\nsteps: {a: {run: x}}",
        b"&a [*a, *a]",
        b"steps: &s\n  a: {run: x, env: *s}\n",
    ):
        _load(data)
    assert time.process_time() - begin < 10


def _load(data: bytes) -> None:
    try:
        read_pipeline(data, name="a", display="a.yaml")
    except InvalidInputError as refusal:
        lines = str(refusal).split("\n")
        if not all(re.match(r"a\.yaml:[1-9][0-9]*:[1-9][0-9]*: \S", line) for line in lines):
            raise AssertionError(lines) from refusal


def test_a_thousand_mistakes_are_all_told_and_soon() -> None:
    """The search for near misses doesn't grow with them."""
    text = "steps:\n" + "".join(f"  s{n}: {{run: x, needs: [nope{n}]}}\n" for n in range(1_000))
    begin = time.monotonic()
    assert len(mistakes(text)) == 1_000
    assert time.monotonic() - begin < 5


def test_reading_loads_neither_http_nor_the_terminal() -> None:
    """Starting costs: what a command line pays before it can do anything."""
    program = (
        "import sys\nfrom tailrace.pipeline.loader import load_pipeline\n"
        "print([m for m in ('aiohttp', 'asyncio', 'rich', 'git', 'cel', 'hyperscan', 'difflib',"
        " 're2', 'zoneinfo') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
