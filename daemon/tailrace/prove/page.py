"""The verdict as one static HTML file: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files

from tailrace.core.units import format_duration
from tailrace.prove.proof import KINDS, Kind, Proof, Verdict, words_for

_MEANING: dict[Kind, str] = {
    "lost": "runs, lines or events that were gone, late for ever, or told wrongly",
    "doubled": "runs, steps, lines or events that came twice",
    "survivors": "processes that lived on after a cancel or their runner's death",
    "leaks": "pieces of planted secrets in anything that was written or told",
}


def write_page(verdict: Verdict) -> bytes:
    """Render the report."""
    style = files("tailrace.prove").joinpath("page.css").read_text("utf-8")
    said = "Everything held" if verdict.passed else "Not everything held"
    proofs = "\n".join(map(_proof, verdict.proofs))
    cells = "".join(_cell(verdict, kind) for kind in KINDS)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(verdict.line)}</title>
<style>
{style}</style>
</head>
<body class="{"passed" if verdict.passed else "missed"}">
<main>
<header>
<p class="kind">tailrace prove</p>
<h1><i class="seal" aria-hidden="true">{"✓" if verdict.passed else "✗"}</i>{said}</h1>
<p class="what">The real product on this machine: killed, cancelled, cut off and searched,
in {format_duration(verdict.duration_ms)}.</p>
</header>
<section class="totals" aria-label="Totals">
<dl>{cells}</dl>
<p class="containment">Containment <b>{escape(words_for(verdict.containments))}</b></p>
</section>
{proofs}
<footer>
<dl class="facts">{"".join(_facts(verdict))}</dl>
<p>Every figure was measured in this run, by means that share nothing with what they judge:
the process table, the files, and what came over the wire.</p>
</footer>
</main>
</body>
</html>
"""
    return page.encode("utf-8", "backslashreplace")


def _cell(verdict: Verdict, kind: Kind) -> str:
    missed = verdict.missed(kind)
    mood = "bad" if missed else "good"
    return (
        f'<div class="{mood}"><dt>{kind}</dt><dd>{missed}</dd><small>{_MEANING[kind]}</small></div>'
    )


def _proof(proof: Proof) -> str:
    chips = "".join(
        f'<li class="{"bad" if missed else "good"}">{kind} <b>{missed}</b></li>'
        for kind in KINDS
        if (missed := proof.missed(kind)) is not None
    )
    evidence = "".join(f"<li>{escape(text)}</li>" for text in proof.evidence)
    misses = "".join(f"<li><b>{kind}</b> {escape(what)}</li>" for kind, what in proof.shown)
    notes = "".join(
        f'<p class="note"><b>Not tried:</b> {escape(note)}.</p>' for note in proof.notes
    )
    return f"""<section class="proof {"missed" if proof.misses else "passed"}">
<div class="title"><h2>{escape(proof.title)}</h2>
<p>{format_duration(proof.duration_ms)}</p></div>
<ul class="chips">{chips}</ul>
{f'<ul class="misses">{misses}</ul>' if misses else ""}
<ul class="evidence">{evidence}</ul>
{notes}</section>"""


def _facts(verdict: Verdict) -> Iterator[str]:
    facts = {
        "Version": verdict.version,
        "Machine": verdict.machine,
        "Began": verdict.began_at.replace("T", " ").partition(".")[0] + " UTC",
        "Seed": str(verdict.seed),
    }
    for term, value in facts.items():
        yield f"<div><dt>{term}</dt><dd>{escape(value)}</dd></div>"
