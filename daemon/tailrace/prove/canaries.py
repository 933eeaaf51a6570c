"""Planted secrets are printed in a hundred forms, and then looked for in every sink.

What is looked for are pieces: eight characters in a row of the secret, or of
any form of it, anywhere. Sinks are all files of the state folder (journal,
logs, run.json, outputs, both databases with their write-ahead logs, the
runner's log), the daemon's log, every kind of stream and document that its HTTP
API gives, `tailrace tail` and `show`, and the command lines of all processes
while the runs lived. Contents of artifacts are never altered, and aren't looked
at. That each form was printed is told by the `***` in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tailrace.core.units import format_size
from tailrace.prove import leaky_step
from tailrace.prove.ground import Ground, tell_containment
from tailrace.prove.proof import Ledger, Promise, ProofError, Trial
from tailrace.prove.records import Event, Watcher, check_sequence, read_journal
from tailrace.task_end import end_task

_PIECE: Final = 8  # characters in a row of a secret that are a leak
_STRIDE: Final = 4  # so that every leak of eleven or more holds one of the pieces
_LOOK_S: Final = 0.05  # between two looks at the command lines

_SPECIAL: Final = " <\"/+&é>'$ "  # what encodings do something to
_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"

_PIPELINE: Final = """\
params:
  repo: {type: git-url, required: true}
  note: {default: ""}
  program: {required: true}
  visible: {default: ""}
secrets: [CANARY, LINES, PLAIN]
concurrency: {group: "${{ params.note }}"}
env: {PROOF_VISIBLE: "${{ params.visible }}"}
steps:
  leak:
    label: "with ${{ params.repo }} and ${{ params.note }}"
    command: [PYTHON, -I, -S, "${{ params.program }}"]
    allow_failure: true
  pass-on:
    needs: leak
    run: echo "$OUTPUT_LEAK_TOKEN, $PARAM_REPO, $PARAM_NOTE"
  missing:
    command: ["/no/such/${{ params.note }}", "${{ params.repo }}"]
    allow_failure: true
  nowhere:
    run: "true"
    workdir: "${{ params.note }}"
    allow_failure: true
  wait:
    needs: [leak, pass-on, missing, nowhere]
    when: always()
    label: waits for its cancel
    run: sleep 600
