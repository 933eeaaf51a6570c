"""What dialects make of a step's output, however it is cut into chunks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core import said
from tailrace.core.dialects import Dialect
from tailrace.core.dialects.claude import MAX_MESSAGE, MAX_RESULT, MAX_TEXT, Claude
from tailrace.core.dialects.github import Github

Sayings = list[said.Saying]


def heard(dialect: Dialect, *chunks: bytes) -> tuple[bytes, Sayings]:
    """Feed the chunks, and return the output and what was said."""
    parts = [*map(dialect.feed, chunks), dialect.close()]
    return b"".join(part.output for part in parts), [item for part in parts for item in part.said]


def lines(*messages: Any) -> bytes:
    """Messages as an agent prints them; text stands for itself."""
    return b"".join(
        (item if isinstance(item, str) else json.dumps(item)).encode() + b"\n" for item in messages
    )


def assistant(*content: dict[str, Any], id: str = "msg_1", **more: Any) -> dict[str, Any]:
    """A message of the model."""
    usage = more.pop("usage", {})
    message = {"id": id, "role": "assistant", "content": content, "usage": usage}
    return {"type": "assistant", "message": message, "session_id": "s", **more}


def answer(call: str, content: Any = "SECRET output", **more: Any) -> dict[str, Any]:
    """What a tool answered."""
    block = {"type": "tool_result", "tool_use_id": call, "content": content, **more}
    return {"type": "user", "message": {"role": "user", "content": [block]}, "session_id": "s"}


def text(words: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": words}


def call(id: str, name: str = "Bash") -> dict[str, Any]:
    """A block that calls a tool."""
    return {"type": "tool_use", "id": id, "name": name, "input": {"command": "SECRET input"}}


def streamed(event: dict[str, Any]) -> dict[str, Any]:
    """A piece of a message that is being written."""
    return {"type": "stream_event", "event": event, "session_id": "s", "parent_tool_use_id": None}


def delta(words: str) -> dict[str, Any]:
    """A piece of text."""
    inner = {"type": "text_delta", "text": words}
    return streamed({"type": "content_block_delta", "index": 0, "delta": inner})


INIT = {
    "type": "system", "subtype": "init", "session_id": "s", "model": "claude-sonnet",
    "tools": ["Bash"], "cwd": "/SECRET",
    "mcp_servers": [{"name": "db", "status": "failed"}, {"name": "fs", "status": "connected"}],
}  # fmt: skip
RESULT = {
    "type": "result", "subtype": "success", "is_error": False, "result": "All good.",
    "session_id": "s", "total_cost_usd": 0.0123, "num_turns": 2,
    "usage": {"input_tokens": 10, "cache_creation_input_tokens": 20,
              "cache_read_input_tokens": 70, "output_tokens": 40},
    "permission_denials": [{"tool_name": "Bash", "tool_input": {"command": "SECRET"}}],
}  # fmt: skip


# ---- claude ----------------------------------------------------------------------------------


def test_a_session_is_told_by_its_events_and_nothing_of_it_is_output() -> None:
    """Text, calls and their ends, what it cost, the result; never what tools got and gave."""
    usage = {"input_tokens": 10, "cache_read_input_tokens": 40, "output_tokens": 5}
    output, told = heard(
        Claude(),
        lines(
            "starting",
            INIT,
            assistant({"type": "thinking", "thinking": "SECRET thought"}, usage=usage),
            assistant(text("Let me look."), usage=usage),
            assistant(call("t1"), usage=usage),
            assistant(call("t2", "mcp__db__query_all"), usage=usage),
            answer("t1"),
            answer("t2", [text("SECRET")], is_error=True),
            assistant(text("It is fine."), id="msg_2", usage={"input_tokens": 20}),
            RESULT,
            "done",
        ),
    )
    assert output == b"starting\ndone\n"
    assert told == [
        said.Status(text="model claude-sonnet"),
        said.Fault(kind="mcp", message="MCP server 'db': failed"),
        said.Cost(tokens_in=50, tokens_out=5),
        said.Text(delta="Let me look."),
        said.ToolCall(id="t1", name="Bash", phase="started"),
        said.ToolCall(id="t2", name="query_all", server="db", phase="started"),
        said.ToolCall(id="t1", name="Bash", phase="finished", is_error=False),
        said.ToolCall(id="t2", name="query_all", server="db", phase="finished", is_error=True),
        said.Text(delta="\n\n"),
        said.Text(delta="It is fine."),
        said.Cost(tokens_in=20, tokens_out=0),
        said.Cost(usd=0.0123, tokens_in=30, tokens_out=35),
        said.Result(text="All good.", is_error=False),
    ]


BEGIN = streamed({"type": "message_start", "message": {"id": "msg_1"}})
BLOCK = streamed({"type": "content_block_start", "index": 0, "content_block": text("")})


@pytest.mark.parametrize(
    "messages",
    [
        [BEGIN, BLOCK, delta("one "), delta("two"), assistant(text("one two"))],
        [BEGIN, delta("one "), assistant(text("one ")), delta("two"), assistant(text("two"))],
        [delta("one "), delta("two"), assistant(text("one two"))],
        [delta("one "), delta("two"), assistant(text("one two"), id="")],
        [assistant(text("one two"))],
        [BEGIN["event"], delta("one ")["event"], delta("two")["event"]],
    ],
)
def test_text_that_comes_in_pieces_and_whole_is_told_once(messages: list[dict[str, Any]]) -> None:
    """With ``--include-partial-messages`` every text comes twice."""
    _, told = heard(Claude(), lines(*messages))
    assert "".join(item.delta or "" for item in told if isinstance(item, said.Text)) == "one two"


def test_a_text_behind_one_that_came_in_pieces_is_told() -> None:
    """Only what was told already is left out."""
    _, told = heard(
        Claude(),
        lines(BEGIN, delta("one"), assistant(text("one")), assistant(text("two"), id="m2")),
    )
    assert [item.delta for item in told if isinstance(item, said.Text)] == ["one", "\n\n", "two"]


def test_what_an_inner_agent_says_is_not_told_and_its_calls_are() -> None:
    """Its prompt is the input of a call, its answer the output of one."""
    inner = {"parent_tool_use_id": "t1"}
    _, told = heard(
        Claude(),
        lines(
            assistant(call("t1", "Task")),
            {**answer("none"), "message": {"content": "SECRET prompt"}, **inner},
            assistant(text("SECRET answer"), call("t2"), **inner),
            {**delta("SECRET"), **inner},
            answer("t2"),
            answer("t1"),
        ),
    )
    assert [item.name for item in told if isinstance(item, said.ToolCall)] == [
        "Task", "Bash", "Bash", "Task",
    ]  # fmt: skip
    assert len(told) == 4


def test_costs_are_what_was_added_however_often_they_are_repeated() -> None:
    """A message's tokens stand in each of its lines, and the result has the sum of all."""
    usage = {"input_tokens": 100, "output_tokens": 1}
    written = {"input_tokens": 100, "output_tokens": 50}
    _, told = heard(
        Claude(),
        lines(
            assistant(text("a"), usage=usage),
            assistant(call("t"), id="inner", usage=usage, parent_tool_use_id="x"),
            assistant(call("u"), usage=usage),
            BEGIN,
            streamed({"type": "message_delta", "delta": {}, "usage": written}),
            {**RESULT, "usage": {"input_tokens": 200, "output_tokens": 60}},
            {**RESULT, "total_cost_usd": 0.02, "usage": {"input_tokens": 7}},
            {**RESULT, "total_cost_usd": 0.5, "usage": {}, "session_id": "another"},
            {**RESULT, "total_cost_usd": 0.5, "usage": {}, "session_id": "another"},
        ),
    )
    costs = [
        (item.usd, item.tokens_in, item.tokens_out) for item in told if isinstance(item, said.Cost)
    ]
    assert costs == [
        (None, 100, 1), (None, 100, 1), (None, 0, 49), (0.0123, 0, 9), (0.0077, 7, 0), (0.5, 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"type": "result", "subtype": "error_max_turns", "is_error": True, "errors": ["a", 3]},
            [said.Fault(kind="error_max_turns", message="the agent stopped; a")],
        ),
        (
            {**RESULT, "is_error": True, "result": "API Error: 401", "usage": {},
             "total_cost_usd": 0},
            [said.Result(text="API Error: 401", is_error=True)],
        ),
        (
            {"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10,
             "error": "overloaded"},
            [said.Fault(kind="api_retry", message="the model's API: overloaded; attempt 1 of 10")],
        ),
        (
            {"type": "system", "subtype": "api_retry", "attempt": 2, "error": "overloaded"},
            [said.Fault(kind="api_retry", message="the model's API: overloaded; attempt 2")],
        ),
        (
            assistant(error="rate_limit"),
            [said.Fault(kind="rate_limit", message="the model's API: rate_limit")],
        ),
        (
            {"type": "system", "subtype": "compact_boundary"},
            [said.Status(text="the agent has summarized what came before")],
        ),
        ({"type": "system", "subtype": "hook_response", "stdout": "SECRET"}, []),
        ({"type": "tool_progress", "tool_use_id": "t", "tool_name": "Bash"}, []),
        ({"type": "of next year", "session_id": "s", "input": "SECRET"}, []),
    ],
)  # fmt: skip
def test_messages_about_the_session(message: dict[str, Any], expected: Sayings) -> None:
    """What went wrong is a fault; what isn't understood is gone."""
    assert heard(Claude(), lines(message)) == (b"", expected)


