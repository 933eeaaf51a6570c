"""``tailrace-scripted-agent``: reviews the change that a step before has left.

It does what the pipeline `agent-review` asks of any agent: the repository is
the current folder, the change ``change.diff`` in ``$TAILRACE_COLLECTED``, the
findings go to ``review.json`` in ``$TAILRACE_ARTIFACTS``. What it does on the
way it tells on ``$TAILRACE_EVENTS``. The instructions on standard input are
for agents that can read; this one counts them and goes by its rules.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from tailrace.agent.narrate import Narrator
from tailrace.agent.rules import Remark, gone_names, remarks_on, remarks_on_all
from tailrace.core.units import plural
from tailrace.report.change import ChangedFile, count, read_change
from tailrace.report.findings import SEVERITIES, printable

_MOST_READ: Final = 1 << 20  # bytes of a file
_MOST_NAMES: Final = 50  # looked for in the repository
_SAID: Final = 12  # findings named in the result


@click.command()
@click.option("--price", nargs=2, type=float, default=(0.0, 0.0), metavar="IN OUT",
              help="Dollars for a million tokens read and written.")  # fmt: skip
def main(price: tuple[float, float]) -> None:
    """Review the change in $TAILRACE_COLLECTED/change.diff by rules, without a model.

    REVIEW_EFFORT=thorough also looks for uses of what the change removes.
    """
    narrator = Narrator(os.environ.get("TAILRACE_EVENTS"), price)
    try:
        if not sys.stdin.isatty():
            narrator.read(sys.stdin.read())
        _review(narrator, thorough=os.environ.get("REVIEW_EFFORT") == "thorough")
    finally:
        narrator.close()


def _review(narrator: Narrator, *, thorough: bool) -> None:
    source = Path(os.environ.get("TAILRACE_COLLECTED", ".")) / "change.diff"
    narrator.say("status", text="reading the change")
    try:
        diff = source.read_text("utf-8", "surrogateescape")
    except OSError as exc:
        raise click.ClickException(f"{source}: {exc.strerror}; a step before leaves it") from None
    narrator.read(diff)
    files = read_change(diff)
    added, removed = count(files)
    narrator.text(f"The change touches {plural(len(files), 'file')}: {added:,} lines are new, "
                  f"{removed:,} are gone. I look at each.\n\n")  # fmt: skip
    remarks = [
        remark for n, file in enumerate(files) for remark in _look_at(file, narrator, n, len(files))
    ]
    remarks += remarks_on_all(files)
    if thorough:
        remarks += _uses_of_what_is_gone(files, narrator)
    remarks.sort(key=lambda r: (SEVERITIES.index(r.severity), r.path, r.line))
    sources = list(dict.fromkeys(r.source for r in remarks if r.source is not None))
    for title, url in sources:
        narrator.say("citation", title=title, url=url)
    summary = _summary(remarks, files)
    _leave(summary, remarks, sources)
    narrator.settle()
    narrator.say("result", text=_result(summary, remarks))


def _look_at(file: ChangedFile, narrator: Narrator, n: int, of: int) -> list[Remark]:
    name = printable(file.path)
    narrator.say("status", text=f"reading {name}")
    narrator.say("progress", percent=100 * n / of, done=n, total=of, unit="files")
    if not (file.is_removed or file.is_binary):
        with narrator.call("read_file"):
            narrator.read(_text_of(file.path))
    found = list(remarks_on(file))
    for remark in found:
        narrator.text(f"{name}:{remark.line}: {remark.message}\n")
    narrator.settle()
    return found


def _text_of(path: str) -> str:
    """Read a file of the clone; links are not followed, for they may lead out of it."""
    root = Path.cwd().resolve()
    if not (root / path).parent.resolve().is_relative_to(root):
        raise PermissionError(path)
    fd = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, _MOST_READ).decode("utf-8", "replace")
    finally:
        os.close(fd)


def _uses_of_what_is_gone(files: Sequence[ChangedFile], narrator: Narrator) -> list[Remark]:
    remarks = []
    for name, path, line in gone_names(files)[:_MOST_NAMES]:
        narrator.say("status", text=f"looking for uses of {name}")
        with narrator.call("grep") as call:
            done = subprocess.run(
                ["git", "grep", "-I", "-l", "-w", "-F", "-e", name, "HEAD", "--"],
                capture_output=True, check=False, timeout=60,
            )  # fmt: skip
            call.is_error = done.returncode > 1
            users = [
                user.partition(":")[2]
                for user in done.stdout.decode("utf-8", "replace").splitlines()
            ]
            narrator.read("\n".join(users))
        if users:
            where = f"{plural(len(users), 'file')}: {printable(users[0])}"
            text = f"'{name}' is gone, and still named in {where}"
            narrator.text(f"{text}\n")
            remarks.append(
                Remark(path=path, line=line, severity="high", rule="still-used", message=f"{text}.")
            )
    return remarks


def _summary(remarks: Sequence[Remark], files: Sequence[ChangedFile]) -> str:
    if not remarks:
        return f"No findings in {plural(len(files), 'changed file')}."
    counts = [(sum(r.severity == s for r in remarks), s) for s in SEVERITIES]
    named = ", ".join(f"{n} {severity}" for n, severity in counts if n)
    where = len({remark.path for remark in remarks})
    of = plural(len(files), "changed file")
    return f"{plural(len(remarks), 'finding')} in {where} of {of}: {named}."


def _result(summary: str, remarks: Sequence[Remark]) -> str:
    lines = [f"- {printable(r.path)}:{r.line}: {r.message}" for r in remarks[:_SAID]]
    more = [f"and {len(remarks) - _SAID} more"] if len(remarks) > _SAID else []
    return "\n".join([summary, "", *lines, *more]).rstrip()


def _leave(summary: str, remarks: Sequence[Remark], sources: Sequence[tuple[str, str]]) -> None:
    review = {
        "summary": summary,
        "findings": [
            {"path": _utf8(r.path), "line": r.line, "severity": r.severity, "rule": r.rule,
             "message": r.message}
            for r in remarks
        ],
        "sources": [{"title": title, "url": url} for title, url in sources],
    }  # fmt: skip
    folder = Path(os.environ.get("TAILRACE_ARTIFACTS", "."))
    (folder / "review.json").write_text(json.dumps(review, indent=1) + "\n")


def _utf8(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


if __name__ == "__main__":
    main()
