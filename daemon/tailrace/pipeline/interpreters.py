"""Where a command hands text to an interpreter as code.

A template there would turn a branch name into a program, so the loader
refuses it. Only known interpreters are read this way: ``-c`` of git is a
setting, ``-e`` of grep a pattern. Where it isn't sure what an option takes, it
takes for code what may be: a file's writer can name a variable instead.
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
    script: str = ""  # those of ``valued`` that name a script, so that no operand is code
    verb: str = ""  # the operand after which the next one is code: deno eval CODE
    words: bool = False  # options are words behind one dash, in any case: -Command


_SHELL: Final = _Interpreter(code="c", valued="oO", late=True)
_PYTHON: Final = _Interpreter(code="c", valued="WXQ", last="m")
# Late, because -pe is -p and -e, and no value is ever attached.
_NODE: Final = _Interpreter(
    code="ep", valued="rC", long=("--eval", "--print"), late=True, verb="eval"
)
_RUBY: Final = _Interpreter(code="e", valued="rICE", attached="KTWxFi")
_LUA: Final = _Interpreter(code="e", valued="l", long=("--eval",))
_GUILE: Final = _Interpreter(code="c", valued="lL")
_POWERSHELL: Final = _Interpreter(
    words=True,
    long=("-c", "-command", "--command", "-e", "-ec", "-enc", "-encodedcommand"),
)
_WORDS_E: Final = _Interpreter(words=True, long=("-e", "-eval", "--eval"), permutes=True)
_SQL: Final = _Interpreter(code="ce", long=("--command", "--execute"), permutes=True)
_SWITCH_USER: Final = _Interpreter(code="c", valued="sgGw", long=("--command",), permutes=True)
_AWK: Final = _Interpreter(code="e", valued="fvFE", long=("--source",), operand=True, script="fE")
_SED: Final = _Interpreter(
    code="e", valued="fl", attached="i", long=("--expression",), operand=True, script="f"
)
_INTERPRETERS: Final[dict[str, _Interpreter]] = {
    **dict.fromkeys(("sh", "bash", "rbash", "dash", "zsh", "ksh", "mksh", "ash", "yash"), _SHELL),
    **dict.fromkeys(("csh", "tcsh", "osh", "ysh", "elvish"), _SHELL),
    "fish": _Interpreter(code="cC", valued="dDfoP", long=("--command", "--init-command")),
    "nu": _Interpreter(code="ce", valued="mIt", long=("--commands", "--execute")),
    **dict.fromkeys(("pwsh", "powershell"), _POWERSHELL),
    **dict.fromkeys(("python", "pypy", "ipython", "jython", "micropython", "xonsh"), _PYTHON),
    **dict.fromkeys(("node", "nodejs", "bun", "deno", "tsx", "ts-node", "electron"), _NODE),
    "perl": _Interpreter(code="eE", valued="I", attached="MmiFxCDV"),
    "raku": _Interpreter(code="e", valued="IM"),
    **dict.fromkeys(("ruby", "jruby", "truffleruby"), _RUBY),
    "php": _Interpreter(code="rBRE", valued="cdfz", long=("--run",)),
    **dict.fromkeys(("lua", "luajit", "R", "Rscript", "racket", "groovy", "osascript"), _LUA),
    "julia": _Interpreter(code="eE", valued="Lp", long=("--eval", "--print")),
    **dict.fromkeys(("elixir", "iex"), _Interpreter(code="e", long=("--eval", "--rpc-eval"))),
    "crystal": _Interpreter(verb="eval"),
    **dict.fromkeys(("guile", "expect", "sage"), _GUILE),
    **dict.fromkeys(("erl", "emacs", "emacsclient", "ghc", "ocaml"), _WORDS_E),
    **dict.fromkeys(("clojure", "clj", "bb", "scala", "kotlin", "jshell"), _WORDS_E),
    **dict.fromkeys(("psql", "mysql", "mariadb"), _SQL),
    "make": _Interpreter(code="E", long=("--eval",), permutes=True),
    "nix-shell": _Interpreter(long=("--run", "--command"), permutes=True),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _AWK),
    "sed": _SED,
    **dict.fromkeys(("su", "runuser", "script", "flock"), _SWITCH_USER),
    "env": _Interpreter(code="S", valued="uC", long=("--split-string",)),
}  # fmt: skip
# Programs that run another one, which may come from a template.
_LAUNCHERS: Final = frozenset({
    "env", "timeout", "nice", "ionice", "nohup", "setsid", "stdbuf", "unbuffer", "time", "xargs",
    "sudo", "doas", "unshare", "nsenter", "taskset", "chrt", "setarch", "setpriv", "strace",
    "ltrace", "systemd-run", "busybox", "tini", "dumb-init", "fakeroot",
})  # fmt: skip
_WORD: Final = re.compile(r"[A-Za-z_./][^=]*\Z")  # no option, number, duration or assignment
# The program itself comes from a template: it may be any of them.
_FROM_TEMPLATE: Final = _Interpreter(code="ce", long=("--eval",))
# Whatever else a command begins with: few programs mean anything else by that option.
_OTHER: Final = _Interpreter(long=("--eval",), permutes=True)


def code_items(argv: Sequence[str]) -> set[int]:
    """Return the indexes of the items that are code, or begin an option with code in it.

    Every item may be an interpreter: ``[timeout, 60, bash, -c, CODE]``.
    """
    found: set[int] = set()
    awaits_program = True
    for place, item in enumerate(argv):
        name = _name(item)
        interpreter = _INTERPRETERS.get(name)
        if interpreter is None and awaits_program and "${{" in item:
            interpreter = _FROM_TEMPLATE
        elif interpreter is None and place == 0:
            interpreter = _OTHER
        if interpreter is not None:
            found |= _code_after(interpreter, argv, place + 1)
        is_value = place > 0 and argv[place - 1].startswith("-")  # it may be, of an option
        is_program = place == 0 or (_WORD.match(item) is not None and not is_value)
        awaits_program = name in _LAUNCHERS or (awaits_program and not is_program)
    return found


def _name(item: str) -> str:
    """Return the name by which a program is known, without folder and version."""
    name = item.rpartition("/")[2]
    # python3.11, python3.13t, python3-dbg, perl5.36, lua5.4
    return name if name in _INTERPRETERS else re.sub(r"-?[0-9][0-9.]*[a-z]?(-dbg)?\Z", "", name)


def _code_after(interpreter: _Interpreter, argv: Sequence[str], start: int) -> set[int]:
    found: set[int] = set()
    awaited: list[bool] = []  # for each value that an option before asked for: is it code?
    may_be_value = False  # of a long option before, which may take one or not
    options_end = False
    operand_is_code = interpreter.operand
    for place, item in enumerate(argv[start:], start):
        if awaited:
            if awaited.pop(0):
                found.add(place)
        elif item == "--" and not options_end:
            options_end, may_be_value = True, False
        elif item.startswith(("-", "+")) and item != "-" and not options_end:
            option = _read_option(interpreter, item)
            if option.code == "attached":
                found.add(place)
            if option.code or option.script:
                operand_is_code = option.code == "operand"
            if option.last:
                break
            awaited = [*option.awaited]
            may_be_value = option.may_take_one
        elif item == interpreter.verb:
            operand_is_code = True
        else:
            if operand_is_code:
                found.add(place)
            if not may_be_value and (operand_is_code or not interpreter.permutes):
                break
            may_be_value = False
    return found


class _Option(msgspec.Struct, frozen=True):
    """What one item of options says about code and about the items that follow."""

    code: Literal["", "attached", "next", "operand"] = ""
    awaited: tuple[bool, ...] = ()
    may_take_one: bool = False  # the next item may be its value
    script: bool = False
    last: bool = False


def _read_option(interpreter: _Interpreter, item: str) -> _Option:
    name, equals, _ = item.partition("=")
    if (name.lower() if interpreter.words else name) in interpreter.long:
        return _Option("attached") if equals else _Option("next", (True,))
    if item.startswith("--") or interpreter.words:
        return _Option(may_take_one=not equals)
    code: Literal["", "operand"] = ""
    awaited: tuple[bool, ...] = ()
    letters = item.partition("${{")[0]  # no letter of a template is an option
    for index, letter in enumerate(letters[1:], 2):
        rest = item[index:]
        if interpreter.late:
            code = "operand" if letter in interpreter.code else code
            # -eo pipefail: a shell's values are always items of their own.
            awaited += (False,) * (letter in interpreter.valued)
        elif letter in interpreter.code:
            return _Option("attached") if rest else _Option("next", (True,))
        elif letter in interpreter.valued:
            script = letter in interpreter.script
            return _Option(script=script) if rest else _Option("", (False,), script=script)
        elif letter in interpreter.attached or letter in interpreter.last:
            return _Option(last=letter in interpreter.last)
    return _Option("attached" if code and letters != item else code, awaited)
