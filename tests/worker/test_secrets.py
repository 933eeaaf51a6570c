"""Where secrets are looked up, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.errors import InvalidInputError
from tailrace.settings import Settings
from tailrace.worker.secrets import SecretStore, take_secrets


def put(folder: Path, name: str, value: bytes, mode: int = 0o600) -> None:
    """Write a secret's file."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(value)
    (folder / name).chmod(mode)


def test_secrets_leave_the_environment_at_start() -> None:
    """No child inherits them."""
    environ = {"TAILRACE_SECRET_A": "1", "TAILRACE_SECRETS_DIR": "/s", "PATH": "/bin"}
    assert take_secrets(environ) == {"A": "1"}
    assert environ == {"TAILRACE_SECRETS_DIR": "/s", "PATH": "/bin"}


def test_a_process_shows_its_secrets_nowhere_in_proc() -> None:
    """Not even to root, for whom it is no obstacle that a process is undumpable."""
    code = """
import os
from tailrace.settings import Settings
from tailrace.undumpable import become_undumpable
from tailrace.worker.secrets import SecretStore
become_undumpable()
store = SecretStore.take(Settings(), os.environ)
shown = open("/proc/self/environ", "rb").read()
assert store.get("A") == "5ecret-value" and os.environ["OTHER"] == "there"
print(b"5ecret" in shown, b"OTHER=there" in shown)
"""
    env = {**os.environ, "TAILRACE_SECRET_A": "5ecret-value", "OTHER": "there"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True\n"


def test_credentials_go_before_files_and_files_before_variables(tmp_path: Path) -> None:
    """The order of section 7 of the contract."""
    credentials, files = tmp_path / "credentials", tmp_path / "files"
    put(credentials, "A", b"from systemd\n", 0o440)
    put(files, "A", b"from a file\n")
    put(files, "B", b"from a file\r\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        **{f"TAILRACE_SECRET_{name}": "from a variable" for name in "ABC"},
    }
    store = SecretStore.take(Settings(secrets_dir=str(files)), environ)
    assert store.get("A") == "from systemd"
    assert store.get("B") == "from a file"
    assert store.get("C") == "from a variable"


def test_a_file_that_was_changed_counts_from_then_on(tmp_path: Path) -> None:
    """Rotating a secret needs no restart; only the last line break is cut off."""
    store = SecretStore(Settings(secrets_dir=str(tmp_path)), {})
    put(tmp_path, "A", b"old")
    assert store.get("A") == "old"
    put(tmp_path, "A", b" new\n\n")
    assert store.get("A") == " new\n"


@pytest.mark.parametrize(
    ("value", "mode", "problem"),
    [
        (b"x", 0o640, "is open to others (mode 0640); chmod 600"),
        (b"x", 0o604, "is open to others (mode 0604); chmod 600"),
        (b"\xff\xfe", 0o600, "isn't UTF-8; encode it"),
        (b"a\0b", 0o600, "holds a NUL byte; encode it"),
        (b"x" * (1 << 20) + b"x", 0o600, "is over 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_a_secret_is_refused(
    tmp_path: Path, value: bytes, mode: int, problem: str
) -> None:
    """The message names the file and never its contents; later places aren't asked."""
    put(tmp_path, "A", value, mode)
    store = SecretStore(Settings(secrets_dir=str(tmp_path)), {"A": "other"})
    with pytest.raises(InvalidInputError) as caught:
        store.get("A")
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["../A", "", ".", "A/B", "A B", "Ä"])
def test_a_secrets_name_never_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    """Names are letters, digits and underscores."""
    put(tmp_path / "inner", "B", b"value")
    put(tmp_path, "A", b"value")
    store = SecretStore(Settings(secrets_dir=str(tmp_path / "inner")), {})
    with pytest.raises(InvalidInputError, match="is no name of a secret"):
        store.get(name)


def test_a_folder_or_pipe_is_no_secret(tmp_path: Path) -> None:
    """Reading never hangs."""
    (tmp_path / "DIR").mkdir()
    os.mkfifo(tmp_path / "PIPE", 0o600)
    store = SecretStore(Settings(secrets_dir=str(tmp_path)), {})
    for name in ("DIR", "PIPE"):
        with pytest.raises(InvalidInputError, match="is no file"):
            store.get(name)


def test_a_variable_that_is_not_utf_8_is_refused_as_a_file_is() -> None:
    """No hand-over can hold it."""
    store = SecretStore(Settings(), {"KEY": os.fsdecode(b"p\xffss")})
    with pytest.raises(InvalidInputError, match="TAILRACE_SECRET_KEY isn't UTF-8; encode it"):
        store.get("KEY")
