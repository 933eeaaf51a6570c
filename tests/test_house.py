"""The house's rules, asserted: who imports whom, what is explained, and what files never say."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.xdist_group("house")  # each source is parsed once, not by each process

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "daemon/tailrace"
SOURCES: Final = tuple(
    path
    for folder in ("daemon", "tests", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
)

# Parts whose messages quote what nobody has masked yet, and what in them is cut and no secret.
BEFORE_THE_MASKER: Final = {"core", "pipeline", "runner", "settings_file", "store", "worker"}
NO_SECRETS: Final = {
    "digits[i:i + 4]",  # of a form to mask
    "text[:_SHOWN]",  # an artifact's name, which is collected for holding none
    "complaint[:200]",  # CEL's
    "self.sha[:7]",
    "text[:20]",  # a format's number
}

# Each part of the package, and the parts that it may import besides itself. Downwards only.
MAY_IMPORT: Final = {
    "core": set(),
    "errors": set(),
    "cgroup": set(),
    "undumpable": set(),
    "bubblewrap": {"errors"},
    "search_path": set(),
    "task_end": set(),
    "whole_file": set(),
    "socket_path": set(),
    "settings": set(),
    "logs": {"settings"},
    "systemd": {"errors"},
    "wire": {"core"},
    "pipeline": {"core", "errors"},
    "report": {"core", "errors"},
    "agent": {"core", "report"},
    "settings_check": {"core", "errors", "settings"},
    "settings_file": {"core", "errors", "pipeline", "settings", "settings_check"},
    "client": {"core", "errors", "socket_path", "whole_file", "wire"},
    "rundir": {"core", "task_end", "wire"},
    "runner": {
        "bubblewrap", "cgroup", "core", "errors", "pipeline", "rundir", "search_path", "settings",
        "undumpable", "wire",
    },
    "handshake": {"runner"},  # a process of its own, which nobody imports
    "store": {"core", "errors", "rundir", "whole_file", "wire"},
    "mcp": {"core", "errors", "wire"},
    "views": {"core", "pipeline", "store", "wire"},
    "worker": {
        "bubblewrap", "cgroup", "core", "errors", "pipeline", "rundir", "search_path", "settings",
        "store", "task_end", "undumpable", "wire",
    },
    "doctor": {
        "bubblewrap", "core", "errors", "pipeline", "rundir", "search_path", "settings", "store",
        "wire", "worker",
    },
    "http": {
        "core", "doctor", "errors", "mcp", "pipeline", "rundir", "settings", "settings_check",
        "store", "views", "wire", "worker",
    },
    "prove": {"core", "errors", "rundir", "task_end", "wire"},
    "cli": {
        "client", "core", "doctor", "errors", "http", "logs", "mcp", "pipeline", "prove", "rundir",
        "settings", "settings_file", "socket_path", "store", "systemd", "task_end", "undumpable",
        "views", "whole_file", "wire", "worker",
    },
}  # fmt: skip

# The one way into a part that is otherwise closed to its importer.
ENTRANCES: Final = {("cli", "http"): {"server"}}

# What the core may have of the standard library: nothing that knows a clock, a file or a socket.
PURE: Final = {
    "__future__", "abc", "base64", "binascii", "bisect", "codecs", "collections", "dataclasses",
    "decimal", "difflib", "enum", "fnmatch", "functools", "hashlib", "heapq", "html", "ipaddress",
    "itertools", "json", "math", "mimetypes", "operator", "pathlib", "posixpath", "re", "string",
    "struct", "textwrap", "types", "typing", "unicodedata", "urllib",
}  # fmt: skip
PURE_PARTS: Final = {"pathlib": r"Pure\w+Path", "urllib": "parse"}  # of these, only what matches
CORE_LIBRARIES: Final = {"msgspec", "hyperscan", "re2"}

HEAVY: Final = {"yaml", "aiohttp", "rich", "click", "git", "prometheus_client", "structlog"}

# Split, so that this file doesn't name them either.
REGISTRY_HOSTS: Final = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"), ("registry", "yarnpkg"),
        ("deb", "debian"), ("proxy", "golang"), ("docker", "io"), ("ghcr", "io"),
    )
)  # fmt: skip

MARKERS: Final = re.compile(
    r"#\s*(?:noqa(?P<noqa>:\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*)?"
    r"|type:\s*ignore(?P<ignore>\[[a-z-]+(?:,\s*[a-z-]+)*\])?)"
)


@cache
def parsed(path: Path) -> ast.Module:
    """A source file's tree."""
    return ast.parse(path.read_bytes(), str(path))


def part_of(path: Path) -> str:
    """The part of the package that a file belongs to: its folder, or its own name."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


@cache
def imports_of(path: Path) -> list[tuple[int, str]]:
    """Every import of a file, wherever it stands: its line and ``module.name``."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def package_files() -> list[Path]:
    """Every source file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def place(path: Path, line: int) -> str:
    """A place as editors open it."""
    return f"{path.relative_to(ROOT)}:{line}"


def tracked_texts() -> Iterator[tuple[Path, str]]:
    """Every text that git keeps."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("needs git and a clone: what is tracked can't be told here")
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        path = ROOT / name
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                yield path, data.decode("utf-8", "replace")


