"""Signed links as pure rules: what one says, and whether its signature holds.

The address itself says what is shown; the link's text has the rest: when it
expires, which token made it, and an HMAC-SHA-256 over all of that. Nothing is
kept of a link, so any number may be made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

What = Literal["events", "log", "artifact"]

LONGEST_S: Final = 7 * 24 * 3600
NOBODY: Final = "-"  # made on the Unix socket, where nobody needs a token

_TEXT: Final = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is shown to whoever holds the link, and for how long."""

    run: str  # the whole id
    what: What
    path: str  # the step of a log, the name of an artifact; empty for events
    issuer: str  # id of the token that made it, and with which it ends
    expires_s: int  # since 1970


def text_of(key: bytes, link: Link) -> str:
    """Return what the parameter ``link`` holds."""
    return f"{link.expires_s}.{link.issuer}.{_signature(key, link)}"


def read_link(key: bytes, text: str, *, run: str, what: What, path: str) -> Link | None:
    """Return the link with that text to that address; None where the signature doesn't hold.

    Whether it has expired isn't looked at.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    link = Link(run=run, what=what, path=path, issuer=match[2], expires_s=int(match[1]))
    return link if hmac.compare_digest(match[3], _signature(key, link)) else None


def _signature(key: bytes, link: Link) -> str:
    # As a list, so that no part can be taken for another.
    said = ["tailrace link 1", link.run, link.what, link.path, link.issuer, link.expires_s]
    digest = hmac.new(key, msgspec.json.encode(said), hashlib.sha256).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
