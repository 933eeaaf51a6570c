"""Pipeline files as tests write them."""

from __future__ import annotations

import textwrap

import pytest

from tailrace.errors import InvalidInputError
from tailrace.pipeline.loader import read_pipeline
from tailrace.pipeline.model import Pipeline

# The contract's example, as it stands there.
ANALYZE = """\
# yaml-language-server: $schema=…
description: Clone a repository and analyze it
params:
  repo: {type: git-url, required: true, help: Repository to analyze}
  ref:  {type: git-ref, default: HEAD}
  lang: {type: enum, choices: [python, any], default: any}
secrets: [GIT_TOKEN]
timeout: 30m
depths:
  fast: {timeout: 5m, default: true}
  deep: {timeout: 2h, env: {RULES: all}}
requires: {commands: [git]}
concurrency: {group: "${{ params.repo }} ${{ params.ref }}", on_conflict: queue}
on:
  webhook: {secret: HOOK_SECRET, events: [push, pull_request], branches: [main, "release/*"]}
steps:
  clone:
    label: Cloning repository
    clone: {url: "${{ params.repo }}", ref: "${{ params.ref }}", history: 1}
  lint:
    label: Linting
    needs: clone
    when: params.lang == "python"
    run: ruff check --exit-zero --output-format sarif -o "$TAILRACE_ARTIFACTS/ruff.sarif" .
    timeout: 10m
    retry: {attempts: 3, delay: 2s}
  deep-scan:
    needs: [clone]
    depth: deep
    command: [scancode, --name, "${{ params.ref }}"]
    allow_failure: true
  report:
    needs: [lint, deep-scan]
    when: always()
    run: ./make-report > "$TAILRACE_ARTIFACTS/report.html"
    artifacts: {primary: report.html}
"""


def read(text: str, *, name: str = "build") -> Pipeline:
    """Return the pipeline that a file with this text holds."""
    return read_pipeline(textwrap.dedent(text).encode(), name=name, display=f"{name}.yaml")


def mistakes(text: str | bytes, *, name: str = "build") -> list[str]:
    """Return every mistake in a file, as people see them; the file must have some."""
    data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    with pytest.raises(InvalidInputError) as refusal:
        read_pipeline(data, name=name, display=f"{name}.yaml")
    return str(refusal.value).split("\n")


def mistake(text: str | bytes, *, name: str = "build") -> str:
    """Return the only mistake in a file."""
    found = mistakes(text, name=name)
    assert len(found) == 1, found
    return found[0]
