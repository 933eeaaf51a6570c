"""``tailrace.yaml``, ``TAILRACE_*``, and what the documentation says of them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from tailrace.errors import InvalidInputError
from tailrace.pipeline.document import Mapping, parse_document
from tailrace.settings import Settings, default_state_dir, pipelines_dir, state_dir
from tailrace.settings_check import parse_listen
from tailrace.settings_file import find_file, load_settings

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "configs/tailrace.yaml"
REFERENCE = ROOT / "docs/reference/settings.md"


def leaves(kind: inspect.Type, prefix: str = "") -> Iterator[str]:
    """Every key that has a value of its own, dotted."""
    if not isinstance(kind, inspect.StructType):
        yield prefix
        return
    for field in kind.fields:
        yield from leaves(field.type, f"{prefix}.{field.name}" if prefix else field.name)


ALL_KEYS = sorted(leaves(inspect.type_info(Settings)))


def problems(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> list[str]:
    """What loading that file complains about, without the folder's name."""
    path = tmp_path / "tailrace.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_settings(str(path), environ or {})
    return [str(p).replace(f"{tmp_path}/", "") for p in caught.value.problems]


def test_the_shipped_file_holds_the_defaults() -> None:
    """What it shows is what one gets without a file."""
    assert load_settings(str(EXAMPLE), {}) == Settings()


def test_the_shipped_file_shows_every_key() -> None:
    """No setting is hidden."""
    root = parse_document(EXAMPLE.read_bytes()).root

    def shown(node: Mapping, prefix: str = "") -> Iterator[str]:
        for name, (_, value) in node.entries.items():
            if isinstance(value, Mapping) and value.entries:
                yield from shown(value, f"{prefix}{name}.")
            else:
                yield prefix + name

    assert root is not None
    assert sorted(shown(root)) == ALL_KEYS