def test_sources_are_told_without_what_they_say() -> None:
    """By whole messages, and in pieces."""
    source = {"type": "web_search_result_location", "url": "https://h/p", "title": "T",
              "cited_text": "SECRET"}  # fmt: skip
    piece = streamed(
        {"type": "content_block_delta", "delta": {"type": "citations_delta", "citation": source}}
    )
    _, told = heard(
        Claude(),
        lines(
            assistant({**text("x"), "citations": [source, {"document_title": "D"}, "odd"]}), piece
        ),
    )
    found = [item for item in told if isinstance(item, said.Citation)]
    expected = said.Citation(title="T", url="https://h/p")
    assert found == [expected, said.Citation(title="D"), expected]


def test_tools_that_the_models_servers_run_are_told_too() -> None:
    """They begin and end within the model's own message."""
    use = {**call("w", "web_search"), "type": "server_tool_use"}
    error = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    ends = {"type": "web_search_tool_result", "tool_use_id": "w", "content": error}
    mcp = {**call("m", "find"), "type": "mcp_tool_use", "server_name": "db"}
    _, told = heard(Claude(), lines(assistant(use, ends, mcp)))
    assert told == [
        said.ToolCall(id="w", name="web_search", phase="started"),
        said.ToolCall(id="w", name="web_search", phase="finished", is_error=True),
        said.ToolCall(id="m", name="find", server="db", phase="started"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "plain", "", "{", "{}", "[1, 2]", '{"a": 1}', '{"type": "lint", "message": "x"}',
        "{'type': 'assistant'}", "got {", '  {"type": "x"} tail', 'log: {"type": "x"}', "{" * 200,
        '{"type', '{"message": "no end',
    ],
)  # fmt: skip
def test_other_lines_are_output_as_they_came(line: str) -> None:
    """Also what looks like JSON, or is."""
    assert heard(Claude(), f"{line}\nnext".encode()) == (f"{line}\nnext".encode(), [])


