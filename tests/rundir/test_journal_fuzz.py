"""Journals that a crash, a bad disk or a bad editor left: read to their end, nothing invented."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.rundir.journal import JournalReader, JournalWriter
from tailrace.rundir.layout import RunDir
from tailrace.rundir.snapshot import read_snapshot

GOLDEN = (Path(__file__).parents[1] / "golden" / "events.jsonl").read_bytes().splitlines(True)
ODD = [
    b"\n", b"\r\n", b"\r", b"\0", b"\xff\xfe\n", b"{}\n", b"[]\n", b"null\n", b"[" * 5000 + b"\n",
    b'{"seq":1}\n', b'{"seq":-1,"event":"log","step":"../..","attempt":0,"offset":-1,"bytes":9}\n',
    b'{"seq":2,"event":"log","step":"clone","attempt":1,"line":1,"offset":0,"bytes":99999999999}\n',
    b'{"seq":3,"event":"log","step":"a\\u0000b","attempt":1,"line":1,"offset":1e9,"bytes":1}\n',
    b'{"seq":4,"event":"log","step":"' + b"x" * 5000 + b'","attempt":1,"offset":0,"bytes":1}\n',
    b'{"seq":5,"event":"log","step":"clone","attempt":99999999999999999999,"bytes":1}\n',
    b'{"seq":6,"event":"summary"}\n', b'{"seq":7,"event":"nova","t":"x","step":7}\n',
    b'{"seq":8,"event":"status","t":"x","step":"a","text":"\xff"}\n',
    b'{"seq":9,"event":"status","t":"x","step":"a","text":"\\ud800"}\n',
    b'{"seq":10,"event":"log","step":"clone","attempt":1,"offset":9223372036854775807,"bytes":9}\n',
]  # fmt: skip


@st.composite
def journals(draw: st.DrawFn) -> bytes:
    """The golden journal, its lines in any order, with others between, and bytes changed."""
    pieces = draw(st.lists(st.sampled_from([*GOLDEN, *ODD]) | st.binary(max_size=20), max_size=30))
    data = bytearray(b"".join(pieces))
    for place, byte in draw(
        st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5)
    ):
        if data:
            data[place % len(data)] = byte
    return bytes(data[: draw(st.integers(0, 20_000))])


def check(data: bytes, after: int, limit: int) -> None:
    """Read *data* as a journal in every way, then write to it."""
    with TemporaryDirectory() as folder:
        run = RunDir(Path(folder) / "01jd5zk3v8h2m4n6p8q0r2s4t6")
        run.log("clone", 1).parent.mkdir(parents=True)
        run.log("clone", 1).write_bytes(b"output\n")
        run.journal.write_bytes(data)
        whole = data.split(b"\n")[:-1]

        frames = []
        reader = JournalReader(run, after=after)
        while more := reader.read(limit):
            frames += more
        reader.close()

        assert [frame.seq for frame in frames] == list(range(after + 1, len(whole) + 1))
        for frame in frames:
            told = json.loads(frame.data)
            if told.get("kind") == "damaged" and frame.event == "notice":
                continue
            written = json.loads(whole[frame.seq - 1])
            assert (frame.event, frame.step) == (written["event"], written.get("step"))
            if frame.event != "log":
                assert told == written
        assert read_snapshot(run).last_seq == len(whole)

        journal = JournalWriter(run)
        assert journal.append("t", {"event": "status", "step": "a", "text": "x"}) == len(whole) + 1
        journal.close()
        assert run.journal.read_bytes().split(b"\n")[:-2] == whole


@settings(max_examples=100)
@given(journals(), st.sampled_from([0, 1, 7]), st.sampled_from([1, 100, 1 << 18]))
def test_a_scrambled_journal_is_read_to_its_end_and_nothing_is_invented(
    data: bytes, after: int, limit: int
) -> None:
    """Numbers without a gap; each event as its line has it, or a notice in its place."""
    check(data, min(after, data.count(b"\n")), limit)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, derandomize=False)
@given(journals(), st.sampled_from([0, 1, 7]), st.sampled_from([1, 100, 1 << 18]))
def test_twenty_thousand_scrambled_journals_are_read(data: bytes, after: int, limit: int) -> None:
    """The same, for longer."""
    check(data, min(after, data.count(b"\n")), limit)


def test_a_journal_cut_anywhere_reads_as_what_was_whole() -> None:
    """Each beginning of a sound journal, as a power cut may leave it."""
    data = b"".join(GOLDEN)
    for size in range(0, len(data), 13):
        check(data[:size], 0, 1 << 18)
