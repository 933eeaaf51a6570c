"""What a setting's value must be, beyond its type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final
from urllib.parse import urlsplit

from tailrace.core.host_name import host_name
from tailrace.errors import Problem
from tailrace.settings import Settings

_LISTEN: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROTOCOLS: Final = ("https", "ssh", "http", "git", "file")  # file: where local_paths says so


def parse_listen(text: str) -> tuple[str, int]:
    """Return host (an IPv6 address without its brackets) and port of ``HOST:PORT``.

    Raises:
        ValueError: it isn't that.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[2]) > 65_535:
        raise ValueError("write HOST:PORT, such as 127.0.0.1:8470 or [::1]:8470; port 0 picks one")
    return match[1].strip("[]"), int(match[2])


def problems_of(settings: Settings) -> list[Problem]:
    """Return what can't be used, each with its key as ``where``."""
    return [
        *_addresses(settings),
        *_git(settings),
        *_mcp(settings),
        *_names(settings),
        *_patterns(settings),
    ]


def _addresses(settings: Settings) -> Iterator[Problem]:
    try:
        parse_listen(settings.listen)
    except ValueError as exc:
        yield Problem("listen", f"'{settings.listen}' is no address", str(exc))
    for place, origin in enumerate(settings.allowed_origins):
        if not _is_http(origin) or urlsplit(origin).path:
            yield Problem(
                f"allowed_origins[{place}]", f"'{origin}' is no origin", "write https://host"
            )
    for place, name in enumerate(settings.allowed_hosts):
        if host_name(name) is None:
            yield Problem(
                f"allowed_hosts[{place}]", f"'{name}' is no host", "write ci.example.org, no URL"
            )
    if settings.public_url is not None and not _is_http(settings.public_url):
        yield Problem(
            "public_url", f"'{settings.public_url}' is no address", "write https://host[/path]"
        )
    networks = [
        ("trusted_proxies", settings.trusted_proxies),
        ("git.private_addresses", settings.git.private_addresses),
    ]
    for where, given in networks:
        for place, network in enumerate(given):
            try:
                ip_network(network, strict=False)
            except ValueError:
                yield Problem(
                    f"{where}[{place}]",
                    f"'{network}' is no network",
                    "write 10.0.0.0/8 or fd00::/8",
                )


def _is_http(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is none
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    except ValueError:
        return False


def _git(settings: Settings) -> Iterator[Problem]:
    for place, protocol in enumerate(settings.git.protocols):
        if protocol not in _PROTOCOLS:
            hint = "use " + ", ".join(_PROTOCOLS) + "; folders go to git.local_paths too"
            yield Problem(f"git.protocols[{place}]", f"'{protocol}' is never allowed", hint)
    for place, path in enumerate(settings.git.local_paths):
        if not path.startswith("/"):
            yield Problem(
                f"git.local_paths[{place}]", f"'{path}' is relative", "write the whole path"
            )
    for scope, credential in settings.git.credentials.items():
        if "://" in scope or "@" in scope or not scope.partition("/")[0]:
            hint = "write host or host/path-prefix, such as git.example.org/acme"
            yield Problem(f"git.credentials.{scope}", "is no host with a path", hint)
        if (credential.secret is None) == (credential.ssh_key is None):
            yield Problem(
                f"git.credentials.{scope}", "needs either secret or ssh_key", "name one secret"
            )


def _mcp(settings: Settings) -> Iterator[Problem]:
    for name, server in settings.mcp.items():
        if bool(server.command) == bool(server.url):
            yield Problem(f"mcp.{name}", "needs either command or url", "give one of them")
        elif server.url and not _is_http(server.url.partition("?")[0]):
            hint = "give it as https://HOST/PATH"
            yield Problem(f"mcp.{name}.url", "is no http or https address", hint)


def _names(settings: Settings) -> Iterator[Problem]:
    for name in settings.step_env:
        if not _VARIABLE.fullmatch(name):
            yield Problem(
                f"step_env.{name}", "is no name of a variable", "use letters, digits and _"
            )


def _patterns(settings: Settings) -> Iterator[Problem]:
    if not settings.masking.patterns:
        return
    from tailrace.core.shapes import ShapeError, load_shapes  # which few settings need

    for name, pattern in settings.masking.patterns.items():
        try:
            load_shapes([{"name": name, "pattern": pattern}], "masking.patterns")
        except ShapeError as exc:
            for found in exc.problems:
                yield Problem(f"masking.patterns.{name}", found.problem, found.hint)
