"""Starting, listing and steering runs; /ops; pipelines."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
import pytest

from http_site import Site, parse_sse, until
from tailrace import wire
from tailrace.errors import UnavailableError


async def test_a_run_is_started_shown_and_listed(site: Site) -> None:
    """201 with its Location; the list holds the same without steps."""
    body = {"pipeline": "clone", "params": {"repo": "r", "count": 2}, "depth": "fast"}
    reply = await site.post("/api/v1/runs", body)
    assert reply.status == 201
    run = reply.json
    assert reply.headers["Location"] == f"/api/v1/runs/{run['id']}"
    assert (run["ref"], run["status"], run["params"]) == (
        "clone/1",
        "queued",
        {"repo": "r", "count": 2},
    )
    assert run["url"] == f"{site.base}/api/v1/runs/{run['id']}"
    assert run["events_url"] == run["url"] + "/events"
    assert [step["step"] for step in run["steps"]] == ["clone", "lint"]
    for name in (run["id"], run["id"][:20], "clone/1", "clone%2F1", "clone%2f1", run["id"].upper()):
        assert (await site.get(f"/api/v1/runs/{name}")).json == run
    (listed,) = (await site.get("/api/v1/runs")).json["runs"]
    assert set(run) - set(listed) == {"steps", "artifacts", "prompts"}
    (submission,) = site.worker.submissions
    assert (submission.depth, submission.text, submission.trusted) == ("fast", False, False)


async def test_runs_are_listed_in_pages_newest_first(site: Site) -> None:
    """A page's cursor leads to the next; what makes no sense is refused."""
    made = [site.worker.new_run() for _ in range(5)]
    seen: list[str] = []
    query = "limit=2"
    while True:
        page = (await site.get(f"/api/v1/runs?{query}")).json
        seen += [run["id"] for run in page["runs"]]
        if page["next_cursor"] is None:
            break
        query = f"limit=2&cursor={page['next_cursor']}"
    assert seen == sorted((run.id for run in made), reverse=True)
    for bad in ("limit=0", "limit=1001", "limit=x", "status=done", "cursor=../x", "colour=red"):
        assert (await site.get(f"/api/v1/runs?{bad}")).status == 422


async def test_a_start_can_be_answered_with_its_stream(site: Site) -> None:
    """Ids are RUNID:SEQ from the first event on, and lead back to the run."""
    request = asyncio.create_task(
        site.post(
            "/api/v1/runs",
            {"pipeline": "clone", "params": {"repo": "r"}},
            headers={"Accept": "text/event-stream"},
        )
    )
    await until(lambda: site.worker.runs)
    (run,) = site.worker.runs.values()
    await until(lambda: site.worker.watching.get(run.id) == 1)
    run.finished()
    reply = await request
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/event-stream")
    events = parse_sse(reply.body)
    assert [event.last_id for event in events] == [f"{run.id}:{n}" for n in (1, 2, 3)]
    rest = await site.events(f"/api/v1/runs/{run.id}/events", Last_Event_ID=events[0].last_id)
    assert [event.last_id for event in rest] == ["2", "3"]


async def test_an_idempotency_key_starts_one_run(site: Site) -> None:
    """The same body gives the same run, another one is refused; keys belong to their token."""
    body = {"pipeline": "other"}
    headers = {"Idempotency-Key": "k1"}
    first = await site.post("/api/v1/runs", body, headers=headers)
    again = await site.post(
        "/api/v1/runs", b'{ "pipeline": "other", "params": {} }', headers=headers
    )
    assert (first.status, again.status) == (201, 201)
    assert first.headers["Location"] == again.headers["Location"]
    other = await site.post(
        "/api/v1/runs", {"pipeline": "clone", "params": {"repo": "x"}}, headers=headers
    )
    assert other.status == 422
    theirs = await site.post("/api/v1/runs", body, headers={**headers, **site.make_token("run")})
    assert theirs.headers["Location"] != first.headers["Location"]
    for key in ("", "a b", "x" * 256, "ä"):
        assert (
            await site.post("/api/v1/runs", body, headers={"Idempotency-Key": key})
        ).status == 422
    assert len(site.worker.runs) == 2


