"""`tailrace run` asks in the terminal, on a real pty."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from command_line import Site
from pseudo_terminal import PseudoTerminal
from tailrace.rundir.snapshot import read_snapshot

ASKS = """\
steps:
  first: {ask: {question: Deploy where?, choices: [staging, production], default: staging}}
  second: {needs: first, ask: {question: And why?}}
  tell:
    needs: second
    run: echo "got ${OUTPUT_FIRST_ANSWER} $OUTPUT_SECOND_ANSWER"
"""


def answers(site: Site) -> list[tuple[str, Any, str]]:
    """Who answered what, by the journal."""
    return [(e["id"], e["answer"], e["via"]) for e in site.journal() if e["event"] == "answered"]


def is_as_before(terminal: PseudoTerminal) -> bool:
    """Whether echo, line editing and cursor are as before the program."""
    return terminal.echoes() and terminal.edits() and terminal.cursor_shows()


def test_the_tree_asks_and_takes_what_is_typed(site: Site) -> None:
    """A wrong answer is asked again; edited text is the answer; each question in its turn."""
    site.pipeline("asks", ASKS)
    with site.terminal("run", "asks") as terminal:
        terminal.until(lambda t: "? Deploy where?" in t.text and not t.edits())
        assert "    1 staging (default)   2 production" in terminal.rows
        assert not terminal.echoes()
        terminal.press(b"moon\r")
        terminal.until(lambda t: "'moon' is none of the choices" in t.text)
        terminal.press(b"x\x7fprod\r")
        terminal.until(lambda t: "? And why?" in t.text and "Deploy where?" not in t.text)
        terminal.press("weil's geht\x15für alle".encode())
        terminal.until(lambda t: "  > für alle▏" in t.rows)
        terminal.press(b"\r")
        assert terminal.exit_status() == 0
        assert is_as_before(terminal)
    assert "asks/1 succeeded" in terminal.text
    assert answers(site) == [("first", "production", "cli"), ("second", "für alle", "cli")]
    assert site.tailrace("tail", "--raw").stdout == "got production für alle\n"


def test_an_answer_from_elsewhere_takes_the_question_away(site: Site) -> None:
    """What was typed for it goes too; `show` names the command that answers."""
    site.pipeline("asks", ASKS)
    with site.terminal("run", "asks") as terminal:
        terminal.until(lambda t: "? Deploy where?" in t.text and not t.edits())
        terminal.press(b"prod")
        terminal.until(lambda t: "  > prod▏" in t.rows)
        shown = site.tailrace("show", "latest").stdout
        assert "? Deploy where?" in shown
        assert "answer with tailrace answer asks/1 first TEXT" in shown
        assert site.tailrace("answer", "latest", "first", "staging").returncode == 0
        terminal.until(lambda t: "? And why?" in t.text)
        assert "prod" not in terminal.text.partition("And why?")[2]
        terminal.press(b"because\r")
        assert terminal.exit_status() == 0
    assert answers(site) == [("first", "staging", "cli"), ("second", "because", "cli")]


def test_an_expired_question_goes_away(site: Site) -> None:
    """Its default counts, and the run goes on."""
    site.pipeline("late", "steps: {a: {ask: {question: Well?, default: never, expires: 1s}}}\n")
    with site.terminal("run", "late") as terminal:
        assert terminal.exit_status() == 0
    assert "Well?" not in terminal.text
    assert answers(site) == [("a", "never", "expiry")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_while_a_question_is_open(site: Site, number: signal.Signals) -> None:
    """The keys of the terminal go on to work, SIGTERM too, and its settings come back."""
    site.pipeline("asks", ASKS)
    with site.terminal("run", "asks") as terminal:
        terminal.until(lambda t: "? Deploy where?" in t.text and not t.edits())
        if number is signal.SIGINT:
            terminal.press(b"\x03")
        else:
            terminal.process.send_signal(number)
        assert terminal.exit_status() == 4
        assert is_as_before(terminal)
    assert "asks/1 aborted" in terminal.text


def test_a_second_ctrl_c_leaves_the_question_to_others(site: Site) -> None:
    """A clean-up step asks; who leaves gets the terminal back as it was."""
    site.pipeline(
        "asks",
        "steps:\n  work: {run: 'echo waiting; sleep 60', grace: 1s}\n"
        "  after: {needs: work, when: always(), ask: {question: Clean up?}}\n",
    )
    with site.terminal("run", "asks") as terminal:
        terminal.until(lambda t: "waiting" in t.text)
        terminal.press(b"\x03")
        terminal.until(lambda t: "? Clean up?" in t.text and not t.edits())
        terminal.press(b"ye\x03")
        assert terminal.exit_status() == 130
        assert is_as_before(terminal)
    assert not read_snapshot(site.latest()).is_final
    assert answers(site) == []


def test_lines_ask_where_no_tree_is_drawn(site: Site) -> None:
    """The terminal edits the line; a refused one is asked for again."""
    site.pipeline("asks", ASKS)
    with site.terminal("run", "asks", "--plain") as terminal:
        terminal.until(lambda t: t.text.count("or type the answer here") == 1)
        assert terminal.edits()
        terminal.press(b"moon\r")
        terminal.until(lambda t: "'moon' is none of the choices; type it again" in t.text)
        terminal.press(b"2\r")
        terminal.until(lambda t: t.text.count("or type the answer here") == 2)
        terminal.press(b"so\r")
        assert terminal.exit_status() == 0
    assert "tailrace: answer with: tailrace answer asks/1 second TEXT" in terminal.rows
    assert "tell | got production so" in terminal.rows
    assert answers(site) == [("first", "production", "cli"), ("second", "so", "cli")]


def test_who_has_no_terminal_is_told_how_to_answer(site: Site) -> None:
    """The question is a note with its choices and the command; the run waits for it."""
    site.pipeline("asks", ASKS)
    process = site.begin("run", "asks")
    assert process.stderr is not None
    told: list[str] = []
    while not (told and "answer with" in told[-1]):
        told.append(process.stderr.readline())
    assert told[-4:] == [
        "tailrace: first asks: Deploy where?\n",
        "tailrace:   1 staging (default)\n",
        "tailrace:   2 production\n",
        "tailrace: answer with: tailrace answer asks/1 first TEXT\n",
    ]
    site.tailrace("answer", "latest", "first", "production")
    while "second asks" not in process.stderr.readline():
        pass
    site.tailrace("answer", "latest", "second", "so")
    stdout, stderr = process.communicate(timeout=20)
    assert stdout == "tell | got production so\n"
    assert "second: " in stderr
    assert " answered 'so'" in stderr


def test_watching_alone_only_shows_the_question(site: Site) -> None:
    """`tail` is for looking: it names the command, and takes no keys."""
    site.pipeline("asks", ASKS)
    site.tailrace("run", "asks", "--detach")
    with site.terminal("tail") as terminal:
        terminal.until(lambda t: "answer with tailrace answer asks/1 first TEXT" in t.text)
        assert terminal.edits()
        terminal.press(b"\x03")
        assert terminal.exit_status() == 130
    assert answers(site) == []


def test_a_step_narrates_in_the_tree(site: Site) -> None:
    """Its calls and its text while it runs; its result and what it cost in the end."""
    said = (
        '{"event":"tool_call","id":"1","name":"grep","phase":"started"}',
        '{"event":"tool_call","id":"1","name":"grep","phase":"finished","is_error":true}',
        '{"event":"text","delta":"I look "}',
        '{"event":"text","delta":"at it"}',
        '{"event":"cost","usd":0.25,"tokens_in":1200,"tokens_out":30}',
    )
    lines = "\n".join(f"      echo '{line}' >> \"$TAILRACE_EVENTS\"" for line in said)
    site.pipeline(
        "agent",
        f"steps:\n  review:\n    run: |\n{lines}\n"
        "      while ! test -e go; do sleep 0.05; done\n"
        '      echo \'{"event":"result","text":"All is well."}\' >> "$TAILRACE_EVENTS"\n',
    )
    with site.terminal("run", "agent") as terminal:
        terminal.until(lambda t: "     I look at it" in t.rows and "$0.25" in t.rows[0])
        assert any(row.startswith("     ⚒ grep") and "failed" in row for row in terminal.rows)
        (site.state.workspace(site.latest().id) / "go").touch()
        assert terminal.exit_status() == 0
    assert "     All is well." in terminal.rows
    assert "I look" not in terminal.text
    assert "cost    $0.25 · 1,200 tokens in · 30 out" in terminal.text