def test_imports_between_the_parts_of_the_package_point_downwards() -> None:
    """Each part imports only what `MAY_IMPORT` allows; http and runner never each other."""
    wrong = []
    for path in package_files():
        part = part_of(path)
        for line, name in imports_of(path):
            top, _, inner = name.partition(".")
            other = inner.partition(".")[0]
            if top != "tailrace" or part == "__init__" or other in (part, "__version__"):
                continue
            module = inner.split(".")[1] if "." in inner else ""
            entrances = ENTRANCES.get((part, other))
            if other not in MAY_IMPORT.get(part, ()) or (entrances and module not in entrances):
                wrong.append(f"{place(path, line)}: {part} may not import {name}")
    assert wrong == []


def test_nothing_is_allowed_that_no_part_does() -> None:
    """What `MAY_IMPORT` allows, some module of that part imports: a leave is asked for anew."""
    used: set[tuple[str, str]] = set()
    for path in package_files():
        names = (name.split(".") for _, name in imports_of(path))
        used |= {(part_of(path), name[1]) for name in names if name[0] == "tailrace" and name[1:]}
    allowed = {(part, other) for part, others in MAY_IMPORT.items() for other in others}
    unused = [f"{part}: {other}" for part, other in sorted(allowed - used)]
    assert unused == []


def test_every_part_of_the_package_has_its_place_in_the_order() -> None:
    """A new folder or module is entered in `MAY_IMPORT`, and the order has no circle."""
    parts = {part_of(path) for path in package_files()} - {"__init__"}

    assert parts <= set(MAY_IMPORT), "enter the new part in MAY_IMPORT"
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert "http" not in MAY_IMPORT["runner"]
    assert "runner" not in MAY_IMPORT["http"]
    assert order.index("core") < order.index("wire") < order.index("rundir")


def test_the_core_knows_no_clock_file_socket_or_loop() -> None:
    """It imports pure modules only, and never calls ``open``, ``print`` or ``input``."""
    wrong = []
    for path in sorted((PACKAGE / "core").rglob("*.py")):
        for line, name in imports_of(path):
            top, _, inner = name.partition(".")
            if top in sys.stdlib_module_names:
                allowed = top in PURE
                if allowed and top in PURE_PARTS:
                    allowed = re.match(PURE_PARTS[top], inner) is not None
            else:
                allowed = top in CORE_LIBRARIES or top == "tailrace"
            if not allowed:
                wrong.append(f"{place(path, line)}: import of {name}")
        for node in ast.walk(parsed(path)):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in ("open", "print", "input"):
                wrong.append(f"{place(path, called.lineno)}: call of {called.id}()")
    assert wrong == []


def test_what_the_package_imports_is_declared_as_its_dependency() -> None:
    """A library that comes with another one only may be gone with its next version.

    What is named after an extra may import that extra's.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {distribution_name(line) for line in project["dependencies"]}
    extras = {
        extra: {distribution_name(line) for line in lines}
        for extra, lines in project["optional-dependencies"].items()
    }
    distributions = metadata.packages_distributions()

    wrong = []
    for path in package_files():
        declared = base | extras.get(part_of(path), set())
        for line, name in imports_of(path):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "tailrace":
                continue
            if not {distribution_name(item) for item in distributions.get(top, ())} & declared:
                wrong.append(f"{place(path, line)}: {top}")
    assert wrong == []


def distribution_name(requirement: str) -> str:
    """A requirement's name in its normal form."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_a_runner_imports_nothing_heavy() -> None:
    """Its memory and its start are those of its imports."""
    code = "import sys, tailrace.runner.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "tailrace" in loaded
    assert loaded & HEAVY == set()


def test_neither_daemon_nor_command_line_imports_an_extra_unasked() -> None:
    """A base install works without it, and half a second and 40 MB are spent by who wants it."""
    wanted = "tailrace.http.server, tailrace.cli.mcp, tailrace.mcp.tools"
    code = f"import sys, {wanted}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"mcp", "mcp_types", "pydantic", "starlette"} == set()


def test_every_module_says_what_it_is_for() -> None:
    """Packages and modules of the program, the tests and the benchmarks have a docstring."""
    silent = [place(path, 1) for path in SOURCES if not ast.get_docstring(parsed(path))]
    assert silent == []


def test_no_module_is_named_after_nothing() -> None:
    """Each function has a home named after what it is about."""
    vague = re.compile(r"(?:.*_)?(?:utils?|helpers?|misc|common|stuff)")
    assert [place(path, 1) for path in SOURCES if vague.fullmatch(path.stem)] == []


def test_a_message_quotes_a_text_whole_or_not_at_all() -> None:
    """What a cut leaves of a secret passes the masker: see `tailrace.core.cut`."""
    wrong = [
        f"{place(path, text.lineno)}: {ast.unparse(text)}"
        for path in package_files()
        if part_of(path) in BEFORE_THE_MASKER and path.name != "cut.py"
        for node in ast.walk(parsed(path))
        if (text := beginning_in(node)) is not None and ast.unparse(text) not in NO_SECRETS
    ]
    assert wrong == [], "use tailrace.core.cut"


