"""Names of hosts as a ``Host`` header has them."""

from __future__ import annotations

import re
from typing import Final

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")


def host_name(header: str) -> str | None:
    """Return the name in a ``Host`` header, lower-case, without port; None where it is none."""
    match = _HOST.fullmatch(header)
    return match[1].lower().removesuffix(".") if match else None
