"""`tailrace prove` from outside: it shows what holds, finds what doesn't, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import click
import pytest

from command_line import Site
from tailrace.cli.prove import prove
from tailrace.prove.course import PROMISES
from tailrace.prove.proof import KINDS

_PATIENCE_S = 170  # it takes ten seconds; a machine that is busy may need many more


def processes_below(folder: Path) -> list[str]:
    """The command lines that name something below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.mark.soak  # twelve seconds, for what tests of the worker try one by one
@pytest.mark.timeout(_PATIENCE_S + 10)
def test_a_quick_round_of_kills_finds_nothing_and_leaves_nothing(site: Site) -> None:
    """The table has a row for each proof with its evidence, and its last line says it all.

    The other proofs have their quick round in the next test.
    """
    process = site.begin(
        "prove", "daemon-kills", "runner-kills", "--quick", "--seed", "1", "--report", "report.html"
    )  # fmt: skip
    out, err = process.communicate(timeout=_PATIENCE_S)

    assert process.returncode == 0, out + err
    rows = out.splitlines()
    assert re.fullmatch(
        r"lost 0 · doubled 0 · survivors 0 · leaks 0 · containment: \S.*", rows[-1]
    ), out
    for title in ("daemon killed 2 times", "2 runners"):
        assert any(title in row and re.search(r" 0\b", row) for row in rows), out
    assert "--seed 1 draws it again" in err
    page = (site.folder / "report.html").read_text()
    assert rows[-1] in page
    assert "<script" not in page
    assert list((site.folder / "temporary").iterdir()) == []
    assert processes_below(site.folder) == []


@pytest.mark.timeout(_PATIENCE_S + 10)
def test_misses_that_are_planted_are_found_and_no_others(site: Site) -> None:
    """Of each kind: none of the four counts could stay at zero by not looking."""
    planted = [word for kind in KINDS for word in ("--plant", kind)]
    process = site.begin(
        "prove", "watchers", "cancels", "canaries", "--quick", "--json", "--report", "r.html",
        *planted,
    )  # fmt: skip
    out, err = process.communicate(timeout=_PATIENCE_S)

    assert process.returncode == 1, out + err
    told = json.loads(out)
    assert told["passed"] is False
    assert (told["lost"], told["doubled"], told["survivors"]) == (1, 1, 4)
    assert told["leaks"] >= 1
    assert [proof["tried"] for proof in told["proofs"]][:2] == [6, 4]
    misses = [miss["what"] for proof in told["proofs"] for miss in proof["misses"]]
    assert any("what was planted to be found is in state/runs/" in what for what in misses), misses
    leaks = [m["what"] for p in told["proofs"] for m in p["misses"] if m["kind"] == "leaks"]
    assert all(what.startswith("what was planted to be found is in ") for what in leaks), leaks
    assert any("known by its argv" in what for what in misses), misses
    assert "Not everything held" in Path(told["report"]).read_text()
    (kept,) = (site.folder / "temporary").iterdir()
    assert (kept / "canaries/ground/daemon.log").exists()
    assert processes_below(site.folder) == []


@pytest.mark.timeout(_PATIENCE_S + 10)
def test_an_interrupt_ends_everything_that_was_started(site: Site) -> None:
    """In the middle of a run, with a daemon that serves; nothing is kept."""
    process = site.begin("prove", "runner-kills")
    deadline = time.monotonic() + _PATIENCE_S
    while not list(site.folder.glob("temporary/*/runner-kills/ground/state/runs/*/steps/work")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_PATIENCE_S)

    assert process.returncode == 130, err
    assert out == ""
    assert "ending what was started" in err
    assert list((site.folder / "temporary").iterdir()) == []
    assert processes_below(site.folder) == []


def test_every_proof_can_be_asked_for_by_name() -> None:
    """The command line lists them without importing them."""
    (argument,) = [p for p in prove.params if p.name == "proofs"]
    assert isinstance(argument.type, click.Choice)
    assert list(argument.type.choices) == [promise.name for promise in PROMISES]
