"""What a watcher gets, as pure functions of the sequence: whatever the batches and the splits."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

import tailrace.http.shapes
from http_site import parse_sse
from tailrace import wire
from tailrace.core.lines import LineCounter, resolve_carriage_returns
from tailrace.http.query import parse_event_id
from tailrace.http.shapes import (
    Narrowing,
    PlainLines,
    Thinning,
    sse_frames,
    sse_parts,
)
from tailrace.http.watching import prefers
from tailrace.wire import Frame

OUTPUT = st.text("ab\n\rü", max_size=30)


def frames_of(text: str, cuts: list[int]) -> list[Frame]:
    """A step's log, cut at those bytes, and its end."""
    data, counter = text.encode(), LineCounter()
    frames: list[Frame] = []
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in zip(places, [*places[1:], len(data)], strict=True):
        piece = counter.take(data[start:end], final=start == len(data))
        if piece is not None:
            record = wire.Record(
                seq=len(frames) + 1, event="log", step="s", attempt=1, line=piece.line,
                open=piece.open, offset=piece.offset, bytes=len(piece.data),
            )  # fmt: skip
            frames.append(Frame(record.seq, "log", "s", wire.log_data(record, piece.data)))
    seq = len(frames) + 1
    end_data = wire.encode_record(seq, "", {"event": "step_finished", "step": "s", "attempt": 1})
    return [*frames, Frame(seq, "step_finished", "s", end_data.rstrip())]


def shown_lines(text: str) -> list[str]:
    """What a terminal shows of a whole output."""
    lines = text.split("\n")
    return [resolve_carriage_returns(line) for line in (lines if lines[-1] else lines[:-1])]


@given(OUTPUT, st.lists(st.integers(0, 60), max_size=8))
def test_plain_lines_are_the_same_for_every_split(text: str, cuts: list[int]) -> None:
    """Each line once, when it has ended."""
    lines = PlainLines({})
    parts = [part for frame in frames_of(text, cuts) for part in lines.parts(frame)]
    assert [data.decode() for name, data in parts if name == "log"] == shown_lines(text)
    assert parts[-1][0] == "step_finished"


@given(OUTPUT, st.lists(st.integers(0, 60), max_size=8), st.integers(0, 8))
def test_plain_lines_resume_with_the_open_line(text: str, cuts: list[int], at: int) -> None:
    """The two halves together are the whole."""
    frames = frames_of(text, cuts)
    at = min(at, len(frames) - 1)
    before = PlainLines({})
    lines = [line for frame in frames[:at] for line in before.lines(frame)]
    seen = "".join(
        item["text"] + ("" if item.get("open") else "\n")
        for item in (json.loads(frame.data) for frame in frames[:at])
    )
    after = PlainLines({("s", 1): seen.rpartition("\n")[2]})
    lines += [line for frame in frames[at:] for line in after.lines(frame)]
    assert lines == shown_lines(text)


def test_a_line_without_an_end_is_cut_into_pieces() -> None:
    """Counted from its start, so that a resumed stream cuts at the same places."""
    kept = tailrace.http.shapes.LONGEST_LINE
    tailrace.http.shapes.LONGEST_LINE = 4  # type: ignore[misc] # put back below
    try:
        for cuts in ([], [1, 2, 3, 4, 5], [4, 8], [6]):
            lines = PlainLines({})
            found = [
                line for frame in frames_of("abcdefghij\nxyz", cuts) for line in lines.lines(frame)
            ]
            assert found == ["abcd", "efgh", "ij", "xyz"]
            resumed = PlainLines({("s", 1): "abcdef"})
            assert resumed.lines(frames_of("ghij\n", [])[0]) == ["efgh", "ij"]
    finally:
        tailrace.http.shapes.LONGEST_LINE = kept  # type: ignore[misc] # as it was


def progress(seq: int, step: str, second: float) -> Frame:
    """A progress of a step at that second."""
    t = wire.timestamp(second)
    data = wire.encode_record(seq, t, {"event": "progress", "step": step}).rstrip()
    return Frame(seq, "progress", step, data)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), max_size=30))