async def test_a_skipped_start_says_why(site: Site) -> None:
    """200 without a run, also where a stream was asked for."""
    site.worker.skip_reason = "clone/1 is running"
    for accept in ("application/json", "text/event-stream"):
        reply = await site.post("/api/v1/runs", {"pipeline": "other"}, headers={"Accept": accept})
        assert (reply.status, reply.json) == (200, {"run": None, "reason": "clone/1 is running"})


async def test_a_full_queue_is_503_with_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a client knows when to come back."""

    async def full(submission: object) -> object:
        raise UnavailableError("the queue is full", retry_after_s=7)

    monkeypatch.setattr(site.worker, "submit", full)
    reply = await site.post("/api/v1/runs", {"pipeline": "other"})
    assert (reply.status, reply.headers["Retry-After"]) == (503, "7")
    assert reply.problem["detail"] == "the queue is full"


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xff\xfe", 400, None),
        (b"[" * 100_000, 400, None),
        (b'{"pipeline":"\\ud800"}', 400, None),
        (b"[]", 422, ["body"]),
        (b"{}", 422, ["pipeline"]),
        (b'{"pipelin":"x","depth":3,"params":[]}', 422, ["pipelin", "pipeline", "params", "depth"]),
        (b'{"pipeline":"other","on_disconnect":"die"}', 422, ["on_disconnect"]),
        (b'{"pipeline":"clone","params":{"rep":"x","count":"many"}}', 422, None),
        (b'{"pipeline":"nope"}', 404, None),
        (b'{"pipeline":"broken"}', 422, None),
        (b'{"pipeline":"' + b"x" * 2_000_000 + b'"}', 413, None),
        (b"9" * 5000, 400, None),
    ],
)
async def test_a_bad_body_is_refused_with_every_mistake(
    site: Site, body: bytes, status: int, where: list[str] | None
) -> None:
    """Where, what and what to do; nothing is started."""
    reply = await site.post("/api/v1/runs", body)
    assert reply.status == status, reply.body
    errors = reply.problem.get("errors", [])
    if where is not None:
        assert [error["where"] for error in errors] == where
    assert bool(errors) is (status != 404)
    assert all(error["problem"] for error in errors)
    if where is not None:
        assert all(error["hint"] for error in errors)
    assert site.worker.runs == {}


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("runs", {"pipeline": 3}, ("pipeline", "3 makes no sense", "give text")),
        ("runs", {"pipeline": "clone", "on_disconnect": "x"},
         ("on_disconnect", '"x" makes no sense', "give one of cancel, continue or null")),
        ("runs", {"pipeline": "clone", "params": []},
         ("params", "a list makes no sense", "give an object")),
        ("RUN/cancel", {"reason": "x" * 1001},
         ("reason", "a text of 1001 characters makes no sense",
          "give text of at most 1000 characters or null")),
        ("RUN/progress", {"percent": 101},
         ("percent", "101 makes no sense", "give a number from 0 to 100 or null")),
        ("RUN/links", {"what": "zz"},
         ("what", '"zz" makes no sense', "give one of artifact, events, log")),
    ],
)  # fmt: skip
async def test_a_mistake_in_a_body_says_what_to_give_instead(
    site: Site, path: str, body: object, error: tuple[str, str, str]
) -> None:
    """In words, and never by a programming language's names of types."""
    run = site.worker.new_run()
    reply = await site.post("/api/v1/" + path.replace("RUN", f"runs/{run.id}"), body)
    where, problem, hint = error
    assert reply.status == 422
    assert reply.problem["errors"] == [{"where": where, "problem": problem, "hint": hint}]