def test_a_message_behind_other_output_on_its_line_is_taken_out() -> None:
    """A warning without a newline came first; its line ends where the message began."""
    output, told = heard(Claude(), b"warn: " + lines(assistant(text("hi"))) + b"next\n")
    assert output == b"warn: \nnext\n"
    assert told == [said.Text(delta="hi")]


@pytest.mark.parametrize("length", [1, 40, 4000])
def test_a_broken_message_takes_what_may_be_its_rest_with_it(length: int) -> None:
    """Another process wrote into its midst, or it was cut off: its rest reads like output."""
    whole = json.dumps(assistant(call("t"), {"type": "text", "text": "x" * 5000})).encode()
    cut = max(whole.index(b"SECRET"), length)
    broken = whole[:cut] + b"\nwarning\n" + whole[cut:] + b"\n"
    output, told = heard(Claude(), b"a\n" + broken + lines(assistant(text("hi"))) + b"z\n")
    assert output == b"a\nz\n"
    [unread, hello] = told
    assert isinstance(unread, said.Unread)
    assert "up to the next message" in unread.why
    assert hello == said.Text(delta="hi")


def test_a_message_that_the_end_cuts_off_is_left_out() -> None:
    """A killed agent's last line may hold what a tool was given."""
    output, told = heard(Claude(), b'ok\n{"type":"assistant","message":{"content":[{"input":"SEC')
    assert output == b"ok\n"
    assert [type(item) for item in told] == [said.Unread]


