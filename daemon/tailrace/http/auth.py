"""Who may do what, section 4 of the contract, as rules over header values, without any I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from tailrace.core.host_name import host_name
from tailrace.http.signed import NOBODY
from tailrace.store.tokens import SCOPES, SOCKET_USER, Scope, Token

SESSION_S: Final = 12 * 3600

_BEARER: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/=-]{1,512})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, as far as we know."""

    name: str  # the token's; "local" for our own user on the Unix socket
    scopes: frozenset[Scope]
    how: Literal["bearer", "cookie", "socket", "link"]
    pipelines: frozenset[str] | None = None  # None: all of them
    token: str = NOBODY  # id of the one that was brought, or that signed the link
    trusted: bool = False  # owns the machine: our own user on the Unix socket
    until_s: float | None = None  # since 1970, when what was brought ends before its token does

    def may_see(self, pipeline: str) -> bool:
        """Whether its runs are anything to this caller."""
        return self.pipelines is None or pipeline in self.pipelines


def caller_of_token(
    token: Token, how: Literal["bearer", "cookie"], *, until_s: float | None = None
) -> Caller:
    """Return who brought that token, or a cookie that stands for it until *until_s*."""
    return Caller(
        name=token.name, scopes=token.scopes, how=how, pipelines=token.pipelines, token=token.id,
        until_s=until_s,
    )  # fmt: skip


def caller_of_link(issuer: Token | None, *, until_s: float) -> Caller:
    """Return who brought a link: nobody knows, but it was *issuer*'s to give; None: the socket's.

    It shows what its address says and nothing else, until it expires.
    """
    return Caller(
        name=SOCKET_USER if issuer is None else issuer.name,
        scopes=frozenset({"read"}),
        how="link",
        pipelines=None if issuer is None else issuer.pipelines,
        token=NOBODY if issuer is None else issuer.id,
        until_s=until_s,
    )


def caller_of_peer(uid: int, own_uid: int, user: str) -> Caller:
    """Return who is at the other end of the Unix socket.

    The file's mode and group let them in, so they may do everything; only the
    daemon's own user may also name what lies on this machine.
    """
    name = SOCKET_USER if uid == own_uid else user
    return Caller(name=name, scopes=frozenset(SCOPES), how="socket", trusted=uid == own_uid)


def bearer_token(authorization: str) -> str | None:
    """Return the token in an ``Authorization`` header (RFC 6750, 2.1); None where there is none."""
    match = _BEARER.fullmatch(authorization.strip())
    return match[1] if match else None


def is_loopback(name: str) -> bool:
    """Whether a host name (an IPv6 address in brackets) means this machine alone."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def host_names(listen_host: str, public_url: str | None, more: Iterable[str]) -> frozenset[str]:
    """Return what ``Host`` may say besides the loopback names."""
    address = f"[{listen_host}]" if ":" in listen_host else listen_host
    public = urlsplit(public_url).netloc.rpartition("@")[2] if public_url else ""
    given = (host_name(text.strip()) for text in (address, public, *more) if text.strip())
    return frozenset(name for name in given if name)


def host_is_allowed(headers: Collection[str], allowed: Collection[str]) -> bool:
    """Whether a request's ``Host`` headers are ours: else a foreign name was made to point to us.

    That is DNS rebinding: a page of evil.example asks evil.example, which
    suddenly has our address, and counts as of the same origin.
    """
    if len(headers) != 1:
        return False
    name = host_name(next(iter(headers)))
    return name is not None and (is_loopback(name) or name in allowed)


def change_is_ours(
    sec_fetch_site: str | None, origin: str | None, own_origins: Collection[str]
) -> bool:
    """Whether a change that only a cookie vouches for comes from our own page.

    Browsers send ``Sec-Fetch-Site`` to origins that they trust (https and
    loopback); where it is absent, ``Origin`` must be ours.
    """
    if sec_fetch_site is not None:
        return sec_fetch_site.strip().lower() == "same-origin"
    return origin is not None and origin.lower() in own_origins


def websocket_is_ours(
    origin: str | None, how: str, own_origins: Collection[str], allowed: Collection[str]
) -> bool:
    """Whether a WebSocket that a page of *origin* opens may be taken from who asks *how*.

    No browser leaves ``Origin`` out (RFC 6455, 4.1), so without it a token came
    from a program. A cookie is for our own page alone. A link is for any page: it
    brings nothing but what whoever holds it was given.
    """
    if how == "link":
        return True
    if origin is None:
        return how != "cookie"
    if origin.lower() in own_origins:
        return True
    return how != "cookie" and origin in allowed


def own_origins(scheme: str, host: str, public_url: str | None) -> frozenset[str]:
    """Return the origins (RFC 6454, 6.2) that are ours for a request with that ``Host``."""
    found = {f"{scheme}://{host}".lower()}
    if public_url:
        parts = urlsplit(public_url)
        found.add(f"{parts.scheme}://{parts.netloc}".lower())
    return frozenset(found)


def is_prefetch(headers: Mapping[str, str]) -> bool:
    """Whether a browser only guesses that somebody may want this: it must start nothing."""
    named = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
    told = " ".join(headers.get(name, "") for name in named).lower()
    return any(word in told for word in ("prefetch", "prerender", "preview"))


_EXPOSED: Final = "Location, ETag, Retry-After, Content-Range, Accept-Ranges, Content-Disposition"
# Of what a signed link shows: a page of any origin may read it, without a cookie or a token.
LINKED: Final = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED}


def cors_headers(origin: str | None, allowed: Collection[str]) -> dict[str, str]:
    """Return the headers by which a page of an allowed origin may read an answer.

    Never with credentials: our cookie is for our own page.
    """
    if not allowed:
        return {}
    if origin is None or (origin not in allowed and "*" not in allowed):
        return {"Vary": "Origin"}
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": _EXPOSED,
    }


PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Last-Event-ID, "
        "Mcp-Method, Mcp-Name, Mcp-Protocol-Version, Range"
    ),
    "Access-Control-Max-Age": "600",
}


def forwarded_scheme(
    scheme: str, peer: str | None, proto: str | None, proxies: Collection[str]
) -> str:
    """Return the scheme that the client used, where a trusted proxy tells it.

    *proxies* are addresses or networks; *peer* is who connected to us.
    """
    if proto is None or peer is None or proto.lower() not in ("http", "https"):
        return scheme
    return proto.lower() if _is_within(peer, proxies) else scheme


def _is_within(peer: str, networks: Collection[str]) -> bool:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
        return any(address in ipaddress.ip_network(text, strict=False) for text in networks)
    except ValueError:
        return False
