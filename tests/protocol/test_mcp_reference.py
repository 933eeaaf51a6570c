"""The reference page of the Model Context Protocol says what the code does."""

from __future__ import annotations

from documents import ROOT, rows_of
from tailrace.mcp.resources import TEMPLATES
from tailrace.mcp.tools import TOOLS, schema_of

PAGE = ROOT / "docs/reference/mcp.md"


def test_the_table_of_tools_is_that_of_the_code() -> None:
    """Names, scopes, arguments (``?``: may be left out) and what they do."""
    expected = []
    for tool in TOOLS:
        schema = schema_of(tool.arguments)
        takes = [
            f"`{name}`" if name in schema["required"] else f"`{name}?`"
            for name in schema["properties"]
        ]
        scope = "read" if tool.read_only else "run"
        expected.append([f"`{tool.name}`", scope, ", ".join(takes), tool.description])
    assert [list(row) for row in rows_of(PAGE, "## Tools")] == expected


def test_the_table_of_resources_is_that_of_the_code() -> None:
    """Addresses and what is there."""
    expected = [[f"`{template.uri}`", template.description] for template in TEMPLATES]
    assert [list(row) for row in rows_of(PAGE, "## Resources")] == expected
