"""The surroundings in which git reaches one address: environment, config, credentials, pin.

Nothing of it touches the disk, argv or ``.git/config``: git reads its config,
the credentials and an SSH key from memfds through ``/proc/<pid>/fd``, so that
even SIGKILL leaves nothing behind. The machine's own git config, hooks,
templates, helpers, askpass and ``.netrc`` play no part.

Sources: git-config(1), gitcredentials(7), git(1) "ENVIRONMENT VARIABLES",
ssh_config(5).
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec

from tailrace.core.git_policy import (
    GitPolicy,
    Refusal,
    address_allowed,
    check_policy,
    covers,
    refuse_address,
)
from tailrace.core.git_url import DEFAULT_PORTS, GitUrl
from tailrace.errors import TailraceError
from tailrace.runner.local_repository import folders_read
from tailrace.runner.pinned_relay import relay_to

Resolve = Callable[..., Sequence[tuple[Any, Any, Any, Any, Any]]]  # socket.getaddrinfo

_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
_PIN_SINCE: Final = (2, 37)  # http.curloptResolve


class AccessError(TailraceError):
    """The address may not, or can't, be reached; one line for a person."""


class GitCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """A way to log in: a name with a password or token, or a private SSH key's text.

    ``scope`` is ``host`` or ``host/path-prefix``, the key in ``git.credentials``:
    submodules elsewhere don't get them. Passwords go out over https alone.
    """

    scope: str
    username: str | None = None
    password: str | None = None
    ssh_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """What holds for every address of one clone."""

    policy: GitPolicy
    trusted: bool
    credentials: GitCredentials | None = None
    known_hosts: str | None = None  # None: the account's own
    ca_file: str | None = None  # None: the system's
    resolve: Resolve = socket.getaddrinfo


def check_access(url: GitUrl, rules: AccessRules) -> GitUrl:
    """Return *url*, a local path with its links resolved, if the policy lets it pass.

    So must every folder that the repository there takes its content from,
    unless the run is trusted.

    Raises:
        AccessError: it doesn't, or there is no such folder.
    """
    _raise_if(check_policy(url, rules.policy, trusted=rules.trusted))
    if not url.is_local:
        return url
    if not url.path.startswith("/"):
        raise AccessError(f"{url.path} is a relative path; give an absolute one")
    real = replace(url, path=os.path.realpath(url.path))
    folders = tuple(os.path.realpath(folder) for folder in rules.policy.local_paths)
    policy = msgspec.structs.replace(rules.policy, local_paths=folders)
    _raise_if(check_policy(real, policy, trusted=rules.trusted))
    if not Path(real.path).is_dir():
        raise AccessError(f"there is no folder {url.path}; give the path of a git repository")
    if not rules.trusted:
        try:
            for folder in folders_read(real.path):
                _raise_if(check_policy(replace(url, path=folder), policy, trusted=False))
        except OSError as error:
            raise AccessError(f"{url.path} can't be looked into: {error.strerror}") from error
    return real


@contextmanager
def open_access(url: GitUrl, rules: AccessRules) -> Iterator[dict[str, str]]:
    """Yield the environment for git processes that reach *url*, and only that server.

    Resolves the host, checks every address it has and pins them, unless the
    run is trusted. The environment is valid until the context ends.

    Raises:
        AccessError: as `check_access`, or the host has no address or one that isn't allowed.
    """
    _raise_if(check_policy(url, rules.policy, trusted=rules.trusted))
    addresses = () if rules.trusted or url.is_local else _resolve(url, rules)
    with ExitStack() as files:
        config = _base_config()
        if url.scheme in {"https", "http"}:
            config += _http_config(url, addresses, rules, files)
        elif url.scheme == "ssh":
            config.append(("core", "sshCommand", _ssh_command(url, addresses, rules, files)))
        elif url.scheme == "git" and addresses:
            # git:// has no way to pin an address, so that it is asked for by its number.
            pinned = url.for_git.replace(url.host, _bracketed(addresses[0]), 1)
            config.append((f'url "{_quoted(pinned)}"', "insteadOf", url.for_git))
        path = files.enter_context(_memory_file(_render(config)))
        yield _environment(url.scheme, path, proxies=rules.trusted)


def local_environment() -> dict[str, str]:
    """Return the environment for git processes that reach nothing at all."""
    return _environment("none", "/dev/null", proxies=False)


def _environment(protocol: str, config_path: str, *, proxies: bool) -> dict[str, str]:
    # A proxy resolves names by itself, so that only trusted runs, which aren't pinned, use one.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "SSH_ASKPASS", "XDG_", "LC_"))
        and (proxies or name.lower() not in _PROXIES)
    }
    return kept | {
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_ASKPASS": "",  # empty: no program, and not SSH_ASKPASS either
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": config_path,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TEMPLATE_DIR": "",  # empty: no template
        "GIT_TERMINAL_PROMPT": "0",
        "COLUMNS": "200",  # git breaks progress lines in two where they wouldn't fit
        "HOME": "/nonexistent",  # no .netrc, no ignore or attributes files of the account
        "LANGUAGE": "",
        "LC_ALL": "C.UTF-8",  # progress is read in English
        "SSH_ASKPASS_REQUIRE": "never",
        "TERM": "dumb",
    }