def test_thinned_progress_keeps_its_distance_and_its_last(items: list[tuple[str, int]]) -> None:
    """For each step by itself."""
    items = sorted(items, key=lambda item: item[1])
    frames = [progress(n + 1, step, second) for n, (step, second) in enumerate(items)]
    ends = [Frame(90, "step_finished", "a", b"{}"), Frame(91, "step_finished", "b", b"{}")]
    thinning = Thinning(3000)
    sent = [(frame.seq, each) for frame in [*frames, *ends] for each in thinning.take(frame)]
    for step in "ab":
        mine = [(at, f.seq) for at, f in sent if f.step == step and f.event == "progress"]
        given_ = [f.seq for f in frames if f.step == step]
        assert [seq for _, seq in mine][-1:] == given_[-1:]
        times = [items[seq - 1][1] for at, seq in mine if at == seq]  # not those held till the end
        assert all(later - earlier >= 3 for earlier, later in itertools.pairwise(times))


def test_narrowing_keeps_the_plan_and_the_end() -> None:
    """And of other steps nothing."""
    kinds = [("plan", None), ("queued", None), ("log", "a"), ("log", "b"), ("aborted", None)]
    frames = [Frame(n, event, step, b"{}") for n, (event, step) in enumerate(kinds)]
    assert [frame.seq for frame in Narrowing("a").take(frames)] == [0, 2, 4]


def test_shapes_encode_as_documented() -> None:
    """The golden bytes of each; parts before an event's last carry the number before it."""
    frame = Frame(7, "status", "s", b'{"seq":7}')
    assert (
        sse_frames([frame], run=None, message=False) == b'event: status\nid: 7\ndata: {"seq":7}\n\n'
    )
    assert sse_frames([frame], run="r", message=True) == b'id: r:7\ndata: {"seq":7}\n\n'
    parts = [("log", b"a"), ("log", b"b"), ("status", b"{}")]
    assert sse_parts(7, parts, head="r:") == (
        b"event: log\nid: r:06\ndata: a\n\n"
        b"event: log\nid: r:006\ndata: b\n\n"
        b"event: status\nid: r:7\ndata: {}\n\n"
    )
    assert sse_parts(7, parts, begin=2, message=True) == b"id: 7\ndata: {}\n\n"


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_each_part_of_an_event_has_an_id_that_tells_its_place(count: int, cut: int) -> None:
    """However many there are, and where some before them were cut off."""
    parts = [("log", b"%d" % number) for number in range(count)]
    events = parse_sse(sse_parts(9, parts, cut=cut, head=f"{'0' * 26}:"))
    assert all(event.has_id for event in events)
    seen = [parse_event_id(event.last_id) for event in events]
    assert [(each.seq, each.parts) for each in seen[:-1]] == [
        (8, cut + place) for place in range(1, count)
    ]
    assert (seen[-1].seq, seen[-1].parts) == (9, 0)
    numbers = [event.last_id.partition(":")[2] for event in events if "." not in event.last_id]
    assert len(numbers) >= min(count, 256 - cut)
    assert {int(number) for number in numbers} <= {8, 9}


def test_an_accept_header_chooses_by_weight() -> None:
    """Wildcards choose nothing."""
    nd, sse = "application/x-ndjson", "text/event-stream"
    assert prefers(nd, nd, sse)
    assert prefers(f"{sse};q=0.5, {nd}", nd, sse)
    assert not prefers(f"{nd};q=0.5, {sse}", nd, sse)
    for header in (None, "", "*/*", "application/*", f"{nd};q=0", f"{nd};q=x"):
        assert not prefers(header, nd, sse)


def test_event_ids_have_two_forms() -> None:
    """A number, or a run and a number."""
    run = "0" * 26
    assert (parse_event_id("42").run, parse_event_id("42").seq) == (None, 42)
    assert (parse_event_id("0").parts, parse_event_id("0042").parts) == (0, 2)
    assert (parse_event_id("000").seq, parse_event_id("000").parts) == (0, 2)
    assert (parse_event_id("41.300").seq, parse_event_id("41.300").parts) == (41, 300)
    assert (parse_event_id(f" {run}:0 ").run, parse_event_id(f"{run}:0").seq) == (run, 0)
