"""The live tree's layout, without a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.model import Model
from tailrace.cli.picture import text_of
from tailrace.cli.rows import ASCII, Frame, Line
from tailrace.cli.view import lay_out, lay_out_end, lay_out_summary
from tailrace.rundir.journal import JournalReader
from written_run import WrittenRun

NOW = 1_800_000_000.0
BUSY: dict[str, list[str]] = {step: [] for step in (f"s{n}" for n in range(20))}


@pytest.fixture
def written(tmp_path: Path) -> WrittenRun:
    """A run that a test writes."""
    run = WrittenRun(tmp_path / "01jd0000000000000000000000")
    run.now = NOW
    return run


def model_of(written: WrittenRun) -> Model:
    """What the view knows of the run so far."""
    model = Model()
    reader = JournalReader(written.run)
    while frames := reader.read():
        model.take(frames)
    reader.close()
    return model


def drawn(lines: list[Line], width: int) -> list[str]:
    """The rows as a terminal of that width has them."""
    return [text_of(line, width).plain.rstrip() for line in lines]


def picture(written: WrittenRun, *, width: int = 79, height: int = 23, hint: str = "") -> list[str]:
    """The rows of a run under way, ten seconds after its beginning."""
    frame = Frame(width=width, height=height, now=NOW + 10, hint=hint)
    return drawn(lay_out(model_of(written), frame), width)


def test_every_kind_of_step_has_its_row(written: WrittenRun) -> None:
    """What waits says for whom, what runs how far it is, what ended how."""
    written.plan({"clone": [], "lint": ["clone"], "scan": ["clone"], "report": ["lint", "scan"]})
    written.started()
    written.step_started("clone")
    written.step_finished("clone")
    written.step_started("lint")
    written.log("lint", b"one\n\x1b[31mtwo\x1b[0m\nthr")
    written.step_started("scan")
    written.progress(
        "scan", percent=50.0, stage="Reading", done=5, total=10, unit="files", rate=2048
    )
    assert picture(written) == [
        "⠋ demo/1                                                                  10.0s",
        "├─ ✓ Clone                                                                 1.2s",
        "├─ ⠋ Lint                                                                 10.0s",
        "│    one",
        "│    two",
        "│    thr",
        "├─ ⠋ Scan    ━━━━━━━━━━━━━━━━━━━  50%  Reading · 5/10 files · 2.0 KiB/s   10.0s",
        "└─ ○ Report  needs Lint and Scan",
    ]


def test_a_failure_shows_its_cause_and_at_the_end_its_last_words(written: WrittenRun) -> None:
    """Twenty lines of output, and what the summary says."""
    written.plan({"build": [], "test": ["build"]})
    written.started()
    written.step_started("build")
    written.log("build", b"".join(b"line %d\n" % n for n in range(100)))
    written.step_finished("build", "error", cause="exit status 2", returncode=2)
    written.step_finished("test", "skipped", cause="needs 'build', which failed", attempt=0)
    url = written.artifact("build", "report.html")
    written.summary("error", cause="step 'build' failed: exit status 2", file_url=url)
    model = model_of(written)
    rows = drawn(lay_out_end(model, Frame(width=79, height=23, now=NOW + 10)), 79)
    assert (
        rows[1] == "├─ ✗ Build  exit status 2                                                  1.2s"
    )
    assert rows[2:-1] == [f"│    line {n}" for n in range(80, 100)]
    assert rows[-1] == "└─ ⊘ Test   needs 'build', which failed"
    title, lines = lay_out_summary(model)
    assert title == "demo/1 failed in 5s"
    assert [line.plain() for line in lines] == [
        "step 'build' failed: exit status 2",
        f"report  {url}",
    ]


def test_twenty_parallel_steps_fit_a_terminal_of_24_rows(written: WrittenRun) -> None:
    """Each has its row, though all of them print."""
    written.plan(BUSY)
    written.started()
    for step in BUSY:
        written.step_started(step)
        written.log(step, b"x\n" * 10)
    rows = picture(written, hint="hint")
    assert len(rows) == 23
    named = [row.split()[2] for row in rows if row[1:3] == "─ "]
    assert named == [step.upper() for step in BUSY]


def test_what_does_not_fit_is_counted(written: WrittenRun) -> None:
    """Running steps come first; finished and waiting ones are folded, failures told."""
    steps: dict[str, list[str]] = {f"s{n:02}": [] for n in range(60)}
    written.plan(steps)
    written.started()
    for n, step in enumerate(steps):
        if n < 40:
            written.step_started(step)
        if n < 30:
            written.step_finished(step, "error" if n % 10 == 0 else "success", cause=None)
    rows = picture(written)
    assert len(rows) == 23
    assert all(f" S{n} " in "\n".join(rows) for n in range(30, 40))
    assert any("more finished" in row for row in rows)
    assert rows[-1].endswith("more waiting")
    rows = picture(written, height=8)
    assert rows[1].startswith("├─ … 30 more finished, 3 failed")
    assert rows[-2:] == ["├─ … 6 more running", "└─ … 20 more waiting"]


@given(
    st.lists(st.sampled_from(["pending", "running", "success", "error", "skipped"]), max_size=50),
    st.integers(1, 60),
    st.integers(1, 120),
    st.booleans(),
)
def test_the_picture_never_leaves_the_window(
    tmp_path_factory: pytest.TempPathFactory, states: list[str], height: int, width: int, ends: bool
) -> None:
    """Whatever runs, and however small the window, it fits; and all busy steps show if they can."""
    written = WrittenRun(tmp_path_factory.mktemp("run") / "01jd0000000000000000000000")
    written.now = NOW
    steps = {f"s{n}": state for n, state in enumerate(states)}
    written.plan({step: [] for step in steps})
    written.started()
    for step, state in steps.items():
        if state != "pending":
            written.step_started(step)
            written.log(step, "wide 漢字 text \x1b[31m".encode() * 5 + b"\n\t\n")
        if state not in ("pending", "running"):
            written.step_finished(step, state, cause="because\nof this")
    model = model_of(written)
    written.close()
    frame = Frame(width=width, height=height, now=NOW, hint="Ctrl-C", symbols=ASCII)
    lines = lay_out(model, frame)
    assert len(lines) <= height
    assert all(text_of(line, width).cell_len <= width for line in lines)
    running = [step for step in steps if steps[step] == "running"]
    if len(running) + 4 < height:
        text = "\n".join(line.plain() for line in lines)
        assert all(f" {step.upper()}" in text for step in running)
    if ends:
        assert all("\n" not in text_of(line, width).plain for line in lay_out_end(model, frame))


def test_texts_from_outside_bring_no_controls(written: WrittenRun) -> None:
    """Labels, causes, notes, names and params are made visible like output."""
    evil = "\x1b[2J\x07evil"
    written.plan({"a": []}, params={"p": evil})
    written.labels["a"] = evil
    written.started()
    written.step_started("a")
    written.progress("a", stage=evil, note=evil, unit=evil, done=1)
    written.event("status", step="a", text=evil)
    live = "\n".join(picture(written, width=200))
    written.event("notice", kind="x", text=evil)
    written.artifact("a", "evil\x1b[2J.txt")
    written.step_finished("a", "error", cause=evil)
    written.summary("error", cause=evil)
    model = model_of(written)
    end = drawn(lay_out_end(model, Frame(width=200, height=20, now=NOW)), 200)
    said = [text_of(line).plain for line in lay_out_summary(model)[1]]
    for text in (live, *end, *said):
        assert "\x1b" not in text
        assert "\x07" not in text
    assert live.count("␛[2J␇evil") >= 4


def test_a_retry_says_when_it_begins(written: WrittenRun) -> None:
    """The wait counts down, the cause stands beside it."""
    written.plan({"a": []})
    written.started()
    written.step_started("a")
    written.log("a", b"first\n")
    written.event(
        "step_retrying", step="a", attempt=1, returncode=1, signal=None, cause="exit status 1",
        cause_code="exit", kill=None, delay_ms=15_000,
    )  # fmt: skip
    assert "↻ A  again in 5s: exit status 1" in picture(written)[1]
    written.step_started("a", attempt=2)
    assert "attempt 2" in picture(written)[1]


def test_a_narrow_window_leaves_out_bars(written: WrittenRun) -> None:
    """Forty columns hold the label, the percentage and the time."""
    written.plan({"a": []})
    written.started()
    written.step_started("a")
    written.progress("a", percent=7.4)
    assert picture(written, width=39)[1] == "└─ ⠋ A   7%                       10.0s"


LONG = "A label that goes on and on, longer than any cause that one would like to read"


def labelled(written: WrittenRun, labels: dict[str, str]) -> None:
    """Plan steps with labels of their own, each of which needs the one before."""
    ids = list(labels)
    written.plan({step: ids[:n][-1:] for n, step in enumerate(ids)}, labels)
    written.started()


def test_a_long_label_is_cut_before_the_cause(written: WrittenRun) -> None:
    """As far as needed in the end; while it may change, to the column that all labels have."""
    labelled(written, {"a": LONG, "b": LONG, "c": LONG})
    written.step_started("a")
    written.step_finished("a", "error", cause="exit status 3", returncode=3)
    written.step_started("b")
    assert picture(written)[2].startswith(f"├─ ⠋ {LONG[:50]}")
    written.progress("b", percent=50.0, note="half of it")
    assert picture(written)[1:] == [
        "├─ ✗ A label that goes on and on, longer than any ca…  exit status 3       1.2s",
        "├─ ⠋ A label that goes on and on, l…  ━━━━━━━━━━━━━━━━━━━  50%  half of…  10.0s",
        "└─ ○ A label that goes on and on, l…  needs A label that goes on and on, longe…",
    ]


def test_ids_stand_beside_labels_that_tell_something_else(written: WrittenRun) -> None:
    """They are what causes and commands name; under way only where the window is wide."""
    labelled(written, {"lint": "Reading the code", "unit-tests": "Unit tests", "pack": "Packing"})
    written.step_started("lint")
    written.step_finished("lint")
    written.step_started("unit-tests")
    written.step_finished("unit-tests", "error", cause="exit status 1", returncode=1)
    assert picture(written, width=99)[3] == "└─ ○ Packing"
    assert picture(written, width=100)[3] == "└─ ○ Packing           pack"
    rows = drawn(lay_out_end(model_of(written), Frame(width=79, height=23, now=NOW + 10)), 79)
    assert rows[1:] == [
        "├─ ✓ Reading the code  lint                                                1.2s",
        "├─ ✗ Unit tests              exit status 1                                 1.2s",
        "└─ ○ Packing           pack",
    ]
