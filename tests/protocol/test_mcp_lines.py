"""Lines for models: references, budgets, and a search that doesn't depend on how output came."""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncGenerator
from typing import cast

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

from tailrace import wire
from tailrace.core.line_pattern import line_pattern
from tailrace.core.lines import LineCounter
from tailrace.errors import InvalidInputError, UnavailableError
from tailrace.mcp import messages, tools
from tailrace.mcp.lines import (
    LONGEST_SHOWN,
    Found,
    Progress,
    Search,
    Tail,
    Tailing,
    most_lines,
    tokens_of,
)
from tailrace.mcp.runs import Runs
from tailrace.mcp.tools import BY_NAME, TOOLS, arguments_of, schema_of


def frames_of(*pieces: bytes, step: str = "a", attempt: int = 1) -> list[wire.Frame]:
    """The events of a step that printed these pieces."""
    counter = LineCounter()
    frames = []
    for seq, piece in enumerate(pieces, 1):
        if (part := counter.take(piece, final=seq == len(pieces))) is not None:
            record = wire.Record(
                seq=seq, event="log", step=step, attempt=attempt, line=part.line, open=part.open
            )
            frames.append(wire.Frame(seq, "log", step, wire.log_data(record, part.data)))
    return frames


def tail(*batches: list[wire.Frame], tokens: int = 2_000, upto: int | None = None) -> Tail:
    """The tail of these events."""
    tailing = Tailing("p/1", tokens, upto=upto)
    for frames in batches:
        tailing.take(frames)
    return tailing.end()


def search(frames: list[wire.Frame], pattern: str, *, most: int = 10_000) -> Found:
    """What is found in these events."""
    found = Search(line_pattern(pattern), "p/1", most=most, tokens=10**6)
    for frame in frames:
        found.take([frame])
    return found.end(complete=True)


def cut_up(text: bytes, choice: random.Random) -> list[bytes]:
    """The text in pieces of any length."""
    pieces = []
    while text:
        size = choice.choice([1, 2, 7, 60, 400])
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_the_same_however_the_output_came(seed: int) -> None:
    """Tail and search see the lines of the log, numbered, for every way of splitting it."""
    choice = random.Random(seed)
    words = ["", "ok", "ERROR here", "\x1b[31mERROR\x1b[0m", "10%\r100%", "ünïcödé", "x" * 90]
    lines = [choice.choice(words) for _ in range(choice.randrange(1, 60))]
    is_closed = choice.choice([True, False])
    text = "\n".join(lines).encode() + (b"\n" if is_closed else b"")
    frames = frames_of(*cut_up(text, choice))
    plain = [re.sub(r"\x1b\[\d*m", "", line).rpartition("\r")[2] for line in lines]
    numbered = [(f"#p/1/a/L{number}", line) for number, line in enumerate(plain, 1)]
    if not is_closed and not lines[-1]:
        numbered.pop()  # nothing was printed after the last newline

    shown = tail(frames, tokens=20_000)
    found = search(frames, "^ERROR")

    assert [(line.ref, line.text) for line in shown.lines] == numbered
    assert [(line.ref, line.text) for line in found.lines] == [
        item for item in numbered if item[1].startswith("ERROR")
    ]
    assert found.matches == len(found.lines)


def test_a_tail_keeps_its_budget_and_says_that_more_is_there() -> None:
    """From a flood, from long lines, and from one line without an end."""
    flood = frames_of(*[b"".join(b"line %d\n" % n for n in range(m, m + 100))
                        for m in range(0, 20_000, 100)])  # fmt: skip
    long = frames_of(*[b"y" * 10_000 + b"\n"] * 50)
    endless = frames_of(*[b"z" * 60_000] * 100)
    for frames in (flood, long, endless):
        shown = tail(frames, tokens=1_000)
        assert tokens_of(shown.lines) <= 1_000
        assert shown.lines
        assert shown.left_out == (frames is not endless)
    last = tail(flood, tokens=1_000).lines[-1]
    assert (last.ref, last.text) == ("#p/1/a/L20000", "line 19999")
    (line,) = tail(endless).lines
    assert line.text == "z" * LONGEST_SHOWN + "…"
    few = tail(frames_of(b"one\ntwo\n"))
    assert not few.left_out
    assert most_lines(1_000) < 200


def test_a_tail_ends_with_the_line_that_is_asked_for() -> None:
    """What led to a line that a search found."""
    frames = frames_of(*[b"line %d\n" % n for n in range(1, 500)])
    shown = tail(frames, tokens=100, upto=300)
    assert shown.lines[-1].text == "line 300"
    assert shown.left_out


def test_a_tail_ends_with_the_line_that_is_asked_for_in_a_flood() -> None:
    """In whichever piece the line lies, open or not, and however many lines are in one."""
    text = b"".join(b"line %d\n" % n for n in range(1, 5_000))
    for size in (7, 64, 5_000, 100_000):
        frames = frames_of(*[text[at : at + size] for at in range(0, len(text), size)])
        for upto in (1, 2, 700, 4_998, 4_999, 6_000):
            shown = tail(frames, tokens=100, upto=upto)
            last = min(upto, 4_999)
            numbers = range(max(1, last - len(shown.lines) + 1), last + 1)
            assert [line.text for line in shown.lines] == [f"line {n}" for n in numbers]
            assert shown.left_out == (numbers[0] > 1)


