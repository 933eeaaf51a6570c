"""The live view on a real pty, read back by a terminal emulator."""

from __future__ import annotations

import json
import re

import pytest

from command_line import Site
from tailrace.rundir.snapshot import read_snapshot

SGR = re.compile(rb"\x1b\[[0-9;]*m")
STEPS = "\n".join(
    f"  s{n}: {{run: 'for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done'}}" for n in range(20)
)


def shows(rows: list[str], patterns: list[str]) -> bool:
    """Whether the screen holds these rows from its top, and nothing below them."""
    drawn = "\n".join(rows).rstrip().split("\n")
    return len(drawn) == len(patterns) and all(map(re.fullmatch, patterns, drawn))


def test_a_run_shows_as_a_tree_and_ends_in_a_frame(site: Site) -> None:
    """Steps, their output and progress while it runs; then times and the report's address."""
    site.pipeline(
        "demo",
        "steps:\n"
        "  work:\n"
        "    label: Working hard\n"
        "    artifacts: {primary: report.html}\n"
        "    run: |\n"
        '      echo \'{"event":"progress","percent":40,"stage":"Halfway"}\' >> "$TAILRACE_EVENTS"\n'
        "      echo hello; while ! test -e go; do sleep 0.05; done\n"
        '      echo report > "$TAILRACE_ARTIFACTS/report.html"\n'
        "  after: {needs: work, run: echo after}\n",
    )
    live = [
        r"\S demo/1 +[0-9.]+s",
        r"├─ \S Working hard  ━+  40%  Halfway +[0-9.]+s",
        r"│    hello",
        r"└─ ○ after         needs Working hard",
        r"Ctrl-C cancels the run",
    ]
    with site.terminal("run", "demo") as terminal:
        terminal.until(lambda t: shows(t.rows, live))
        assert not terminal.cursor_shows()
        assert not terminal.echoes()
        (site.state.workspace(site.latest().id) / "go").touch()
        status = terminal.exit_status()
    assert status == 0
    text = terminal.text
    assert "✓ Working hard" in text
    assert "demo/1 succeeded in" in text
    assert "report  file:///" in text.replace("\n", "") or "report.html" in text
    assert terminal.cursor_shows()
    assert terminal.echoes()


def test_steps_can_not_steer_the_terminal(site: Site) -> None:
    """Their colours pass; their other sequences show as symbols, live, at the end and in `tail`."""
    site.pipeline(
        "evil",
        "steps:\n  a:\n    run: |\n"
        "      printf '\\033[31mred\\033[0m\\033[2J\\033]0;title\\007 \\302\\2332J\\n'; exit 1\n",
    )
    for args in (
        ("run", "evil"),
        ("run", "evil", "--plain"),
        ("tail", "latest"),
        ("tail", "--raw"),
    ):
        with site.terminal(*args) as terminal:
            assert terminal.exit_status() == 1
        assert b"\x1b[2J" not in terminal.raw
        assert b"\x1b]0" not in terminal.raw
        assert b"\xc2\x9b" not in terminal.raw
        assert "␛[2J␛]0;title␇ ␛[2J" in terminal.text
        assert b"\x1b[" in terminal.raw


def test_files_and_json_can_not_steer_it_either(site: Site) -> None:
    """A file is shown as text, and JSON says the same with escapes."""
    site.pipeline(
        "evil",
        """
steps:
  a:
    run: |
      printf '\\033[2J\\033[31mred \\302\\2332J \\342\\200\\256x\\n' | tee "$TAILRACE_ARTIFACTS/f"
""",
    )
    with site.terminal("run", "evil", "--json", columns=500) as terminal:
        assert terminal.exit_status() == 0
    (log,) = (e for e in map(json.loads, terminal.raw.splitlines()) if e["event"] == "log")
    assert log["text"] == "\x1b[2J\x1b[31mred \x9b2J \u202ex"
    assert b"\\u009b2J \\u202ex" in terminal.raw
    with site.terminal("artifacts", "evil/1", "--get", "f", "-o", "-") as terminal:
        assert terminal.exit_status() == 0
    assert terminal.raw.decode() == "␛[2J\x1b[31mred ␛[2J <U+202E>x\x1b[0m\r\n"
    piped = site.tailrace("artifacts", "evil/1", "--get", "f", "-o", "-")
    assert piped.stdout == "\x1b[2J\x1b[31mred \x9b2J \u202ex\n"


def test_twenty_parallel_steps_are_all_seen(site: Site) -> None:
    """In 24 rows each has its line while they run, and the end names them all."""
    site.pipeline("many", f"parallel: 20\nsteps:\n{STEPS}\n")
    with site.terminal("run", "many") as terminal:
        terminal.until(
            lambda t: (
                t.rows[0].split()[1:2] == ["many/1"]
                and sum("line" in row or "─ " in row for row in t.rows) >= 20
            )
        )
        assert terminal.exit_status() == 0
    end = SGR.sub(b"", terminal.raw).decode()
    assert all(f"✓ s{n} " in end for n in range(20))
    assert end.count("many/1 succeeded") == 1


