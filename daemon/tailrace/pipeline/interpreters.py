"""Where a command hands text to an interpreter as code.

A template there would turn a branch name into a program, so the loader
refuses it. Only known interpreters are read this way: ``-c`` of git is a
setting, ``-e`` of grep a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec


class _Interpreter(msgspec.Struct, frozen=True):
    code: str = ""  # short options whose value is code, attached or in the next item
    valued: str = ""  # short options whose value is something else, attached or in the next item
    attached: str = ""  # short options that take the rest of their item, and nothing else
    long: tuple[str, ...] = ()  # long options whose value is code
    late: bool = False  # the code is the first operand once a code option was seen, as in sh(1)
    last: str = ""  # short options after which nothing belongs to the interpreter
    permutes: bool = False  # options may follow operands, as in su(1)
    operand: bool = False  # without a code option the first operand is code, as in awk(1)


_SHELL: Final = _Interpreter(code="c", valued="oO", late=True)
_NODE: Final = _Interpreter(code="ep", valued="rC", long=("--eval", "--print"))
_PERL: Final = _Interpreter(code="eE", valued="I", attached="MmiFxCDV")
_SWITCH_USER: Final = _Interpreter(code="c", valued="sgGw", long=("--command",), permutes=True)
_AWK: Final = _Interpreter(code="e", valued="fvFE", long=("--source",), operand=True)
_INTERPRETERS: Final[dict[str, _Interpreter]] = {
    **dict.fromkeys(("sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish"), _SHELL),
    **dict.fromkeys(("csh", "tcsh"), _SHELL),
    **dict.fromkeys(("python", "pypy", "ipython"), _Interpreter(code="c", valued="WXQ", last="m")),
    **dict.fromkeys(("node", "nodejs", "bun", "deno", "tsx", "ts-node"), _NODE),
    "perl": _PERL,
    "ruby": _Interpreter(code="e", valued="rICE", attached="KTWxFi"),
    "php": _Interpreter(code="rBRE", valued="cdfz", long=("--run",)),
    "lua": _Interpreter(code="e", valued="l"),
    "luajit": _Interpreter(code="e", valued="l"),
    "R": _Interpreter(code="e"),
    "Rscript": _Interpreter(code="e"),
    "julia": _Interpreter(code="eE", valued="Lp", long=("--eval", "--print")),
    "elixir": _Interpreter(code="e", long=("--eval", "--rpc-eval")),
    "groovy": _Interpreter(code="e"),
    "osascript": _Interpreter(code="e"),
    "pwsh": _Interpreter(code="c", long=("-Command", "--command", "-EncodedCommand")),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _AWK),
    **dict.fromkeys(("su", "runuser", "script", "flock"), _SWITCH_USER),
    "env": _Interpreter(code="S", valued="uC", long=("--split-string",)),
}  # fmt: skip
# The program itself comes from a template: it may be any of them.
_UNKNOWN: Final = _Interpreter(code="ce", long=("--eval",))


def code_items(argv: Sequence[str]) -> set[int]:
    """Return the indexes of the items that are code, or begin an option with code in it.

    Every item may be an interpreter: ``[timeout, 60, bash, -c, CODE]``.
    """
    found: set[int] = set()
    for place, item in enumerate(argv):
        interpreter = _interpreter(item, first=place == 0)
        if interpreter is not None:
            found |= _code_after(interpreter, argv, place + 1)
    return found


def _interpreter(item: str, *, first: bool) -> _Interpreter | None:
    if "${{" in item:
        return _UNKNOWN if first else None
    name = item.rpartition("/")[2]
    if name in _INTERPRETERS:
        return _INTERPRETERS[name]
    return _INTERPRETERS.get(re.sub(r"[0-9.]+\Z", "", name))  # python3.11, perl5.36, lua5.4


def _code_after(interpreter: _Interpreter, argv: Sequence[str], start: int) -> set[int]:
    found: set[int] = set()
    awaited: list[bool] = []  # for each value that an option before asked for: is it code?
    options_end = False
    operand_is_code = interpreter.operand
    for place, item in enumerate(argv[start:], start):
        if awaited:
            if awaited.pop(0):
                found.add(place)
        elif item == "--" and not options_end:
            options_end = True
        elif item.startswith(("-", "+")) and item != "-" and not options_end:
            option = _read_option(interpreter, item)
            if option.code == "attached":
                found.add(place)
            if option.code:
                operand_is_code = option.code == "operand"
            if option.last:
                break
            awaited = [*option.awaited]
        elif operand_is_code:
            found.add(place)
            break
        elif not interpreter.permutes:
            break
    return found


class _Option(msgspec.Struct, frozen=True):
    """What one item of options says about code and about the items that follow."""

    code: Literal["", "attached", "next", "operand"] = ""
    awaited: tuple[bool, ...] = ()
    last: bool = False


def _read_option(interpreter: _Interpreter, item: str) -> _Option:
    name, attached, _ = item.partition("=")
    if name in interpreter.long:
        return _Option("attached") if attached else _Option("next", (True,))
    if item.startswith("--"):
        return _Option()
    code: Literal["", "operand"] = ""
    awaited: tuple[bool, ...] = ()
    for index, letter in enumerate(item[1:], 2):
        rest = item[index:]
        if interpreter.late:
            code = "operand" if letter in interpreter.code else code
            # -eo pipefail: a shell's values are always items of their own.
            awaited += (False,) * (letter in interpreter.valued)
        elif letter in interpreter.code:
            return _Option("attached") if rest else _Option("next", (True,))
        elif letter in interpreter.valued:
            return _Option() if rest else _Option("", (False,))
        elif letter in interpreter.attached or letter in interpreter.last:
            return _Option(last=letter in interpreter.last)
    return _Option(code, awaited)
