"""The reference tables say what the code does, and links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from documents import PAGES, ROOT, anchors_of, blocks_of, links_of, rows_of
from tailrace import wire
from tailrace.core import events
from tailrace.core.events import AnyEvent
from tailrace.pipeline.keys import TABLES
from tailrace.settings import Settings

EVENTS = ROOT / "docs/reference/events.md"
NOT_YET = ROOT / "docs/explanation/not-yet.md"
GOLDEN = {
    json.loads(line)["event"]: line
    for line in (ROOT / "tests/golden/events.jsonl").read_text().splitlines()
}
KINDS: dict[str, Any] = {kind.__struct_config__.tag: kind for kind in get_args(AnyEvent)}
PARTS: dict[str, type[msgspec.Struct]] = {
    "Node": events.GraphNode,
    "Kill": events.Kill,
    "Survivor": events.Survivor,
    "Cost": events.Cost,
}
WORDS = {str: "text", int: "integer", float: "number", bool: "boolean", dict: "object"}
LINKS = {
    events.GraphNode: "[node](#node)",
    events.Kill: "[kill](#kill)",
    events.Survivor: "[survivor](#survivor)",
    events.Cost: "[cost](#cost-1)",
}


def words_for(hint: Any) -> str:
    """Return how the page writes a type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        said = [words_for(arg) for arg in args if arg not in (NoneType, msgspec.UnsetType)]
        text = " or ".join([*said, "null"] if NoneType in args else said)
        return f"{text}, may be absent" if msgspec.UnsetType in args else text
    if hint == events.CauseCode:
        return "[cause code](#cause-codes)"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is tuple:
        return f"list of {words_for(args[0])}"
    return WORDS.get(origin or hint) or LINKS[hint]


def fields_of(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """Return the keys of a type and how the page writes theirs."""
    hints = get_type_hints(kind)
    return [(f"`{name}`", words_for(hints[name])) for name in kind.__struct_fields__]


def test_every_event_has_its_section_in_the_order_of_the_code() -> None:
    """And no section is left of an event that has gone."""
    assert re.findall(r"^## `(\w+)`$", EVENTS.read_text(), re.MULTILINE) == list(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_the_table_of_an_event_has_its_keys_with_their_types(name: str) -> None:
    """Each one and no other; a log's as watchers get it."""
    expected = fields_of(KINDS[name])
    if name == "log":
        expected = [
            *(f for f in expected if f[0] not in ("`offset`", "`bytes`")),
            ("`text`", "text"),
        ]

    rows = rows_of(EVENTS, f"## `{name}`")

    assert [(row[0], row[1]) for row in rows] == expected
    assert all(row[2] for row in rows)


@pytest.mark.parametrize("title", PARTS)
def test_the_table_of_a_part_has_its_keys_with_their_types(title: str) -> None:
    """What events hold within."""
    assert [(row[0], row[1]) for row in rows_of(EVENTS, f"### {title}")] == fields_of(PARTS[title])


def test_the_examples_of_events_are_the_golden_ones() -> None:
    """The same bytes; a log's besides as watchers get it."""
    shown = [block.text.removesuffix("\n") for block in blocks_of(EVENTS)]
    for name, line in GOLDEN.items():
        assert line in shown, name
    (told,) = set(shown) - set(GOLDEN.values())
    record = wire.decode_record(GOLDEN["log"].encode())
    assert wire.log_data(record, json.loads(told)["text"].encode()).decode() == told
    assert len(shown) == len(GOLDEN) + 1


def test_cause_codes_and_statuses_are_complete() -> None:
    """In the order of the code."""
    codes = [row[0] for row in rows_of(EVENTS, "## Cause codes")]
    assert codes == [f"`{code}`" for code in get_args(events.CauseCode)]
    final = [row[0] for row in rows_of(EVENTS, "## States")]
    assert {text.strip("`") for text in final} == events.FINAL_STEP_STATUSES


def test_the_kinds_of_notices_are_complete() -> None:
    """Every kind that the source names stands in the table, and no other."""
    named = {"damaged"}  # made by the wire, without its type
    for path in (ROOT / "daemon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and "Notice" in ast.unparse(node.func):
                named |= {
                    str(keyword.value.value)
                    for keyword in node.keywords
                    if keyword.arg == "kind" and isinstance(keyword.value, ast.Constant)
                }
    assert [row[0] for row in rows_of(EVENTS, "## Notices")] == [f"`{k}`" for k in sorted(named)]


def test_what_is_said_to_have_no_effect_exists() -> None:
    """Keys and settings that the page lists are those that files may hold."""
    names = [name for row in rows_of(NOT_YET, "## Without effect") for name in row[:1]]
    keys = {key for table in TABLES.values() for key in table.keys}
    settings = set(Settings.__struct_fields__)
    for cell in names:
        for name in re.findall(r"`([\w.]+)(?:: \w+)?`", cell):
            first = name.partition(".")[0]
            assert first in (settings if cell.startswith("settings") else keys), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Files exist, and so do the headings that are named."""
    for target in links_of(page):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors_of(there), f"{page.name}: {target}"


def test_every_page_stands_in_the_index() -> None:
    """Once; decisions have an index of their own."""
    index = ROOT / "docs/README.md"
    listed = [(index.parent / target).resolve() for target in links_of(index)]
    pages = {page for page in PAGES[1:] if page.parent.name != "decisions"} - {index}
    pages.add(ROOT / "docs/decisions/README.md")
    assert sorted(set(listed) - {ROOT / "README.md"}) == sorted(pages)
