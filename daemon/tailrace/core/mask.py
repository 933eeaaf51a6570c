"""The masker: replaces secrets in a step's output with ``***``, once, at the source.

Theory of operation
-------------------
What is masked is a matter of the whole output, and never of the pieces in
which it came:

- Each *needle* (`tailrace.core.needles`) that occurs covers its bytes, all
  occurrences counting, also those that overlap.
- Each *chain* (`tailrace.core.chains`), a secret of several lines with anything
  that line breaks become between them, covers its bytes.
- Each *token* covers its bytes: for every end of a match the one that begins
  farthest to the left, no farther than `REACH` away. A pattern that ends in a
  class without end (``ghp_[A-Za-z0-9]{36,}``) is a head and a *run*: the head
  must fit into `REACH`, the run covers its bytes as long as they go on.
  One that ends in a byte of its last class (the ``@`` of ``://[^/ ]+@``) is
  found at the first such byte, and covers up to the last one within `REACH`.
- Each *value* (what follows ``Authorization: Bearer``) is a run that begins
  where a match of its ``before`` ends. In quotes it runs up to the next quote
  that isn't one within the value.
- Each *block* (a private key) covers everything from where it begins to where
  it ends, or `BLOCK` bytes where it doesn't.

Covered bytes that overlap or touch are one ``***``; all others pass.

Hyperscan finds all of these in one pass over the stream; it reads each byte
once and keeps its own state between chunks, so that pieces make no difference
to what is found, and time is linear in the output. What remains is to know
which bytes are *decided*: no match still to come can cover them. Then they
leave, in order. Three rules tell, from cheap to exact:

- After a line feed only chains and needles with a line feed in them can be
  under way (shapes never reach over one), and only such a needle's part up to
  one of its line feeds can end there: one look-up of the last eight bytes.
- Whatever is the rules' `reach` bytes old is decided: no needle is longer, and
  no head. This bounds what is held of a line without end.
- When the timer asks for an open line (`Masker.flush`), its tail is searched
  for the earliest place from which a needle or a head could still become
  whole: needles by bisection in their sorted list, heads by a second database
  of their beginnings (`tailrace.core.patterns.beginning`).

Covered bytes leave at once, as ``***``: whatever comes can only add to them.
So can a run and a block, which are state and hold nothing back, but for the
quote or backslashes of which only the next byte tells whether they are a run's.

What is looked for is `tailrace.core.mask_rules`. Secrets that a step tells later
come as layers with databases of their own; a new layer reads the bytes that the
masker still has. Those are the last ``reach`` bytes, emitted or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tailrace.core.chains import Chain
from tailrace.core.layers import REACH, Layer
from tailrace.core.needles import SHORTEST
from tailrace.core.scanner import Found, ScanStream
from tailrace.core.shapes import Rule, Run

if TYPE_CHECKING:
    from tailrace.core.mask_rules import MaskRules

MASK: Final = b"***"
BLOCK: Final = 64 * 1024  # bytes that a block without an end covers
OPEN: Final = 64 * 1024  # bytes of a line without end that are gathered before some leave

_NEVER: Final = -(1 << 62)

Span = tuple[int, int]  # covered bytes: first offset, offset after the last


class Masker:
    """The masker of one attempt's output. End it with `close`, which frees its streams.

    All that `feed`, `flush` and `close` return, put together, is the same for
    every way of cutting the output into chunks and every placing of flushes.
    """

    def __init__(self, rules: MaskRules) -> None:
        self.masks = 0  # how many times ``***`` was written
        self._rules = rules
        self._closed = False
        self._streams: dict[Layer, ScanStream] = {}
        # Offsets count from the beginning of the output. `_raw` is what was read from `_base` to
        # `_end`; all before `_done` has been returned.
        self._raw = bytearray()
        self._base = self._done = self._end = 0
        self._spans: list[Span] = []  # covered, and not all returned yet
        self._mask_end = _NEVER  # offset after the last masked byte
        self._alive_from = 0  # from no place of the line before it can a match begin any more
        self._in_mask = False  # what was returned last is a ``***`` that covers up to `_done`
        self._runs: set[tuple[Run, int]] = set()  # those that may go on behind `_end`, and to where
        self._ran: dict[Run, Span] = {}  # where each went last
        self._lasts: list[tuple[Rule, int, int]] = []  # open ones: rule, begin, searched up to
        self._waiting: list[tuple[int, Rule]] = []  # values that have begun and may not be ones
        self._block: Span | None = None  # the open block: covered from, at most to
        self._looks: dict[Chain, tuple[int, int]] = {}  # an end, and how many were left behind it
        self._attach()

    @property
    def held(self) -> int:
        """How many bytes are held back: at most the rules' reach and `OPEN` together."""
        return self._end - self._done

    @property
    def rules(self) -> MaskRules:
        """The rules in force; new ones reach all bytes that haven't been returned."""
        return self._rules

    @rules.setter
    def rules(self, rules: MaskRules) -> None:
        self._rules = rules
        if not self._closed:
            self._alive_from = 0
            self._attach()

    def feed(self, chunk: bytes) -> bytes:
        """Take what was read; return what is decided, at most up to the last line feed.

        Of a line that grows beyond `OPEN` bytes the older part is returned.

        Raises:
            ValueError: the masker is closed.
        """
        if self._closed:
            raise ValueError("the masker is closed")
        begin = self._end
        self._end += len(chunk)
        found = [(layer, stream.scan(chunk)) for layer, stream in self._streams.items()]
        closed = chunk.rfind(b"\n") + 1
        if closed and self._passes(chunk, closed) and not any(matches for _, matches in found):
            return self._pass(chunk, begin, closed)
        self._raw += chunk
        self._go_on()
        for layer, matches in found:
            self._take(layer, matches)
        self._decide_values(final=False)
        out = self._emit(self._decided(begin + closed if closed else 0))
        self._forget()
        return out

    def flush(self, *, spare: int = 0) -> bytes:
        """Return all but what could still become part of a match: for an open line, by a timer.

        A token's beginning of less than *spare* bytes is returned too; should
        it become one, the rest of it is masked alone.
        """
        if self._closed or not self.held:
            return b""
        line = self._base + self._raw.rfind(b"\n") + 1
        start = self._base if spare or self._masked_lately() else self._done
        begin = max(line, self._alive_from, start)
        tail = bytes(self._raw[begin - self._base :])
        begun = {layer: layer.unfinished(tail) for layer in self._streams}
        self._alive_from = begin + min(begun.values())
        limit = begin + min(
            len(tail) if layer.rules and len(tail) - at < spare else at
            for layer, at in begun.items()
        )
        limit = min([limit, *(value for value, _ in self._waiting), *(at for _, at in self._runs)])
        if (waits := self._waiting_from(line)) < line:
            limit = min(limit, waits)
        return self._emit(max(limit, self._done))

    def close(self) -> bytes:
        """Return the rest: the output has ended. Closing again returns nothing."""
        self._closed = True
        for layer, stream in self._streams.items():
            self._take(layer, stream.close())
        self._streams = {}
        self._decide_values(final=True)
        return self._emit(self._end)

    # Clean output: nothing found, nothing under way.

    def _passes(self, chunk: bytes, closed: int) -> bool:
        if self._spans or self._runs or self._lasts or self._waiting or self._block:
            return False
        if len(chunk) - closed > OPEN:
            return False
        if not self._rules.reaches_over_lines:
            return True
        return not any(layer.may_go_on(chunk, closed) for layer in self._streams)

    def _pass(self, chunk: bytes, begin: int, closed: int) -> bytes:
        if self._done == begin and closed == len(chunk):
            out = chunk
        else:
            held = self._raw[self._done - self._base :]
            out = b"".join((held, memoryview(chunk)[:closed]))
        self._done = begin + closed
        self._in_mask = False
        keep = max(self._rules.reach, self.held)
        if len(chunk) >= keep:
            self._raw = bytearray(memoryview(chunk)[len(chunk) - keep :])
            self._base = self._end - keep
        else:
            self._raw += chunk
            self._forget()
        return out

    def _forget(self) -> None:
        surplus = len(self._raw) - max(self._rules.reach, self.held)
        if surplus > self._rules.reach:
            del self._raw[:surplus]
            self._base += surplus

    # Rules

    def _attach(self) -> None:
        """Open a stream for each new layer and let it read what is still here; close the others."""
        streams: dict[Layer, ScanStream] = {}
        for layer in self._rules.layers:
            stream = self._streams.pop(layer, None)
            if stream is None:
                stream = layer.scanner.open(self._base)
                self._take(layer, stream.scan(self._raw))
            streams[layer] = stream
        for stream in self._streams.values():
            stream.close()
        self._streams = streams

    # From matches to covered bytes

    def _cover(self, begin: int, end: int) -> None:
        spans = self._spans
        if spans and spans[-1][0] <= begin <= spans[-1][1]:
            if end > spans[-1][1]:
                spans[-1] = (spans[-1][0], end)
        elif end > begin and end > self._done:
            spans.append((begin, end))

    def _take(self, layer: Layer, found: list[Found]) -> None:
        found.sort()
        widths, rules, cover = layer.widths, layer.rules, self._cover
        for end, number, start in found:
            width = widths[number]
            if width:
                cover(end - width, end)
            elif rules:
                self._take_shape(rules[number], start, end)
            elif number >= len(layer.needles):
                self._take_chain(layer.chains[number - len(layer.needles)], end)
            elif run := layer.runs.get(number):
                cover(end - len(layer.needles[number]), self._run_from(run, end))
            else:
                self._take_long(layer.needles[number], end)
        if rules and self._block:
            self._cover_block(self._end)

    def _take_long(self, needle: bytes, end: int) -> None:
        begin = end - len(needle)
        if begin >= self._base and self._raw[begin - self._base : end - self._base] == needle:
            self._cover(begin, end)

    def _take_chain(self, chain: Chain, end: int) -> None:
        """Cover a chain that ends there, unless to find out costs more than output is worth.

        What is counted are ends and bytes, so that it is the same for every way of cutting.
        """
        before, left = self._looks.get(chain, (end, chain.most_looks))
        # One more for each byte; lines that are printed as they are need half of that.
        looks = min(chain.most_looks, left + end - before)
        begin, left = chain.begin(self._raw, end - self._base, looks)
        self._looks[chain] = end, left
        if begin >= 0 and end - self._base - begin >= SHORTEST:
            self._cover(self._base + begin, end)

    def _take_shape(self, rule: Rule, start: int, end: int) -> None:
        begin = end - rule.width if rule.width else start
        if rule.kind == "value":
            at = end - self._base
            self._waiting.append((end, rule.within(self._raw, max(0, at - REACH), at)))
        elif rule.kind == "end":
            if self._block:
                self._cover_block(end)
                self._block = None
        elif end - begin > REACH:
            pass
        elif rule.last:
            self._cover_to_last(rule, begin, end - 1)
        elif rule.kind == "block":
            if self._block and begin > self._block[0]:
                self._cover_block(begin)
            self._block = (self._block[0] if self._block else begin, begin + BLOCK)
        else:
            ends = self._run_from(rule.run, end) if rule.run else end - rule.keep[1]
            self._cover(begin + rule.keep[0], ends)

    def _cover_block(self, end: int) -> None:
        """Cover the open block up to *end*, or to where it must have ended."""
        assert self._block
        begin, most = self._block
        upto = min(end, most)
        self._cover(begin, upto)
        self._block = (upto, most) if upto < most else None

    def _run_from(self, run: Run, begin: int) -> int:
        """Return where a run that begins at *begin* stops for now."""
        first, last = self._ran.get(run, (0, -1))
        if run.unit or not first <= begin <= last:
            match = run.goes_on.match(self._raw, begin - self._base)
            last = self._base + (match.end() if match else 0)
            self._ran[run] = (begin, last)
        if run.may_go_on(self._raw, last - self._base):
            self._runs.add((run, last))
        return last

    def _cover_to_last(self, rule: Rule, begin: int, at: int) -> None:
        """Cover up to the last of the bytes that end a match of *rule*; *at* is searched from."""
        assert rule.run
        assert rule.last
        base, most = self._base, begin + REACH
        match = rule.run.goes_on.match(self._raw, at - base, max(at, most) - base)
        stop = match.end() if match else at - base
        last = self._raw.rfind(rule.last, at - base, stop) + 1
        if last:
            self._cover(begin + rule.keep[0], base + last - rule.keep[1])
        if base + stop == self._end < most:
            self._lasts.append((rule, begin, self._end))

    def _go_on(self) -> None:
        """Let what reached the former end go on."""
        runs, self._runs = self._runs, set()
        lasts, self._lasts = self._lasts, []
        self._ran.clear()
        for run, end in runs:
            self._cover(end, self._run_from(run, end))
        for rule, begin, at in lasts:
            self._cover_to_last(rule, begin, at)

    def _decide_values(self, *, final: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for begin, rule in waiting:
            begins = self._decide_value(rule, begin, final)
            if begins is not None:
                self._waiting.append((begins, rule))

    def _decide_value(self, rule: Rule, begin: int, final: bool) -> int | None:
        """Cover a value if it is one; return None, or where it would begin while that is open."""
        assert rule.head
        assert rule.run
        raw, base = self._raw, self._base
        first, last = self._ran.get(rule.run, (0, -1))
        if first <= begin < last:
            return None  # all that it could cover is covered
        if rule.lead and (lead := rule.lead.match(raw, begin - base)):
            begin = base + lead.end()
        at = begin - base
        is_value = rule.head.match(raw, at) is not None
        is_short = self._end - begin < (rule.lookahead if is_value else rule.width)
        if not final and is_short and raw.find(b"\n", at) < 0:  # more of it may come
            return begin
        if is_value:
            skipped = rule.skip and rule.skip.match(raw, at)
            begin = base + skipped.end() if skipped else begin
            self._cover(begin, self._run_from(rule.run, begin))
        return None

    # From covered bytes to output

    def _decided(self, closed: int) -> int:
        """Return the offset before which all is decided; *closed* is behind the last line feed."""
        limit = max(self._waiting_from(closed), self._done)
        if self._end - limit > self._rules.reach + OPEN:
            limit = self._end - self._rules.reach
        return limit

    def _waiting_from(self, line: int) -> int:
        """Return where a needle has begun that goes on in the line beginning at *line*, or that."""
        if line <= self._base or not self._rules.reaches_over_lines:
            return line
        cut = line - self._base
        return self._base + min(layer.waiting_from(self._raw, cut) for layer in self._streams)

    def _masked_lately(self) -> bool:
        """Tell whether a match may have begun in what was returned: in masked bytes alone."""
        return self._mask_end > self._end - self._rules.reach

    def _emit(self, limit: int) -> bytes:
        """Return what comes before *limit*, and the ``***`` that begins there at the latest."""
        spans, at, in_mask = self._spans, self._done, self._in_mask
        if at >= limit and not (spans and spans[0][0] <= at):
            return b""
        spans.sort()
        base, pieces, taken = self._base, [], 0
        with memoryview(self._raw) as raw:
            for begin, end in spans:
                if begin > limit:
                    break
                taken += 1
                if end <= at:
                    continue
                if begin > at:
                    pieces.append(raw[at - base : begin - base].tobytes())
                    in_mask = False
                if not in_mask:
                    pieces.append(MASK)
                    self.masks += 1
                at = self._mask_end = end
                in_mask = True
            if at < limit:
                pieces.append(raw[at - base : limit - base].tobytes())
                at, in_mask = limit, False
        del spans[:taken]
        self._done, self._in_mask = at, in_mask
        return b"".join(pieces)
