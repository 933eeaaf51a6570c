"""What a step says on its channel."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.events import Cost, CostEvent, Event, Notice, Status, ToolCall
from tailrace.core.narration import (
    MAX_CALLS,
    MAX_LINE,
    MAX_MASKS,
    MAX_NOTICES,
    MaskValue,
    Narrator,
    Question,
    Totals,
    citable_url,
)


@pytest.fixture
def narrator() -> Narrator:
    """Give the narrator of a step's attempt."""
    return Narrator("lint", "Linting", Totals())


def said(narrator: Narrator, now: float = 0.0, **event: Any) -> list[dict[str, Any]]:
    """Say one event and return what came of it, without the keys that are null."""
    results = narrator.read(json.dumps(event).encode(), now)
    assert all(isinstance(result, Event) for result in results)
    return [
        {key: value for key, value in msgspec.to_builtins(result).items() if value is not None}
        for result in results
    ]


def why(narrator: Narrator, line: bytes) -> str:
    """Say a malformed line and return the one notice's text."""
    [notice] = narrator.read(line, 0.0)
    assert isinstance(notice, Notice)
    assert (notice.kind, notice.step) == ("event", "lint")
    return notice.text


@pytest.mark.parametrize(
    ("event", "result"),
    [
        (
            {"event": "progress", "percent": 40, "note": "indexing", "stage": "s", "done": 4,
             "total": 10, "unit": "files", "rate": 1.5},
            {"event": "progress", "label": "Linting", "percent": 40, "note": "indexing",
             "stage": "s", "done": 4, "total": 10, "unit": "files", "rate": 1.5},
        ),
        ({"event": "progress"}, {"event": "progress", "label": "Linting"}),
        ({"event": "progress", "percent": None}, {"event": "progress", "label": "Linting"}),
        ({"event": "status", "text": "busy"}, {"event": "status", "text": "busy"}),
        ({"event": "text", "delta": "a\nb"}, {"event": "text", "delta": "a\nb"}),
        ({"event": "token", "delta": "😀"}, {"event": "text", "delta": "😀"}),
        ({"event": "token", "text": "😀"}, {"event": "text", "delta": "😀"}),
        (
            {"event": "citation", "id": "c1", "title": "T", "url": "https://u:p@h.example/p?q=1"},
            {"event": "citation", "id": "c1", "title": "T", "url": "https://h.example/p?***"},
        ),
        ({"event": "citation", "title": "T"}, {"event": "citation", "title": "T"}),
        (
            {"event": "cost", "usd": 0.5, "tokens_in": 3.0},
            {"event": "cost", "usd": 0.5, "tokens_in": 3, "tokens_out": 0, "total_usd": 0.5,
             "total_tokens_in": 3, "total_tokens_out": 0},
        ),
        (
            {"event": "result", "text": "done"},
            {"event": "result", "text": "done", "is_error": False},
        ),
        (
            {"event": "result", "text": "no", "is_error": True},
            {"event": "result", "text": "no", "is_error": True},
        ),
        (
            {"event": "fault", "kind": "quota", "message": "slow down"},
            {"event": "fault", "kind": "quota", "message": "slow down"},
        ),
        (
            {"event": "error", "message": "oh"},
            {"event": "fault", "kind": "error", "message": "oh"},
        ),
        (
            {"event": "tool", "name": "grep", "server": "fs", "id": "7", "phase": "started"},
            {"event": "tool_call", "name": "grep", "server": "fs", "id": "7", "phase": "started"},
        ),
    ],
)  # fmt: skip
def test_an_event_is_taken_over(
    narrator: Narrator, event: dict[str, Any], result: dict[str, Any]
) -> None:
    """Each accepted event, by each of its names."""
    assert said(narrator, **event) == [{"step": "lint", **result}]