def _base_config() -> list[tuple[str, str, str]]:
    return [
        ("core", "hooksPath", "/dev/null"),
        ("core", "fsmonitor", "false"),
        ("credential", "helper", ""),  # empty: forget those before
        ("fetch", "unpackLimit", "1"),  # small fetches too come as a pack, with progress
        ("gc", "auto", "0"),  # a detached child would outlive the step
        ("maintenance", "auto", "false"),
        ("safe", "directory", "*"),  # upload-pack of a local source owned by someone else
        ("submodule", "recurse", "false"),
        ("advice", "detachedHead", "false"),
        ("transfer", "bundleURI", "false"),
    ]


def _http_config(
    url: GitUrl, addresses: Sequence[str], rules: AccessRules, files: ExitStack
) -> list[tuple[str, str, str]]:
    config = [("http", "followRedirects", "false")]
    if rules.ca_file:
        config.append(("http", "sslCAInfo", rules.ca_file))
    if not rules.trusted:
        proxy = ""  # none
        if url.host not in addresses:
            port = url.port or DEFAULT_PORTS[url.scheme]
            pins = ",".join(_bracketed(address) for address in addresses)
            config.append(("http", "curloptResolve", f"{url.host}:{port}:{pins}"))
            if not _can_pin():
                proxy = files.enter_context(relay_to(addresses, port))
        config.append(("http", "proxy", proxy))
    if login := _login(url, rules.credentials):
        path = files.enter_context(_memory_file(login.encode()))
        server = f"{url.scheme}://{_server(url)}"
        helper = f'!f() {{ test "$1" = get && cat {path}; }}; f'
        config.append((f'credential "{_quoted(server)}"', "helper", helper))
    return config


def _login(url: GitUrl, credentials: GitCredentials | None) -> str | None:
    """Return what git's credential helper answers, or None; the address's own userinfo goes first.

    Somebody who writes a password into an http address has chosen so; the
    configured ones never leave unencrypted.
    """
    if url.username or url.password:
        username, password = url.username, url.password
    elif credentials and credentials.password is not None and url.scheme == "https":
        if not covers(credentials.scope, url):
            return None
        username, password = credentials.username, credentials.password
    else:
        return None
    return f"username={_one_line(username)}\npassword={_one_line(password)}\n"


def _server(url: GitUrl) -> str:
    host = _bracketed(url.host)
    return f"{host}:{url.port}" if url.port else host


def _one_line(text: str | None) -> str:
    if text and ("\n" in text or "\r" in text or "\0" in text):
        raise AccessError(
            "the user name or password has a line break in it; store it as a single line"
        )
    return text or ""


def _ssh_command(
    url: GitUrl, addresses: Sequence[str], rules: AccessRules, files: ExitStack
) -> str:
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ControlMaster=no", "ControlPath=none",
               "ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no"]  # fmt: skip
    if rules.known_hosts:
        options += [f'UserKnownHostsFile="{rules.known_hosts}"', "GlobalKnownHostsFile=/dev/null"]
    credentials = rules.credentials
    if credentials and credentials.ssh_key and covers(credentials.scope, url):
        key = credentials.ssh_key.rstrip("\n") + "\n"  # ssh wants the last line ended
        path = files.enter_context(_memory_file(key.encode()))
        options += ["IdentitiesOnly=yes", "IdentityAgent=none", f"IdentityFile={path}"]
    if addresses and url.host not in addresses:
        alias = url.host if url.port in {None, 22} else f"[{url.host}]:{url.port}"
        options += [f"HostName={addresses[0]}", f"HostKeyAlias={alias}"]
    command = ["ssh"]
    if not rules.trusted:
        command += ["-F", "/dev/null"]  # the account's file may send a host elsewhere
    for option in options:
        command += ["-o", option]
    return shlex.join(command)


def _resolve(url: GitUrl, rules: AccessRules) -> tuple[str, ...]:
    port = url.port or DEFAULT_PORTS[url.scheme]
    try:
        found = rules.resolve(url.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AccessError(
            f"{url.host} can't be resolved ({error.strerror}); check its name and the network"
        ) from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not address_allowed(address, rules.policy, trusted=rules.trusted):
            raise AccessError(str(refuse_address(url.host)))
    return addresses


def _can_pin() -> bool:
    text = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)\.(\d+)", text)
    return match is not None and (int(match[1]), int(match[2])) >= _PIN_SINCE


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Yield a path under which our own children can read *content*."""
    memory = os.memfd_create("tailrace", os.MFD_CLOEXEC)
    try:
        os.fchmod(memory, 0o600)  # ssh refuses a key that others could read
        with open(memory, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/{os.getpid()}/fd/{memory}"
    finally:
        os.close(memory)


def _render(config: Sequence[tuple[str, str, str]]) -> bytes:
    lines = (f'[{section}]\n\t{key} = "{_quoted(value)}"\n' for section, key, value in config)
    return "".join(lines).encode()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host


def _raise_if(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise AccessError(str(refusal))
