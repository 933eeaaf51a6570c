"""A step's outputs, as it wrote them to the file ``$TAILRACE_OUTPUT``.

Each line is ``name=value``, or ``name<<END`` with the value on the lines up to
one that reads ``END``, which may be any text. What can't be used is told and
left out, because a typing mistake in a report must not fail a step. No
sentence quotes a value: a piece of a secret would pass the masker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MAX_VALUE: Final = 64 << 10  # bytes of UTF-8
MAX_TOTAL: Final = 1 << 20  # bytes of all values of a step
MAX_FILE: Final = 4 << 20  # bytes read of the file; a name may be assigned again and again
MAX_NAME: Final = 128  # characters; it becomes part of an environment variable's name
MAX_TOLD: Final = 20

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR: Final = re.compile("=|<<")


def parse_outputs(data: bytes) -> tuple[dict[str, str], list[str]]:
    """Return the outputs by name, and sentences about what was left out (at most 21).

    The last assignment of a name counts, also where its value is refused.
    Values are text: bytes that aren't UTF-8 become U+FFFD. A line may end with
    CRLF, and the lines of a value do so where its ``name<<END`` does. Of a file
    longer than `MAX_FILE`, whole lines within that bound are read, so a caller
    need not hand over more than one byte beyond it.
    """
    problems: list[str] = []
    if len(data) > MAX_FILE:
        data = data[: data.rfind(b"\n", 0, MAX_FILE) + 1]
        problems.append(f"the file is longer than {MAX_FILE >> 20} MiB; the rest is not read")
    outputs: dict[str, str] = {}
    total = 0
    for name, value in _assignments(data.decode("utf-8", "replace"), problems).items():
        size = len(value.encode())
        if size > MAX_VALUE:
            problems.append(f"{name}: the value is longer than {MAX_VALUE >> 10} KiB")
        elif total + size > MAX_TOTAL:
            problems.append(f"{name}: the step's outputs are longer than {MAX_TOTAL >> 20} MiB")
        elif "\0" in value:
            problems.append(f"{name}: the value holds a NUL, which no variable can")
        else:
            outputs[name] = value
            total += size
    return outputs, _bounded(problems)


def _assignments(text: str, problems: list[str]) -> dict[str, str]:
    """Return the last value of each name, in the order of their first assignments."""
    values: dict[str, str] = {}
    lines = enumerate(text.split("\n"), 1)
    for number, raw in lines:
        line = raw.removesuffix("\r")
        if not line:
            continue
        operator = _OPERATOR.search(line)
        if operator is None:
            problems.append(f"line {number}: neither name=value nor name<<END")
            continue
        name, value = line[: operator.start()], line[operator.end() :]
        if operator[0] == "<<":
            # The lines of a value are passed over whatever is wrong with the name: a text from
            # outside must not become an assignment because its name was misspelt.
            block = _block(lines, value, crlf=line != raw)
            if block is None:
                problems.append(f"line {number}: the line that ends its value is missing")
                break
            value = block
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            problems.append(
                f"line {number}: a name is letters, digits and _, begins with no digit"
                f" and has at most {MAX_NAME} characters"
            )
            continue
        values[name] = value
    return values


def _block(lines: Iterator[tuple[int, str]], end: str, *, crlf: bool) -> str | None:
    """Return the lines up to *end*, which may be no empty text; None where that never comes."""
    block: list[str] = []
    if not end:
        return None
    for _number, raw in lines:
        line = raw.removesuffix("\r")
        if line == end:
            return "\n".join(block)
        block.append(line if crlf else raw)
    return None


def _bounded(problems: list[str]) -> list[str]:
    if len(problems) <= MAX_TOLD:
        return problems
    return [*problems[:MAX_TOLD], f"and {len(problems) - MAX_TOLD} more"]
