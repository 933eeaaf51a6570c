"""Patterns over the lines of a log: RE2, so that searching is linear whatever is asked."""

from __future__ import annotations

from typing import Any, Final

import re2  # type: ignore[import-untyped]  # ships no types

LONGEST_PATTERN: Final = 256


def line_pattern(pattern: str) -> Any:
    """Return the compiled pattern: ``^`` and ``$`` are a line's ends, and no match spans two.

    Raises:
        ValueError: it is too long, or no pattern; the text says which.
    """
    if len(pattern) > LONGEST_PATTERN:
        problem = f"the pattern has {len(pattern)} characters"
        raise ValueError(f"{problem}; use at most {LONGEST_PATTERN}")
    options = re2.Options()
    options.log_errors = False
    options.never_nl = True  # a match stays within its line
    options.max_mem = 1 << 23
    try:
        re2.compile(pattern, options)
        return re2.compile("(?m)" + pattern, options)
    except (re2.error, ValueError) as exc:
        text = exc.args[0] if exc.args else exc
        told = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        raise ValueError(f"{told}; see github.com/google/re2/wiki/Syntax") from None
