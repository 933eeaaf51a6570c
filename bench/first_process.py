"""How soon a run does something: from the request for it to its first process."""

from __future__ import annotations

import json
import subprocess
import time

from bench.daemon import Daemon, serving, step
from bench.figure import Figure, Goal, percentile

_DATE = ("date", "+%s.%N")  # the cheapest program that says when it was there


def measure(*, quick: bool) -> list[Figure]:
    """Return milliseconds until the first process of a run says what time it is."""
    ours: list[float] = []
    bare: list[float] = []
    with serving({"now": {"steps": {"now": step(*_DATE)}}}) as daemon:
        _first(daemon)  # the fork server starts with the daemon, and may still be importing
        for _ in range(3 if quick else 25):
            ours.append(_first(daemon))
            bare.append(_spawn())
    return [
        Figure(
            name="first process", value=percentile(ours, 0.5), bare=percentile(bare, 0.5),
            unit="ms", goal=Goal(kind="most", limit=15),
            note="from POST /runs to the clock read by `date`, the only step, on a connection "
            "that is open; bare: the same `date` spawned directly",
        ),
        Figure(
            name="first process, p90", value=percentile(ours, 0.9), bare=percentile(bare, 0.9),
            unit="ms", note="the same, 90th percentile",
        ),
    ]  # fmt: skip


def _first(daemon: Daemon) -> float:
    connection = daemon.connect()
    body = json.dumps({"pipeline": "now"})
    try:
        sent = time.time()
        connection.request("POST", "/api/v1/runs", body, daemon.headers)
        answer = connection.getresponse()
        run = json.loads(answer.read())
        if answer.status != 201:
            raise RuntimeError(f"POST /runs: {answer.status} {run}")
    finally:
        connection.close()
    daemon.wait(run["id"])
    status, said = daemon.request("GET", f"/api/v1/runs/{run['id']}/steps/now/log")
    if status != 200:
        raise RuntimeError(f"GET …/log: {status} {said.decode()}")
    return (float(said) - sent) * 1000


def _spawn() -> float:
    began = time.time()
    said = subprocess.run(_DATE, stdout=subprocess.PIPE, check=True).stdout
    return (float(said) - began) * 1000
