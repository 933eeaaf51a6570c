"""The names that expressions reach, and how a path to one is written."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

CONDITION_NAMES: Final = ("params", "depth", "matrix", "event", "steps")
TEMPLATE_NAMES: Final = (*CONDITION_NAMES, "run")
STEP_FACTS: Final = ("status", "outputs")
RUN_FACTS: Final = ("id", "ref")
EVENT_KEYS: Final = (
    "provider", "kind", "action", "repo", "branch", "tag", "sha", "before", "sender", "pr", "raw",
)  # fmt: skip
PR_KEYS: Final = ("number", "title", "fork", "base_ref", "head_ref")

_SEGMENT: Final = r"""(?:\.\s*(\w[\w-]*)|\[\s*'([^']+)'\s*\]|\[\s*"([^"]+)"\s*\])"""
_PATH: Final = re.compile(rf"([A-Za-z_]\w*)((?:\s*{_SEGMENT})*)", re.ASCII)
_SEGMENTS: Final = re.compile(_SEGMENT, re.ASCII)


def blank_event(kind: str) -> dict[str, Any]:
    """Return an event of that kind (`push`, `manual`, `schedule`…) with every other key null."""
    return {**dict.fromkeys(EVENT_KEYS), "kind": kind}


def variable_of(prefix: str, *names: str) -> str:
    """Return the variable that carries a value: ``PARAM_REPO``, ``OUTPUT_CLONE_SHA``."""
    return "_".join([prefix, *(re.sub(r"\W", "_", name, flags=re.ASCII) for name in names)]).upper()


class Path(msgspec.Struct, frozen=True):
    """``params.x`` as its parts: ``("params", "x")``."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        """Render as it would be written in a template."""
        first, *rest = self.parts
        return first + "".join(
            f".{part}" if re.fullmatch(r"\w[\w-]*", part) else f"['{part}']" for part in rest
        )

    @property
    def variable(self) -> str | None:
        """The environment variable that carries the same value to a script, if there is one."""
        match self.parts:
            case ("params", name):
                return variable_of("PARAM", name)
            case ("matrix", name):
                return variable_of("MATRIX", name)
            case ("steps", step, "outputs", name):
                return variable_of("OUTPUT", step, name)
            case ("depth",):
                return "TAILRACE_DEPTH"
            case ("run", ("id" | "ref") as name):
                return variable_of("TAILRACE_RUN", name)
        return None


def parse_path(text: str) -> Path | None:
    """Return the path that *text* writes (``steps.a.status``, ``steps['a-b'].status``), or None."""
    match = _PATH.fullmatch(text.strip())
    if match is None:
        return None
    return Path((match[1], *("".join(found) for found in _SEGMENTS.findall(match[2]))))
