"""A secret printed in a hundred ways is in no sink: stream, disk, databases, logs, terminal."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import shlex
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

from daemons import serving
from runs import files_with

SECRET = 'c4nary <"/+&é> horse-battery'
LINES = "-----first line of it\n{\nsecond-line-is-long-too\nthird line, the last-----"

WAYS = """
import base64, json, os, shlex, sys, time, html, subprocess
from urllib.parse import quote, quote_plus
s = os.environ["CANARY"]; b = s.encode(); m = os.environ["LINES"]
def say(text): print(text, flush=True)
for before in ("", "x", "a long text before it: "):
    for after in ("", "y", " and after it"):
        say(before + s + after)
        for cut in range(3):
            pad = b"." * cut
            say("b64 " + base64.b64encode(pad + b + after.encode()).decode())
            say("url " + base64.urlsafe_b64encode(pad + b + after.encode()).decode())
        say(before + quote(s) + after); say(before + quote(s, safe="") + after)
        say(before + quote_plus(s) + after); say(before + quote(s, safe="").lower() + after)
        say(before + json.dumps(s) + after); say(before + json.dumps(s, ensure_ascii=False) + after)
        say(before + html.escape(s) + after); say(before + shlex.quote(s) + after)
        say(before + b.hex() + after); say(before + b.hex().upper() + after)
say(subprocess.run(["bash", "-c", 'printf "%q" "$CANARY"'], capture_output=True, text=True).stdout)
say(s + s); say(s * 3 + s[:8]); say(s[:9] + s); say(s[-5:] + s)
for piece in (m, m.replace("\\n", "\\r\\n"), m.replace("\\n", " "), json.dumps(m)): say(piece)
for line in m.split("\\n"):
    if len(line) >= 8: say("a line of it: " + line)
for byte in b + b"\\n": os.write(1, bytes([byte]))
for byte in b + b"\\n": os.write(1, bytes([byte])); time.sleep(0.001)
os.write(1, b[:7]); time.sleep(0.1); os.write(2, b[7:] + b"\\n")
open(os.environ["TAILRACE_OUTPUT"], "a").write("token=" + s + "\\n")
def tell(**event): open(os.environ["TAILRACE_EVENTS"], "a").write(json.dumps(event) + "\\n")
tell(event="status", text="status " + s); tell(event="progress", percent=3, note=s, stage=s)
tell(event="text", delta=s); tell(event="result", text=s); tell(event="fault", kind=s, message=s)
tell(event="tool_call", id=s, name=s, phase="started", input=s)
tell(event="citation", title=s, url="https://example.org/?q=" + quote(s))
tell(event=s); tell(**{s: s})
folder = os.environ["TAILRACE_ARTIFACTS"]
open(os.path.join(folder, "named-" + os.environ["PLAIN"]), "w").write("x")
open(os.path.join(folder, "contents.txt"), "w").write(s)
raise ValueError("it failed with " + s)
"""

PIPELINE = """
description: Leaks
params: {repo: {type: git-url}}
secrets: [CANARY, LINES, PLAIN]
steps:
  leak:
    label: "with ${{ params.repo }}"
    command: [PYTHON, WAYS, "${{ params.repo }}"]
    allow_failure: true
  pass-on:
    needs: leak
    run: echo "$OUTPUT_LEAK_TOKEN"
  missing:
    command: ["/no/such/${{ params.repo }}"]
    allow_failure: true
"""


def forms(secret: str) -> list[str]:
    """What must not be found: the secret and its whole encoded forms."""
    data = secret.encode()
    return [
        secret, quote(secret), quote(secret, safe=""), quote_plus(secret),
        json.dumps(secret)[1:-1], html.escape(secret), shlex.quote(secret), data.hex(),
        data.hex().upper(), base64.b64encode(data).decode().rstrip("=")[:-1],
        # What depends on the secret alone at the other two alignments.
        base64.b64encode(b".." + data).decode()[4:-4], base64.b64encode(b"." + data).decode()[4:-4],
    ]  # fmt: skip


async def test_a_secret_is_found_in_no_sink(tmp_path: Path) -> None:
    """But in the contents of artifacts, which are never altered."""
    (tmp_path / "ways.py").write_text(WAYS)
    text = PIPELINE.replace("PYTHON", sys.executable).replace("WAYS", str(tmp_path / "ways.py"))
    plain = "plain-canary-0815"
    env = {
        "TAILRACE_SECRET_CANARY": SECRET, "TAILRACE_SECRET_LINES": LINES,
        "TAILRACE_SECRET_PLAIN": plain,
    }  # fmt: skip
    repo = "https://ann:hunter2-canary@127.0.0.1:1/r.git"
    seen = bytearray()
    async with serving(tmp_path, {"leaky": text}, env=env, settings=_PRIVATE) as daemon:
        run = await daemon.start("leaky", repo=repo)
        seen += json.dumps(run, ensure_ascii=False).encode()
        final = await daemon.until_final(run["id"])
        base = f"/runs/{run['id']}"
        for path in (f"{base}/events", f"{base}/events?plain=1", f"{base}/steps/leak/log", base):
            async with daemon.client.get(f"{daemon.url}/api/v1{path}") as answer:
                seen += await answer.read()
        for path in ("/api/v1/runs", "/metrics", "/api/v1/pipelines/leaky"):
            async with daemon.client.get(daemon.url + path) as answer:
                seen += await answer.read()
        terminal = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tailrace.cli.main", "tail", run["id"],
            "--state", str(daemon.state.path),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=dict(os.environ),
        )  # fmt: skip
        seen += (await terminal.communicate())[0]
        command_lines = _command_lines()

    assert final["status"] == "success", final
    canaries = [*forms(SECRET), plain, "hunter2-canary", LINES, "second-line-is-long-too"]
    for canary in canaries:
        assert canary.encode() not in seen, canary
    leaks = files_with(daemon.state.path, *canaries)
    assert leaks == {f"runs/{run['id']}/artifacts/contents.txt"}
    assert files_with(tmp_path, *canaries) == {f"state/{leak}" for leak in leaks}
    assert not any(canary in command_lines for canary in (SECRET, plain))
    assert seen.count(b"***") > 100


_PRIVATE = "git: {private_addresses: [127.0.0.0/8]}\n"


def _command_lines() -> str:
    """All command lines of the machine, where a secret in argv would stand."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(found)


async def test_a_secret_that_is_too_short_is_refused_and_nothing_is_started(
    tmp_path: Path,
) -> None:
    """Masking it would destroy the log; the answer names it and not its value."""
    text = "secrets: [PIN]\nsteps:\n  a: {run: 'true'}\n"
    async with serving(tmp_path, {"pin": text}, env={"TAILRACE_SECRET_PIN": "z9q"}) as daemon:
        async with daemon.client.post(
            f"{daemon.url}/api/v1/runs", json={"pipeline": "pin"}
        ) as answer:
            problem = await answer.json()
        runs = await daemon.get("/runs")

    assert answer.status == 422
    assert "PIN" in json.dumps(problem)
    assert "z9q" not in json.dumps(problem)
    assert runs["runs"] == []
