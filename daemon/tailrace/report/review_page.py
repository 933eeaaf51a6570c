"""The report on a review, as one static HTML file like that of an analysis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Final

from tailrace.core.units import plural
from tailrace.report import sections
from tailrace.report.change import ChangedFile, count
from tailrace.report.findings import SEVERITIES, rank_files, to_uri
from tailrace.report.origin import Origin
from tailrace.report.page import document, header
from tailrace.report.review import Review, Source

_FILES: Final = 40  # rows of changed files


def write_review_page(
    review: Review | None, why: str, files: Sequence[ChangedFile], origin: Origin, *, now: datetime
) -> bytes:
    """Render the report on a change.

    Without a review the page tells *why*, and shows what changed all the same.
    """
    parts = [
        header(origin, now, kind="Review", verb="Reviewed"),
        _totals(review, files),
        _incomplete(review, why),
        _summary(review),
    ]
    if review is not None:
        parts.append(sections.every_finding(rank_files([review.result]), origin))
    parts += [_changed(files), _sources(review.sources if review else ()), _footer(origin)]
    return document(origin.name, "review", "\n".join(part for part in parts if part))


def _totals(review: Review | None, files: Sequence[ChangedFile]) -> str:
    counts = {s: review.result.counts.get(s, 0) if review else 0 for s in SEVERITIES}
    total = sum(counts.values())
    legend = "".join(f'<li class="{s}"><b>{counts[s]:,}</b> {s}</li>' for s in SEVERITIES)
    added, removed = count(files)
    figures = {"Files changed": len(files), "Lines added": added, "Lines removed": removed}
    if review is not None:
        figures["Sources"] = len(review.sources)
    cells = "".join(f"<div><dt>{name}</dt><dd>{n:,}</dd></div>" for name, n in figures.items())
    said = f"{total:,}" if review is not None else "?"
    return f"""<section class="totals" aria-label="Totals">
<div class="verdict">
<p class="total"><b>{said}</b> {"finding" if total == 1 else "findings"}</p>
{sections.severity_bar(counts, total)}
<ul class="legend">{legend}</ul>
</div>
<dl class="figures">{cells}</dl>
</section>"""


def _incomplete(review: Review | None, why: str) -> str:
    notes = [escape(why)] if review is None else []
    if review is not None and review.result.unread:
        notes.append(
            f"{plural(review.result.unread, 'finding')} could not be read and are left out"
        )
    if not notes:
        return ""
    items = "".join(f"<li>{note}</li>" for note in notes)
    return (
        '<section class="note" aria-label="Incomplete">'
        f"<h2>Incomplete</h2><ul>{items}</ul></section>"
    )


def _summary(review: Review | None) -> str:
    if review is None or not review.summary.strip():
        return ""
    paragraphs = review.summary.strip().replace("\r\n", "\n").split("\n\n")
    body = "".join(f"<p>{escape(text.strip())}</p>" for text in paragraphs if text.strip())
    return sections.section("Summary", f'<div class="prose">{body}</div>')


def _changed(files: Sequence[ChangedFile]) -> str:
    if not files:
        return sections.section("Changed files", '<p class="calm">Nothing has changed.</p>')
    most = max(1, *(len(file.added) + len(file.removed) for file in files))
    ordered = sorted(files, key=lambda f: (-len(f.added) - len(f.removed), f.path))
    rows = [_file_row(file, most) for file in ordered[:_FILES]]
    more = len(files) - len(rows)
    note = plural(more, "more file") if more > 0 else ""
    table = sections.table(("File", "", "Added", "Removed"), rows, numbers=2)
    return sections.section("Changed files", table, note)


def _file_row(file: ChangedFile, most: int) -> str:
    added, removed = len(file.added), len(file.removed)
    kind = "new" if file.is_new else "removed" if file.is_removed else ""
    kind = "binary" if file.is_binary else kind
    bar = "".join(
        f'<i class="{name}" style="width:{100 * n / most:.2f}%"></i>'
        for name, n in (("plus", added), ("minus", removed))
        if n
    )
    return (
        f'<tr><th scope="row" class="path">{sections.path(to_uri(file.path))}'
        f"{f' <em>{kind}</em>' if kind else ''}</th>"
        f'<td class="wide"><div class="bar">{bar}</div></td>'
        f"<td>{added:,}</td><td>{removed:,}</td></tr>"
    )


def _sources(sources: Sequence[Source]) -> str:
    if not sources:
        return ""
    items = []
    for source in sources:
        title = escape(source.title)
        named = f'<a href="{escape(source.url)}">{title}</a>' if source.url else title
        address = f"<small>{escape(source.url)}</small>" if source.url else ""
        items.append(f"<li>{named}{address}</li>")
    return sections.section("Sources", f'<ol class="sources">{"".join(items)}</ol>')


def _footer(origin: Origin) -> str:
    run = f" in run {escape(origin.run_ref)}" if origin.run_ref else ""
    return f"""<footer><p>Written by Tailrace{run}, from what the agent left.
<code>change.diff</code> and <code>findings.sarif</code> stand beside this file.</p></footer>"""
