"""The lines of Claude Code: ``claude -p --output-format stream-json --verbose``.

A line is a JSON object with a ``type``: ``system``, ``assistant``, ``user``,
``stream_event``, ``result``. They hold what tools were given and what they
answered, which is for nobody's eyes, so that no line of the agent's is output,
whether or not it is understood: what is to be told of it is said, the rest is
gone. All other lines are plain output.

Sources: the Agent SDK's reference of its messages and its page on cost, and the
Messages API on streaming, docs.claude.com.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tailrace.core import said
from tailrace.core.cut import cut
from tailrace.core.dialects import Heard
from tailrace.core.dialects.lines import Candidate, CandidateLines, Plain, begins_line

MAX_MESSAGE: Final = 8 << 20  # bytes; the answer of a tool that looks at a picture has some
MAX_TEXT: Final = 32 << 10  # characters in one event
MAX_RESULT: Final = 64 << 10
MAX_OPEN: Final = 1_000  # calls whose names are remembered

_MARK: Final = re.compile(rb'\{ ?"type" ?:')
_HALF_MARK: Final = re.compile(rb'\{ ?(?:"(?:t(?:y(?:p(?:e(?:" ?)?)?)?)?)?)?\Z')
_LONGEST: Final = 10  # bytes that a half mark has at most
_OURS: Final = re.compile(
    rb'"type"\s*:\s*"(?:system|assistant|user|result|stream_event|control_\w+|content_block_\w+'
    rb'|message_\w+|\w*tool_\w+)"'
    rb'|"(?:session_id|tool_use_id|parent_tool_use_id|tool_input|tool_response|tool_use_result'
    rb'|toolUseResult)"\s*:'
)
_FAILED: Final = frozenset({"failed", "needs-auth", "error"})


class Claude:
    """Reads an agent's messages; see `tailrace.core.dialects.Dialect`.

    *mask* is asked before a text is cut, as `tailrace.core.cut` says.
    """

    def __init__(self, *, mask: Callable[[str], str] = lambda text: text) -> None:
        self._mask = mask
        self._lines = CandidateLines(_find, _half, most=MAX_MESSAGE)
        self._broken = False  # the rest of a message may still follow as if it were output
        self._calls: OrderedDict[str, tuple[str, str | None]] = OrderedDict()  # name, server
        self._any_text = False
        self._message: str | None = None  # that streams now, by its id
        self._streamed: deque[str] = deque(maxlen=16)  # messages whose text came in pieces
        self._ahead = False  # text came in pieces, and not yet as a whole
        self._costs = _Costs()

    @property
    def held(self) -> int:
        """Bytes held back."""
        return self._lines.held

    def feed(self, chunk: bytes) -> Heard:
        """Take what was read."""
        return self._heard(list(self._lines.feed(chunk)))

    def close(self) -> Heard:
        """Take the end."""
        return self._heard(list(self._lines.close()))

    def _heard(self, pieces: list[Plain | Candidate]) -> Heard:
        heard = Heard()
        output = []
        for piece in pieces:
            if isinstance(piece, Candidate):
                output.append(self._read(piece, heard.said))
            elif not self._broken:
                output.append(piece.data)
        heard.output = b"".join(output)
        return heard

    def _read(self, piece: Candidate, items: list[said.Saying]) -> bytes:
        """Take in a line that may be a message; return it where it is none."""
        # Where plain output came before it on the line, that line ends here.
        ending = b"\n" if piece.ended and not piece.alone and not self._broken else b""
        if piece.too_long:
            items.append(said.Unread(f"a line of JSON is over {MAX_MESSAGE >> 20} MiB: left out"))
            return ending
        ours = _OURS.search(piece.line) is not None
        message = _decoded(piece.line) if ours else None
        if isinstance(message, dict):
            self._broken = False
            self._understand(message, items)
            return ending
        if ours:
            # Something else was printed in its midst, or its writer died.
            if not self._broken:
                self._broken = not piece.line.rstrip().endswith(b"}")
                more = ", and all up to the next message" if self._broken else ""
                items.append(said.Unread(f"a message of the agent is broken: left out{more}"))
            return ending
        if self._broken:
            return b""
        return piece.line + (b"\n" if piece.ended else b"")

    # ---- messages ----------------------------------------------------------------------------

    def _understand(self, message: dict[str, Any], items: list[said.Saying]) -> None:
        match message.get("type"):
            case "assistant":
                self._assistant(message, items)
            case "user":
                for block in _blocks(_table(message.get("message")).get("content")):
                    self._block(block, items, tells_text=False)
            case "stream_event" if not message.get("parent_tool_use_id"):
                self._stream(_table(message.get("event")), items)
            case "result":
                self._result(message, items)
            case "system":
                self._system(message, items)
            case str(kind) if kind.startswith(("content_block_", "message_")):
                self._stream(message, items)
            case _:
                self._block(message, items, tells_text=False)

    def _assistant(self, message: dict[str, Any], items: list[said.Saying]) -> None:
        body = _table(message.get("message"))
        name = _text(body.get("id"))
        # What an agent says that another one sent is the input or output of that call.
        is_inner = bool(message.get("parent_tool_use_id"))
        is_named = name and self._message is not None
        in_pieces = name in self._streamed if is_named else self._ahead
        blocks = _blocks(body.get("content"))
        for block in blocks:
            self._block(block, items, tells_text=not is_inner and not in_pieces)
        if not is_inner and any(block.get("type") == "text" for block in blocks):
            self._ahead = False
        if error := _text(message.get("error")):
            error = cut(error, 200, self._mask)
            items.append(said.Fault(kind=error, message=f"the model's API: {error}"))
        items += self._costs.used(name, _table(body.get("usage")))

    def _block(self, block: dict[str, Any], items: list[said.Saying], *, tells_text: bool) -> None:
        kind = _text(block.get("type")) or ""
        if kind == "text":
            if tells_text:
                self._begin_text(items)
                self._say(_text(block.get("text")) or "", items)
                items += self._citations(block.get("citations"))
        elif kind.endswith("tool_use"):
            self._begin_call(block, items)
        elif kind.endswith("tool_result"):
            self._end_call(block, items)

    def _begin_text(self, items: list[said.Saying]) -> None:
        """Set a piece of text off from what was said before it."""
        if self._any_text:
            items.append(said.Text(delta="\n\n"))
        self._any_text = True

    def _say(self, text: str, items: list[said.Saying]) -> None:
        items += (said.Text(delta=text[at : at + MAX_TEXT]) for at in range(0, len(text), MAX_TEXT))

    def _begin_call(self, block: dict[str, Any], items: list[said.Saying]) -> None:
        call, name = _text(block.get("id")), _text(block.get("name")) or "tool"
        server = _text(block.get("server_name"))
        if server is None and name.startswith("mcp__"):
            server, _, name = name.removeprefix("mcp__").partition("__")
            name = name or server
        if call is not None:
            if call in self._calls:
                return  # told already
            self._calls[call] = name, server
            if len(self._calls) > MAX_OPEN:
                self._calls.popitem(last=False)
        items.append(said.ToolCall(id=call, name=name, server=server, phase="started"))

    def _end_call(self, block: dict[str, Any], items: list[said.Saying]) -> None:
        call = _text(block.get("tool_use_id"))
        name, server = self._calls.pop(call or "", (None, None))
        if name is None:
            return  # of a call that nobody told of, as when a session goes on
        # A tool that the model's own servers run fails by the type of its answer.
        inner = _text(_table(block.get("content")).get("type")) or ""
        is_error = block.get("is_error") is True or inner.endswith("_error")
        items.append(
            said.ToolCall(id=call, name=name, server=server, phase="finished", is_error=is_error)
        )

    def _stream(self, event: dict[str, Any], items: list[said.Saying]) -> None:
        """Take in a piece of a message that is being written."""
        match event.get("type"):
            case "message_start":
                self._message = _text(_table(event.get("message")).get("id"))
            case "content_block_start":
                if _table(event.get("content_block")).get("type") == "text":
                    self._begin_text(items)
            case "content_block_delta":
                delta = _table(event.get("delta"))
                if delta.get("type") == "text_delta":
                    self._any_text = self._ahead = True
                    if self._message is not None and self._message not in self._streamed:
                        self._streamed.append(self._message)
                    self._say(_text(delta.get("text")) or "", items)
                elif delta.get("type") == "citations_delta":
                    items += self._citations([delta.get("citation")])
            case "message_delta":
                items += self._costs.used(self._message, _table(event.get("usage")))

    def _result(self, message: dict[str, Any], items: list[said.Saying]) -> None:
        items += self._costs.ended(message)
        is_error = message.get("is_error") is True
        kind = _text(message.get("subtype")) or ""
        text = _text(message.get("result"))
        if kind.startswith("error"):
            errors = message.get("errors")
            why = [_text(item) or "" for item in errors] if isinstance(errors, list) else []
            told = "; ".join(["the agent stopped", *filter(None, why)])
            items.append(self._fault(kind, told, 2_000))
        if text is not None:
            items.append(said.Result(text=cut(text, MAX_RESULT, self._mask), is_error=is_error))

    def _fault(self, kind: str, message: str, most: int = 200) -> said.Fault:
        mask = self._mask
        return said.Fault(kind=cut(kind, 200, mask), message=cut(message, most, mask))

    def _system(self, message: dict[str, Any], items: list[said.Saying]) -> None:
        match message.get("subtype"):
            case "init":
                if model := _text(message.get("model")):
                    items.append(said.Status(text=cut(f"model {model}", 200, self._mask)))
                for server in _blocks(message.get("mcp_servers")):
                    if (status := _text(server.get("status"))) in _FAILED:
                        told = f"MCP server '{_text(server.get('name'))}': {status}"
                        items.append(self._fault("mcp", told))
            case "api_retry":
                tries = [int(_number(message.get(key), 1e6)) for key in ("attempt", "max_retries")]
                why = _text(message.get("error")) or "no answer"
                most = f" of {tries[1]}" if tries[1] else ""
                told = f"the model's API: {why}; attempt {tries[0]}{most}"
                items.append(self._fault("api_retry", told))
            case "compact_boundary":
                items.append(said.Status(text="the agent has summarized what came before"))
            case _:
                pass

    def _citations(self, value: Any) -> list[said.Saying]:
        """Return the sources of a text, less what is quoted of them."""
        found: list[said.Saying] = []
        for item in _blocks(value):
            url = _text(item.get("url"))
            title = _text(item.get("title")) or _text(item.get("document_title"))
            if url is not None or title is not None:
                title = None if title is None else cut(title, 1_000, self._mask)
                found.append(said.Citation(title=title, url=url))
        return found


def _find(data: bytes, place: int) -> int:
    """Return where a line's first character is a brace, or a message begins within one."""
    at = data.find(b"{", place)
    while at >= 0 and not (begins_line(data, at) or _MARK.match(data, at)):
        at = data.find(b"{", at + 1)
    return at


