"""The reference page says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline_files import read
from tailrace.pipeline.checks import RUNNER_VARIABLES
from tailrace.pipeline.expressions import STATUS_FUNCTIONS
from tailrace.pipeline.keys import TABLES
from tailrace.pipeline.paths import EVENT_KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "pipelines.md").read_text()


def rows(heading: str) -> list[str]:
    """Return the first cells of the first table below a heading."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


@pytest.mark.parametrize("table", TABLES)
def test_every_key_stands_in_its_table_and_nothing_else_does(table: str) -> None:
    """In the order in which the code has them."""
    keys = [key for key in rows(f"### `{table}`") if key != "x-…"]
    assert keys == [*TABLES[table].keys]


def test_every_table_of_keys_is_one_of_the_code() -> None:
    """No heading is left of a table that has gone."""
    assert re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE) == [
        name for name in TABLES if f"### `{name}`" in PAGE
    ]


def test_the_variables_of_a_step_are_those_that_a_file_may_not_set() -> None:
    """Those with a name of their own."""
    variables = {name for name in rows("## What a step's process gets") if "TAILRACE_" in name}
    assert variables == RUNNER_VARIABLES


def test_functions_and_event_keys_are_complete() -> None:
    """As the expressions know them."""
    assert {name.removesuffix("()") for name in rows("## Conditions")} == {*STATUS_FUNCTIONS}
    assert f"`{' '.join(EVENT_KEYS)}`" in PAGE


def test_the_example_loads() -> None:
    """It can be copied."""
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(read(example).steps) == 4