@pytest.mark.parametrize("name", ["progress", "status", "tool", "text", "citation", "result"])
def test_fields_that_no_event_names_are_dropped(narrator: Narrator, name: str) -> None:
    """Neither a tool's input and output nor a forged step or number leaves the channel."""
    fields: dict[str, Any] = {"text": "t", "delta": "d", "name": "n", "title": "t"}
    forged: dict[str, Any] = {
        "input": {"k": "private"}, "output": "private", "args": ["private"], "seq": 9,
        "step": "other", "label": "forged", "t": "private",
    }  # fmt: skip
    [event] = said(narrator, event=name, **fields, **forged)
    assert event["step"] == "lint"
    assert event.get("label", "Linting") == "Linting"
    assert "private" not in json.dumps(event)
    assert "seq" not in event


@pytest.mark.parametrize(
    ("percent", "shown"), [(-5, 0), (250.5, 100), (99.5, 99.5), (10**300, 100)]
)
def test_a_percentage_stays_between_0_and_100(
    narrator: Narrator, percent: float, shown: float
) -> None:
    """A bar can't be fuller than full."""
    assert said(narrator, event="progress", percent=percent)[0]["percent"] == shown


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"hunter2", "a line isn't JSON in UTF-8"),
        (b'{"event":"status","text":"hunter2"', "isn't JSON"),
        (b'{"event":"status","text":"hunter2\xff"}', "isn't JSON in UTF-8"),
        (b'{"event":"status","text":"hunter2\\ud800"}', "isn't JSON in UTF-8"),
        (b'{"event":"status","text":"hunter2","x":' + b"[" * 60_000, "isn't JSON"),
        (b'["hunter2"]', "Expected `object`, got `array`"),
        (b'"hunter2"', "Expected `object`, got `str`"),
        (b'{"text":"hunter2"}', "missing required field `event`"),
        (b'{"event":7,"text":"hunter2"}', "Expected `str`, got `int`"),
        (b'{"event":"prompt","question":"hunter2"}', "missing required field `id`"),
        (b'{"event":"prompt","id":"a b","question":"hunter2"}', "matching regex"),
        (b'{"event":"prompt","id":"p","question":"?","expires":"hunter2"}', "write a duration"),
        (b'{"event":"prompt","id":"p","question":"?","expires":"3000000d"}', "at most 1000000d"),
        (
            b'{"event":"prompt","id":"p","question":"?","choices":["a"],"default":"hunter2"}',
            "the default isn't one of the choices",
        ),
        (b'{"event":"hunter2 or so"}', "no event of that name"),
        (b'{"event":"log","text":"hunter2"}', "no event named 'log'"),
        (b'{"event":"status"}', "status: Object missing required field `text`"),
        (b'{"event":"status","text":null}', "Expected `str`, got `null`"),
        (b'{"event":"progress","percent":"hunter2"}', "got `str` - at `$.percent`"),
        (b'{"event":"progress","percent":true}', "got `bool`"),
        (b'{"event":"progress","percent":NaN}', "isn't JSON"),
        (b'{"event":"progress","percent":1e999}', "out of range"),
        (b'{"event":"progress","percent":Infinity}', "isn't JSON"),
        (b'{"event":"progress","done":1e16}', "`$.done`"),
        (b'{"event":"progress","rate":-1}', "`$.rate`"),
        (b'{"event":"tool","name":"n","phase":"hunter2"}', "`$.phase`"),
        (b'{"event":"tool","phase":"started"}', "missing required field `name`"),
        (b'{"event":"citation"}', "give it a url or a title"),
        (b'{"event":"citation","url":"javascript:hunter2"}', "http or https"),
        (b'{"event":"cost"}', "give it usd"),
        (b'{"event":"cost","usd":-0.01}', "`$.usd`"),
        (b'{"event":"cost","usd":1e10}', "`$.usd`"),
        (b'{"event":"cost","tokens_in":-1}', "`$.tokens_in`"),
        (b'{"event":"cost","tokens_in":' + b"9" * 5000 + b"}", "`$.tokens_in`"),
        (b'{"event":"cost","tokens_out":1.5}', "`$.tokens_out`"),
        (b'{"event":"mask","value":"abc"}', "less than 4 characters"),
        (b'{"event":"mask","value":" abc\\n"}', "less than 4 characters"),
        (b'{"event":"mask","value":["hunter2"]}', "`$.value`"),
        (b'{"event":"status","text":"' + b"hunter2" * 10_000 + b'"}', "longer than 64 KiB"),
    ],
)
def test_what_is_malformed_is_one_notice_that_quotes_nothing(
    narrator: Narrator, line: bytes, told: str
) -> None:
    """It says what is wrong; a piece of the line might be a piece of a secret."""
    text = why(narrator, line)
    assert told in text
    assert text.startswith("$TAILRACE_EVENTS: ")
    assert "hunter2" not in text


