"""The scripts of ``pipelines/analyze.yaml`` with the real analyzers on real trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from programs import require

ANALYZE = Path(__file__).parents[2] / "pipelines" / "analyze.yaml"
ANALYZERS = ("ruff", "bandit", "lizard", "detect-secrets", "pygount")

MISTAKES = b"""\
import pickle
password = 'hunter2secret'
AWS_KEY = 'AKIAIOSFODNN7EXAMPLF'
def f(x=[]):
    eval(x)
    return undefined
"""
HOSTILE_NAMES = (
    b"-rf.py",
    b"a\nb.py",
    b"q\xff.py",
    b"<script>alert(1)<",
    b"caf\xc3\xa9 \"x\",'y'.py",
    b"rtl\xe2\x80\xaetxt.py",
    b"\x1b[31m.py",
    b"${HOME}`id`.py",
    b"a%20b#c?.py",
)


class Clone:
    """A repository where ``clone`` would have left it, and the steps after that."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "clone"
        self.artifacts = folder / "artifacts"
        self.pipeline: Any = yaml.safe_load(ANALYZE.read_text())
        self._tmp = folder / "tmp"
        for made in (self.path, self.artifacts, self._tmp):
            made.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, files: dict[bytes, bytes]) -> None:
        """Write and commit files."""
        for name, content in files.items():
            path = os.path.join(os.fsencode(self.path), name)  # noqa: PTH118 - names are bytes
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - likewise
            with open(path, "wb") as file:
                file.write(content)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", "Plant <b>mistakes</b>")

    def run(self, step: str, *, depth: str = "fast", path: str | None = None) -> str:
        """Run a step's script as a runner would; return its output, or fail with it."""
        done = self.attempt(step, depth=depth, path=path)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def attempt(
        self, step: str, *, depth: str = "fast", path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a step's script as a runner would."""
        env = {
            "PATH": path or f"{os.environ['PATH']}:{Path(sys.executable).parent}",
            "HOME": str(self._tmp),
            "TMPDIR": str(self._tmp),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TAILRACE_ARTIFACTS": str(self.artifacts),
            "TAILRACE_COLLECTED": str(self.artifacts),
            "TAILRACE_DEPTH": depth,
            "PARAM_REPO": "https://someone:hunter3@github.com/evil/tool.git",
            "OUTPUT_CLONE_SHA": self._git("rev-parse", "HEAD").strip(),
            "OUTPUT_CLONE_SUBJECT": "Plant <b>mistakes</b>",
            "OUTPUT_CLONE_BRANCH": "main",
            **self.pipeline["depths"][depth]["env"],
        }
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", self.pipeline["steps"][step]["run"]],
            cwd=self.path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def analyze(self, steps: Sequence[str] = ANALYZERS, *, depth: str = "fast") -> str:
        """Run the analyzers together, then the report; return all they printed."""
        printed = self.run("tree", depth=depth)
        with ThreadPoolExecutor() as pool:
            printed += "".join(pool.map(lambda step: self.run(step, depth=depth), steps))
        return printed + self.run("report", depth=depth)

    def findings(self, tool: str) -> list[dict[str, Any]]:
        """Return what an analyzer's step left."""
        found: list[dict[str, Any]] = json.loads((self.artifacts / f"{tool}.json").read_bytes())[
            "findings"
        ]
        return found

    @property
    def page(self) -> str:
        """The report."""
        return (self.artifacts / "report.html").read_text()

    def _git(self, *argv: str) -> str:
        who = ["-c", "user.name=A <i>", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *who, *argv], cwd=self.path, check=True, capture_output=True, text=True
        ).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """An empty repository to fill and analyze."""
    require("bash", "git")
    return Clone(tmp_path)


def test_a_repository_of_hostile_names_is_analyzed_whole(clone: Clone) -> None:
    """Each file's mistakes are found under its own name, and none becomes markup or a secret."""
    clone.commit({name: MISTAKES + b"# %d\n" % n for n, name in enumerate(HOSTILE_NAMES)})

    printed = clone.analyze()

    uris = {finding["uri"] for finding in clone.findings("detect-secrets")}
    assert len(uris) == len(HOSTILE_NAMES)
    assert {"-rf.py", "a%0Ab.py", "q%FF.py"} <= uris
    assert "a%0Ab.py" in {finding["uri"] for finding in clone.findings("bandit")}
    assert "<script" not in clone.page
    assert "<b>mistakes" not in clone.page
    everything = printed + "".join(file.read_text() for file in clone.artifacts.iterdir())
    for secret in ("hunter2", "hunter3", "AKIAIOSF"):
        assert secret not in everything


