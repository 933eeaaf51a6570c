"""Text from outside, made safe for a terminal.

A step's output may hold anything: sequences that move the cursor over what was
said before, set the window's title, or make the terminal type answers into the
shell. Only colours (SGR, ECMA-48 section 8.3.117) pass; what else would steer
the terminal is shown as a symbol.
"""

from __future__ import annotations

import re
from typing import Final

_RESET: Final = "\x1b[0m"

# A whole SGR sequence, else any control but tab and newline; the overrides of writing direction
# count too, because they make a line read otherwise than it is (CVE-2021-42574).
_STEERING: Final = re.compile(
    "(?P<sgr>\x1b\\[[0-9;:]{0,64}m)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_UNESCAPED: Final = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # in JSON


def visible(text: str) -> str:
    r"""Return *text* as it may be written to a terminal.

    Tabs, newlines and SGR stay, and a line with SGR ends in a reset, so that
    no colour runs into what follows. Other C0 controls and DEL become their
    pictures (``␛``, ``␇``), C1 controls their two-character form (``␛[``),
    and direction overrides ``<U+202E>``.
    """
    if _STEERING.search(text) is None:
        return text
    return "\n".join(_visible_line(line) for line in text.split("\n"))


def visible_json(text: str) -> str:
    r"""Return JSON with the same meaning, in which what would steer a terminal is escaped (``\u``).

    Such characters stand in strings alone, and C0 controls are escaped in them anyway.
    """
    return _UNESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _visible_line(line: str) -> str:
    shown = _STEERING.sub(_picture, line)
    return shown + _RESET if "\x1b" in shown else shown


def _picture(match: re.Match[str]) -> str:
    if match["sgr"]:
        return match["sgr"]
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    if code < 0xA0:  # ECMA-48 section 5.3: C1 is ESC and the character 0x40 below
        return "\N{SYMBOL FOR ESCAPE}" + chr(code - 0x40)
    return f"<U+{code:04X}>"