def test_a_line_of_64_kib_is_read(narrator: Narrator) -> None:
    """The bound is exact."""
    head, tail = b'{"event":"status","text":"', b'"}'
    fits = head + b"x" * (MAX_LINE - len(head) - len(tail)) + tail
    assert [type(event) for event in narrator.read(fits, 0.0)] == [Status]
    assert "longer" in why(narrator, fits.replace(b"x", b"xx", 1))


@pytest.mark.parametrize("line", [b"", b"  ", b"\r", b"\t\n"])
def test_a_blank_line_says_nothing(narrator: Narrator, line: bytes) -> None:
    """An empty echo is no mistake."""
    assert narrator.read(line, 0.0) == []


def test_a_line_may_end_with_a_carriage_return(narrator: Narrator) -> None:
    """JSON takes it for white space."""
    assert narrator.read(b'{"event":"status","text":"x"}\r', 0.0) != []


def test_notices_end_after_twenty_and_say_so(narrator: Narrator) -> None:
    """A step that writes nonsense doesn't fill the journal; its events still count."""
    told = [notice for _ in range(100) for notice in narrator.read(b"nonsense", 0.0)]
    assert len(told) == MAX_NOTICES + 1
    assert isinstance(told[-1], Notice)
    assert "the rest of this attempt's are not told" in told[-1].text
    assert said(narrator, event="status", text="x")


def test_a_tool_calls_duration_is_from_its_start_to_its_end(narrator: Narrator) -> None:
    """Calls are paired by their id, or by name where they have none."""
    said(narrator, 10.0, event="tool_call", id="a", name="read", phase="started")
    said(narrator, 10.5, event="tool_call", name="read", phase="started")
    [by_name] = said(narrator, 11.0, event="tool_call", name="read", phase="finished")
    [by_id] = said(
        narrator, 12.0, event="tool_call", id="a", name="read", phase="finished", is_error=True
    )
    [again] = said(narrator, 13.0, event="tool_call", id="a", name="read", phase="finished")

    assert by_name["duration_ms"] == 500
    assert (by_id["duration_ms"], by_id["is_error"]) == (2000, True)
    assert "duration_ms" not in again


def test_a_tool_call_may_tell_its_duration_itself(narrator: Narrator) -> None:
    """And where it tells how it went, it is over, though it names no phase."""
    said(narrator, 0.0, event="tool", id="a", name="read")
    [event] = said(narrator, 9.0, event="tool", id="a", name="read", duration_ms=12.6)
    assert (event["phase"], event["duration_ms"]) == ("finished", 13)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("grep", "grep"),
        ("mcp__fs__read", "mcp__fs__read"),
        ("Bash(rm -rf build)", "Bash"),
        (' Bash {"command": "x"}', "Bash"),
        ("https://h/p?token=x", "https://h/p"),
        ("поиск", "поиск"),
        ("x" * 200, "x" * 128),
    ],
)
def test_a_tools_name_is_one_word(narrator: Narrator, name: str, shown: str) -> None:
    """Some frameworks write the input behind it."""
    [event] = said(narrator, event="tool", name=name, server=name)
    assert (event["name"], event["server"]) == (shown, shown)