def test_a_line_far_behind_in_a_flood_is_found_in_time() -> None:
    """No line is made that is forgotten again: two million of them take no second."""
    piece = b"y\n" * 100_000
    frames = frames_of(*[piece] * 20)
    began = time.process_time()
    shown = tail(frames, tokens=200, upto=1_950_000)
    assert time.process_time() - began < 1
    assert shown.lines[-1].ref == "#p/1/a/L1950000"


class SlowRuns:
    """A run whose output takes longer to read than anybody waits."""

    async def resolve(self, text: str) -> str:
        """There is one."""
        return text

    async def view(self, run_id: str) -> wire.RunView:
        """Its state."""
        step = {"step": "a", "label": "a", "status": "success", "needs": [], "attempt": 1}
        view: dict[str, object] = {
            "id": run_id, "ref": "p/1", "pipeline": "p", "status": "success", "params": {},
            "depth": None, "url": "", "events_url": "", "created_at": "2026-01-01T00:00:00.000Z",
            "last_seq": 9, "steps": [step],
        }  # fmt: skip
        return msgspec.convert(view, wire.RunView)

    async def past(self, run_id: str, **_: object) -> AsyncGenerator[list[wire.Frame], None]:
        """Give one line after the other."""
        for frame in frames_of(*[b"line\n"] * 9):
            yield [frame]


async def test_lines_that_took_too_long_to_read_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of somewhere before would be taken for what led to the line that is asked for."""
    monkeypatch.setattr(tools, "_READ_S", 0.0)
    asked = messages.TailRun(run="p/1", step="a", upto=8)
    with pytest.raises(UnavailableError, match="p/1 couldn't be read within 0 seconds"):
        await tools.tail_run(cast(Runs, SlowRuns()), asked)


def progress_frame(seq: int, step: str, note: str) -> wire.Frame:
    """What a step told of how far it is."""
    data = {"seq": seq, "event": "progress", "step": step, "percent": 50, "note": note}
    return wire.Frame(seq, "progress", step, wire.encode_json(data))


def test_what_steps_tell_of_their_progress_counts_towards_the_budget() -> None:
    """It is the steps that say how long it is; half of the budget stays for lines."""
    frames = frames_of(b"".join(b"line %d\n" % n for n in range(100)))
    told = [progress_frame(200 + n, f"step-{n}", "\N{GRINNING FACE}" * 60_000) for n in range(50)]
    tailing = Tailing("p/1", 500, progress=True)
    tailing.take([*frames, *told])
    shown = tailing.end()
    assert tokens_of(shown.lines) + tokens_of(shown.progress) <= 500
    assert tokens_of(shown.lines) > 200
    assert shown.progress[-1].step == "step-49"
    few = Tailing("p/1", 100, progress=True)
    few.take(told)
    assert few.end().progress[-1] == Progress(step="step-49", percent=50)


def test_a_later_attempt_is_told_apart() -> None:
    """Its lines are numbered from 1 again."""
    first, second = frames_of(b"one\n"), frames_of(b"one\n", attempt=2)
    shown = tail(first, second)
    assert msgspec.to_builtins(shown.lines) == [
        {"ref": "#p/1/a/L1", "text": "one"},
        {"ref": "#p/1/a/L1", "text": "one", "attempt": 2},
    ]


def test_a_search_tells_how_much_there_is_and_shows_the_match_of_a_long_line() -> None:
    """Only so many lines are given; a match far in its line is in what is shown."""
    frames = frames_of(b"".join(b"hit %d\n" % n for n in range(500)), b"q" * 50_000 + b"NEEDLE\n")
    found = search(frames, "hit", most=20)
    assert (len(found.lines), found.matches) == (20, 500)
    (line,) = search(frames, "NEEDLE").lines
    assert line.ref == "#p/1/a/L501"
    assert "NEEDLE" in line.text
    assert len(line.text) < LONGEST_SHOWN


def test_arguments_are_read_as_models_send_them() -> None:
    """Numbers as text too; text stays text, whatever it looks like."""
    asked = arguments_of(BY_NAME["tail_run"], {"run": "a/1", "tokens": "500", "step": "null"})
    assert asked == messages.TailRun(run="a/1", tokens=500, step="null")
    params = {"version": "3.10", "flag": "true", "n": 3}
    started = arguments_of(BY_NAME["start_run"], {"pipeline": "p", "params": params})
    assert started == messages.StartRun(pipeline="p", params=params)
    for given, said in (
        ({}, "missing required field `run`"),
        ({"run": "a", "tokens": 5}, "tokens: "),
        ({"run": "a", "colour": 1}, "unknown field `colour`"),
        ({"run": []}, "run: "),
    ):
        with pytest.raises(InvalidInputError, match=re.escape(said)) as caught:
            arguments_of(BY_NAME["tail_run"], given)
        assert "tail_run takes: run, step, tokens" in str(caught.value)


def test_every_schema_is_one_object_as_the_protocol_wants() -> None:
    """And valid; each argument is described."""
    for tool in TOOLS:
        for kind in (tool.arguments, tool.result):
            schema = schema_of(kind)
            Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
        for name, argument in schema_of(tool.arguments)["properties"].items():
            assert "description" in str(argument), f"{tool.name}.{name}"
