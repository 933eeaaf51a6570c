"""The pipeline `agent-review` end to end, on a small repository."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from command_line import Site
from documents import ROOT
from programs import require

PIPELINE = str(ROOT / "pipelines/agent-review.yaml")
BEFORE = {
    "app/fetch.py": "def fetch_one(url):\n    return open(url).read()\n",
    "app/main.py": "from app.fetch import fetch_one\n",
    ".gitattributes": "* -diff\n",  # hides every change from who asks it
}
AFTER = {
    "app/fetch.py": "def fetch(url):\n    try:\n        return open(url).read()\n    except:\n"
    "        subprocess.run(f'curl {url}', shell=True)\n",
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository whose last commit has things to find."""
    require("git")
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    for files in (BEFORE, AFTER):
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", "Change <b>it</b>")
    return folder


def git(folder: Path, *argv: str) -> None:
    """Run git as somebody."""
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *argv], check=True)


def review(site: Site, repo: Path, *more: str, **env: str) -> tuple[int, list[dict[str, Any]]]:
    """Run it; return the exit status and the events."""
    done = site.tailrace("run", PIPELINE, "-p", f"repo={repo}", "--json", *more, **env)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_scripted_agent_reviews_a_change_and_the_report_names_what_it_found(
    site: Site, repo: Path
) -> None:
    """It narrates real calls, counts what it reads, and leaves findings in every form."""
    status, told = review(site, repo, "--depth", "deep")
    assert status == 0, told
    by_event = {e["event"]: e for e in told}
    calls = [(e["name"], e["phase"]) for e in told if e["event"] == "tool_call"]
    assert calls == [(name, phase) for name in ("read_file", "grep")
                     for phase in ("started", "finished")]  # fmt: skip
    assert by_event["cost"]["total_tokens_in"] > 100
    assert by_event["result"]["text"].startswith("3 findings in 1 of 1 changed file: 2 high")
    assert {e["url"] for e in told if e["event"] == "citation"} == {
        f"https://cwe.mitre.org/data/definitions/{n}.html" for n in (78, 396)
    }
    artifacts = site.latest().artifacts
    found = json.loads((artifacts / "review.json").read_text())["findings"]
    assert {(f["path"], f["line"], f["rule"]) for f in found} == {
        ("app/fetch.py", 1, "still-used"), ("app/fetch.py", 4, "bare-except"),
        ("app/fetch.py", 5, "shell"),
    }  # fmt: skip
    assert told[-1]["file_url"].endswith("/report.html")
    page = (artifacts / "report.html").read_text()
    for said in ("Change &lt;b&gt;it&lt;/b&gt;", "app/main.py", "Ctrl-C and typing mistakes"):
        assert said in page
    assert "bare-except" in (artifacts / "findings.sarif").read_text()


def test_another_agent_is_named_in_the_settings(site: Site, repo: Path) -> None:
    """`step_env` chooses the command line; the quick look asks less."""
    settings = site.folder / "tailrace.yaml"
    settings.write_text("step_env: {REVIEW_AGENT: tailrace-scripted-agent --price 3 15}\n")
    status, told = review(site, repo, "--config", str(settings))
    assert status == 0, told
    cost = told[-1]["cost"]
    assert cost["usd"] == pytest.approx((3 * cost["tokens_in"] + 15 * cost["tokens_out"]) / 1e6)
    assert "still-used" not in (site.latest().artifacts / "review.json").read_text()


def test_an_agent_that_fails_fails_the_run_and_the_report_says_so(site: Site, repo: Path) -> None:
    """What changed is reported all the same."""
    settings = site.folder / "tailrace.yaml"
    settings.write_text("step_env: {REVIEW_AGENT: 'false'}\n")
    status, told = review(site, repo, "--config", str(settings))
    assert status == 1
    page = (site.latest().artifacts / "report.html").read_text()
    assert "the agent left no review.json; the log of its step tells why" in page
    assert "<strong>fetch.py</strong>" in page
    assert told[-1]["cause"].startswith("step 'review' failed")