def test_the_reference_documents_every_key_with_its_default() -> None:
    """The table's defaults, loaded as a file, are the defaults."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| `(.*?)` \| (.+) \|$", REFERENCE.read_text(), re.M)
    assert sorted(key for key, _, _ in rows) == ALL_KEYS
    for key, default, _ in rows:
        nested = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(key.split(".")))
        path = REFERENCE.with_name("settings.md")
        assert path.exists()
        text = nested.rstrip("\n") + f" {default}\n"
        assert load_text(text) == Settings(), key


def load_text(text: str) -> Settings:
    """Load a file that holds *text*."""
    fd = os.memfd_create("settings")
    try:
        os.write(fd, text.encode())
        return load_settings(f"/proc/self/fd/{fd}", {})
    finally:
        os.close(fd)


def test_the_references_example_is_what_is_printed(tmp_path: Path) -> None:
    """The messages in the documentation are the real ones."""
    text = "\n\nmax_run: 3\nlimits:\n  log: 1024\n"
    expected = re.search(r"```\n(tailrace\.yaml.*?)```", REFERENCE.read_text(), re.S)
    assert expected is not None
    assert problems(text, tmp_path) == expected[1].splitlines()


def test_sizes_durations_and_lists_are_read() -> None:
    """Values get the types and units that the code works with."""
    settings = load_text(
        "limits: {log: 2M, timeout: none, gather: 5ms}\n"
        "git: {protocols: [https], credentials: {example.org: {username: bot, secret: TOKEN}}}\n"
        "step_env: {VERSION: 3.10}\nmax_runs: 3 * cores\n"
    )
    assert (settings.limits.log, settings.limits.timeout, settings.limits.gather) == (
        2 << 20,
        None,
        5,
    )
    assert settings.git.protocols == ("https",)
    assert settings.git.credentials["example.org"].secret == "TOKEN"
    assert settings.step_env == {"VERSION": "3.10"}
    assert settings.max_runs == 3 * (os.cpu_count() or 1)


def test_file_may_stand_among_the_protocols() -> None:
    """Which folders it reaches is said by git.local_paths alone."""
    text = "git: {protocols: [https, file], local_paths: [/srv/git]}"
    policy = load_text(text).git
    assert policy.protocols == ("https", "file")


@pytest.mark.parametrize("text", ["", "# nothing\n", "limits:\n", "listen: 127.0.0.1:8470\n"])
def test_what_is_left_out_keeps_its_default(text: str) -> None:
    """An empty file, and an empty section, are fine."""
    assert load_text(text) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listn: a", "tailrace.yaml:1:1: listn: unknown key; did you mean 'listen'?"),
        ("listen: here", "tailrace.yaml:1:9: listen: 'here' is no address; write HOST:PORT"),
        ("max_runs: 0", "tailrace.yaml:1:11: max_runs: expects 1 or more, not '0'"),
        ("max_runs: -1", "tailrace.yaml:1:11: max_runs: expects a whole number, not '-1'"),
        ("limits: {ring: 12}", "tailrace.yaml:1:16: limits.ring: expects a size, not '12'; write"),
        ("limits: {body: 0K}", "tailrace.yaml:1:16: limits.body: expects 1 KiB or more, not '0K'"),
        (
            "limits: {read_chunk: 0K}",
            "tailrace.yaml:1:22: limits.read_chunk: expects 1 KiB or more",
        ),
        ("limits: {in_flight: 2G}", "tailrace.yaml:1:21: limits.in_flight: expects 1 GiB or less"),
        (
            "allowed_hosts: ['https://a.b']",
            "tailrace.yaml:1:17: allowed_hosts[0]: 'https://a.b'",
        ),
        ("public_url: https://h:99999", "tailrace.yaml:1:13: public_url: 'https://h:99999' is no"),
        ("limits: 3", "tailrace.yaml:1:9: limits: expects a mapping, not '3'"),
        ("limits: [3]", "tailrace.yaml:1:9: limits: expects a mapping, not a list"),
        ("git: {protocols: https}", "tailrace.yaml:1:18: git.protocols: expects a list"),
        ("git: {protocols: [ext]}", "tailrace.yaml:1:19: git.protocols[0]: 'ext' is never allowed"),
        ("git: {local_paths: [a/b]}", "tailrace.yaml:1:21: git.local_paths[0]: 'a/b' is relative"),
        (
            "git: {private_addresses: [x]}",
            "tailrace.yaml:1:27: git.private_addresses[0]: 'x' is no",
        ),
        ("git: {credentials: {h.org: {}}}", "tailrace.yaml:1:28: git.credentials.h.org: needs"),
        (
            "git: {credentials: {'https://h.org': {secret: A}}}",
            "tailrace.yaml:1:38: git.credentials.https://h.org: is no host with a path",
        ),
        ("masking: {shapes: maybe}", "tailrace.yaml:1:19: masking.shapes: expects true or false"),
        ("log: {level: warn}", "tailrace.yaml:1:14: log.level: expects one of debug, error"),
        ("step_env: {A-B: c}", "tailrace.yaml:1:17: step_env.A-B: is no name of a variable"),
        ("hosts: {a: {}}", "tailrace.yaml:1:12: hosts.a.address: is missing"),
        ("public_url: ftp://x", "tailrace.yaml:1:13: public_url: 'ftp://x' is no address"),
        ("max_runs: 1\nmax_runs: 2", "tailrace.yaml:2:1: max_runs: the key stands twice"),
        ("masking: {patterns: {a: '('}}", "tailrace.yaml:1:25: masking.patterns.a: ')' is missing"),
        (
            "git: {credentials: {h.org: {secrt: A}}}",
            "tailrace.yaml:1:29: git.credentials.h.org.secrt: unknown key; did you mean 'secret'?",
        ),
        ("- a", "tailrace.yaml:1:1: file: isn't a mapping; write keys with values"),
        ("a: [", "tailrace.yaml:2:1: file: isn't YAML"),
    ],
)
def test_a_mistake_in_the_settings_has_its_place_and_its_hint(
    text: str, message: str, tmp_path: Path
) -> None:
    """Each kind of mistake has its place and its hint."""
    found = problems(text, tmp_path)
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize(
    "text",
    ["max_queued: 0", "retention: {runs: 0}", "limits: {artifact_files: 0, ring: 0K, held: 0K}"],
)
def test_a_bound_of_nothing_is_taken_by_whoever_reads_the_settings(text: str) -> None:
    """Runners get them handed over as plain values, and must not refuse what the file may say."""
    settings = load_text(text)

    assert msgspec.convert(msgspec.to_builtins(settings), Settings) == settings


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """A file is repaired in one go, variables included."""
    found = problems("a: 1\nlimits: {log: x}\n", tmp_path, {"TAILRACE_MAX_QUEUED": "many"})
    assert sorted(text.split(": ")[0] for text in found) == [
        "TAILRACE_MAX_QUEUED",
        "tailrace.yaml:1:1",
        "tailrace.yaml:2:15",
    ]


def test_mistakes_of_every_kind_are_told_at_once(tmp_path: Path) -> None:
    """A key that isn't one, a value of the wrong type, one that can't be used, patterns."""
    text = (
        "max_run: 3\n"
        "limits: {log: 1024, steps: x, ring: 64K}\n"
        "listen: localhost\n"
        "git: {protocols: [ext], private_addresses: [10.0.0.0/33], credentials: {x: {}, y: 3}}\n"
        "masking: {shapes: 1, patterns: {a: '(', b: x*, c: 'c_[a-z]{20,}'}}\n"
        "hosts: {a: {user: u}}\n"
    )
    found = [
        text.split(": ")[:2] for text in problems(text, tmp_path, {"TAILRACE_MCP": '{"m":{}}'})
    ]
    assert sorted(found) == [
        ["TAILRACE_MCP", "mcp.m"],
        ["tailrace.yaml:1:1", "max_run"],
        ["tailrace.yaml:2:15", "limits.log"],
        ["tailrace.yaml:2:28", "limits.steps"],
        ["tailrace.yaml:3:9", "listen"],
        ["tailrace.yaml:4:19", "git.protocols[0]"],
        ["tailrace.yaml:4:45", "git.private_addresses[0]"],
        ["tailrace.yaml:4:76", "git.credentials.x"],
        ["tailrace.yaml:4:83", "git.credentials.y"],
        ["tailrace.yaml:5:19", "masking.shapes"],
        ["tailrace.yaml:5:36", "masking.patterns.a"],
        ["tailrace.yaml:5:44", "masking.patterns.b"],
        ["tailrace.yaml:6:12", "hosts.a.address"],
    ]


def test_a_missing_file_is_told_by_its_name(tmp_path: Path) -> None:
    """Who names a file gets that file or an error."""
    with pytest.raises(InvalidInputError, match=r"no\.yaml: No such file or directory; name"):
        load_settings(str(tmp_path / "no.yaml"), {})


def test_the_option_goes_before_the_variable_and_the_variable_before_the_system(
    tmp_path: Path,
) -> None:
    """The order of section 7 of the contract."""
    assert find_file("a.yaml", {"TAILRACE_CONFIG": "b.yaml"}) == Path("a.yaml")
    assert find_file(None, {"TAILRACE_CONFIG": "b.yaml"}) == Path("b.yaml")


def test_variables_override_the_file(tmp_path: Path) -> None:
    """Nested keys are joined by two underscores; sections keep their other keys."""
    path = tmp_path / "tailrace.yaml"
    path.write_text("listen: 127.0.0.1:1\nlimits: {log: 1M, ring: 64K}\n")
    settings = load_settings(
        str(path),
        {
            "TAILRACE_LISTEN": "127.0.0.1:2",
            "TAILRACE_LIMITS__LOG": "2M",
            "TAILRACE_GIT__PROTOCOLS": "https, ssh,git",
            "TAILRACE_ALLOWED_HOSTS": '["a.example", "b.example"]',
            "TAILRACE_STEP_ENV": '{"A": "1", "B": "x: y"}',
            "TAILRACE_RETENTION": '{"age": "1d"}',
        },
    )
    assert settings.listen == "127.0.0.1:2"
    assert (settings.limits.log, settings.limits.ring) == (2 << 20, 64 << 10)
    assert settings.git.protocols == ("https", "ssh", "git")
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert settings.step_env == {"A": "1", "B": "x: y"}
    assert settings.retention == msgspec.structs.replace(Settings().retention, age=86_400_000)


def test_variables_that_name_no_key_are_ignored() -> None:
    """A step's own variables, secrets and addresses of clients configure nothing."""
    environ = {
        "TAILRACE_URL": "x", "TAILRACE_TOKEN": "x", "TAILRACE_SECRET_LISTEN": "x",
        "TAILRACE_TEST_NO_SKIP": "1", "TAILRACE_RUN_ID": "x", "TAILRACE_LIMITS__NO": "x",
        "TAILRACE_LISTEN__HOST": "x", "TAILRACE_": "x", "TAILRACE_LIMITS__": "x",
    }  # fmt: skip
    assert load_settings("/dev/null", environ) == Settings()


