"""The documentation as tests read it: its pages, their fenced blocks, and what consoles print.

What a fence says behind its language decides what becomes of the block:

- ``console``: run by `Console`, command by command (``$ …``), and held to what stands below.
  ``…`` stands for any text, alone on a line for any lines; times, ids, dates, sizes of files
  and the numbers of runs and ports may be others.
- ``file=NAME`` after any language: is there under that name when the page's consoles run.
- ``yaml``: a pipeline, or ``yaml settings``, or ``yaml broken``: a pipeline with mistakes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE: Final = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)

# What differs from run to run, as it is matched and as the page may show it.
_VARYING: Final = (
    ("id", r"01[0-9a-hjkmnp-tv-z]{24}"),
    ("digest", r"\b[0-9a-f]{40}\b"),
    ("date", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    ("port", r"127\.0\.0\.1:\d+"),
    ("ago", r"\bnow\b|\b\d+[smhd] ago\b"),
    ("gap", r" {2,}"),
    ("took", r"\b\d+(?:\.\d+)?m?s\b"),
    (
        "ref",
        r"\b(?:agent-review|analyze|clone|greet|hello|login|nap|publish|sleep|steps|words)/\d+\b",
    ),
    ("size", r"\b\d+(?:\.\d+)? (?:B|[KMG]iB)"),
)
_TOKENS: Final = re.compile(
    "|".join([r"(?P<any>…)", *(f"(?P<{name}>{rule})" for name, rule in _VARYING)])
)


# It runs already, and stays; what it said stands in its log.
_INSTEAD: Final = {"tailrace serve": 'head -n 1 "$HOME/daemon.log"'}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, its language, the words behind it, and its text."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def at(self) -> str:
        """Its place, as editors open it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name under which it is there for the page's consoles."""
        return next((w.removeprefix("file=") for w in self.words if w.startswith("file=")), None)


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, language, tuple(words), match["text"]))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages that are in one of these languages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def prose_of(page: Path) -> str:
    """Return a page without its fenced blocks and without what is set as code."""
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", page.read_text()))


def links_of(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return [match["target"] for match in _LINK.finditer(_FENCE.sub("", page.read_text()))]


def anchors_of(page: Path) -> set[str]:
    """Return what a link may name of a page behind ``#``: its headings, as forges spell them."""
    found: set[str] = set()
    for match in _HEADING.finditer(_FENCE.sub("", page.read_text())):
        slug = re.sub(r"[^\w\- ]", "", match["title"].lower()).replace(" ", "-")
        name, number = slug, 0
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def rows_of(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    section = page.read_text().partition(f"\n{heading}\n")[2]
    assert section, f"{page.name} has no heading {heading!r}"
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    table = re.search(r"^\|.*\n\| ---.*\n((?:\|.*\n)*)", section, re.MULTILINE)
    assert table is not None, f"{page.name}: no table below {heading!r}"
    rows = (re.split(r"(?<!\\)\|", line)[1:-1] for line in table[1].splitlines())
    return [[cell.strip() for cell in row] for row in rows]


def pattern_of(shown: str) -> str:
    """Return the regular expression for output that a page shows."""
    lines = []
    for line in shown.splitlines():
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
            continue
        parts, at = [], 0
        for match in _TOKENS.finditer(line):
            parts.append(re.escape(line[at : match.start()]))
            parts.append(_rule(match))
            at = match.end()
        lines.append("".join([*parts, re.escape(line[at:])]) + r"\s*?\n")
    return "".join(lines)


def _rule(match: re.Match[str]) -> str:
    kind = match.lastgroup
    assert kind is not None
    if kind == "any":
        return ".*?"
    if kind == "ref":  # the same pipeline, whatever its number
        return re.escape(match[0].partition("/")[0]) + r"/\d+"
    return f"(?:{dict(_VARYING)[kind]})"


@dataclass(frozen=True, slots=True)
class House:
    """A user's machine: a home, a folder to work in, and a daemon that runs.

    ``swaps`` are texts of the pages that stand for others here: the network
    isn't there in tests, and so an address is a repository of ours.
    """

    home: Path
    work: Path
    env: dict[str, str]
    swaps: dict[str, str]

    @property
    def state(self) -> Path:
        """The daemon's state folder."""
        return self.home / ".local/state/tailrace"

    @property
    def address(self) -> str:
        """Where the daemon listens, as HOST:PORT."""
        return (self.state / "address").read_text().strip()


@dataclass(frozen=True, slots=True)
class Exchange:
    """A command of a console and what the page says that it prints."""

    at: str
    command: str
    shown: str


def exchanges_of(block: Block) -> Iterator[Exchange]:
    """Split a console into its commands."""
    command, shown, line = "", "", block.line
    for number, text in enumerate(block.text.splitlines(), block.line + 1):
        if text.startswith("$ "):
            if command:
                yield Exchange(f"{block.page.name}:{line}", command, shown)
            command, shown, line = text.removeprefix("$ "), "", number
        else:
            assert command, f"{block.at}: output without a command"
            shown += text + "\n"
    if command:
        yield Exchange(f"{block.page.name}:{line}", command, shown)


def run_page(page: Path, house: House) -> None:
    """Run a page's consoles in one shell, and hold them to what the page shows."""
    for block in blocks_of(page):
        if block.file is not None:
            (house.work / block.file).write_text(_swapped(block.text, house.swaps))
    consoles = [block for block in blocks_of(page) if block.language == "console"]
    exchanges = [exchange for block in consoles for exchange in exchanges_of(block)]
    commands = [_INSTEAD.get(e.command) or _swapped(e.command, house.swaps) for e in exchanges]
    printed = _run(commands, house.work, house.env)
    for exchange, (text, status) in zip(exchanges, printed, strict=True):
        expected = _swapped(exchange.shown, house.swaps)
        said = f"{exchange.at}: $ {exchange.command}\n{text}(exit status {status})"
        assert re.fullmatch(pattern_of(expected), text), f"{said}\n--- the page shows\n{expected}"
        assert status == 0, said


def _run(commands: list[str], folder: Path, env: Mapping[str, str]) -> list[tuple[str, int]]:
    """Run commands in one bash; return what each printed to both outputs, and its exit status."""
    end = 'status=$?; printf "\\n\\036%d\\036" $status; (exit $status)'
    program = "\n".join(f"{command}\n{end}" for command in commands)
    shell = subprocess.Popen(
        ["bash", "-c", program],
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = shell.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        raise AssertionError(f"it hangs, after\n{shell.communicate()[0].decode()}") from None
    pieces = output.decode("utf-8", "replace").split("\x1e")
    texts, statuses = pieces[0:-1:2], pieces[1::2]
    assert len(statuses) == len(commands), pieces
    return [
        (text.removesuffix("\n") if text.endswith("\n\n") or text == "\n" else text, int(status))
        for text, status in zip(texts, statuses, strict=True)
    ]


def _swapped(text: str, swaps: Mapping[str, str]) -> str:
    for old, new in swaps.items():
        text = text.replace(old, new)
    return text


def clean_environment(**more: str) -> dict[str, str]:
    """Return an environment without settings of ours, where `tailrace` is found."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TAILRACE_", "XDG_"))}
    bin_folder = Path(sys.executable).parent
    return {**kept, "PATH": f"{bin_folder}:{kept.get('PATH', os.defpath)}", **more}