timeout: 5m
"""

# Forms that a channel drops whole, so that no `***` stands for them.
_SILENT: Final = frozenset(
    {"a tool's input", "an event of that name", "an unknown key", "a broken line", "an output",
     "a broken output"}
)  # fmt: skip


class Secrets:
    """What is planted; made anew for each proof."""

    def __init__(self, trial: Trial) -> None:
        def word(length: int) -> str:
            return "".join(trial.random.choices(_ALPHABET, k=length))

        self.canary = f"{word(12)}{_SPECIAL}{word(14)}"
        self.lines = f"-- {word(24)}\n{{\n  {word(48)}\n{word(30)}\nlast {word(20)} --"
        self.plain = f"plain-{word(16)}"
        self.password = f"pw-{word(16)}"
        self.visible = f"visible-{word(16)}" if "leaks" in trial.planted else ""

    @property
    def pieces(self) -> dict[bytes, str]:
        """What must be found nowhere, with whose piece it is."""
        pieces: dict[bytes, str] = {}
        texts = {
            **{f"the secret ({name})": text
               for name, text in _whole(leaky_step.encodings(self.canary)).items()},
            "a line of the secret of several": self.lines.replace("\n", "\0"),
            "the secret with a plain name": self.plain,
            "the password in an address": self.password,
            "a value told by a mask event": leaky_step.late_of(self.plain),
            **{name: token for name, (_, token, _) in leaky_step.shapes(self.plain).items()},
            "what was planted to be found": self.visible,
        }  # fmt: skip
        for name, text in texts.items():
            for part in re.split("\0|\n", text):
                data = part.strip().encode()
                for start in range(0, len(data) - _PIECE + 1, _STRIDE):
                    pieces.setdefault(data[start : start + _PIECE], name)
        return {piece: name for piece, name in pieces.items() if not _COMMON.search(piece)}


# Beginnings that are no secret: whoever sees a token's first letters knows its kind.
_COMMON: Final = re.compile(
    rb"^(?:ghp_|glpat|AKIA|xoxb|sk_live|npm_|eyJ|plain-|late-|pw-|visible-|last )"
)


def _whole(encodings: dict[str, str]) -> dict[str, str]:
    """Return the encodings without what depends on their neighbours, or isn't the secret's."""
    return {
        name: text[4:-4] if name.startswith("base64") else text.removeprefix("user=ann&token=")
        for name, text in encodings.items()
    }


async def prove(trial: Trial) -> None:
    """Print the secrets in every form, cancel with one as the reason, and search."""
    secrets, ledger = Secrets(trial), trial.ledger
    given = {"CANARY": secrets.canary, "LINES": secrets.lines, "PLAIN": secrets.plain}
    pipeline = _PIPELINE.replace("PYTHON", json.dumps(sys.executable))
    ground = Ground(
        trial.folder / "ground",
        {"leaky": pipeline},
        secrets=given,
        settings="git: {private_addresses: [127.0.0.0/8]}\n",
    )
    seen: dict[str, bytes] = {}
    async with ground:
        await ground.start()
        looking = asyncio.create_task(_look_at_command_lines(seen), name="command lines")
        try:
            run_id = await _run(trial, ground, secrets, seen)
            seen |= await _everything_told(ground, run_id)
        finally:
            await end_task(looking)
        seen |= _of_the_daemon(ground.pid)
        journal = read_journal(ground.state.run(run_id))
    check_sequence(ledger, "the run", journal)
    tell_containment(ledger, journal)
    _check_forms(ledger, journal)
    await asyncio.to_thread(_search, ledger, ground.folder, seen, secrets)
    _say(ledger)


async def _run(trial: Trial, ground: Ground, secrets: Secrets, seen: dict[str, bytes]) -> str:
    """Have everything printed, and the run cancelled with a secret as the reason."""
    params = {
        "repo": f"https://ann:{secrets.password}@127.0.0.1:1/r.git",
        "note": f"note {secrets.canary}",
        "program": str(Path(leaky_step.__file__)),
        "visible": secrets.visible,
    }
    status, answer = await ground.ask("POST", "/runs", {"pipeline": "leaky", "params": params})
    seen["the answer to POST /runs"] = json.dumps(answer, ensure_ascii=False).encode()
    if status != 201:
        raise ProofError(f"POST /runs is refused with {status}: {answer}")
    run_id = str(answer["id"])
    watcher = Watcher(ground, run_id)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_until_it_waits(trial.ledger, ground, watcher, secrets.canary))
    return run_id


async def _until_it_waits(ledger: Ledger, ground: Ground, watcher: Watcher, reason: str) -> None:
    """Watch to the end; cancel when the last step waits for it."""
    cancelled = False
    while not watcher.problem:
        async with contextlib.aclosing(watcher.events()) as stream:
            async for event in stream:
                for _ in range(event.get("text", "").count("form ")):
                    ledger.step()
                if not cancelled and event["event"] == "step_started" and event["step"] == "wait":
                    cancelled = True
                    path = f"/runs/{watcher.run_id}/cancel"
                    await ground.ask("POST", path, {"reason": f"because of {reason}"})
        if watcher.over:
            return
    ledger.miss("lost", f"the watcher: {watcher.problem}")


async def _everything_told(ground: Ground, run_id: str) -> dict[str, bytes]:
    """Return all that the API and the command line say of the run."""
    run, seen = f"/api/v1/runs/{run_id}", {}
    for path in (
        run, f"{run}/events", f"{run}/events?plain=1", f"{run}/events?shape=message",
        f"{run}/steps/leak/log", f"{run}/steps/leak/log?ansi=strip", f"{run}/steps/pass-on/log",
        f"{run}/steps/missing/log", "/api/v1/runs", "/api/v1/pipelines/leaky", "/metrics",
    ):  # fmt: skip
        async with ground.request("GET", path) as answer:
            seen[f"GET {path}"] = await answer.read()
    commands = (("tail", "--plain"), ("show", "--json"))
    said = await asyncio.gather(*(_call(ground, name, run_id, how) for name, how in commands))
    return seen | {f"tailrace {' '.join(command)}": text
                   for command, text in zip(commands, said, strict=True)}  # fmt: skip


async def _call(ground: Ground, *words: str) -> bytes:
    """Return all that a command of `tailrace` prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tailrace.cli.main", *words, *ground.options),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said


async def _look_at_command_lines(seen: dict[str, bytes]) -> None:
    """Gather the command lines of all processes until cancelled."""
    lines: set[bytes] = set()
    try:
        while True:
            lines |= await asyncio.to_thread(_command_lines)
            await asyncio.sleep(_LOOK_S)
    finally:
        seen["the command lines of all processes"] = b"\n".join(sorted(lines))


