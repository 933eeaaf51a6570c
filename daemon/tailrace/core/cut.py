"""Texts that are too long to be told: masked before they are cut, or not quoted at all.

What a cut leaves of a secret, no masker would know any more.
"""

from __future__ import annotations

from collections.abc import Callable


def cut(text: str, most: int, mask: Callable[[str], str]) -> str:
    """Return a text as *mask* lets it be told, and of that *most* characters and ``…``."""
    masked = mask(text)
    return masked if len(masked) <= most else masked[:most] + "…"


def quoted(text: str, most: int = 80) -> str:
    """Return ``'TEXT'``, or how long it is where it is longer than *most* characters.

    For what is told where nobody knows yet what to mask.
    """
    return f"'{text}'" if len(text) <= most else f"'…' ({len(text):,} characters)"