def test_an_id_is_one_word_or_null_and_pairs_all_the_same(narrator: Narrator) -> None:
    """It may be anything that the step needs to tell its calls apart."""
    said(narrator, 1.0, event="tool", name="n", id="a b", phase="started")
    [event] = said(narrator, 2.0, event="tool", name="n", id="a b", phase="finished")
    assert "id" not in event
    assert event["duration_ms"] == 1000
    assert said(narrator, event="citation", id="[1]", title="T")[0]["id"] == "[1]"
    assert "one word" in why(narrator, b'{"event":"tool","name":"{}"}')


def test_an_address_in_a_title_is_shown_like_one(narrator: Narrator) -> None:
    """Pages without a title are often named by their address."""
    [event] = said(narrator, event="citation", title="see https://u:p@h/p?key=1 there")
    assert event["title"] == "see https://h/p?*** there"


def test_calls_that_never_end_are_forgotten_at_a_bound(narrator: Narrator) -> None:
    """Memory stays bounded; the oldest go first."""
    for number in range(MAX_CALLS + 1):
        said(narrator, 1.0, event="tool", id=str(number), name="n", phase="started")
    [oldest] = said(narrator, 2.0, event="tool", id="0", name="n", phase="finished")
    [newer] = said(narrator, 2.0, event="tool", id="1", name="n", phase="finished")
    assert "duration_ms" not in oldest
    assert newer["duration_ms"] == 1000


def test_costs_add_up_over_the_steps_of_a_run() -> None:
    """Every cost event tells the totals of the run, and sums read as they were written."""
    totals = Totals()
    one, two = Narrator("one", "1", totals), Narrator("two", "2", totals)
    for _ in range(2):
        one.read(b'{"event":"cost","usd":0.1,"tokens_in":5}', 0.0)
    [event] = two.read(b'{"event":"cost","usd":0.1,"tokens_out":7}', 0.0)

    assert event == CostEvent(
        step="two", usd=0.1, tokens_in=0, tokens_out=7,
        total_usd=0.3, total_tokens_in=10, total_tokens_out=7,
    )  # fmt: skip
    assert totals.cost() == Cost(usd=0.3, tokens_in=10, tokens_out=7)


def test_a_cost_that_would_pass_what_readers_can_count_is_not_added(narrator: Narrator) -> None:
    """Totals stay exact in every JSON reader."""
    said(narrator, event="cost", tokens_in=2**53)
    assert "too large" in why(narrator, b'{"event":"cost","tokens_in":1,"usd":1}')
    assert said(narrator, event="cost", usd=2)[0]["total_usd"] == 2


def test_what_is_cut_is_masked_before(narrator: Narrator) -> None:
    """A piece of a secret would pass every masker that comes later."""
    secret = "hunt$er?22"
    knows = Narrator("lint", "Linting", Totals(), mask=lambda text: text.replace(secret, "***"))
    for name, shown in ((secret, "***"), (f"Bash({secret})", "Bash"), (f"a{secret}", "a")):
        [call] = said(knows, event="tool", name=name, server=name)
        assert (call["name"], call["server"]) == (shown, shown)
    [cited] = said(
        knows, event="citation", url=f"https://h.example/{secret}", title=f"see {secret}"
    )
    assert (cited["url"], cited["title"]) == ("https://h.example/***", "see ***")
    [cited] = said(knows, event="citation", title=f"see https://h.example/{secret}")
    assert cited["title"] == "see https://h.example/***"


def test_a_question_is_handed_over_once(narrator: Narrator) -> None:
    """An id is good for one question of an attempt: its answer's file may be there already."""
    line = b'{"event":"prompt","id":"p1","question":"Go on?","choices":["y"],"expires":"10m"}'
    question = Question(id="p1", question="Go on?", choices=("y",), expires_ms=600_000)
    assert narrator.read(line, 0.0) == [question]
    assert "that id was asked before" in why(narrator, line)