def beginning_in(node: ast.AST) -> ast.Subscript | None:
    """The beginning of a text, ``text[:9]``, that becomes part of another one."""
    text: ast.AST | None = None
    if isinstance(node, ast.FormattedValue):
        text = node.value
    elif isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant):
        text = node.left if isinstance(node.right.value, str) else None
    if isinstance(text, ast.Subscript) and isinstance(text.slice, ast.Slice) and text.slice.upper:
        return text
    return None


def test_every_silenced_warning_names_its_rule_and_its_reason() -> None:
    """A bare ``noqa`` or ``type: ignore`` hides what comes later, too."""
    wrong = [place(path, line) for path in SOURCES for line in unexplained(path.read_bytes())]
    assert wrong == []


def unexplained(source: bytes) -> Iterator[int]:
    """The lines on which a warning is silenced without its rule or without a reason."""
    if b"noqa" not in source and b"ignore" not in source:
        return
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        found = list(MARKERS.finditer(token.string))
        reason = re.sub(r"fmt: \w+", "", MARKERS.sub("", token.string))
        named = all(match["noqa"] or match["ignore"] for match in found)
        if found and not (named and re.search(r"\w{3}", reason)):
            yield token.start[0]


@pytest.mark.parametrize(
    ("comment", "fine"),
    [
        ("# noqa: S108 - tmpfs(5), for what must be on no disk", True),
        ("# noqa: BLE001  # task root", True),
        ("# type: ignore[arg-type]  # a literal", True),
        ("# type: ignore[arg-type]  # noqa: S101  # both at once", True),
        ("# no warning is silenced", True),
        ("# noqa", False),
        ("# noqa: S108", False),
        ("# noqa - not said which", False),
        ("# type: ignore", False),
        ("# type: ignore[arg-type]", False),
        ("# type: ignore  # not said which", False),
    ],
)
def test_a_silenced_warning_without_rule_or_reason_is_noticed(comment: str, fine: bool) -> None:
    """The look for them finds what it should and nothing else."""
    assert list(unexplained(f"x = 1  {comment}\n".encode())) == ([] if fine else [1])


def test_every_dependency_says_why_it_is_there() -> None:
    """Each requirement in pyproject.toml has its reason on its line, and a lower bound."""
    wrong = []
    for number, line in enumerate((ROOT / "pyproject.toml").read_text().splitlines(), 1):
        entry = re.match(r'  "(?P<what>[A-Za-z][^"\s]*>=[^"]+)",(?P<rest>.*)', line)
        if entry and not re.search(r"# \S", entry["rest"]):
            wrong.append(f"pyproject.toml:{number}: {entry['what']}: no reason")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [item for extra in project["optional-dependencies"].values() for item in extra]
    wrong += [
        f"{item}: no lower bound"
        for item in [*project["dependencies"], *extras]
        if ">=" not in item and not item.startswith("tailrace[")
    ]
    assert wrong == []


def test_ci_installs_every_program_that_a_test_requires() -> None:
    """Where nothing may be skipped, nothing may be missing."""
    installed = set(re.findall(r"\[(?:/usr/sbin/)?([\w-]+)\]=", (ROOT / ".ci/run").read_text()))

    required = {
        argument.value
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    assert "git" in required
    assert required <= installed


def test_no_tracked_file_names_a_registry_or_this_checkout() -> None:
    """Where packages come from, and where the checkout lies, is the business of each machine."""
    words = [re.escape(host) for host in REGISTRY_HOSTS]
    # A checkout at a place that documentation may name proves nothing.
    if len(ROOT.parts) > 2 and ROOT.parts[1] not in ("srv", "opt", "usr", "var", "tmp"):
        words.append(re.escape(str(ROOT)) + r"\b")
    if (home := Path.home()).parent.name in ("home", "Users"):
        words.append(re.escape(str(home)) + "/")
    pattern = re.compile("|".join(words))

    wrong = [
        f"{place(path, text.count(chr(10), 0, match.start()) + 1)}: {match[0]}"
        for path, text in tracked_texts()
        if path != Path(__file__)
        for match in pattern.finditer(text)
    ]
    assert wrong == []


def each_test_in(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests in a file."""
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test_"):
            yield node


def test_every_test_is_named_by_a_sentence_of_its_own() -> None:
    """A subject and a verb at least, each name only once in the suite, with a docstring."""
    wrong = []
    seen: Counter[str] = Counter()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for test in each_test_in(path):
            seen[test.name] += 1
            at = f"{place(path, test.lineno)}: {test.name}"
            if seen[test.name] > 1:
                wrong.append(f"{at}: the same name again")
            if len(test.name.split("_")) < 3:  # "test", subject, verb
                wrong.append(f"{at}: not a sentence")
            if not ast.get_docstring(test):
                wrong.append(f"{at}: no docstring")
    assert wrong == []
