"""The events on the wire: a golden example of each, which the documentation shows too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from tailrace import wire
from tailrace.core import events
from tailrace.core.events import AnyEvent, LogRecord, masked_fields

GOLDEN = Path(__file__).parent.parent / "golden" / "events.jsonl"
EXAMPLES: dict[str, dict[str, Any]] = {
    record["event"]: record for record in map(json.loads, GOLDEN.read_text().splitlines())
}
NAMES = [kind.__struct_config__.tag for kind in get_args(AnyEvent)]


@pytest.mark.parametrize("name", NAMES)
def test_an_event_reads_and_writes_as_its_golden_example(name: str) -> None:
    """Renaming a field, or leaving one out, changes what users rely on."""
    example = EXAMPLES[name]
    line = json.dumps(example).encode()

    event = wire.decode_event(line)
    again = wire.encode_record(example["seq"], example["t"], masked_fields(event, lambda x: x))

    assert json.loads(again) == example


def test_every_golden_example_is_of_an_event_that_exists() -> None:
    """And each event has one."""
    assert sorted(EXAMPLES) == sorted(NAMES)


def test_a_record_begins_with_its_number() -> None:
    """Readers find and count records by that."""
    line = wire.encode_record(7, "t", {"event": "status", "step": "a", "text": "b"})

    assert line == b'{"seq":7,"event":"status","t":"t","step":"a","text":"b"}\n'


def test_masking_reaches_every_text_but_names() -> None:
    """A secret that is also a step's id doesn't break references to the step."""
    event = events.PlanEvent(
        run="r", ref="lint/1", pipeline="lint", depth=None, params={"a": ["lint", {"b": "lint"}]},
        by="lint", via="cli", retry_of=None, steps=("run lint",),
        graph=(events.GraphNode(id="lint", label="run lint", needs=("lint",)),),
    )  # fmt: skip

    fields = masked_fields(event, lambda text: text.replace("lint", "***"))

    assert fields["params"] == {"a": ["***", {"b": "***"}]}
    assert fields["steps"] == ["run ***"]
    assert fields["by"] == "***"
    assert fields["graph"] == [{"id": "lint", "label": "run ***", "needs": ("lint",)}]
    assert (fields["pipeline"], fields["ref"]) == ("lint", "lint/1")


def test_a_log_reaches_watchers_as_text() -> None:
    """``offset`` and ``bytes`` become ``text``; ``open`` is there only when it is true."""
    record = wire.decode_record(json.dumps(EXAMPLES["log"]).encode())
    assert isinstance(wire.decode_event(json.dumps(EXAMPLES["log"]).encode()), LogRecord)

    data = json.loads(wire.log_data(record, b"one\ntw\xffo"))

    assert data == {
        "seq": record.seq, "event": "log", "t": record.t, "step": record.step,
        "attempt": record.attempt, "line": record.line, "open": True,
        "text": "one\ntw\ufffdo",
    }  # fmt: skip
