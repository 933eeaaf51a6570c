"""A secret printed in a hundred ways is in no sink: stream, disk, databases, logs, terminal."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from daemons import SHAPES, serving
from runs import eventually, files_with
from tailrace.rundir.layout import StateDir

SECRET = "c4nary <\"/+&é'> horse-battery"
LATE = "l4te $one \"told/by\" a 'step' & é"
LINES = "-----first line of it\n{\nsecond-line-is-long-too\nthird line, the last-----"

# What writes a secret in a hundred ways: run by the step that prints them, and by the test.
FORMS = r"""
import base64, html, json, re, shlex
from html.entities import codepoint2name
from urllib.parse import quote, quote_plus

def forms(s):
    b = s.encode()
    lower = lambda text: re.sub("%..", lambda found: found[0].lower(), text)
    each = lambda number: "".join(number.format(ord(c)) for c in s)
    marks = lambda number: re.sub("[^0-9A-Za-z]", lambda found: number.format(ord(found[0])), s)
    text = html.escape(s, quote=False)
    named = lambda text: "".join(
        f"&{codepoint2name[ord(c)]};" if ord(c) > 126 and ord(c) in codepoint2name else c
        for c in text
    )
    jsons = [json.dumps(s)[1:-1], json.dumps(s, ensure_ascii=False)[1:-1]]
    jsons += [re.sub(r"\\u....", lambda found: "\\u" + found[0][2:].upper(), jsons[0])]
    jsons += [text.replace("/", "\\/") for text in jsons]
    for mark in "<>&", "<>&'":
        for one in jsons[:2]:
            jsons.append("".join(f"\\u{ord(c):04x}" if c in mark else c for c in one))
    percents = [quote(s, safe=safe) for safe in ("/", "", "!'()*", "!'()*;,/?:@&=+$#", "*", "~")]
    percents += [quote_plus(s)] + [text.replace("%20", "+") for text in percents]
    entities = [
        html.escape(s), text, named(text), named(html.escape(s)),
        text.replace('"', "&#34;").replace("'", "&#39;"), text.replace("'", "&apos;"),
        text.encode("ascii", "xmlcharrefreplace").decode(), each("&#{};"), each("&#x{:x};"),
        each("&#x{:X};"), each("&#{:03d};"), marks("&#{};"), marks("&#x{:x};"), marks("&#x{:X};"),
        s.encode("ascii", "xmlcharrefreplace").decode(),
    ]
    escaped = s.replace("\\", "\\\\").replace("'", "\\'")
    shells = [
        shlex.quote(s)[1:-1], s.replace("'", "'\\''"), re.sub(r'(["$`\\])', r"\\\1", s), escaped,
        re.sub(r"([ '\"\\|&;()<>!{}*\[\]?^$`,])", r"\\\1", s),
        "".join("".join(f"\\{byte:03o}" for byte in c.encode()) if ord(c) > 126 else c
                for c in escaped),
    ]
    cores = []
    for ahead in range(3):
        for behind in range(3):
            whole = base64.b64encode(b"." * ahead + b + b"." * behind).decode()
            first, last = -(-ahead * 8 // 6), (ahead + len(b)) * 8 // 6
            cores += [whole[first:last], whole[first:last].replace("+", "-").replace("/", "_")]
    found = [s, b.hex(), b.hex().upper(), repr(s)[1:-1]]
    found += jsons + percents + list(map(lower, percents)) + entities + shells + cores
    return list(dict.fromkeys(found))
"""

WAYS = (
    FORMS
    + """
import os, sys, time, subprocess
s = os.environ["CANARY"]; b = s.encode(); m = os.environ["LINES"]; late = bytes.fromhex(sys.argv[2])
late = late.decode()[::-1]
def say(text): print(text, flush=True)
def tell(**event):
    with open(os.environ["TAILRACE_EVENTS"], "a") as fifo: fifo.write(json.dumps(event) + "\\n")
if os.environ["TAILRACE_ATTEMPT"] == "1":
    tell(event="mask", value=late)
    for form in forms(late): say("late " + form)
    tell(event="status", text="late " + late)
    sys.exit(7)
say("again " + late)
for before in ("", "x", "a long text before it: "):
    for after in ("", "y", " and after it"):
        for form in forms(s): say(before + form + after)
        for cut in range(3):
            pad = b"." * cut
            say("b64 " + base64.b64encode(pad + b + after.encode()).decode())
            say("url " + base64.urlsafe_b64encode(pad + b + after.encode()).decode().rstrip("="))
say(subprocess.run(["bash", "-c", 'printf "%q" "$CANARY"'], capture_output=True, text=True).stdout)
say(s + s); say(s * 3 + s[:8]); say(s[:9] + s); say(s[-5:] + s)
one, two, three, four = m.split("\\n")
for piece in (m, m.replace("\\n", "\\r\\n"), m.replace("\\n", " "), json.dumps(m)): say(piece)
say(one + "\\r\\n  " + two + "\\\\n" + three + " " + four)
say(one + "\\\\\\\\n" + two + three + "%0A" + four)
for line in m.split("\\n"):
    if len(line) >= 8: say("a line of it: " + line)
for byte in b + b"\\n": os.write(1, bytes([byte]))
for byte in b + b"\\n": os.write(1, bytes([byte])); time.sleep(0.001)
os.write(1, b[:7]); time.sleep(0.1); os.write(2, b[7:] + b"\\n")
open(os.environ["TAILRACE_OUTPUT"], "a").write("token=" + s + "\\nlate=" + late + "\\n")
tell(event="status", text="status " + s); tell(event="progress", percent=3, note=s, stage=s)
tell(event="text", delta=s); tell(event="result", text=s); tell(event="fault", kind=s, message=s)
tell(event="tool_call", id=s, name=s, phase="started", input=s)
tell(event="citation", title=s, url="https://example.org/?q=" + quote(s))
tell(event=s); tell(**{s: s})
folder = os.environ["TAILRACE_ARTIFACTS"]
open(os.path.join(folder, "named-" + os.environ["PLAIN"]), "w").write("x")
open(os.path.join(folder, "contents.txt"), "w").write(s)
while not os.path.exists(sys.argv[3]): time.sleep(0.01)
raise ValueError("it failed with " + s)
"""
)

PIPELINE = """
description: Leaks
params: {repo: {type: git-url}}
secrets: [CANARY, LINES, PLAIN]
steps:
  leak:
    label: "with ${{ params.repo }}"
    command: [PYTHON, WAYS, "${{ params.repo }}", HEX, GO]
    retry: {attempts: 2, delay: 1ms, exit_codes: [7]}
    allow_failure: true
  pass-on:
    needs: leak
    run: echo "$OUTPUT_LEAK_TOKEN"; echo "$OUTPUT_LEAK_LATE" | base64
  missing:
    command: ["/no/such/${{ params.repo }}"]
    allow_failure: true
"""
_space: dict[str, Any] = {}
exec(FORMS, _space)  # what the step runs, too


def forms(secret: str) -> list[str]:
    """What must not be found: the secret and its whole encoded forms."""
    found: list[str] = _space["forms"](secret)
    return found


async def test_a_secret_is_found_in_no_sink(tmp_path: Path) -> None:
    """But in the contents of artifacts, which are never altered."""
    (tmp_path / "ways.py").write_text(WAYS)
    text = PIPELINE.replace("PYTHON", sys.executable).replace("WAYS", str(tmp_path / "ways.py"))
    text = text.replace("HEX", LATE[::-1].encode().hex()).replace("GO", str(tmp_path / "go"))
    plain = "plain-canary-0815"
    env = {
        "TAILRACE_SECRET_CANARY": SECRET, "TAILRACE_SECRET_LINES": LINES,
        "TAILRACE_SECRET_PLAIN": plain,
    }  # fmt: skip
    repo = "https://ann:hunter2-canary@127.0.0.1:1/r.git"
    body = {"pipeline": "leaky", "params": {"repo": repo}}
    canaries = list(dict.fromkeys(
        [*forms(SECRET), *forms(LATE), plain, "hunter2-canary", LINES, "second-line-is-long-too"]
    ))  # fmt: skip
    assert len(canaries) > 100
    seen = bytearray()
    run: dict[str, Any] = {}
    async with serving(
        tmp_path, {"leaky": text}, env={**env, **SHAPES}, settings=_PRIVATE
    ) as daemon:
        url = f"{daemon.url}/api/v1/runs"
        for more, status in (
            ({}, 201),
            ({}, 201),
            ({"depth": "x"}, 422),
        ):  # made, repeated, refused
            headers = {"Idempotency-Key": "k1"}
            async with daemon.client.post(url, json=body | more, headers=headers) as answer:
                assert answer.status == status, await answer.text()
                seen += await answer.read()
                run = await answer.json() if status == 201 else run
        token = "gh" + "p_" + "aB3" * 12
        for wrong in ({"depth": SECRET}, {"params": {"repo": repo, "x " + token: SECRET}}):
            async with daemon.client.post(url, json=body | wrong) as answer:
                assert answer.status == 422
                seen += json.dumps(await answer.json(), ensure_ascii=False).encode()
        assert token.encode() not in seen
        await eventually(lambda: _wrote(daemon.state, run["id"]), within_s=30)
        holders = _environments_with(SECRET, LINES, plain)
        command_lines = _command_lines()
        (tmp_path / "go").touch()
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

    assert final["status"] == "success", final
    assert [canary for canary in canaries if canary.encode() in seen] == []
    leaks = files_with(daemon.state.path, *canaries)
    assert leaks == {f"runs/{run['id']}/artifacts/contents.txt"}
    assert files_with(tmp_path, *canaries) == {f"state/{leak}" for leak in leaks}
    assert not any(canary in command_lines for canary in (SECRET, LATE, plain))
    assert holders == []
    assert seen.count(b"***") > 1000


def _wrote(state: StateDir, run_id: str) -> bool:
    # Folders of attempts go while it is looked through.
    return any("contents.txt" in names for _, _, names in os.walk(state.run(run_id).path))


def _environments_with(*texts: str) -> list[str]:
    """The processes that show a secret in their environment and aren't steps."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
        except OSError:
            continue
        if b"\0TAILRACE_RUN_ID=" not in b"\0" + environment:
            found += [str(path) for text in texts if text.encode() in environment]
    return found


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
