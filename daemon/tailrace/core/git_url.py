"""Git addresses, refs and commits that come from outside: parsed, never trusted.

`parse_git_url` takes an address apart by rules that are narrower than git's,
curl's and ssh's, and `GitUrl.for_git` puts it together again from the parts,
so that no two programs can read the same text differently. What may then be
reached is a matter of policy: `tailrace.core.git_policy`.

Sources: gitremote-helpers(7), git-clone(1) "GIT URLS", git-check-ref-format(1),
RFC 3986.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, cast
from urllib.parse import quote, unquote

Scheme = Literal["https", "http", "ssh", "git", "file"]

DEFAULT_PORTS: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}

_SCHEMES: Final = {
    "https": "https", "http": "http", "git": "git", "file": "file",
    "ssh": "ssh", "git+ssh": "ssh", "ssh+git": "ssh",
}  # fmt: skip
_MAX_LENGTH: Final = 4_096  # PATH_MAX; a longer address is no address
_MAX_REF: Final = 1_000
_EXAMPLE: Final = "write https://host/path, git@host:path, or /folder"

_TRANSPORT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)::")
_WITH_SCHEME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SCP: Final = re.compile(r"(?:([^@/:]*)@)?(\[[^\]/]*\]|[^@/:\[\]]*):(.*)", re.DOTALL)
_AUTHORITY: Final = re.compile(
    r"(?:(?P<user>[^:@/?#\\]*)(?::(?P<password>[^@/?#\\]*))?@)?"
    r"(?P<host>\[[^\]@/?#\\]*\]|[^:@/?#\\\[\]]*)"
    r"(?::(?P<port>[^@/?#\\]*))?"
)
_SSH_USER: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]*")
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_BAD_IN_REF: Final = re.compile(r"\.\.|@\{|//|[~^:?*\[\\ ]")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}|[0-9a-f]{64}")


class GitInputError(ValueError):
    """Base of what is refused here; ``str()`` reads ``PROBLEM; HINT``.

    Never quotes the text that was refused: it may hold a password.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}; {hint}")
        self.problem = problem
        self.hint = hint


class GitUrlError(GitInputError):
    """The text is no git address, or one that is never fetched."""


