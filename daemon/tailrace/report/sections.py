"""The sections of the page, each a function from findings to HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Final

from tailrace.core.units import plural
from tailrace.report.findings import (
    SEVERITIES,
    WEIGHTS,
    FileRank,
    Finding,
    Result,
    Severity,
    to_text,
)
from tailrace.report.origin import Origin

MAX_ROWS: Final = 20_000  # findings on the page; some 300 bytes each
MAX_ROWS_PER_FILE: Final = 500
MAX_OPEN: Final = 60  # findings shown unfolded, so that the page begins with something to read
TOP: Final = 12  # rows of a ranking

_LOOKS_FOR: Final[Mapping[str, str]] = {
    "ruff": "mistakes in Python",
    "bandit": "security in Python",
    "lizard": "complexity, 25 languages; of identical files one",
    "detect-secrets": "keys and passwords",
    "pygount": "lines of code",
}
_DOTS: Final[Mapping[Severity, str]] = {"high": "h", "medium": "m", "low": "l"}


def severity_bar(counts: Mapping[Severity, int], whole: int) -> str:
    """Draw counts as one bar; *whole* is what the full width stands for."""
    parts = "".join(
        f'<i class="{s}" style="width:{100 * counts[s] / whole:.2f}%"></i>'
        for s in SEVERITIES
        if counts.get(s) and whole
    )
    label = ", ".join(f"{counts.get(s, 0):,} {s}" for s in SEVERITIES)
    return f'<div class="bar" role="img" aria-label="{label}">{parts}</div>'


def analyzers(results: Sequence[Result], failed: Mapping[str, str]) -> str:
    """Tell what each analyzer found, and which are missing."""
    rows = [_analyzer_row(result) for result in results]
    rows += [
        f'<tr class="missing"><th scope="row">{escape(tool)}'
        f"<small>{_LOOKS_FOR.get(tool, '')}</small></th>"
        '<td colspan="4">no result</td></tr>'
        for tool in failed
    ]
    return section(
        "Analyzers",
        table(("", *(s.title() for s in SEVERITIES), "Total"), rows, numbers=4),
    )


def _analyzer_row(result: Result) -> str:
    cells = "".join(
        f'<td class="{s if result.counts.get(s) else "none"}">{result.counts.get(s, 0):,}</td>'
        for s in SEVERITIES
    )
    total = f"{result.total:,}"
    if result.languages:
        cells, total = '<td colspan="3"></td>', '<span class="none">counts</span>'
    return (
        f'<tr><th scope="row">{escape(result.tool)}'
        f"<small>{_LOOKS_FOR.get(result.tool, '')}</small></th>"
        f"{cells}<td>{total}</td></tr>"
    )


def languages(results: Sequence[Result]) -> str:
    """Draw lines of code by language."""
    entries = [language for result in results for language in result.languages]
    if not entries:
        return ""
    most = max(1, *(entry.code for entry in entries))
    rows = [
        f'<tr><th scope="row">{escape(entry.name)}'
        f'<small class="beside">{plural(entry.files, "file")}</small></th>'
        f'<td class="wide"><div class="bar"><i class="plain" '
        f'style="width:{100 * entry.code / most:.2f}%"></i></div></td>'
        f"<td>{entry.code:,}</td></tr>"
        for entry in entries[:8]
    ]
    if rest := entries[8:]:
        code = sum(entry.code for entry in rest)
        rows.append(
            f'<tr class="rest"><th scope="row">{plural(len(rest), "other")}</th>'
            f'<td class="wide"></td><td>{code:,}</td></tr>'
        )
    return section("Lines of code", table(("", "", "Lines"), rows, numbers=1))


def worst_files(ranks: Sequence[FileRank]) -> str:
    """Rank files by weight; each leads to its findings below."""
    if not ranks:
        return ""
    most = ranks[0].score
    rows = []
    for number, rank in enumerate(ranks[:TOP]):
        counts = "".join(
            f'<td class="{s if rank.counts[s] else "none"}">{rank.counts[s]:,}</td>'
            for s in SEVERITIES
        )
        rows.append(
            f'<tr><th scope="row" class="path"><a href="#f{number}">{path(rank.uri)}</a></th>'
            f'<td class="wide"><div class="bar">{_weights(rank, most)}</div></td>{counts}'
            f"<td><b>{rank.score:,}</b></td></tr>"
        )
    head = ("File", "", *(s.title() for s in SEVERITIES), "Weight")
    more = len(ranks) - len(rows)
    note = f"{plural(more, 'more file')} with findings" if more > 0 else ""
    return section("Worst files", table(head, rows, numbers=4), note)


def _weights(rank: FileRank, most: int) -> str:
    return "".join(
        f'<i class="{s}" style="width:{100 * WEIGHTS[s] * rank.counts[s] / most:.2f}%"></i>'
        for s in SEVERITIES
        if rank.counts[s]
    )


def complex_functions(results: Sequence[Result], origin: Origin) -> str:
    """Rank functions by their paths."""
    functions = [function for result in results for function in result.functions]
    rows = [
        f'<tr><th scope="row"><code>{escape(function.name)}</code>'
        f"<small>{_place(function.uri, function.line, origin)}</small></th>"
        f"<td>{function.lines:,}</td><td><b>{function.complexity:,}</b></td></tr>"
        for function in functions[:TOP]
    ]
    if not rows:
        return ""
    return section("Most complex functions", table(("", "Lines", "Paths"), rows, numbers=2))


def frequent_rules(results: Sequence[Result]) -> str:
    """Rank rules by how often they were broken."""
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], Finding] = {}
    for result in results:
        for finding in result.findings:
            rule = (result.tool, finding.rule)
            counts[rule] += 1
            example.setdefault(rule, finding)
    rows = [
        f'<tr><th scope="row">{_rule(example[rule])} <em>{escape(rule[0])}</em>'
        f"<small>{escape(_short(example[rule].message))}</small></th>"
        f'<td class="{example[rule].severity}">{count:,}</td></tr>'
        for rule, count in counts.most_common(TOP)
    ]
    if not rows:
        return ""
    return section("Most frequent rules", table(("", "Count"), rows, numbers=1))


def secrets(results: Sequence[Result], origin: Origin) -> str:
    """List where secrets seem to be, never what they are."""
    found = [f for result in results if result.tool == "detect-secrets" for f in result.findings]
    if not found:
        return ""
    rows = [
        f'<tr><th scope="row">{escape(finding.rule)}</th>'
        f'<td class="path">{_place(finding.uri, finding.line, origin)}</td>'
        f'<td class="{finding.severity}">{finding.severity}</td></tr>'
        for finding in found[: 2 * TOP]
    ]
    more = len(found) - len(rows)
    note = f"{more:,} more among the findings below" if more > 0 else ""
    return section("Possible secrets", table(("Kind", "Where", "Severity"), rows, numbers=1), note)


def every_finding(ranks: Sequence[FileRank], origin: Origin) -> str:
    """List findings by file, worst file first, within the page's bounds."""
    total = sum(len(rank.findings) for rank in ranks)
    if not total:
        return section("Every finding", '<p class="calm">Nothing was found.</p>')
    blocks = []
    shown = 0
    unfolded = 0
    for number, rank in enumerate(ranks):
        room = min(MAX_ROWS - shown, MAX_ROWS_PER_FILE)
        if room <= 0:
            break
        rows = min(room, len(rank.findings))
        unfolded += rows
        blocks.append(_file_block(number, rank, room, origin, opened=unfolded <= MAX_OPEN))
        shown += rows
    note = plural(total, "finding") + " in " + plural(len(ranks), "file")
    if shown < total:
        note += f"; {total - shown:,} are left to findings.sarif, so that this page stays usable"
    return section("Every finding", _filter() + "".join(blocks), note)


