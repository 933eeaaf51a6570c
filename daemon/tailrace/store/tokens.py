"""Tokens and browser sessions in ``state.db``: only their hashes are kept.

A token is 256 random bits, so a plain SHA-256 of it can't be searched, and a
look-up by hash tells nothing by its timing. The daemon looks at the file with
each request, so that a token made or revoked by another process counts at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import sqlite3
import stat
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from tailrace.core.cut import quoted
from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.rundir.layout import StateDir
from tailrace.store.database import StateDatabase

Scope = Literal["read", "run", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
FIRST: Final = "owner"  # name of the token that is made on first start
SOCKET_USER: Final = "local"  # who comes by the Unix socket as our own user; no token's name

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_PIPELINE: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS tokens (
  hash BLOB PRIMARY KEY NOT NULL, name TEXT NOT NULL UNIQUE, scopes TEXT NOT NULL, pipelines TEXT,
  created_s REAL NOT NULL, expires_s REAL, revoked_s REAL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS sessions (
  hash BLOB PRIMARY KEY NOT NULL, token BLOB NOT NULL, expires_s REAL NOT NULL
) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)",
)
_ID: Final = 12  # bytes of a token's hash by which links name it
_COLUMNS: Final = "name, scopes, pipelines, created_s, expires_s, revoked_s, hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token; times are seconds since 1970."""

    name: str
    scopes: frozenset[Scope]
    pipelines: frozenset[str] | None = None  # None: all of them
    created_s: float = 0.0
    expires_s: float | None = None  # None: never
    revoked_s: float | None = None
    id: str = ""  # says which it is, also where its name is used again; opens nothing

    def is_valid(self, now: float) -> bool:
        """Whether it opens anything at that moment."""
        return self.revoked_s is None and (self.expires_s is None or now < self.expires_s)