async def test_what_a_run_finds_senseless_is_told_where_it_was_given(site: Site) -> None:
    """The answer that is none of the choices, and the key that came with another command."""
    run = site.worker.new_run()
    path = f"/api/v1/runs/{run.id}/answers/lint.p1"
    site.worker.reply = wire.Reply(status="invalid", reason="the answer must be one of: yes, no")
    (error,) = (await site.post(path, {"answer": "x"})).problem["errors"]
    assert (error["where"], error["hint"]) == ("answer", "choose one of these")
    site.worker.reply = wire.OTHER_COMMAND
    reply = await site.post(path, {"answer": "x"}, headers={"Idempotency-Key": "k"})
    (error,) = reply.problem["errors"]
    assert error["where"] == "Idempotency-Key"
    assert error["hint"] == "use a new id for another one"


async def test_the_list_and_the_run_name_the_same_file_here(site: Site) -> None:
    """Whatever address the daemon had that wrote it, and without a daemon."""
    for place in ("http://127.0.0.1:1/api/v1", "file:///state"):
        run = site.worker.new_run()
        run.artifact("a b.html", b"x", "text/html")
        told = f"{place}/runs/{run.id}/artifacts/a%20b.html"
        run.finished(file_url=told)
        row = site.worker.index.get(run.id)
        assert row is not None
        site.worker.index.put(msgspec.structs.replace(row, file_url=told))
        here = f"{site.base}/api/v1/runs/{run.id}/artifacts/a%20b.html"
        assert (await site.get(f"/api/v1/runs/{run.id}")).json["file_url"] == here
        assert (await site.get("/api/v1/runs?limit=1")).json["runs"][0]["file_url"] == here
        (last,) = (await site.get("/api/v1/pipelines/clone")).json["last_runs"][:1]
        assert last["file_url"] == here
        assert (await site.get(here.removeprefix(site.base))).body == b"x"