def _filter() -> str:
    """Make check boxes that hide severities by style alone: the page has no scripts."""
    boxes = "".join(
        f'<label class="{s}"><input type="checkbox" id="show-{s}" checked>{s.title()}</label>'
        for s in SEVERITIES
    )
    return f'<div class="filter">{boxes}</div>'


def _file_block(number: int, rank: FileRank, room: int, origin: Origin, *, opened: bool) -> str:
    holds = "".join(_DOTS[s] for s in SEVERITIES if rank.counts[s])
    counts = "".join(
        f'<span class="{s}">{rank.counts[s]:,}</span>' if rank.counts[s] else "<span></span>"
        for s in SEVERITIES
    )
    rows = "\n".join(
        _row(tool, finding, origin) for tool, finding in islice(_severest(rank, room), room)
    )
    left = len(rank.findings) - room
    more = f'<p class="more">and {left:,} more in this file</p>' if left > 0 else ""
    return (
        f'<details class="file s-{holds}"{" open" if opened else ""}>'
        f'<summary><span class="path">{path(rank.uri)}</span>{counts}</summary>'
        f'<ol id="f{number}">\n{rows}\n</ol>{more}</details>\n'
    )


def _severest(rank: FileRank, room: int) -> Iterable[tuple[str, Finding]]:
    """Choose what fits, the severest first, and keep the order of lines."""
    if len(rank.findings) <= room:
        return rank.findings
    order = sorted(rank.findings, key=lambda pair: SEVERITIES.index(pair[1].severity))
    return sorted(order[:room], key=lambda pair: pair[1].line)


def _row(tool: str, finding: Finding, origin: Origin) -> str:
    line = f"{finding.line}"
    if (url := origin.line_url(finding.uri, finding.line)) is not None:
        line = f'<a href="{escape(url)}">{line}</a>'
    return (
        f'<li class="{_DOTS[finding.severity]}"><b>{line}</b>'
        f"<span>{escape(finding.message)}</span><i>{escape(tool)} {_rule(finding)}</i></li>"
    )


def _place(uri: str, line: int, origin: Origin) -> str:
    text = f"{path(uri)}:{line}"
    url = origin.line_url(uri, line)
    return text if url is None else f'<a href="{escape(url)}">{text}</a>'


def path(uri: str) -> str:
    """Show a path with its file's name set off; long ones may break after a slash."""
    folder, slash, name = to_text(uri).rpartition("/")
    shown = escape(folder + slash).replace("/", "/<wbr>")
    return f"{shown}<strong>{escape(name)}</strong>"


def _rule(finding: Finding) -> str:
    if finding.help is None:
        return escape(finding.rule)
    return f'<a href="{escape(finding.help)}">{escape(finding.rule)}</a>'


def _short(message: str, limit: int = 90) -> str:
    return message if len(message) <= limit else message[: limit - 1] + "…"


def table(head: Sequence[str], rows: Sequence[str], *, numbers: int) -> str:
    """Set a table; its last *numbers* columns are figures, aligned to the right."""
    words = len(head) - numbers
    cells = "".join(_head(name, n, figure=n >= words) for n, name in enumerate(head))
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _head(name: str, column: int, *, figure: bool) -> str:
    if name:
        return f'<th scope="col"{" class=num" if figure else ""}>{name}</th>'
    return '<td class="wide"></td>' if column else "<td></td>"


def section(title: str, body: str, note: str = "") -> str:
    """Set a section; *title* is ours, *note* may come from outside."""
    aside = f"<p>{escape(note)}</p>" if note else ""
    return f'<section><div class="title"><h2>{title}</h2>{aside}</div>{body}</section>'
