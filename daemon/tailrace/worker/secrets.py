"""Secrets by name: systemd credentials, files, ``TAILRACE_SECRET_<NAME>``, in that order."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

from tailrace.errors import InvalidInputError, Problem
from tailrace.settings import Settings
from tailrace.undumpable import wipe_environment

PREFIX: Final = "TAILRACE_SECRET_"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LARGEST: Final = 1 << 20  # bytes; far beyond any key, and no environment takes more


def take_secrets(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Take every ``TAILRACE_SECRET_<NAME>`` out of *environ* and return them by name.

    Called first thing by whoever starts processes, so that no child inherits
    them. What proc(5) shows of the first environment is another matter
    (`tailrace.undumpable`).
    """
    taken = [key for key in environ if key.startswith(PREFIX)]
    return {key.removeprefix(PREFIX): environ.pop(key) for key in taken}


class SecretStore:
    """Looks secrets up each time, so that a rotated file counts from the next run on.

    ``given`` is what `take_secrets` returned; ``credentials`` the folder that
    systemd names in ``$CREDENTIALS_DIRECTORY`` (systemd.exec(5)).
    """

    def __init__(
        self, settings: Settings, given: Mapping[str, str], *, credentials: str | None = None
    ) -> None:
        self._folder = Path(settings.secrets_dir) if settings.secrets_dir else None
        self._credentials = Path(credentials) if credentials else None
        self._given = dict(given)

    @classmethod
    def take(cls, settings: Settings, environ: MutableMapping[str, str]) -> SecretStore:
        """Make the store of a process that starts with *environ*; its secrets leave it."""
        credentials = environ.get("CREDENTIALS_DIRECTORY")
        given = take_secrets(environ)
        if environ is os.environ:
            wipe_environment(PREFIX)
        return cls(settings, given, credentials=credentials)

    def renewed(self, settings: Settings) -> SecretStore:
        """Return a store by other settings; what was taken from the environment stays."""
        credentials = str(self._credentials) if self._credentials else None
        return SecretStore(settings, self._given, credentials=credentials)

    def get(self, name: str) -> str:
        """Return the secret, without the line break that ends its file.

        Raises:
            InvalidInputError: there is none of that name, its file is open to
                others, or it isn't text that an environment can hold.
        """
        where = f"secrets.{name}"
        if not _NAME.fullmatch(name):
            raise _refused(where, "is no name of a secret", "use letters, digits and _")
        for folder, private in ((self._credentials, False), (self._folder, True)):
            if folder is not None and (value := _read(folder / name, where, private)) is not None:
                return value
        if name in self._given:
            return _encodable(self._given[name], where, f"{PREFIX}{name}")
        hint = f"put it into the folder secrets_dir, or set {PREFIX}{name} for the daemon"
        raise _refused(where, f"no secret is named '{name}'", hint)


def _read(path: Path, where: str, private: bool) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _refused(where, f"{path}: {exc.strerror}", "let the daemon's user read it") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(where, f"{path} is no file", "put the value into a regular file")
        if private and status.st_mode & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise _refused(where, f"{path} is open to others (mode {mode})", f"chmod 600 {path}")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(_LARGEST + 1)
    finally:
        os.close(fd)
    if len(data) > _LARGEST:
        raise _refused(where, f"{path} is over 1 MiB", "is it the right file?")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _refused(where, f"{path} isn't UTF-8", "encode it, for example as base64") from None
    if "\0" in text:
        raise _refused(where, f"{path} holds a NUL byte", "encode it, for example as base64")
    return text.removesuffix("\n").removesuffix("\r")


def _encodable(text: str, where: str, variable: str) -> str:
    """Return a variable's text, unless it was bytes that aren't text (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        problem = f"{variable} isn't UTF-8"
        raise _refused(where, problem, "encode it, for example as base64") from None
    return text


def _refused(where: str, problem: str, hint: str) -> InvalidInputError:
    return InvalidInputError([Problem(where, problem, hint)])