def test_a_line_that_is_too_long_is_left_out_and_said_so() -> None:
    """Memory is bounded, and what it would hold is anybody's guess."""
    claude = Claude()
    claude.feed(b'{"type":"user","x":"')
    for _ in range(MAX_MESSAGE // (1 << 20) + 1):
        claude.feed(b"x" * (1 << 20))
        assert claude.held <= MAX_MESSAGE
    output, told = heard(claude, b'"}\nnext\n')
    assert output == b"next\n"
    assert [type(item) for item in told] == [said.Unread]


def test_long_texts_are_told_in_events_of_a_bounded_size() -> None:
    """Watchers get small frames; a result is cut."""
    words = "x" * (2 * MAX_RESULT)
    _, told = heard(Claude(), lines(assistant(text(words)), {"type": "result", "result": words}))
    deltas = [item.delta or "" for item in told if isinstance(item, said.Text)]
    assert "".join(deltas) == words
    assert max(map(len, deltas)) == MAX_TEXT
    assert told[-1] == said.Result(text="x" * MAX_RESULT + "…")


def test_a_text_is_masked_before_it_is_cut() -> None:
    """What a cut would leave of a secret, no masker would know."""
    claude = Claude(mask=lambda text: text.replace("hunter2-x", "***"))
    long = "x" * (MAX_RESULT - 4) + "hunter2-x"
    failed = {"type": "result", "subtype": "error_x", "errors": ["y" * 1_974 + "hunter2-x" * 9]}
    source = {"url": "https://a.example/", "title": "z" * 996 + "hunter2-x"}
    cited = {"type": "text", "text": "", "citations": [source]}
    _, told = heard(claude, lines({"type": "result", "result": long}, failed, assistant(cited)))
    texts = [
        getattr(item, name, None) or "" for item in told for name in ("text", "message", "title")
    ]
    assert "x***" in "".join(texts)
    assert not any("hun" in text for text in texts)


def test_half_a_surrogate_pair_breaks_nothing() -> None:
    """JavaScript writes one where it cuts a text."""
    _, told = heard(Claude(), lines(assistant(text("a\ud83d"))))
    assert told == [said.Text(delta="a?")]


# ---- github ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("::error file=a.py,line=3,col=7,title=Bad::one%0Atwo%25",
         said.Fault(kind="error", message="a.py:3:7: Bad: one\ntwo%")),
        ("::error::just so", said.Fault(kind="error", message="just so")),
        ("  ::Error File=a%3Ab%2Cc.py::x::y", said.Fault(kind="error", message="a:b,c.py: x::y")),
        ("::warning line=3::careful\r", said.Fault(kind="warning", message="careful")),
        ("::notice title=News::look", said.Status(text="News: look")),
        ("::group::Build it", said.Status(text="Build it")),
        ("::endgroup::", None),
        ("::debug::x", None),
        ("::set-output name=a::b", None),
        ("::save-state name=a::b", None),
        ("::set-env name=PATH::/evil", None),
        ("::unknown::x", None),
        ("::no command", None),
        ("a ::error::x", None),
        (":", None),
        ("::", None),
        ("::::", None),
    ],
)  # fmt: skip
def test_commands_decorate_and_stay_in_the_log(line: str, expected: said.Saying | None) -> None:
    """As they came, byte for byte; what isn't known is plain."""
    output, told = heard(Github(), f"x\n{line}\ny".encode())
    assert output == f"x\n{line}\ny".encode()
    assert told == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("::add-mask::hunter2", "hunter2"),
        ("::ADD-MASK::hunter2", "hunter2"),
        ("::add-mask x=y::hunter2", "hunter2"),
        ("  ::add-mask::hun%0Ater2", "hun\nter2"),
        ("::add-mask::h", "h"),
        ("::add-mask::a::b", "a::b"),
    ],
)
def test_a_masked_value_is_never_output(line: str, value: str) -> None:
    """Not even one that is too short to be masked."""
    output, told = heard(Github(), f"{line}\n".encode())
    assert output == line[: line.index("::", line.index("::") + 2) + 2].encode() + b"***\n"
    assert told == [said.Mask(value=value)]