@pytest.mark.parametrize(
    "environ",
    [
        {"TAILRACE_LIMITS": "3"},
        {"TAILRACE_LIMITS": "{"},
        {"TAILRACE_STEP_ENV": "A=1"},
        {"TAILRACE_LIMITS__LOG": "\udcff"},
        {"TAILRACE_STEP_ENV": '{"\udcff": 1}'},
    ],
)
def test_a_variable_that_cannot_be_used_is_named(environ: dict[str, str]) -> None:
    """The message begins with the variable."""
    with pytest.raises(InvalidInputError) as caught:
        load_settings("/dev/null", environ)
    assert str(caught.value).startswith(next(iter(environ)) + ": ")


@given(st.binary(max_size=200))
def test_no_file_ends_in_anything_but_settings_or_problems(data: bytes) -> None:
    """Whatever is in the file, it is read or refused."""
    fd = os.memfd_create("settings")
    try:
        os.write(fd, data)
        with contextlib.suppress(InvalidInputError):
            load_settings(f"/proc/self/fd/{fd}", {})
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"STATE_DIRECTORY": "/a:/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/a"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/tailrace"),
        ({"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/tailrace"),
        ({"HOME": "/h"}, "/h/.local/state/tailrace"),
    ],
)
def test_the_state_folder_is_where_the_contract_says(environ: dict[str, str], folder: str) -> None:
    """The setting, else systemd's, else XDG's, else the home folder's."""
    assert default_state_dir(environ) == Path(folder)
    assert state_dir(Settings(state_dir="/s"), environ) == Path("/s")
    assert state_dir(Settings(), environ) == Path(folder)


def test_pipelines_are_looked_for_here_and_then_in_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """./pipelines counts where it is there."""
    monkeypatch.chdir(tmp_path)
    assert pipelines_dir(Settings()) == Path("/etc/tailrace/pipelines")
    (tmp_path / "pipelines").mkdir()
    assert pipelines_dir(Settings()) == tmp_path / "pipelines"
    assert pipelines_dir(Settings(pipelines_dir="/p")) == Path("/p")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:8470", ("127.0.0.1", 8470)),
        ("[::1]:0", ("::1", 0)),
        ("ci.example:1", ("ci.example", 1)),
    ],
)
def test_a_listen_address_is_taken_apart(text: str, parts: tuple[str, int]) -> None:
    """IPv6 addresses stand in brackets."""
    assert parse_listen(text) == parts


@pytest.mark.parametrize(
    "text", ["", "8470", ":8470", "::1:80", "a:65536", "a:b", "a:1\n", "a b:1", "localhost"]
)
def test_what_is_no_listen_address_is_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_listen(text)
