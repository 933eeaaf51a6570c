"""The JSON Schema that editors use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

from pipeline_files import ANALYZE
from tailrace.errors import InvalidInputError
from tailrace.pipeline.keys import TABLES
from tailrace.pipeline.loader import read_pipeline
from tailrace.pipeline.schema import pipeline_schema

SHIPPED = sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml"))


def complaints(text: str) -> list[str]:
    """Return what an editor would underline."""
    # Editors read YAML 1.2, where `on` and `no` are text.
    validator = Draft202012Validator(pipeline_schema())
    return [error.message for error in validator.iter_errors(yaml.load(text, _Yaml12))]


class _Yaml12(yaml.SafeLoader):
    """SafeLoader with the booleans of YAML 1.2."""


_Yaml12.yaml_implicit_resolvers = {
    first: [(tag, found) for tag, found in resolvers if not tag.endswith(":bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_BOOLEAN = re.compile("^(true|True|TRUE|false|False|FALSE)$")
_Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEAN, [*"tTfF"])


def loads(text: str) -> bool:
    """Tell whether the loader takes a file."""
    try:
        read_pipeline(text.encode(), name="build", display="build.yaml")
    except InvalidInputError:
        return False
    return True


def test_the_schema_is_one() -> None:
    """JSON Schema 2020-12, with a description on every key."""
    schema = pipeline_schema()
    Draft202012Validator.check_schema(schema)
    tables: list[dict[str, Any]] = [schema, schema["$defs"]["step"]]
    assert all(key["description"] for table in tables for key in table["properties"].values())


def test_the_example_of_the_contract_is_valid() -> None:
    """No editor underlines anything in it."""
    assert complaints(ANALYZE) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_pipeline_is_valid(path: Path) -> None:
    """The same for those that come with Tailrace."""
    assert complaints(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "env: {PYTHON: 3.10, ANSWER: no, EMPTY: }",
        "params: {n: {type: integer, default: 3, choices: [1, 3]}}",
        "x-anything: [1, {a: b}]",
        "on: {schedule: 0 4 * * *}",
        "on: {schedule: [{cron: '@daily', timezone: UTC}, '@hourly']}",
        "depths: {fast: , deep: {timeout: none}}",
    ],
)
def test_what_the_loader_takes_is_valid(text: str) -> None:
    """Numbers and booleans where text is expected, too."""
    assert complaints(f"{text}\nsteps: {{a: {{run: x}}}}\n") == []


@pytest.mark.parametrize(
    "step",
    [
        "{command: [a, 3, no], retry: 3, needs: b}",
        "{run: x, retry: {attempts: 2, delay: 0s}, sandbox: true}",
        "{run: x, matrix: {v: [3.10, a], w: 1}, artifacts: '*.log'}",
        "{clone: {url: x, history: 1}, artifacts: {paths: [a], primary: a}}",
        "{ask: {question: x}, limits: {memory: 2G, cpu: 0.5}, echo: false}",
    ],
)
def test_a_step_that_the_loader_takes_is_valid(step: str) -> None:
    """In each of its forms."""
    assert complaints(f"steps: {{a: {step}}}\n") == []


@pytest.mark.parametrize("key", [key for key in TABLES["pipeline"].keys if key != "steps"])
def test_loader_and_schema_agree_on_a_key_without_a_value(key: str) -> None:
    """It is an empty list or mapping, and nothing else."""
    text = f"{key}:\nsteps: {{a: {{run: x}}}}\n"
    assert loads(text) is (complaints(text) == [])


@pytest.mark.parametrize("key", TABLES["steps"].keys)
def test_loader_and_schema_agree_on_a_step_s_key_without_a_value(key: str) -> None:
    """The same, beside what the step does."""
    action = "" if key in ("run", "command", "clone", "ask") else "    run: x\n"
    text = f"steps:\n  a:\n{action}    {key}:\n"
    assert loads(text) is (complaints(text) == [])


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("timeout: 0s", False), ("timeout: 10s", True), ("timeout: none", True),
        ("timeout: 1.5s", False), ("grace: 0s", True), ("grace: none", False),
        ("retry: '3'", True), ("retry: 'x'", False), ("retry: 1.5", False), ("retry: {}", True),
        ("retry: {attempts: 2, exit_codes: []}", False), ("retry: {factor: '1.5'}", True),
        ("allow_failure: True", True), ("allow_failure: FALSE", True), ("allow_failure: 1", False),
        ("allow_failure: yes", True), ("allow_failure: 'No'", True), ("echo: maybe", False),
        ("sandbox: true", True), ("sandbox: True", True), ("sandbox: required", True),
        ("sandbox: yes", False), ("limits: {memory: 0M}", False), ("limits: {memory: 512m}", True),
        ("limits: {memory: 512}", False), ("limits: {cpu: '2'}", True), ("limits: {cpu: 0}", False),
        ("limits: {pids: 0}", False), ("label: ''", False), ("label: ' '", False),
        ("label: 3.10", True), ("when: ''", False), ("workdir: ''", False), ("env: {A: ''}", True),
        ("artifacts: []", True), ("artifacts: ''", False), ("artifacts: {primary: ''}", False),
        ("matrix: {}", True), ("matrix: {v: []}", False), ("matrix: {v: }", False),
        ("shell: []", False), ("secrets: []", True), ("needs: []", True), ("depth: []", True),
    ],
)  # fmt: skip
def test_loader_and_schema_agree_on_the_values_of_a_step(value: str, fine: bool) -> None:
    """Also on those that only look right."""
    text = f"steps: {{a: {{run: x, {value}}}}}\n"
    assert (loads(text), complaints(text) == []) == (fine, fine)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("steps:", False), ("steps: {}", False), ("steps: {a: }", False),
        ("steps: {a: {run: ''}}", False), ("steps: {a: {run: 3}}", True),
        ("steps: {a: {command: []}}", False), ("steps: {a: {command: [ls, '']}}", True),
        ("steps: {a: {clone: {url: ''}}}", False), ("steps: {a: {clone: {url: /x}}}", True),
        ("steps: {a: {ask: {question: ''}}}", False), ("steps: {a: {ask: {question: q}}}", True),
        ("{steps: {a: {run: x}}, on: {schedule: }}", True),
        ("{steps: {a: {run: x}}, on: {schedule: ''}}", False),
        ("{steps: {a: {run: x}}, parallel: '2'}", True),
        ("{steps: {a: {run: x}}, depths: {fast: , deep: {usd: '1.5'}}}", True),
    ],
)  # fmt: skip
def test_loader_and_schema_agree_on_whole_files(text: str, fine: bool) -> None:
    """Steps, actions and triggers."""
    assert (loads(text), complaints(text) == []) == (fine, fine)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "steps: []",
        "steps: {A: {run: x}}",
        "steps: {a: {}}",
        "steps: {a: {run: x, command: [y]}}",
        "steps: {a: {run: x, timeuot: 1m}}",
        "steps: {a: {run: x, timeout: 30}}",
        "steps: {a: {run: x, retry: 0}}",
        "steps: {a: {command: ls}}",
        "steps: {a: {run: x, secrets: token}}",
        "{steps: {a: {run: x}}, params: {n: {type: int}}}",
        "{steps: {a: {run: x}}, on: {webhook: {events: push}}}",
        "{steps: {a: {run: x}}, other: 1}",
    ],
)
def test_what_the_loader_refuses_is_underlined(text: str) -> None:
    """As far as a schema can tell."""
    assert complaints(text)