def test_links_out_of_the_repository_are_not_followed(clone: Clone, tmp_path: Path) -> None:
    """A file elsewhere on the machine is in no report, whatever links to it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.py").write_bytes(MISTAKES)
    (clone.path / "link.py").symlink_to(outside / "private.py")
    (clone.path / "folder").symlink_to(outside)
    (clone.path / "endless.py").symlink_to("/dev/zero")
    clone.commit({b"real.py": b"import os\n"})

    printed = clone.analyze()

    assert "1 files to analyze, 3 symbolic links left out" in printed
    found = [f["uri"] for tool in ANALYZERS for f in clone.findings(tool)]
    assert found == ["real.py"]
    assert (outside / "private.py").exists()


def test_the_repositorys_own_configuration_silences_nothing(clone: Clone) -> None:
    """Files that configure the analyzers are files like any other."""
    clone.commit(
        {
            b"a.py": MISTAKES,
            b"pyproject.toml": b'[tool.ruff]\nexclude = ["*"]\n',
            b"ruff.toml": b'exclude = ["*"]\n',
            b".bandit": b"[bandit]\nexclude = /\nformat = txt\n",
            b"whitelizard.txt": b"f\n",
            b".gitignore": b"",
            b".secrets.baseline": b"{}",
            b"tailrace/__init__.py": b"raise SystemExit('the repository was imported')\n",
            b"json.py": b"raise SystemExit('the repository was imported')\n",
        }
    )

    clone.analyze()

    for tool in ("ruff", "bandit", "detect-secrets"):
        assert "a.py" in {finding["uri"] for finding in clone.findings(tool)}, tool


@pytest.mark.soak  # eight seconds: every analyzer runs twice
def test_deep_hears_what_comments_ask_to_be_silent_about(clone: Clone) -> None:
    """`fast` respects noqa, nosec and allowlist comments, `deep` does not."""
    clone.commit(
        {
            b"a.py": b"import os  # noqa: F401\n"
            b"eval(input())  # nosec\n"
            b"KEY = 'AKIAIOSFODNN7EXAMPLF'  # pragma: allowlist secret\n"
        }
    )

    def rules(depth: str) -> set[str]:
        clone.analyze(depth=depth)
        return {finding["rule"] for tool in ANALYZERS for finding in clone.findings(tool)}

    silenced = {"F401", "B307", "AWS Access Key"}
    assert not rules("fast") & silenced
    assert rules("deep") >= silenced


@pytest.mark.parametrize(
    "files",
    [{}, {b"main.go": b"package main\n\nfunc main() {\n}\n", b"logo.png": b"\x89PNG\r\n\0\0"}],
    ids=["empty", "no Python"],
)
def test_a_repository_without_python_is_analyzed_too(
    clone: Clone, files: dict[bytes, bytes]
) -> None:
    """Every analyzer ends well with nothing to do."""
    clone.commit(files)

    clone.analyze()

    assert "Nothing was found." in clone.page
    log = json.loads((clone.artifacts / "findings.sarif").read_bytes())
    assert all(run["invocations"][0]["executionSuccessful"] for run in log["runs"])


def test_source_that_breaks_parsers_does_not_end_the_analysis(clone: Clone) -> None:
    """Deep nesting, NUL bytes, other encodings and old syntax are told, the rest is found."""
    clone.commit(
        {
            b"parens.py": b"x = " + b"(" * 3000 + b")" * 3000 + b"\n",
            b"minus.py": b"x = " + b"-" * 5000 + b"1\n",
            b"nul.py": b"x = 1\0\n",
            b"latin.py": b"x = '\xe9'\n",
            b"old.py": b'print "x"\n',
            b"fine.py": MISTAKES,
        }
    )

    clone.analyze()

    for tool in ("ruff", "bandit", "detect-secrets"):
        assert "fine.py" in {finding["uri"] for finding in clone.findings(tool)}, tool
    assert "bandit could not read" in clone.page


def test_an_analyzer_that_dies_leaves_no_result_and_the_report_names_it(
    clone: Clone, tmp_path: Path
) -> None:
    """What it printed before its end is not read as its result."""
    clone.commit({b"a.py": MISTAKES})
    dying = tmp_path / "bin" / "lizard"
    dying.parent.mkdir()
    dying.write_text("#!/bin/sh\necho '1,1,1,1,1,\"f@1-2@./a.py\"'\nkill -KILL $$\n")
    dying.chmod(0o700)
    installed = f"{os.environ['PATH']}:{Path(sys.executable).parent}"

    clone.run("ruff")
    died = clone.attempt("lizard", path=f"{dying.parent}:{installed}")
    clone.run("report")

    assert died.returncode == 137
    assert not (clone.artifacts / "lizard.json").exists()
    assert "lizard left no result" in clone.page
    assert "a.py" in clone.page


def test_a_report_without_any_result_fails_and_says_so(clone: Clone) -> None:
    """The page is written all the same, the step's exit status is 1."""
    clone.commit({})

    done = clone.attempt("report")

    assert done.returncode == 1
    assert "no analyzer left a result" in done.stdout
    assert "Traceback" not in done.stdout
    assert "ruff left no result" in clone.page


def test_a_result_that_cannot_be_read_is_named(clone: Clone) -> None:
    """A truncated file is as good as none."""
    clone.commit({b"a.py": MISTAKES})
    clone.run("ruff")
    (clone.artifacts / "bandit.json").write_text('{"tool": "bandit", "findi')

    printed = clone.run("report")

    assert "bandit left a result that can't be read" in printed
    assert "Traceback" not in printed
