"""The OpenAPI document against a serving daemon: each operation, with sound and unsound data."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from daemons import Daemon, serving

PIPELINE = """
params:
  count: {type: integer, default: 1}
  word: {type: string, default: x}
depths: {fast: {}, deep: {}}
steps:
  a: {run: "echo one; echo two > $TAILRACE_ARTIFACTS/two.txt"}
  b: {needs: a, run: "exit 3", allow_failure: true}
"""
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
ENDLESS = {"/api/v1/events"}  # streams until its reader leaves; test_http_streams has it


def _check_operation(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    session: requests.Session,
    known: dict[str, list[str]],
    examples: int,
) -> None:
    turns = itertools.count()

    @settings(
        max_examples=examples, derandomize=examples < 10,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Case[Any]) -> None:
        turn = next(turns)
        if turn % 3:  # what is there, two times in three: all else ends in 404
            for name in case.path_parameters.keys() & known.keys():
                case.path_parameters[name] = known[name][turn % len(known[name])]
        response = case.call(timeout=20, session=session)
        case.validate_response(response, checks=CHECKS)

    check()


def _check_all(daemon: Daemon, runs: list[dict[str, Any]], examples: int) -> int:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {daemon.token}"
    schema = schemathesis.openapi.from_url(
        f"{daemon.url}/api/v1/openapi.json", headers=dict(session.headers)
    )
    known = {
        "id": [runs[0]["id"], runs[0]["ref"], "latest"],
        "step": ["a", "b"],
        "name": ["small"],
        "pipeline": ["small"],
        "path": ["two.txt"],
    }
    checked = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if operation.path in ENDLESS:
            continue
        gone = {**known, "id": [runs[-1]["id"]]} if operation.method == "delete" else known
        asks = bool(list(operation.iter_parameters()) or list(operation.body))
        for mode in GenerationMode:
            if mode is GenerationMode.POSITIVE or asks:
                _check_operation(operation, mode, session, gone, examples)
                checked += 1
    session.close()
    return checked


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(1, id="few"),
        pytest.param(100, id="many", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
async def test_every_operation_answers_as_the_document_says(tmp_path: Path, examples: int) -> None:
    """No 500; documented statuses, media types and shapes, whatever is asked."""
    async with serving(tmp_path, {"small": PIPELINE}) as daemon:
        runs = [await daemon.start("small") for _ in range(2)]
        for run in runs:
            await daemon.until_final(run["id"])

        checked = await asyncio.to_thread(_check_all, daemon, runs, examples)

        assert checked > 20
        assert daemon.process.returncode is None
    assert "Traceback" not in daemon.log.read_text()
