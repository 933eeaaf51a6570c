"""``GET /api/v1/doctor``: who may ask, and what is answered."""

from __future__ import annotations

import msgspec

from http_site import Site
from tailrace import wire


def pipelines_of(body: bytes) -> set[str | None]:
    """The pipelines that a report is about."""
    report = msgspec.json.decode(body, type=wire.DoctorReport, strict=True)
    return {check.pipeline for check in report.checks} - {None}


async def test_a_report_tells_of_the_machine_and_of_every_pipeline(site: Site) -> None:
    """Or of those that are asked for; of one that isn't there, nothing is told."""
    reply = await site.get("/api/v1/doctor")
    assert reply.status == 200
    assert pipelines_of(reply.body) == {"clone", "other", "broken"}
    assert {check["check"] for check in reply.json["checks"]} >= {
        "python", "git", "user", "containment", "sandbox", "inotify", "state", "disk", "token",
    }  # fmt: skip
    assert reply.json["status"] == "problem"  # because of `broken`

    reply = await site.get("/api/v1/doctor?pipelines=other,clone")
    assert pipelines_of(reply.body) == {"clone", "other"}
    missing = await site.get("/api/v1/doctor?pipelines=clone,othr")
    assert missing.status == 404
    assert missing.problem["detail"] == "no pipeline is named 'othr'; did you mean 'other'?"


async def test_the_doctor_is_for_administrators(site: Site) -> None:
    """A token that is narrowed to a pipeline sees of others nothing."""
    for scope in ("read", "run"):
        reply = await site.get("/api/v1/doctor", headers=site.make_token(scope))
        assert reply.status == 403
    narrowed = site.make_token("admin", pipelines=["other"])
    assert pipelines_of((await site.get("/api/v1/doctor", headers=narrowed)).body) == {"other"}
    reply = await site.get("/api/v1/doctor?pipelines=clone", headers=narrowed)
    assert reply.status == 404
