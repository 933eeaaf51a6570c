"""The means of the proofs: the look for processes, the reading of journals, the search."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from tailrace.prove import leaky_step
from tailrace.prove.canaries import Secrets, pieces_in
from tailrace.prove.marks import Mark, end_all, look, survivors, try_the_look
from tailrace.prove.page import write_page
from tailrace.prove.proof import Counts, Ledger, Miss, Proof, Trial, Verdict
from tailrace.prove.records import check_sequence, compare, read_journal
from tailrace.rundir.layout import RunDir


def ledger() -> Ledger:
    """An empty one."""
    return Ledger(lambda done: None)


def kinds(book: Ledger) -> list[str]:
    """What was missed."""
    return [miss.kind for miss in book.misses]


async def test_a_process_that_hides_is_found_and_ended(tmp_path: Path) -> None:
    """Without environment, in a session of its own, by its argv; and by the file it holds."""
    mark, other = Mark.make(tmp_path, "mark-one"), Mark.make(tmp_path, "mark-two")
    process = mark.plant()
    try:
        found = await survivors([mark, other])
        assert [item.pid for item in found["mark-one"]] == [process.pid]
        assert found["mark-two"] == []
        end_all([mark, other])
        await asyncio.to_thread(process.wait)
        assert look([mark])["mark-one"] == []
    finally:
        process.kill()
        process.wait()
    await try_the_look(tmp_path)


def written(folder: Path, *events: dict[str, object], log: bytes = b"") -> RunDir:
    """A run folder with a journal, and a log of the step ``a``."""
    run = RunDir(folder)
    run.log("a", 1).parent.mkdir(parents=True)
    run.log("a", 1).write_bytes(log)
    lines = [{"seq": seq, **event} for seq, event in enumerate(events, 1)]
    run.journal.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    return run


def test_a_journal_is_read_as_watchers_get_it(tmp_path: Path) -> None:
    """Slices become their texts; a torn last line isn't an event."""
    place = {"event": "log", "step": "a", "attempt": 1}
    run = written(
        tmp_path,
        {**place, "line": 1, "offset": 0, "bytes": 8},
        {**place, "line": 3, "offset": 8, "bytes": 1, "open": True},
        log=b"one\ntwo\n3",
    )

    assert [event["text"] for event in read_journal(run)] == ["one\ntwo", "3"]


def test_what_a_watcher_missed_or_got_twice_is_told() -> None:
    """And so is an event that isn't the journal's."""
    journal = [{"seq": n, "event": "log", "text": str(n)} for n in (1, 2, 3)]
    for told, expected in (
        (journal, []),
        (journal[:1] + journal[2:], ["lost"]),
        ([*journal, journal[0]], ["doubled"]),
        ([*journal[:2], {**journal[2], "text": "other"}], ["lost"]),
        ([journal[1], journal[0], journal[2]], ["lost"]),
    ):
        book = ledger()
        compare(book, "w", told, journal)
        assert kinds(book) == expected, told


def test_a_journal_without_an_end_or_with_two_is_told() -> None:
    """So is one with a gap."""
    end = {"event": "summary"}
    for events, expected in (
        ([{"event": "plan"}, end], []),
        ([{"event": "plan"}], ["lost"]),
        ([end, end], ["lost", "doubled"]),
    ):
        book = ledger()
        check_sequence(book, "r", [{"seq": n, **event} for n, event in enumerate(events, 1)])
        assert kinds(book) == expected, events
    book = ledger()
    check_sequence(book, "r", [{"seq": 1, "event": "plan"}, {"seq": 3, "event": "summary"}])
    assert "lost" in kinds(book)


def secrets(tmp_path: Path) -> Secrets:
    """Some, drawn."""
    return Secrets(
        Trial(folder=tmp_path, counts=Counts(), random=random.Random(1), ledger=ledger())
    )


@pytest.mark.parametrize("name", leaky_step.encodings("s" * 9))
def test_a_form_that_leaks_is_found(tmp_path: Path, name: str) -> None:
    """Every encoding, although only the end of it is there."""
    planted = secrets(tmp_path)
    text = leaky_step.encodings(planted.canary)[name]

    assert pieces_in(f"before {text[len(text) // 2 :]} after".encode(), planted.pieces)
    assert not pieces_in(b"form 001 | before *** after, Authorization: Bearer ***", planted.pieces)


def test_a_token_or_a_line_that_leaks_is_found(tmp_path: Path) -> None:
    """Everything that is planted, not only the secret with all its encodings."""
    planted = secrets(tmp_path)
    tokens = [token for _, token, _ in leaky_step.shapes(planted.plain).values()]
    lines = [line for line in planted.lines.split("\n") if len(line) > 11]
    for text in (
        *tokens,
        *lines,
        planted.plain,
        planted.password,
        leaky_step.late_of(planted.plain),
    ):
        assert pieces_in(text.encode(), planted.pieces), text


def test_there_are_at_least_a_hundred_forms_and_each_has_a_name_of_its_own() -> None:
    """The table counts them."""
    names = [name for name, _ in leaky_step.forms("s" * 9, "l" * 9, "p" * 9)]
    assert len(names) == len(set(names)) >= 100


def test_the_page_shows_misses_as_text_and_never_as_markup() -> None:
    """What a command line held may be hostile."""
    proof = Proof(
        name="cancels", title="1 tree", tried=1, judges=("survivors",), duration_ms=5,
        misses=(Miss(kind="survivors", what="pid 7 lives: <script>"),), evidence=("1 kind",),
        notes=(), figures={}, containments=("cgroup",),
    )  # fmt: skip
    verdict = Verdict(
        proofs=(proof,), seed=1, began_at="2026-11-20T18:00:00.000Z", duration_ms=5, version="0",
        machine="m",
    )  # fmt: skip
    page = write_page(verdict).decode()

    assert verdict.line == "lost 0 · doubled 0 · survivors 1 · leaks 0 · containment: cgroup v2"
    assert "&lt;script&gt;" in page
    assert "<script" not in page