def test_between_stop_and_its_token_everything_is_plain() -> None:
    """What an untrusted program prints there commands nothing."""
    data = b"::stop-commands::Tok\n::error::x\n::other::\n::add-mask::abcd\n::Tok::\n::error::y\n"
    assert heard(Github(), data) == (data, [said.Fault(kind="error", message="y")])


def test_an_endless_command_is_left_out() -> None:
    """A value to mask could be its end."""
    output, told = heard(Github(), b"::add-mask::" + b"x" * (2 << 20), b"y\nnext")
    assert output == b"\nnext"
    assert [type(item) for item in told] == [said.Unread]


# ---- both ------------------------------------------------------------------------------------

SAMPLES = [
    b"plain\n", b" \t", b"{", b"\n", b"::", b":", b"\r\n", b"x", b"\xff", b"{ ", b'{"type":',
    b"::error file=a::m\n", b"::add-mask::hunter2\n", b"::stop-commands::T\n", b"::T::\n",
    b"::group::g\n", b'{"type":"lint"}\n', b'{"type":"assistant","mess',
    lines(INIT), lines(RESULT), lines(assistant(text("hi"), call("t1"))), lines(answer("t1")),
    lines(BEGIN, delta("hel"), delta("lo")), lines(assistant(text("hello"))),
    b'{"type":"result","usage":{"input_tokens":1e999},"total_cost_usd":"x","result":{}}\n',
    b'{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":[]}]}}\n',
    b'{"type":"assistant","message":{"id":7,"content":[7,{"type":{}}],"usage":[1]}}\n',
    b'{"type":"system","subtype":"init","model":{},"mcp_servers":[{"status":{}}]}\n',
    b'{"type":"assistant","x":' + b"[" * 3000 + b"\n",
]  # fmt: skip


@pytest.mark.parametrize("make", [Claude, Github])
@given(st.lists(st.sampled_from(SAMPLES) | st.binary(max_size=9), max_size=12), st.data())
def test_what_is_heard_does_not_depend_on_the_chunks(
    make: Callable[[], Dialect], parts: list[bytes], data: st.DataObject
) -> None:
    """Nothing raises, whatever comes; all that is said can be an event."""
    stream = b"".join(parts)
    whole = heard(make(), stream)
    places = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *places, len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert heard(make(), *chunks) == whole
    for item in whole[1]:
        msgspec.json.encode(item)


@pytest.mark.parametrize("make", [Claude, Github])
def test_byte_by_byte_is_like_whole(make: Callable[[], Dialect]) -> None:
    """All samples one after the other."""
    stream = b"".join(SAMPLES)
    assert heard(make(), *(bytes([byte]) for byte in stream)) == heard(make(), stream)


@given(st.text(alphabet='{}":, typeasinux\n', max_size=60))
def test_without_an_agents_words_everything_is_output(words: str) -> None:
    """No byte of plain output is lost or moved."""
    assert heard(Claude(), words.encode()) == (words.encode(), [])
