"""What git may reach: section 7 of the contract.

Two questions, both pure: may this address be cloned (`check_policy`, asked
when a run is submitted and again before git starts), and may this IP address
be connected to (`address_allowed`, asked of everything that a host's name
resolves to). Who owns the machine ("trusted") may name anything that
`tailrace.core.git_url.parse_git_url` lets pass.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

import msgspec

from tailrace.core.git_url import GitUrl

IPAddress = IPv4Address | IPv6Address


class GitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The settings ``git.protocols``, ``git.local_paths`` and ``git.private_addresses``."""

    protocols: tuple[str, ...] = ("https", "ssh")
    local_paths: tuple[str, ...] = ()  # absolute folders
    private_addresses: tuple[str, ...] = ()  # networks: "10.0.0.0/8", "fd00::/8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an address isn't cloned, and the setting that would allow it."""

    problem: str
    hint: str
    setting: str  # "git.protocols"

    def __str__(self) -> str:
        """Render as ``PROBLEM; HINT``; the hint names the setting."""
        return f"{self.problem}; {self.hint}"


# IANA's special-purpose registries (RFC 6890 and its updates), spelled out because what
# ipaddress calls global has changed within Python 3.11.
_NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(n)
    for n in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_PUBLIC_V6: Final = IPv6Network("2000::/3")  # all of global unicast; RFC 4291, section 2.4
_NOT_PUBLIC_V6: Final = tuple(
    IPv6Network(n) for n in ("2001::/23", "2001:db8::/32", "3fff::/20")
)  # Teredo is in the first
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address
_6TO4: Final = IPv6Network("2002::/16")  # RFC 3056: bytes 3 to 6 are


def check_policy(url: GitUrl, policy: GitPolicy, *, trusted: bool) -> Refusal | None:
    """Return why *url* may not be cloned, or None if it may.

    ``trusted``: asked for by the command line itself or on a socket of the
    same user. A host's name isn't resolved here; whoever does checks what
    comes out with `address_allowed`. A local path is compared as text, so
    whoever opens it resolves links first and asks again.
    """
    if trusted:
        return None
    if url.is_local:
        return _check_local(url.path, policy)
    if url.scheme not in policy.protocols:
        allowed = ", ".join(policy.protocols) or "none"
        return Refusal(
            problem=f"the protocol '{url.scheme}' isn't allowed",
            hint=f"use another, or add it to git.protocols (now: {allowed})",
            setting="git.protocols",
        )
    if _is_private_host(url.host, policy):
        return refuse_address(url.host)
    return None


def covers(scope: str, url: GitUrl) -> bool:
    """Tell whether a key of ``git.credentials``, ``host`` or ``host/path-prefix``, holds *url*.

    The host may have a port; without one it holds every port.
    """
    host, _, prefix = scope.partition("/")
    path, prefix = url.path.strip("/"), prefix.strip("/")
    named = f"[{url.host}]" if ":" in url.host else url.host
    if host.lower() not in {url.host, named, f"{named}:{url.port}"}:
        return False
    return not prefix or f"{path}/".startswith(f"{prefix}/")


def refuse_address(host: str) -> Refusal:
    """Return the refusal of a host with an address that `address_allowed` doesn't let pass."""
    return Refusal(
        problem=f"{host} is, or resolves to, an address that isn't public",
        hint="add its network to git.private_addresses, or run it on the machine itself",
        setting="git.private_addresses",
    )


def address_allowed(address: str | IPAddress, policy: GitPolicy, *, trusted: bool) -> bool:
    """Whether git may connect to *address*.

    Public ones are; others where ``git.private_addresses`` holds their network
    or for who is trusted. Not public are private, loopback, link-local, shared
    (RFC 6598), multicast, reserved and unspecified ones, and IPv6 addresses
    that stand for such an IPv4 one (mapped, NAT64, 6to4).

    Raises:
        ValueError: *address* is text that is no IP address.
    """
    ip = ip_address(address) if isinstance(address, str) else address
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if trusted or _is_public(ip):
        return True
    return any(ip in ip_network(n, strict=False) for n in policy.private_addresses)


def _is_public(ip: IPAddress) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    if ip in _NAT64:
        return _is_public(IPv4Address(int(ip) & 0xFFFFFFFF))
    if ip in _6TO4:
        return _is_public(IPv4Address(int(ip) >> 80 & 0xFFFFFFFF))
    return ip in _PUBLIC_V6 and not any(ip in network for network in _NOT_PUBLIC_V6)


def _is_private_host(host: str, policy: GitPolicy) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        loopback = ("127.0.0.1", "::1")
        return not any(address_allowed(ip, policy, trusted=False) for ip in loopback)
    try:
        return not address_allowed(host, policy, trusted=False)
    except ValueError:
        return False  # a name: resolved, and asked about again, before git connects


def _check_local(path: str, policy: GitPolicy) -> Refusal | None:
    wanted = posixpath.normpath(path)
    for folder in policy.local_paths:
        root = posixpath.normpath(folder)
        if wanted == root or wanted.startswith(root.rstrip("/") + "/"):
            return None
    return Refusal(
        problem="a repository in a folder of this machine isn't allowed",
        hint="add the folder to git.local_paths, or run it on the machine itself",
        setting="git.local_paths",
    )