@pytest.mark.parametrize("columns", [40, 200])
def test_any_width_will_do(site: Site, columns: int) -> None:
    """In 40 columns nothing wraps but the address; in 200 nothing is lost."""
    site.pipeline(
        "one", "steps: {a: {label: A step with quite a long label here, run: echo hello}}\n"
    )
    with site.terminal("run", "one", columns=columns) as terminal:
        assert terminal.exit_status() == 0
    assert terminal.rows[0].startswith("✓ one/1")
    assert terminal.rows[1].startswith("└─ ✓ A step with quite a")
    assert "one/1 succeeded in" in terminal.text


def test_no_color_is_honoured(site: Site) -> None:
    """NO_COLOR leaves bold and dim, and no colour (no-color.org)."""
    site.pipeline("one", "steps: {a: {run: 'printf \"\\033[31mred\\033[0m\\n\"; exit 1'}}\n")
    for args in (("run", "one"), ("tail", "latest")):
        with site.terminal(*args, NO_COLOR="1") as terminal:
            terminal.exit_status()
        codes = {code for found in re.findall(rb"\x1b\[([0-9;]*)m", terminal.raw)
                 for code in found.split(b";")}  # fmt: skip
        assert not codes & {b"%d" % n for n in (*range(30, 39), *range(90, 98))}
        assert "red" in terminal.text


def test_a_dumb_terminal_gets_lines(site: Site) -> None:
    """TERM=dumb means no cursor to move."""
    site.pipeline("one", "steps: {a: {run: echo hello}}\n")
    with site.terminal("run", "one", TERM="dumb") as terminal:
        assert terminal.exit_status() == 0
    assert b"\x1b" not in terminal.raw
    assert "a | hello" in terminal.rows


def test_ctrl_c_cancels_in_the_tree_too(site: Site) -> None:
    """The key's signal cancels; the end is shown, the terminal is as before."""
    site.pipeline("slow", "steps: {a: {run: 'echo waiting; sleep 60', grace: 1s}}\n")
    with site.terminal("run", "slow") as terminal:
        terminal.until(lambda t: "waiting" in t.text)
        terminal.press(b"\x03")
        assert terminal.exit_status() == 4
    assert "■ a  cancelled by" in terminal.text
    assert "slow/1 aborted in" in terminal.text
    assert terminal.cursor_shows()
    assert terminal.echoes()


def test_a_second_ctrl_c_leaves_a_clean_terminal(site: Site) -> None:
    """Cursor and echo are back, and a line says that the run goes on."""
    site.pipeline(
        "slow", "steps: {a: {run: 'trap \"\" TERM; echo waiting; sleep 60', grace: 2s}}\n"
    )
    with site.terminal("run", "slow") as terminal:
        terminal.until(lambda t: "waiting" in t.text)
        terminal.press(b"\x03")
        terminal.until(lambda t: "Ctrl-C again leaves" in t.text)
        terminal.press(b"\x03")
        assert terminal.exit_status() == 130
    assert (
        "tailrace: left; slow/1 is on its own, `tailrace tail slow/1` shows it again"
        in terminal.rows
    )
    assert terminal.cursor_shows()
    assert terminal.echoes()


def test_a_live_run_can_be_looked_at_again(site: Site) -> None:
    """`tail` shows the same tree, and leaving it leaves the run alone."""
    site.pipeline("slow", "steps: {a: {run: 'echo waiting; sleep 60', grace: 1s}}\n")
    site.tailrace("run", "slow", "--detach")
    with site.terminal("tail") as terminal:
        terminal.until(lambda t: "waiting" in t.text and "Ctrl-C leaves; the run goes on" in t.text)
        terminal.press(b"\x03")
        assert terminal.exit_status() == 130
    assert terminal.cursor_shows()
    assert read_snapshot(site.latest()).status == "running"


def test_a_narrower_window_leaves_no_rests(site: Site) -> None:
    """After a resize the tree stands once, below what was there before."""
    site.pipeline("slow", "steps: {a: {run: 'echo waiting; sleep 60', grace: 1s}}\n")
    with site.terminal("run", "slow", columns=100) as terminal:
        terminal.until(lambda t: "waiting" in t.text)
        terminal.resize(24, 60)
        before = len(terminal.raw)
        terminal.until(lambda t: b"slow/1" in t.raw[before:])  # drawn again
        terminal.press(b"\x03")
        assert terminal.exit_status() == 4
    assert terminal.text.count("slow/1 aborted") == 1


def test_a_lower_window_leaves_no_rests(site: Site) -> None:
    """Rows that had no room are wiped when they come back with it."""
    site.pipeline("slow", "steps: {a: {run: 'seq 9; echo waiting; sleep 60', grace: 1s}}\n")
    with site.terminal("run", "slow") as terminal:
        terminal.until(lambda t: "waiting" in t.text)
        for rows in (4, 24):
            terminal.resize(rows, 80)
            before = len(terminal.raw)
            terminal.until(lambda t, before=before: b"slow/1" in t.raw[before:])  # type: ignore[misc]  # mypy: defaults of lambdas
        terminal.until(lambda t: "waiting" in t.text)
        assert terminal.text.count("slow/1") == 1
        terminal.press(b"\x03")
        assert terminal.exit_status() == 4
