"""The JSON Schema that editors use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

from pipeline_files import ANALYZE
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
for _word in ("true", "false"):
    _Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(f"^{_word}$"), [_word[0]])


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