class GitRefError(GitInputError):
    """The text is no name of a ref, or no commit id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitUrl:
    """A git address in parts, decoded.

    ``repr()`` shows neither user name nor password.
    """

    scheme: Scheme
    host: str  # lower case, without brackets; "" for a local path
    port: int | None  # None: the scheme's own
    path: str  # "/org/repo.git" as written; decoded for a local path
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    scp_like: bool = False  # "git@host:path", whose path is relative to the account's home

    @property
    def is_local(self) -> bool:
        """Whether it names a folder of this machine."""
        return self.scheme == "file"

    @property
    def origin(self) -> tuple[str, str, int | None]:
        """Scheme, host and port: what has to be equal for "the same server"."""
        return self.scheme, self.host, self.port or DEFAULT_PORTS.get(self.scheme)

    @property
    def without_userinfo(self) -> str:
        """The address with neither user name nor password."""
        return self._text(user="")

    @property
    def for_git(self) -> str:
        """The address as git's argv and ``.git/config`` may hold it, and as people are shown it.

        No password. A user name only for ssh, which has no other place for it
        (in ``https://TOKEN@host`` the name is the secret). A local path becomes
        ``file://``, because git ignores ``--depth`` for a plain one.
        """
        if self.is_local:
            return "file://" + quote(self.path) if self.path.startswith("/") else self.path
        keeps_user = self.scheme == "ssh" and self.username
        return self._text(user=f"{self.username}@" if keeps_user else "")

    def beneath(self, folder: str) -> GitUrl:
        """Return the address with a relative local path made absolute under *folder*.

        Others come back as they are. Whoever accepts an address from a person
        does this at once: a run works in another folder than its caller.
        """
        if not self.is_local or self.path.startswith("/"):
            return self
        return replace(self, path=posixpath.normpath(posixpath.join(folder, self.path)))

    def _text(self, *, user: str) -> str:
        if self.is_local:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scp_like:
            return f"{user}{host}:{self.path}"
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{host}{port}{self.path}"


def parse_git_url(text: str) -> GitUrl:
    """Take a git address apart.

    Accepted are ``https http ssh git file`` URLs, ``[user@]host:path``, and
    local paths that begin with ``/``, ``./``, ``../`` or are ``.`` or ``..``.

    Raises:
        GitUrlError: it is empty, could be read as an option, names a remote
            helper (``ext::…``), an unknown scheme, no host or no path, or holds
            characters (plain or percent-encoded) that don't belong there.
    """
    _check_characters(text)
    if match := _TRANSPORT.match(text):
        raise GitUrlError(f"remote helpers such as '{match[1]}::' are never run", _EXAMPLE)
    if text in {".", ".."} or text.startswith(("/", "./", "../")):
        return GitUrl(scheme="file", host="", port=None, path=text)
    if " " in text:
        raise GitUrlError("the address has a space in it", "write it as %20")
    if match := _WITH_SCHEME.fullmatch(text):
        return _parse_with_scheme(match[1].lower(), match[2])
    if (match := _SCP.fullmatch(text)) and "/" not in text.partition(":")[0]:
        return _parse_scp(match[1], match[2], match[3])
    raise GitUrlError(
        "this is neither an address nor a path", f"{_EXAMPLE} (./folder where you are)"
    )


def _check_characters(text: str) -> None:
    if not text:
        raise GitUrlError("the address is empty", _EXAMPLE)
    if len(text) > _MAX_LENGTH:
        raise GitUrlError(f"the address is longer than {_MAX_LENGTH:,} characters", _EXAMPLE)
    if text.startswith("-"):
        raise GitUrlError("an address can't begin with '-'", "write a folder's whole path")
    if not text.isprintable() or text != text.strip():
        raise GitUrlError(
            "the address has line breaks, white space or control characters", "take them out"
        )


def _parse_with_scheme(scheme: str, rest: str) -> GitUrl:
    known = _SCHEMES.get(scheme)
    if known is None:
        raise GitUrlError(f"git addresses with '{scheme}:' aren't known", _EXAMPLE)
    authority, slash, after = rest.partition("/")
    path = slash + after
    _check_path(path, known)
    if known == "file":
        if authority not in {"", "localhost"}:
            raise GitUrlError("a file: address can't name a host", "write file:///folder")
        return GitUrl(scheme="file", host="", port=None, path=unquote(path))
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise GitUrlError(
            "what stands before the path can't be read as user, host and port",
            "write '@', ':' and '/' in a user name or password as %40, %3A and %2F",
        )
    return GitUrl(
        scheme=cast("Scheme", known),
        host=_checked_host(match["host"]),
        port=_checked_port(match["port"]),
        username=(
            _checked_ssh_user(match["user"]) if known == "ssh" else _decoded(match["user"]) or None
        ),
        password=_decoded(match["password"]) or None,
        path=path,
    )


def _parse_scp(user: str | None, host: str, path: str) -> GitUrl:
    if not path or path.startswith(":"):
        raise GitUrlError("no path stands after the host", "write git@host:path")
    if path.startswith("-"):
        raise GitUrlError("the path can't begin with '-'", "write ssh://host/path")
    _check_steps(path)
    return GitUrl(
        scheme="ssh",
        host=_checked_host(host),
        port=None,
        username=_checked_ssh_user(user),
        path=path,
        scp_like=True,
    )


def _check_path(path: str, scheme: str) -> None:
    if not path or (path == "/" and scheme != "file"):
        raise GitUrlError("no path stands after the host", "write https://host/path")
    if "\\" in path:
        raise GitUrlError("the path has a '\\' in it", "write '/'")
    if "#" in path and scheme in {"https", "http"}:
        raise GitUrlError("the address has a '#' in it", "name a branch, tag or commit as ref")
    decoded = _decoded(path)
    if scheme != "file":
        _check_steps(decoded)


def _check_steps(path: str) -> None:
    """Refuse a path that its server may read as another one: a credential is for one prefix."""
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise GitUrlError("the path has a '.' or '..' between its slashes", "write it without")


def _decoded(text: str | None) -> str:
    decoded = unquote(text or "", errors="surrogateescape")
    if any(ord(c) < 0x20 or ord(c) == 0x7F or 0xDC80 <= ord(c) <= 0xDCFF for c in decoded):
        raise GitUrlError(
            "the address has percent-encoded control characters, or bytes that aren't UTF-8",
            "take them out",
        )
    return decoded


def _checked_ssh_user(text: str | None) -> str | None:
    """Return the user name, which reaches ssh's argv and is decoded by git once more."""
    if text and not _SSH_USER.fullmatch(text):
        raise GitUrlError(
            "the user name has characters that don't belong there",
            "letters, digits, '.', '_', '+' and '-' do, and it can't begin with '-'",
        )
    return text or None


def _checked_host(text: str) -> str:
    """Return the host in lower case, or refuse what resolvers read in different ways."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1].replace("%", "/")))  # no zones: they name our links
        except ValueError:
            raise GitUrlError("this is no IPv6 address", "write [2001:db8::1]") from None
    host = text.lower().removesuffix(".")
    if not host:
        raise GitUrlError("the host is empty", _EXAMPLE)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise GitUrlError(
            "the host's name has characters that don't belong there",
            "letters, digits, '-', '_' and '.' do; write other scripts in their xn-- form",
        )
    if _NUMBER.fullmatch(labels[-1]):
        # 2130706433, 0x7f.1 and 017700000001 are all 127.0.0.1 to inet_aton(3).
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise GitUrlError(
                "a host in numbers must be four decimal ones", "write 192.0.2.1"
            ) from None
    return host


def _checked_port(text: str | None) -> int | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,5}", text) and 0 < int(text) < 65_536:
        return int(text)
    raise GitUrlError("the port isn't a number from 1 to 65535", "leave it out, or write host:443")


def check_ref(text: str) -> str:
    """Return *text* if it can name a ref: ``main``, ``v1.2``, ``refs/pull/7/head``, ``HEAD``.

    A commit id passes too. The rules are those of git-check-ref-format(1), and
    that it can't be read as an option.

    Raises:
        GitRefError: it can't.
    """
    hint = "name a branch, a tag, or a full ref such as refs/pull/7/head"
    if not text:
        raise GitRefError("the ref is empty", hint)
    if len(text) > _MAX_REF:
        raise GitRefError(f"the ref is longer than {_MAX_REF:,} characters", hint)
    if text.startswith("-"):
        raise GitRefError("a ref can't begin with '-'", hint)
    if not text.isprintable():
        raise GitRefError("the ref has line breaks or control characters in it", hint)
    if match := _BAD_IN_REF.search(text):
        raise GitRefError(f"a ref can't have '{match[0]}' in it", hint)
    if text == "@" or text.endswith(("/", ".")) or text.startswith("/"):
        raise GitRefError("a ref can't be '@', nor begin or end with '/', nor end with '.'", hint)
    if any(part.startswith(".") or part.endswith(".lock") for part in text.split("/")):
        raise GitRefError("no part of a ref can begin with '.' or end with '.lock'", hint)
    return text


def check_commit(text: str) -> str:
    """Return the commit id in lower case: 40 or 64 hexadecimal digits, or the first 7 and more.

    A whole id is asked of the server by itself; for an abbreviated one all
    branches and tags have to be fetched, because servers don't look it up.

    Raises:
        GitRefError: it is none.
    """
    commit = text.lower()
    if not _COMMIT.fullmatch(commit):
        raise GitRefError(
            "this is no commit id",
            "write its 40 (or 64) hexadecimal digits, or at least the first 7",
        )
    return commit
