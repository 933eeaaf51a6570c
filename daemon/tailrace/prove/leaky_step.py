"""A step's program that prints its secrets in every form it knows; also a script of its own.

``python leaky_step.py`` reads ``CANARY``, ``LINES`` and ``PLAIN`` from its
environment and gives them away, a form after the other, each behind its number.
`tailrace.prove.canaries` imports it for the forms alone; it imports nothing of
ours, because the interpreter that runs it as a script is told to know nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

Action = Callable[[], None]

_LONG = 70_000  # bytes: beyond a pipe's page, a line's 64 KiB and what is gathered at once
_CHUNK = 256 << 10


def late_of(plain: str) -> str:
    """A secret that nobody declared, and that the step tells by a ``mask`` event."""
    return "late-" + hashlib.sha256(plain.encode()).hexdigest()[:20]


def encodings(secret: str) -> dict[str, str]:
    """Name -> how a program may write *secret*, whole."""
    data = secret.encode()
    refs = {"decimal": "&#{:d};", "hexadecimal": "&#x{:x};"}
    return {
        "as it is": secret,
        "base64": base64.b64encode(data).decode(),
        "base64, unpadded": base64.b64encode(data).decode().rstrip("="),
        "base64, one byte on": base64.b64encode(b"." + data + b"..").decode(),
        "base64, two bytes on": base64.b64encode(b".." + data + b"..").decode(),
        "base64url": base64.urlsafe_b64encode(data).decode(),
        "base64url, one byte on": base64.urlsafe_b64encode(b"." + data + b"..").decode(),
        "base64url, two bytes on": base64.urlsafe_b64encode(b".." + data + b"..").decode(),
        "URL": quote(secret),
        "URL, slashes too": quote(secret, safe=""),
        "URL, in small letters": re.sub(
            "%..", lambda found: found[0].lower(), quote(secret, safe="")
        ),
        "URL, plus for blank": quote_plus(secret),
        "a query": urlencode({"user": "ann", "token": secret}),
        "JSON": json.dumps(secret),
        "JSON in UTF-8": json.dumps(secret, ensure_ascii=False),
        "JSON with slashes": json.dumps(secret).replace("/", "\\/"),
        "JSON as Go has it": re.sub(
            "[<>&]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(secret, ensure_ascii=False)
        ),
        "HTML": html.escape(secret),
        "HTML without quotes": html.escape(secret, quote=False),
        "XML in ASCII": secret.encode("ascii", "xmlcharrefreplace").decode(),
        **{f"{name} references": "".join(map(ref.format, map(ord, secret)))
           for name, ref in refs.items()},
        "shell, quoted": shlex.quote(secret),
        "shell, spliced": "'" + secret.replace("'", "'\\''") + "'",
        "shell, in double quotes": re.sub(r'(["$`\\])', r"\\\1", secret),
        "Python": repr(secret),
        "hex": data.hex(),
        "hex in capitals": data.hex().upper(),
    }  # fmt: skip


def forms(secret: str, lines: str, plain: str) -> list[tuple[str, Action]]:
    """Return every form: its name, and what gives the secret away in it."""
    return [
        *((f"{name}, in a line", _saying(f"before {text} after"))
          for name, text in encodings(secret).items()),
        *((f"{name}, without a gap", _saying(f"x{text}y" if "base64" not in name else text))
          for name, text in encodings(secret).items()),
        *_writes(secret),
        *_several_lines(lines),
        *_errors(secret),
        *forms_of_events(secret),
        *_late(late_of(plain)),
        *_shapes(plain),
    ]  # fmt: skip


def _saying(text: str) -> Action:
    return lambda: _write(text)


def _write(*pieces: str | bytes, pause_s: float = 0.0, fd: int = 1) -> None:
    for piece in pieces:
        data = piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data) :]
        if pause_s:
            time.sleep(pause_s)


def _writes(secret: str) -> list[tuple[str, Action]]:
    data = secret.encode()
    middle = len(data) // 2
    halves = data[:middle], data[middle:]
    each = [data[i : i + 1] for i in range(len(data))]

    def by_two_processes() -> None:
        _write(halves[0])
        code = "import os, sys; os.write(1, os.environb[b'REST'])"
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], env={"REST": halves[1]}, check=True
        )

    def by_both_outputs() -> None:
        _write(halves[0])
        _write(halves[1], fd=2)

    return [
        ("a byte at a time", lambda: _write(*each)),
        ("a byte each millisecond", lambda: _write(*each, pause_s=0.001)),
        ("in halves, a moment apart", lambda: _write(*halves, pause_s=0.06)),
        ("all but the last byte, then that", lambda: _write(data[:-1], data[-1:], pause_s=0.06)),
        ("by both outputs", by_both_outputs),
        ("by two processes", by_two_processes),
        ("twice without a gap", _saying(secret * 2)),
        ("three times and once more begun", _saying(secret * 3 + secret[:2])),
        ("after its own beginning", _saying(secret[:3] + secret)),
        ("between carriage returns", _saying(f"10%\r{secret}\r20%")),
        ("between colours", _saying(f"\x1b[31m{secret}\x1b[0m")),
        ("between bytes that are no text", lambda: _write(b"\xff\xfe" + data + b"\xc3")),
        ("behind a line of 70,000 bytes", _saying("." * _LONG + secret)),
        ("across a chunk", lambda: _write(b"." * (_CHUNK - 7) + data)),
        ("behind a null byte", lambda: _write(b"\0" + data + b"\0")),
    ]


def _several_lines(lines: str) -> list[tuple[str, Action]]:
    data = lines.encode()
    each = [data[i : i + 1] for i in range(len(data))]
    kept = [line for line in lines.split("\n") if len(line) >= 8]
    return [
        ("several lines", _saying(lines)),
        ("several lines, a byte at a time", lambda: _write(*each)),
        ("several lines, with pauses", lambda: _write(
            *(line + "\n" for line in lines.split("\n")), pause_s=0.03)),
        ("several lines of another system", _saying(lines.replace("\n", "\r\n"))),
        ("several lines as one", _saying(lines.replace("\n", " "))),
        ("several lines without breaks", _saying(lines.replace("\n", ""))),
        ("several lines as JSON", _saying(json.dumps({"key": lines}))),
        ("several lines in base64, wrapped", _saying(
            base64.encodebytes(data).decode().rstrip("\n"))),
        ("the lines one by one", _saying("\n".join(f"it has {line}" for line in kept))),
        ("the lines backwards", _saying("\n".join(reversed(kept)))),
    ]  # fmt: skip


def _errors(secret: str) -> list[tuple[str, Action]]:
    def traceback() -> None:
        code = "import os; raise ValueError('it failed with ' + os.environ['CANARY'])"
        _child(sys.executable, "-I", "-S", "-c", code)

    def key_error() -> None:
        _child(sys.executable, "-I", "-S", "-c", "import os; {}[os.environ['CANARY']]")

    return [
        ("an exception", traceback),
        ("a missing key", key_error),
        ("a shell's trace", lambda: _child("sh", "-xc", ': "$CANARY"')),
        ("a command that isn't there", lambda: _child("sh", "-c", '"$CANARY"')),
        ("a file that isn't there", lambda: _child("sh", "-c", '. "/no/such/$CANARY"')),
        ("an address that isn't there", _saying(f"cannot reach https://ann:{secret}@host/r")),
        ("the environment", lambda: _child("env")),
    ]


def _child(*argv: str) -> None:
    subprocess.run(argv, check=False)  # that they fail is the point


# The events that these forms become, progress aside.
TOLD = frozenset({"status", "text", "result", "fault", "tool_call", "citation", "prompt"})


def forms_of_events(secret: str) -> list[tuple[str, Action]]:
    """Return the forms that go through the step's channel and its outputs."""

    def telling(**event: object) -> Action:
        return lambda: _tell(event)

    return [
        ("a status", telling(event="status", text=secret)),
        ("a progress' note", telling(event="progress", percent=3, note=secret)),
        ("a progress' stage", telling(event="progress", percent=4, stage=secret)),
        ("a progress' unit", telling(event="progress", percent=5, unit=secret)),
        ("narrated text", telling(event="text", delta=f"It is {secret}, ")),
        ("a token", telling(event="token", text=f"or {secret} now. ")),
        ("a result", telling(event="result", text=secret)),
        ("a fault", telling(event="fault", kind="k", message=secret)),
        ("a fault's kind", telling(event="fault", kind=secret, message="m")),
        ("a tool's name", telling(event="tool_call", name=secret, phase="started")),
        ("a tool's input", telling(event="tool_call", name="t", phase="started", input=secret)),
        ("a citation", telling(event="citation", title=secret, url="https://example.org/")),
        ("a citation's query", telling(
            event="citation", title="t", url="https://example.org/?q=" + quote(secret, safe=""))),
        ("a question", telling(event="prompt", id="p1", question=secret, default="no")),
        ("a question's choices", telling(
            event="prompt", id="p2", question="q", choices=[secret, "no"], default="no")),
        ("an event of that name", telling(event=secret)),
        ("an unknown key", telling(event="status", text="t", **{secret: secret})),
        ("a broken line", lambda: _tell_raw(f'{{"event": "status", "text": {secret}')),
        ("an output", lambda: _append("TAILRACE_OUTPUT", f"token={secret}\n")),
        ("a broken output", lambda: _append("TAILRACE_OUTPUT", f"{secret}\n")),
    ]  # fmt: skip


