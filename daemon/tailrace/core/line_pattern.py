"""Patterns, of a log's lines above all: RE2, so that searching is linear whatever is asked."""

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
    options.never_nl = True  # a match stays within its line
    options.max_mem = 1 << 23
    try:
        compile_pattern(pattern, options)
        return compile_pattern("(?m)" + pattern, options)
    except ValueError as exc:
        raise ValueError(f"{exc}; see github.com/google/re2/wiki/Syntax") from None


def compile_pattern(pattern: str, options: Any = None) -> Any:
    """Return the compiled pattern.

    Raises:
        ValueError: it isn't RE2; the text says why.
    """
    options = options or re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, ValueError) as exc:
        text = exc.args[0] if exc.args else exc
        told = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        raise ValueError(told) from None