def _command_lines() -> set[bytes]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_bytes())
    return found


def _of_the_daemon(pid: int) -> dict[str, bytes]:
    """Return what others may see of the daemon's process, where we may."""
    with contextlib.suppress(OSError):  # undumpable: its own user may not look, root may
        return {"the daemon's environment": Path(f"/proc/{pid}/environ").read_bytes()}
    return {}


def _check_forms(ledger: Ledger, journal: list[Event]) -> None:
    """Look that every form was printed and masked: a proof that prints nothing proves nothing."""
    texts = [e["text"] + ("" if e.get("open") else "\n") for e in journal
             if e["event"] == "log" and e["step"] == "leak"]  # fmt: skip
    output = "".join(texts)
    events = "\n".join(json.dumps(e, ensure_ascii=False) for e in journal if e["event"] != "log")
    names = [name for name, _ in leaky_step.forms("s" * 9, "l" * 9, "p" * 9)]
    ledger.figures["forms"] = len(names)
    ledger.figures["masked"] = output.count("***") + events.count("***")
    begun = output.split("form ")[1:]
    if len(begun) != len(names):
        ledger.miss("lost", f"{len(begun)} of {len(names)} forms were printed")
        return
    told_by_event = {name for name, _ in leaky_step.forms_of_events("s" * 9)} - _SILENT
    for name, text in zip(names, begun, strict=True):
        if name not in _SILENT | told_by_event and "***" not in text:
            ledger.miss("leaks", f"{name}: nothing is masked in {text[:80]!r}")
    masked_events = sum(
        "***" in json.dumps(e) for e in journal
        if e.get("step") == "leak" and e["event"] in leaky_step.TOLD
    )  # fmt: skip
    # Progress is thinned to four a second, so that not each of its forms need come.
    wanted = sum(not name.startswith("a progress") for name in told_by_event)
    if masked_events < wanted:
        ledger.miss("lost", f"{masked_events} of {wanted} events with a secret came")


def _search(ledger: Ledger, folder: Path, seen: dict[str, bytes], secrets: Secrets) -> None:
    """Look for the pieces in everything that was told and written."""
    pieces = secrets.pieces
    sinks: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        inside = str(path.relative_to(folder))
        sinks[f"the name of {inside}"] = inside.encode()
        if path.is_file() and not inside.endswith("artifacts/contents.txt"):
            sinks[inside] = path.read_bytes()
    sinks |= seen
    leaks = [(sink, name, at) for sink, data in sinks.items()
             for name, at in pieces_in(data, pieces).items()]  # fmt: skip
    for sink, name, at in leaks:
        ledger.miss("leaks", f"{name} is in {sink}: …{at}…")
    ledger.figures["sinks"] = sum(not sink.startswith("the name of") for sink in sinks)
    ledger.figures["searched_bytes"] = sum(map(len, sinks.values()))
    ledger.figures["pieces"] = len(pieces)
    if not pieces_in(f"some text and {secrets.canary}".encode(), pieces):
        raise ProofError("a secret that was planted wasn't found")


def pieces_in(data: bytes, pieces: dict[bytes, str]) -> dict[str, str]:
    """Return whose pieces are in *data*, each with the place of the first."""
    found: dict[str, str] = {}
    for piece, name in pieces.items():
        if name not in found and (at := data.find(piece)) >= 0:
            line = data[max(0, at - 60) : at + 30].decode("utf-8", "replace")
            found[name] = line.replace("\n", "⏎")
    return found


def _say(ledger: Ledger) -> None:
    figures = ledger.figures
    ledger.say(
        f"looked for *** behind each form; it stands {figures['masked']:,} times in the run",
        f"{format_size(figures['searched_bytes'])} in {figures['sinks']} sinks searched for "
        f"{figures['pieces']:,} pieces of {_PIECE} characters",
        "journal, logs, databases, daemon's log, streams, documents, terminal, command lines",
        "besides in labels, commands, causes, params, reasons, outputs, names of artifacts",
    )


PROMISE: Final = Promise(
    name="canaries",
    title="Secrets printed in {} forms",
    judges=("leaks", "lost"),
    plants=("leaks",),
    size=lambda counts: len(leaky_step.forms("s" * 9, "l" * 9, "p" * 9)),
    prove=prove,
)