def _tell(event: dict[str, object]) -> None:
    _tell_raw(json.dumps(event))


def _tell_raw(line: str) -> None:
    _append("TAILRACE_EVENTS", line + "\n")


def _append(variable: str, text: str) -> None:
    with open(os.environ[variable], "a", encoding="utf-8") as file:
        file.write(text)


def _late(late: str) -> list[tuple[str, Action]]:
    def told_before() -> None:
        _tell({"event": "mask", "value": late})
        _write(late)  # at once: the channel is read before the output

    return [
        ("a value told a moment before", told_before),
        ("a value told before, in base64", _saying(base64.b64encode(late.encode()).decode())),
        ("a value told before, in halves", lambda: _write(late[:9], late[9:], pause_s=0.06)),
    ]


def shapes(plain: str) -> dict[str, tuple[str, str, str]]:
    """Name -> what looks like a secret although nobody declared it, between its neighbours."""
    digest = hashlib.sha512(plain.encode()).hexdigest()
    letters = re.sub(r"[^A-Za-z0-9]", "", base64.b64encode(digest.encode()).decode())
    body = "\n".join(letters[i : i + 48] for i in range(0, 144, 48))
    return {
        "a GitHub token": ("", "ghp_" + letters[:36], ""),
        "a GitLab token": ("", "glpat-" + letters[:24], ""),
        "an AWS key": ("", "AKIA" + digest[:16].upper(), ""),
        "an AWS secret": ("aws_secret_access_key = ", letters[20:60], ""),
        "a Slack token": ("", "xoxb-" + letters[:24], ""),
        "a Stripe key": ("", "sk_live_" + letters[:24], ""),
        "an npm token": ("", "npm_" + letters[:36], ""),
        "a JWT": ("", f"eyJ{letters[:20]}.eyJ{letters[20:60]}.{letters[60:100]}", ""),
        "a bearer's header": ("Authorization: Bearer ", letters[5:45], ""),
        "basic authentication": ("Authorization: Basic ", letters[7:47] + "==", ""),
        "a password in a URL": ("https://ann:", letters[30:50], "@host.example/"),
        "a private key": (
            "-----BEGIN PRIVATE KEY-----\n", body, "\n-----END PRIVATE KEY-----"
        ),
    }  # fmt: skip


def _shapes(plain: str) -> list[tuple[str, Action]]:
    return [(name, _saying("".join(parts))) for name, parts in shapes(plain).items()]


def number(position: int) -> str:
    """Return what stands before the form at *position*, so that a leak can be told."""
    return f"form {position:03d} | "


def main() -> None:
    """Give everything away."""
    secret, lines, plain = (os.environ[name] for name in ("CANARY", "LINES", "PLAIN"))
    if visible := os.environ.get("PROOF_VISIBLE"):  # a miss that is planted: nobody masks it
        _write(f"planted: {visible}\n")
    for position, (_, act) in enumerate(forms(secret, lines, plain), 1):
        _write(number(position))
        act()
        _write("\n")
    folder = Path(os.environ["TAILRACE_ARTIFACTS"])
    (folder / f"named-{plain}.txt").write_text("its name must not be told")
    # What is in artifacts is never altered, and so not looked at.
    (folder / "contents.txt").write_text(secret, encoding="utf-8")
    _write("the end without a newline: ", secret)


if __name__ == "__main__":
    main()