async def test_an_expectation_is_met_or_refused_after_who_asks_is_known(site: Site) -> None:
    """As a problem document; a body that is held back is asked for, from whom it is taken."""
    reply = await site.get("/api/v1/runs", headers={"Expect": "zz"})
    assert reply.status == 417
    assert "100-continue" in reply.problem["detail"]
    for more, status in (({"Authorization": "Bearer x"}, 401), ({"Host": "evil.example"}, 403)):
        reply = await site.get("/api/v1/runs", headers={"Expect": "zz", **more})
        assert reply.status == status
        assert reply.problem["detail"]
    body = b'{"pipeline":"other"}'
    for token, first in ((site.token, b"HTTP/1.1 100 "), ("x", b"HTTP/1.1 401 ")):
        head = (
            "POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with site.raw(head.encode()) as (reader, writer):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(first)
            if first.startswith(b"HTTP/1.1 100"):
                writer.write(body)
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 201 ")


async def test_unknown_places_and_methods_are_problems_too(site: Site) -> None:
    """404 and 405 with what is possible."""
    assert (await site.get("/api/v1/nope")).problem["status"] == 404
    assert (await site.get("/api/v1/runs/nope/1")).problem["status"] == 404
    assert (await site.get("/api/v1/runs/%00")).problem["status"] == 404
    reply = await site.ask("PUT", "/api/v1/runs")
    assert reply.status == 405
    assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert "GET" in reply.problem["detail"]


async def test_every_problem_has_its_type_and_a_files_mistakes_their_position(site: Site) -> None:
    """As RFC 9457 has it; FILE:LINE:COLUMN is as `tailrace validate` says it."""
    reply = await site.post("/api/v1/runs", {"pipeline": "broken"})
    assert (reply.status, reply.problem["type"]) == (422, "about:blank")
    assert {error["position"] for error in reply.problem["errors"]} >= {"pipelines/broken.yaml:1:9"}
    reply = await site.post("/api/v1/runs", {"pipeline": "clone"})
    (error,) = reply.problem["errors"]
    assert error.keys() == {"where", "problem", "hint"}


async def test_latest_is_no_address(site: Site) -> None:
    """What a URL names stays the same run; people at a terminal may say `latest`."""
    site.worker.new_run()
    for path in ("latest", "latest/events"):
        assert (await site.get(f"/api/v1/runs/{path}")).status == 404


async def test_commands_reach_the_run(site: Site) -> None:
    """With who, by what way, why, and the key that makes each happen once."""
    run = site.worker.new_run()
    base = f"/api/v1/runs/{run.ref}"
    reply = await site.post(
        f"{base}/cancel", {"reason": "enough"}, headers={"Idempotency-Key": "k"}
    )
    assert (reply.status, reply.json["run"], reply.json["seq"]) == (202, run.id, 3)
    assert (await site.post(f"{base}/steps/lint/skip")).status == 202
    assert (await site.post(f"{base}/steps/lint/cancel", {})).status == 202
    assert (await site.post(f"{base}/steps/nope/skip")).status == 404
    cancel, skip, cancel_step = (command for _, command in site.worker.commands)
    owner = site.tokens.list()[0]
    digest = hashlib.sha256(b"k").hexdigest()  # a key may be anything, and is kept nowhere
    assert cancel == wire.Command(
        command="cancel", id=f"{owner.id}:{digest}", reason="enough", by="owner", via="http"
    )
    assert (skip.command, skip.step) == ("skip", "lint")
    assert (cancel_step.command, cancel_step.step) == ("cancel_step", "lint")
    assert (await site.post(f"{base}/cancel", {"raeson": "x"})).status == 422
    assert (await site.post(f"{base}/cancel", {"reason": "x" * 1001})).status == 422


async def test_pauses_answers_and_extensions_reach_the_run(site: Site) -> None:
    """What makes no sense is refused before."""
    run = site.worker.new_run()
    base = f"/api/v1/runs/{run.id}"
    for path, body in (
        ("pause", None),
        ("resume", {}),
        ("answers/lint.p1", {"answer": "yes"}),
        ("steps/lint/extend", {"by": "10m"}),
    ):
        reply = await site.post(f"{base}/{path}", body)
        assert reply.status == 202, path
    pause, resume, answer, extend = (command for _, command in site.worker.commands)
    assert (pause.command, resume.command) == ("pause", "resume")
    assert (answer.command, answer.prompt, answer.answer) == ("answer", "lint.p1", "yes")
    assert (extend.command, extend.step, extend.by_ms) == ("extend", "lint", 600_000)
    refused: tuple[tuple[str, object], ...] = (
        ("pause", {"by": "1m"}),
        ("answers/lint.p1", {}),
        ("answers/lint.p1", {"answer": 1}),
        ("steps/lint/extend", {"by": "-1m"}),
        ("steps/lint/extend", {"by": "0s"}),
        ("steps/lint/extend", {"by": 10}),
    )
    for path, wrong in refused:
        assert (await site.post(f"{base}/{path}", wrong)).status == 422, (path, wrong)
    assert (await site.post(f"{base}/steps/nope/extend", {"by": "1m"})).status == 404
    assert len(site.worker.commands) == 4


async def test_an_answer_needs_the_scope_run(site: Site) -> None:
    """Where the step demands no other; reading isn't enough."""
    run = site.worker.new_run()
    path, reader = f"/api/v1/runs/{run.id}/answers/lint.p1", site.make_token("read")
    assert (await site.post(path, {"answer": "x"}, headers=reader)).status == 403
    runner = site.make_token("read", "run")
    assert (await site.post(path, {"answer": "x"}, headers=runner)).status == 202


@pytest.mark.parametrize(
    ("answer", "status"),
    [("unchanged", 202), ("unknown", 404), ("conflict", 409), ("invalid", 422)],
)
async def test_refused_commands_say_why(site: Site, answer: str, status: int) -> None:
    """A conflict tells the state."""
    run = site.worker.new_run()
    site.worker.reply = wire.Reply(status=answer, reason="because", state="success")  # type: ignore[arg-type] # one of them
    reply = await site.post(f"/api/v1/runs/{run.id}/cancel")
    assert reply.status == status
    if status == 202:
        assert reply.json["changed"] is False
    else:
        assert "because" in str(reply.problem)
    if status == 409:
        assert reply.problem["state"] == "success"


async def test_finished_runs_are_retried_and_deleted_and_live_ones_not(site: Site) -> None:
    """409 with the state while it lives."""
    run = site.worker.new_run()
    path = f"/api/v1/runs/{run.id}"
    assert (await site.post(f"{path}/retry")).problem["state"] == "running"
    assert (await site.ask("DELETE", path)).status == 409
    run.finished()
    for body in (None, {"from": "start"}, {"from": "lint"}):
        reply = await site.post(f"{path}/retry", body)
        assert (reply.status, reply.json["retry_of"]) == (201, run.id)
        assert reply.headers["Location"] == f"/api/v1/runs/{reply.json['id']}"
    assert (await site.post(f"{path}/retry", {"from": "nope"})).status == 404
    matrix = site.worker.new_run("other", ("test[1]", "test[2]"))
    matrix.finished()
    for step, status in (("test", 201), ("test[2]", 201), ("test[3]", 404), ("tes", 404)):
        reply = await site.post(f"/api/v1/runs/{matrix.id}/retry", {"from": step})
        assert reply.status == status
    assert (await site.ask("DELETE", path)).status == 204
    assert (await site.get(path)).status == 404


async def test_ops_starts_a_run_and_streams_it_plain(site: Site) -> None:
    """Its params come as text, its own parameters begin with an underscore."""
    reading = asyncio.create_task(
        site.get("/ops/clone?repo=a%26b&count=3&_depth=fast&_on_disconnect=cancel")
    )
    await until(lambda: site.worker.runs)
    (run,) = site.worker.runs.values()
    run.started()
    run.step_started("clone")
    run.log("clone", b"hello\n")
    run.step_finished("clone")
    run.finished()
    events = parse_sse((await reading).body)
    assert [event.name for event in events] == [
        "plan", "queued", "started", "step_started", "log", "step_finished", "summary",
    ]  # fmt: skip
    assert events[4].data == "hello"
    assert [event.last_id for event in events] == [f"{run.id}:{n}" for n in range(1, 8)]
    (submission,) = site.worker.submissions
    assert submission.params == {"repo": "a&b", "count": "3"}
    assert (submission.text, submission.via, submission.depth) == (True, "ops", "fast")
    assert (submission.on_disconnect, submission.trusted) == ("cancel", False)


async def test_ops_resumes_and_never_starts_a_second_run(site: Site) -> None:
    """Whatever id comes, a request that names one starts nothing."""
    run, other = site.worker.new_run("clone"), site.worker.new_run("other", ("only",))
    run.finished()
    reply = await site.get("/ops/clone?repo=x", headers={"Last-Event-ID": f"{run.id}:1"})
    assert [event.last_id for event in parse_sse(reply.body)] == [f"{run.id}:2", f"{run.id}:3"]
    for text, status in (
        (f"{run.id}:3", 204), (f"{run.id}:4", 422), ("2", 422), ("x", 422), (f"{other.id}:1", 422),
        (f"{'0' * 26}:1", 404), (f"{run.id[:20]}:1", 422),
    ):  # fmt: skip
        reply = await site.get("/ops/clone?repo=x", headers={"Last-Event-ID": text})
        assert reply.status == status, text
    assert site.worker.submissions == []


async def test_a_start_that_brings_an_id_resumes_its_run(site: Site) -> None:
    """A client that repeats its POST after a break gets the rest, never a second run."""
    run, other = site.worker.new_run("other", ("only",)), site.worker.new_run("clone")
    run.finished()
    for accept in ("text/event-stream", "application/json"):
        headers = {"Accept": accept, "Last-Event-ID": f"{run.id}:1"}
        reply = await site.post("/api/v1/runs", {"pipeline": "other"}, headers=headers)
        ids = [event.last_id for event in parse_sse(reply.body)]
        assert ids == [f"{run.id}:2", f"{run.id}:3"]
    for text, status in ((f"{run.id}:3", 204), ("2", 422), (f"{other.id}:1", 422), ("x", 422)):
        reply = await site.post(
            "/api/v1/runs", {"pipeline": "other"}, headers={"Last-Event-ID": text}
        )
        assert reply.status == status, text
    assert site.worker.submissions == []


async def test_head_and_prefetches_start_nothing(site: Site) -> None:
    """A browser that guesses must not cause a run."""
    assert (await site.ask("HEAD", "/ops/clone?repo=x")).status == 200
    assert (await site.ask("HEAD", "/ops/nope")).status == 404
    for name, value in (
        ("Sec-Purpose", "prefetch"), ("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"),
        ("X-Moz", "prefetch"), ("X-Purpose", "preview"),
    ):  # fmt: skip
        reply = await site.get("/ops/clone?repo=x", headers={name: value})
        assert (reply.status, reply.headers["Cache-Control"]) == (204, "no-store")
    assert site.worker.submissions == []


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("", "params.repo"), ("repo=a&repo=b", "params.repo"), ("repo=a&nope=1", "params.nope"),
        ("repo=a&_nope=1", "_nope"), ("repo=a&count=x", "params.count"),
        ("repo=%ff", "params.repo"), ("repo=%c3", "params.repo"),
        ("repo=a&_depth=x", "_depth"), ("repo=a&_depth=%c3", "_depth"),
    ],
)  # fmt: skip
async def test_ops_refuses_bad_params(site: Site, query: str, where: str) -> None:
    """As a problem document, before there is a run; what isn't text is never made another one."""
    reply = await site.get(f"/ops/clone?{query}")
    assert reply.status == 422
    assert [error["where"] for error in reply.problem["errors"]] == [where]
    assert site.worker.runs == {}


