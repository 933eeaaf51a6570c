"""What steps narrate, as rows of the tree and as plain lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tailrace.cli.model import Model
from tailrace.cli.narrative_lines import NarrativeLines
from tailrace.cli.picture import text_of
from tailrace.cli.question import Asking
from tailrace.cli.rows import Frame, Line
from tailrace.cli.view import lay_out, lay_out_end, lay_out_summary
from tailrace.cli.wrap import wrap
from tailrace.core.units import format_cost
from tailrace.rundir.journal import JournalReader
from written_run import WrittenRun

NOW = 1_800_000_000.0


@pytest.fixture
def written(tmp_path: Path) -> WrittenRun:
    """A run of two steps of which the second one narrates."""
    run = WrittenRun(tmp_path / "01jd0000000000000000000000")
    run.now = NOW
    run.plan({"clone": [], "review": ["clone"]})
    run.started()
    run.step_started("clone")
    run.step_finished("clone")
    run.step_started("review")
    return run


def call(run: WrittenRun, name: str, phase: str, **more: Any) -> None:
    """Append a tool call."""
    said: dict[str, Any] = {"id": None, "server": None, "is_error": None, "duration_ms": None}
    run.event("tool_call", step="review", name=name, phase=phase, **{**said, **more})


def text(run: WrittenRun, delta: str) -> None:
    """Append a piece of text."""
    run.event("text", step="review", delta=delta)


def model_of(run: WrittenRun) -> Model:
    """What the view knows."""
    model = Model()
    reader = JournalReader(run.run)
    while frames := reader.read():
        model.take(frames)
    reader.close()
    return model


def rows(lines: list[Line], width: int = 79) -> list[str]:
    """Rows as a terminal has them."""
    return [text_of(line, width).plain.rstrip() for line in lines]


def live(run: WrittenRun, *, width: int = 79, height: int = 23) -> list[str]:
    """The picture two seconds later."""
    return rows(lay_out(model_of(run), Frame(width=width, height=height, now=NOW + 2)), width)


def test_a_running_step_shows_its_last_calls_and_its_text(written: WrittenRun) -> None:
    """Calls with their times, those under way last; then the end of the text, wrapped."""
    for n in range(3):
        call(written, f"read{n}", "finished", duration_ms=100 * n)
    call(written, "grep", "started", id="a")
    call(written, "grep", "started", id="b", server="fs")
    call(written, "grep", "finished", id="a", is_error=True, duration_ms=1200)
    text(written, "The change adds a retry to the loop. It waits twice as long each time, ")
    text(written, "\x1b[2Jand has no bound.\n\nNext I look")
    written.log("review", b"hidden beneath the text\n")
    assert live(written)[2:] == [
        "└─ ⠦ Review  4 tool calls, 1 failed                                        2.0s",
        "     ⚒ read1                       0.1s",
        "     ⚒ read2                       0.2s",
        "     ⚒ grep                        1.2s  failed",
        "     ⚒ fs/grep                     2.0s",
        "     The change adds a retry to the loop. It waits twice as long each time, and",
        "     has no bound.",
        "     Next I look",
    ]
    short = live(written, height=6)
    assert len(short) == 6
    assert short[-1] == "     Next I look"
    assert short[-3].startswith("     ⚒ fs/grep")


def test_a_result_replaces_the_text_and_stays_with_its_sources_and_costs(
    written: WrittenRun,
) -> None:
    """In the end: the result, each source once, and what the run has spent."""
    text(written, "thinking aloud")
    for _ in range(2):
        written.event("citation", step="review", id=None, title="RFC 9110", url="https://x.example")
    written.event(
        "citation", step="review", id=None, title=None, url="https://y.example/" + "z" * 90
    )
    written.event(
        "cost", step="review", usd=0.1234, tokens_in=3400, tokens_out=210, total_usd=0.1234,
        total_tokens_in=3400, total_tokens_out=210,
    )  # fmt: skip
    written.event("result", step="review", text="Two findings:\n- one\n- two", is_error=False)
    assert live(written)[3] == "     Two findings:"
    assert live(written)[0].startswith("⠦ demo/1 · $0.12")
    written.step_finished("review")
    cost = {"usd": 0.1234, "tokens_in": 3400, "tokens_out": 210}
    written.summary("success", cost=cost)
    model = model_of(written)
    end = rows(lay_out_end(model, Frame(width=79, height=23, now=NOW)))
    assert end[3:7] == [
        "     Two findings:",
        "     - one",
        "     - two",
        "     [1] RFC 9110  https://x.example",
    ]
    assert end[7] == "     [2]"
    assert "".join(row.strip() for row in end[8:]) == "https://y.example/" + "z" * 90
    _, lines = lay_out_summary(model)
    assert "cost    $0.12 · 3,400 tokens in · 210 out" in [line.plain() for line in lines]


def test_what_a_finished_step_told_is_seen_while_a_question_is_open(written: WrittenRun) -> None:
    """People are asked about it; the question takes half of the screen at most."""
    written.event("result", step="review", text="\n".join("abcdefgh"), is_error=False)
    written.step_finished("review")
    written.event(
        "prompt", id="clone.p", step="clone", question="Which? " * 300,
        choices=["one " * 30] * 9, default=None, expires_at=None,
    )  # fmt: skip
    model = model_of(written)
    asking = Asking()
    asking.look(model.snapshot.prompts)
    frame = Frame(width=79, height=12, now=NOW, asking=asking, hint="Ctrl-C", can_answer=True)
    drawn = rows(lay_out(model, frame))
    assert len(drawn) == 12
    assert drawn[3:5] == ["     a", "     b"]
    assert drawn[5].startswith("? Which? Which?")
    assert drawn[-2:] == ["  > ▏", "Ctrl-C"]


def test_a_text_without_end_costs_little(written: WrittenRun) -> None:
    """Memory is bounded, and the picture shows its end."""
    for _ in range(50):
        text(written, "x" * 20_000)
    text(written, " the end")
    model = model_of(written)
    assert len(model.of("review").said.streamed) == 1 << 16
    assert "the end" in live(written)[-1]


@given(st.text(max_size=200), st.integers(1, 60))
def test_wrapped_text_fits_and_keeps_its_words(said: str, width: int) -> None:
    """No row is wider than asked, and what can be seen is all there."""
    wrapped = wrap(said, width)
    assert all(cell_len(row) <= max(width, 4) for row in wrapped)
    assert "".join("".join(wrapped).split()) == "".join("".join(wrap(said, 10_000)).split())


def plain(run: WrittenRun) -> list[str]:
    """The lines that a pipe gets of the narrating step."""
    lines = NarrativeLines()
    reader = JournalReader(run.run)
    given_out: list[str | None] = []
    while frames := reader.read():
        given_out += [
            lines.take(f) for f in frames if f.event in ("tool_call", "text", "result", "citation")
        ]
    reader.close()
    given_out += [rest for _, rest in lines.end(None)]
    return "\n".join(block for block in given_out if block is not None).split("\n")


def test_plain_lines_join_text_and_tell_calls_at_their_end(written: WrittenRun) -> None:
    """A call begins a new line of text; a failed one says so."""
    text(written, "I look ")
    text(written, "around")
    call(written, "grep", "started", id="a")
    call(written, "grep", "finished", id="a", is_error=False, duration_ms=1200)
    call(written, "fetch", "finished", server="web", is_error=True)
    text(written, "Found it.\nDone")
    written.event("citation", step="review", id=None, title="T", url="https://x.example")
    assert plain(written) == [
        "I look around", "[grep in 1.2s]", "[web/fetch, which failed]", "Found it.",
        "source: T https://x.example", "Done",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("result", "is_error", "told"),
    [
        ("All is well.", False, []),
        ("Two things", False, ["result: Two things"]),
        ("no\nway\n", True, ["failed:", "no", "way"]),
    ],
)
def test_a_result_is_told_unless_its_text_was(
    written: WrittenRun, result: str, is_error: bool, told: list[str]
) -> None:
    """What streamed last needn't be said twice."""
    text(written, "I see.\nAll  is\nwell.")
    written.event("result", step="review", text=result, is_error=is_error)
    assert plain(written) == ["I see.", "All  is", "well.", *told]


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        ((0.1234, 3400, 210), "$0.12 · 3,400 tokens in · 210 out"), ((0.0042, 0, 0), "$0.0042"),
        ((0.00012345, 1, 0), "$0.00012 · 1 tokens in · 0 out"), ((0, 5, 6), "5 tokens in · 6 out"),
        ((12345.678, 0, 0), "$12,345.68"), ((0, 0, 0), "$0.00"), ((1e-12, 0, 0), "under $0.000001"),
        ((0.00999, 0, 0), "$0.01"),
    ],
)  # fmt: skip
def test_costs_read_as_people_write_them(cost: tuple[float, int, int], shown: str) -> None:
    """Small amounts keep two digits that count."""
    assert format_cost(*cost) == shown