class TokenStore:
    """The tokens of a state folder; any number of processes may have it open.

    Calls are synchronous and take microseconds; an object belongs to one thread.
    """

    def __init__(self, path: Path) -> None:
        """Open ``state.db``, making it (0600) where it is missing.

        Raises:
            InvalidInputError: the file is damaged.
            OSError, UnavailableError: it can't be used.
        """
        self._db = StateDatabase(path, _TABLES)
        self._do = self._db.execute

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        pipelines: Iterable[str] | None = None,
        expires_s: float | None = None,
        now: float,
    ) -> str:
        """Make a token and return it; it can't be asked for again.

        A scope holds those before it: ``admin`` may do everything, ``run`` may read.

        Raises:
            InvalidInputError: the name is taken, `FIRST` or none, or a scope or pipeline is none.
        """
        if name == FIRST:  # the next start might put the file's token in its place
            problem = f"'{name}' is the token that the daemon makes for itself"
            raise InvalidInputError([Problem("name", problem, "choose another name")])
        text = "tr_" + secrets.token_urlsafe(32)
        self._insert(text, name, tuple(scopes), pipelines, expires_s, now)
        return text

    def _insert(
        self,
        text: str,
        name: str,
        scopes: tuple[str, ...],
        pipelines: Iterable[str] | None,
        expires_s: float | None,
        now: float,
    ) -> None:
        narrowed = None if pipelines is None else sorted(set(pipelines))
        _check(name, scopes, narrowed)
        given = " ".join(scope for scope in SCOPES if scope in _widened(scopes))
        packed = None if narrowed is None else " ".join(narrowed)
        # The name of a token that ended may be used again; it stands in runs as who asked.
        self._do(
            "DELETE FROM tokens WHERE name = ? AND (revoked_s IS NOT NULL OR expires_s <= ?)",
            (name, now),
        )
        try:
            self._do(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (_hash(text), name, given, packed, now, expires_s),
            )
        except sqlite3.IntegrityError:
            problem = Problem("name", f"a token named '{name}' exists", "choose another name")
            raise InvalidInputError([problem]) from None

    def list(self) -> list[Token]:
        """Return all tokens, by name; ended ones too."""
        found = self._do(f"SELECT {_COLUMNS} FROM tokens ORDER BY name")  # noqa: S608 - our own columns
        return [_token(row) for row in found]

    def revoke(self, name: str, *, now: float) -> None:
        """End a token and its sessions; one that has ended stays as it is.

        Raises:
            UnknownError: there is none of that name.
        """
        found = self._do("SELECT hash FROM tokens WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise UnknownError(f"there is no token '{name}'; `tailrace token list` shows them")
        self._do(
            "UPDATE tokens SET revoked_s = ? WHERE hash = ? AND revoked_s IS NULL", (now, found[0])
        )
        self._do("DELETE FROM sessions WHERE token = ?", (found[0],))

    def find(self, text: str, *, now: float) -> Token | None:
        """Return the token with that text if it is valid now."""
        token = self._by_hash(_hash(text))
        return token if token is not None and token.is_valid(now) else None

    def is_ended(self, text: str, *, now: float) -> bool:
        """Whether it was a token once, and isn't any more."""
        token = self._by_hash(_hash(text))
        return token is not None and not token.is_valid(now)

    def _by_hash(self, digest: bytes) -> Token | None:
        found = self._do(
            f"SELECT {_COLUMNS} FROM tokens WHERE hash = ?",  # noqa: S608 - our own columns
            (digest,),
        ).fetchone()
        if found is None or not hmac.compare_digest(found[-1], digest):
            return None
        return _token(found)

    def find_id(self, token_id: str, *, now: float) -> Token | None:
        """Return the token with that ``id`` if it is valid now."""
        found = [token for token in self.list() if token.id == token_id]
        return found[0] if found and found[0].is_valid(now) else None

    def link_key(self) -> bytes:
        """Return the key that links are signed with, made where there is none."""
        asked = "SELECT value FROM keys WHERE name = 'links'"
        if (found := self._do(asked).fetchone()) is None:
            self._do("INSERT OR IGNORE INTO keys VALUES ('links', ?)", (secrets.token_bytes(32),))
            found = self._do(asked).fetchone()
        key: bytes = found[0]
        return key

    def open_session(self, text: str, *, now: float, seconds: float) -> str | None:
        """Return a new session's secret for the token with that text; None where it isn't valid.

        The session ends with its token.
        """
        if self.find(text, now=now) is None:
            return None
        self._do("DELETE FROM sessions WHERE expires_s <= ?", (now,))
        session = secrets.token_urlsafe(32)
        self._do(
            "INSERT INTO sessions VALUES (?, ?, ?)", (_hash(session), _hash(text), now + seconds)
        )
        return session

    def find_session(self, session: str, *, now: float) -> tuple[Token, float] | None:
        """Return the valid token behind a session that hasn't ended, and when that does."""
        digest = _hash(session)
        found = self._do(
            "SELECT hash, token, expires_s FROM sessions WHERE hash = ?", (digest,)
        ).fetchone()
        if found is None or not hmac.compare_digest(found[0], digest) or found[2] <= now:
            return None
        token = self._by_hash(found[1])
        return (token, found[2]) if token is not None and token.is_valid(now) else None

    def ensure_first(self, state: StateDir, *, now: float) -> str:
        """Return the token in ``<state>/token``, made where there is none.

        A file that is there counts: it is entered where ``state.db`` doesn't
        know it, and stays revoked where it was.

        Raises:
            InvalidInputError: the file is open to others, or holds no token.
            OSError: it can't be read or written.
        """
        text = _read_private(state.token)
        if text is None:
            text = "tr_" + secrets.token_urlsafe(32)
            _write_private(state.token, text)
        if self._by_hash(_hash(text)) is None:
            self._do("DELETE FROM tokens WHERE name = ?", (FIRST,))
            self._insert(text, FIRST, ("admin",), None, None, now)
        return text


def _check(name: str, scopes: tuple[str, ...], pipelines: list[str] | None) -> None:
    problems = []
    if not _NAME.fullmatch(name):
        problems.append(
            Problem("name", f"{quoted(name)} is no name", "use letters, digits and .-_@")
        )
    if name == SOCKET_USER:
        problem = f"'{name}' stands for who needs no token, on the Unix socket"
        problems.append(Problem("name", problem, "choose another name"))
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        hint = f"use {', '.join(SCOPES)}"
        problems += [Problem("scopes", f"{quoted(scope)} is no scope", hint) for scope in unknown]
    if not scopes:
        problems.append(Problem("scopes", "are missing", f"use {', '.join(SCOPES)}"))
    if pipelines is not None:
        odd = [name for name in pipelines if not _PIPELINE.fullmatch(name)]
        problems += [Problem("pipelines", f"{quoted(name)} names no pipeline") for name in odd]
        if not pipelines:
            problems.append(Problem("pipelines", "none is named", "leave it out for all of them"))
    if problems:
        raise InvalidInputError(problems)


def _widened(scopes: Iterable[str]) -> tuple[Scope, ...]:
    highest = max(SCOPES.index(scope) for scope in SCOPES if scope in tuple(scopes))
    return SCOPES[: highest + 1]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _token(row: tuple[str, str, str | None, float, float | None, float | None, bytes]) -> Token:
    name, scopes, pipelines, created, expires, revoked, digest = row
    return Token(
        name=name,
        scopes=frozenset(scope for scope in SCOPES if scope in scopes.split()),
        pipelines=None if pipelines is None else frozenset(pipelines.split()),
        created_s=created,
        expires_s=expires,
        revoked_s=revoked,
        id=urlsafe_b64encode(digest[:_ID]).decode(),
    )


def _read_private(path: Path) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise InvalidInputError([Problem("token", f"{path} is no file", "remove it")])
        if mode & 0o077:
            # A token that others can read is no authentication: nothing is served with it.
            problem = f"{path} is open to others (mode {stat.S_IMODE(mode):04o})"
            hint = f"remove it so that a new token is made, or chmod 600 {path}"
            raise InvalidInputError([Problem("token", problem, hint)])
        text = os.read(fd, 1 << 12).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    if len(text) < 32 or not text.isprintable() or " " in text:
        problem = f"{path} holds no token"
        raise InvalidInputError([Problem("token", problem, "remove it; a new one will be made")])
    return text


def _write_private(path: Path, text: str) -> None:
    new = path.with_name(".token")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(fd)
    new.replace(path)