async def test_pipelines_are_shown_broken_ones_with_their_mistakes(site: Site) -> None:
    """Params with their JSON Schema, the graph, the last runs."""
    site.worker.new_run()
    listed = (await site.get("/api/v1/pipelines")).json["pipelines"]
    assert [item["name"] for item in listed] == ["broken", "clone", "other"]
    assert listed[0]["mistakes"][0]["position"].startswith("pipelines/broken.yaml:1:")
    clone = (await site.get("/api/v1/pipelines/clone")).json
    assert clone == listed[1]
    assert clone["params"]["repo"]["required"] is True
    assert clone["params_schema"]["properties"]["count"]["type"] == "integer"
    assert clone["default_depth"] == "deep"
    assert clone["graph"][1] == {
        "id": "lint", "label": "Linting", "needs": ["clone"], "depth": [], "matrix": {},
        "when": None,
    }  # fmt: skip
    assert [run["ref"] for run in clone["last_runs"]] == ["clone/1"]
    assert "did you mean 'clone'" in (await site.get("/api/v1/pipelines/clon")).problem["detail"]


async def test_metrics_have_a_gauge_for_every_buffer(site: Site) -> None:
    """And count requests by route, never by path."""
    await site.get("/api/v1/runs/nope")
    text = (await site.get("/metrics")).body.decode()
    for name in ("tailrace_watchers 0.0", "tailrace_in_flight_bytes 0.0", "tailrace_ring_bytes 0.0",
                 'tailrace_runs{status="queued"} 2.0', "tailrace_queue_length 2.0",
                 'requests_total{method="GET",route="/api/v1/runs/{id}",status="404"} 1.0',
                 "process_resident_memory_bytes"):  # fmt: skip
        assert name in text, name
