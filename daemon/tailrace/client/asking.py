"""What is sent to a daemon: values that can't be meant are refused before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tailrace import wire
from tailrace.errors import InvalidInputError, Problem


def encoded(body: Any) -> bytes:
    """Return a request's body.

    Raises:
        InvalidInputError: it holds what JSON can't.
    """
    try:
        return wire.encode_json(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidInputError([Problem("", f"can't be sent as JSON: {exc}")]) from None


def checked_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return params whose values JSON has.

    Raises:
        InvalidInputError: it hasn't; a NaN would be sent as null, which means the default.
    """
    problems = []
    for name, value in params.items():
        try:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{value} is no number that JSON has")
            wire.encode_json({name: value})
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            hint = "give text, a number, true, false or None"
            problems.append(Problem(f"params.{name}", str(exc), hint))
    if problems:
        raise InvalidInputError(problems)
    return dict(params)


def checked_key(key: str) -> str:
    """Return an ``Idempotency-Key`` that a header can hold.

    Raises:
        InvalidInputError: it can't.
    """
    if not (key.isascii() and key.isprintable() and len(key) <= 255):
        hint = "give 1 to 255 printable ASCII characters"
        raise InvalidInputError([Problem("key", "is no Idempotency-Key", hint)])
    return key
