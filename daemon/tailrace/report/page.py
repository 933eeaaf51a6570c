"""The report as one static HTML file: no script, no font, no request.

It is served under a policy that allows nothing but its own styles, opened from
disk and mailed around, so all it needs is inside. Every text from outside
passes `escape`; addresses are built in `origin` or start with ``https://``.
A file of tens of thousands of findings must stay usable: rows are bounded, and
the page says what it leaves to ``findings.sarif``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files

from tailrace.core.units import plural
from tailrace.report import sections
from tailrace.report.findings import SEVERITIES, Result, rank_files
from tailrace.report.origin import Origin


def write_page(
    results: Sequence[Result], failed: Mapping[str, str], origin: Origin, *, now: datetime
) -> bytes:
    """Render the report on *results*.

    ``failed`` says, by analyzer, why there is no result of it; ``now`` is the
    time told as that of the analysis.
    """
    ranks = rank_files(results)
    parts = [
        header(origin, now, kind="Analysis", verb="Analyzed"),
        _totals(results),
        _failures(failed, results),
        '<div class="pair">',
        sections.analyzers(results, failed),
        sections.languages(results),
        "</div>",
        sections.worst_files(ranks),
        '<div class="pair">',
        sections.complex_functions(results, origin),
        sections.frequent_rules(results),
        "</div>",
        sections.secrets(results, origin),
        sections.every_finding(ranks, origin),
        _footer(origin),
    ]
    return document(origin.name, "analysis", "\n".join(part for part in parts if part))


def document(title: str, kind: str, body: str) -> bytes:
    """Return the whole file: the page's styles, and a body of HTML."""
    style = files("tailrace.report").joinpath("page.css").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(title)} · {kind}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
""".encode("utf-8", "backslashreplace")


def header(origin: Origin, now: datetime, *, kind: str, verb: str) -> str:
    """Name the repository and its commit, and who did what to it when."""
    name = escape(origin.name)
    if origin.web is not None:
        name = f'<a href="{escape(origin.web)}">{name}</a>'
    commit = ""
    if origin.sha is not None:
        sha = f"<code>{origin.sha[:10]}</code>"
        if origin.commit_url is not None:
            sha = f'<a href="{escape(origin.commit_url)}">{sha}</a>'
        commit = f'<p class="commit">{sha} {escape(origin.subject)}</p>'
    return f"""<header>
<p class="kind">{kind}</p>
<h1>{name}</h1>
{commit}
<dl class="facts">{"".join(_facts(origin, now, verb))}</dl>
</header>"""


def _facts(origin: Origin, now: datetime, verb: str) -> Iterable[str]:
    facts = {
        "Branch": origin.branch,
        "Author": origin.author,
        "Committed": origin.committed_at,
        verb: now.strftime("%Y-%m-%d %H:%M UTC"),
        "Depth": origin.depth,
        "Run": origin.run_ref,
    }
    for term, value in facts.items():
        if value:
            yield f"<div><dt>{term}</dt><dd>{escape(value)}</dd></div>"


def _totals(results: Sequence[Result]) -> str:
    counts = {s: sum(result.counts.get(s, 0) for result in results) for s in SEVERITIES}
    total = sum(counts.values())
    code = sum(language.code for result in results for language in result.languages)
    functions = sum(result.function_count for result in results)
    secrets = sum(result.total for result in results if result.tool == "detect-secrets")
    figures = {"Lines of code": code, "Functions": functions, "Possible secrets": secrets}
    if code:
        density = f"<div><dt>Findings per 1,000 lines</dt><dd>{1000 * total / code:,.1f}</dd></div>"
    else:
        density = ""
    legend = "".join(f'<li class="{s}"><b>{counts[s]:,}</b> {s}</li>' for s in SEVERITIES)
    cells = "".join(f"<div><dt>{name}</dt><dd>{n:,}</dd></div>" for name, n in figures.items())
    return f"""<section class="totals" aria-label="Totals">
<div class="verdict">
<p class="total"><b>{total:,}</b> {"finding" if total == 1 else "findings"}</p>
{sections.severity_bar(counts, total)}
<ul class="legend">{legend}</ul>
</div>
<dl class="figures">{cells}{density}</dl>
</section>"""


def _failures(failed: Mapping[str, str], results: Sequence[Result]) -> str:
    notes = [escape(why) for why in failed.values()]
    for result in results:
        if result.unread:
            notes.append(
                f"{escape(result.tool)} could not read {plural(result.unread, 'file')} "
                "(a syntax that it doesn't know, mostly)"
            )
        if result.omitted:
            notes.append(
                f"{escape(result.tool)} found more than is kept: "
                f"{plural(result.omitted, 'finding')} of low weight are counted, not listed"
            )
    if not notes:
        return ""
    items = "".join(f"<li>{note}</li>" for note in notes)
    return (
        '<section class="note" aria-label="Incomplete">'
        f"<h2>Incomplete</h2><ul>{items}</ul></section>"
    )


def _footer(origin: Origin) -> str:
    run = f" in run {escape(origin.run_ref)}" if origin.run_ref else ""
    return f"""<footer><p>Written by Tailrace{run}. <code>findings.sarif</code>, beside this file,
holds every finding for editors and forges. High weighs 10, medium 3, low 1.</p></footer>"""