def test_a_value_to_mask_is_handed_over_trimmed_and_once(narrator: Narrator) -> None:
    """White space at its ends isn't part of it, and a loop that repeats it costs nothing."""
    assert narrator.read(b'{"event":"mask","value":" hunter2\\n"}', 0.0) == [MaskValue("hunter2")]
    assert narrator.read(b'{"event":"mask","value":"hunter2"}', 0.0) == []
    assert "hunter2" not in repr(MaskValue("hunter2"))


def test_a_run_masks_a_thousand_values_of_its_steps() -> None:
    """The bound is the run's, and what goes beyond is told."""
    totals = Totals()
    one, two = Narrator("one", "1", totals), Narrator("two", "2", totals)
    for number in range(MAX_MASKS):
        assert one.read(b'{"event":"mask","value":"value-%d"}' % number, 0.0)
    [notice] = two.read(b'{"event":"mask","value":"one more"}', 0.0)
    assert isinstance(notice, Notice)
    assert "NOT masked" in notice.text
    assert "one more" not in notice.text
    assert two.read(b'{"event":"mask","value":"value-0"}', 0.0) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTP://Example.org:80/a%20b/ü", "http://Example.org:80/a%20b/ü"),
        ("https://user:pass@example.org/", "https://example.org/"),
        ("https://token@example.org@h/", "https://h/"),
        ("https://h/p?key=1&b#frag", "https://h/p?***#frag"),
        ("https://h/p?", "https://h/p"),
        ("https://h/#access_token=x", "https://h/#***"),
        ("https://[::1]:8443/", "https://[::1]:8443/"),
        ("https://", None),
        ("https:///path", None),
        ("https://user@/path", None),
        ("https:example.org", None),
        ("//example.org", None),
        ("/etc/passwd", None),
        ("file:///etc/passwd", None),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("java\nscript:alert(1)", None),
        ("https://h/\u202egnp.exe", None),
        ("https://h/a b", None),
        ("https://evil\\@good/", None),
        ("https://[::1/", None),
        ("https://h:port/", None),
        ("https://h:99999/", None),
        ("", None),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, shown: str | None) -> None:
    """Only http and https; userinfo goes, the query is masked."""
    assert citable_url(url) == shown


@given(st.text(max_size=60) | st.text("htps:/@?#[]\\.ab1 =", max_size=40).map("http://".__add__))
def test_no_address_breaks_the_reader(url: str) -> None:
    """Whatever a step calls a url is refused or made safe."""
    shown = citable_url(url)
    if shown is not None:
        assert shown.startswith(("http://", "https://"))
        assert "@" not in urlsplit(shown).netloc
        assert citable_url(shown) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
EVENTS = [
    "progress", "status", "tool_call", "tool", "text", "token", "citation", "cost", "result",
    "fault", "error", "mask", "prompt", "log",
]  # fmt: skip
FIELDS = [
    "percent", "stage", "note", "done", "total", "unit", "rate", "text", "id", "name", "server",
    "phase", "is_error", "duration_ms", "delta", "title", "url", "usd", "tokens_in", "tokens_out",
    "kind", "message", "value",
]  # fmt: skip
hostile_events = st.builds(
    lambda name, fields: json.dumps({"event": name, **fields}).encode(),
    st.sampled_from(EVENTS),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8),
)


@given(st.lists(hostile_events | st.binary(max_size=80), max_size=12))
def test_any_lines_give_events_that_can_be_written_and_read(lines: list[bytes]) -> None:
    """Nothing raises, and everything that leaves is of the type that readers get."""
    narrator = Narrator("lint", "Linting", Totals())
    for number, line in enumerate(lines):
        results = narrator.read(line, float(number))
        assert len(results) <= 1
        for result in results:
            if isinstance(result, Event):
                encoded = msgspec.json.encode(result)
                assert msgspec.json.decode(encoded, type=type(result)) == result
                if isinstance(result, ToolCall):
                    assert result.phase in ("started", "finished")
            elif isinstance(result, MaskValue):
                assert len(result.value) >= 4