def _half(data: bytes, place: int) -> int:
    found = _HALF_MARK.search(data, max(place, len(data) - _LONGEST))
    return len(data) if found is None else found.start()


class _Costs:
    """What was spent, of messages that repeat what they told before.

    Each message of the model tells its tokens in every line that is part of it;
    ``result`` tells the tokens of all together, and the dollars since the
    session began.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[str, tuple[int, int]] = OrderedDict()  # by message
        self._since_result = (0, 0)
        self._session: str | None = None
        self._usd = 0.0

    def used(self, message: str | None, usage: dict[str, Any]) -> list[said.Saying]:
        """Return what a message's usage adds; one without an id is told by ``result`` alone."""
        if message is None or not usage:
            return []
        tokens = _tokens(usage)
        before = self._told.get(message, (0, 0))
        # A line in the middle of a message may know less than the one before it.
        most = self._told[message] = max(tokens[0], before[0]), max(tokens[1], before[1])
        if len(self._told) > MAX_OPEN:
            self._told.popitem(last=False)
        added = most[0] - before[0], most[1] - before[1]
        self._since_result = self._since_result[0] + added[0], self._since_result[1] + added[1]
        return [said.Cost(tokens_in=added[0], tokens_out=added[1])] if any(added) else []

    def ended(self, result: dict[str, Any]) -> list[said.Saying]:
        """Return what ``result`` adds to what was told."""
        tokens = _tokens(_table(result.get("usage")))
        before, self._since_result = self._since_result, (0, 0)
        added = max(tokens[0] - before[0], 0), max(tokens[1] - before[1], 0)
        session = _text(result.get("session_id"))
        usd = _number(result.get("total_cost_usd"), said.MOST_USD)
        if session != self._session or usd < self._usd:
            self._session, self._usd = session, 0.0
        more, self._usd = round(usd - self._usd, 9), usd
        if not more and not any(added):
            return []
        return [said.Cost(usd=more, tokens_in=added[0], tokens_out=added[1])]


def _tokens(usage: dict[str, Any]) -> tuple[int, int]:
    """Return the tokens read and written; what was read from or into the cache was read."""
    read = sum(
        int(_number(usage.get(key), said.MOST))
        for key in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    return read, int(_number(usage.get("output_tokens"), said.MOST))


# ---- reading what anybody may have written ---------------------------------------------------


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:  # JavaScript writes half of a surrogate pair, where it cuts a text, as \ud83d
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _blocks(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    """Return a text that can be UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _number(value: Any, most: float) -> float:
    """Return a number from 0 to *most*; 0 for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= most else 0
