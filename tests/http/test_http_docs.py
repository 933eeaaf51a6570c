"""The OpenAPI document, the reference and the application say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from http_site import Site
from tailrace.http import logs, watching
from tailrace.http.app import ALL, make_app
from tailrace.http.keys import TABLE
from tailrace.http.route import Query
from tailrace.store.tokens import TokenStore

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http.md"


async def test_the_openapi_document_describes_every_route(site: Site) -> None:
    """And nothing else: each method, parameter, scope and answer."""
    document = (await site.get("/api/v1/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in ALL}
    operations = [op for item in document["paths"].values() for op in item.values()]
    names = [op["operationId"] for op in operations]
    assert len(set(names)) == len(names)
    for route in ALL:
        operation = document["paths"][route.path][route.method.lower()]
        given = {(item["in"], item["name"]) for item in operation["parameters"]}
        places = set(re.findall(r"\{(\w+)\}", route.path))
        assert {name for kind, name in given if kind == "path"} == places
        assert {name for kind, name in given if kind == "query"} == {
            q.name for q in route.query or ()
        }
        if route.path == "/ops/{pipeline}":
            assert ("query", "_depth") in given
        assert {str(answer.status) for answer in route.answers} < set(operation["responses"])
    schemas = document["components"]["schemas"]
    refs = set(re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"')))
    assert refs == set(schemas)
    assert {"id", "ref", "steps", "last_seq", "events_url"} <= set(schemas["RunView"]["properties"])


async def test_a_key_is_described_where_it_is_heeded(site: Site) -> None:
    """A malformed ``Idempotency-Key`` is refused by the routes that describe it, by no others."""
    run = site.worker.new_run()
    bodies: dict[str, object] = {
        "runs": {"pipeline": "clone", "params": {"repo": "x"}}, "{prompt}": {"answer": "x"},
        "progress": {"step": "clone", "percent": 1}, "extend": {"by": "1m"},
        "links": {"what": "events"},
    }  # fmt: skip
    document = (await site.get("/api/v1/openapi.json")).json

    heeded, described = set(), set()
    for path, item in document["paths"].items():
        if "post" not in item:
            continue
        url = path.format(id=run.id, step="clone", prompt="p1")
        body = bodies.get(path.rpartition("/")[2])
        reply = await site.post(url, body, headers={"Idempotency-Key": "no key"})
        if reply.status == 422 and reply.problem["errors"][0]["where"] == "Idempotency-Key":
            heeded.add(path)
        if "Idempotency-Key" in {parameter["name"] for parameter in item["post"]["parameters"]}:
            described.add(path)
    assert described == heeded
    assert "/api/v1/runs" in heeded
    assert "/api/v1/runs/{id}/links" not in heeded


def test_the_reference_lists_every_route() -> None:
    """With its scope and summary, in the application's order."""
    table = re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \| (\w+) \| (.+) \|$", PAGE.read_text(), re.M)
    assert table == [(r.method, r.path, r.scope or "none", r.summary) for r in ALL]


async def test_the_router_holds_what_the_table_says(site: Site) -> None:
    """Nothing is reachable that isn't described; GET brings HEAD."""
    tokens = TokenStore(site.worker.state.state_db)
    app = make_app(site.worker, site.settings, tokens)
    tokens.close()
    known = app[TABLE]
    assert set(app.router.routes()) == known.keys()
    methods = {(registered.method, route.path) for registered, route in known.items()}
    expected = {(route.method, route.path) for route in ALL}
    assert methods == expected | {("HEAD", path) for method, path in expected if method == "GET"}


@pytest.mark.parametrize(
    "queries", [watching.PLACE_QUERY + watching.SHAPE_QUERY, logs.ROUTES[0].query]
)
def test_the_reference_explains_every_parameter(queries: tuple[Query, ...]) -> None:
    """In a table's row each."""
    text = PAGE.read_text()
    for query in queries:
        assert f"| `{query.name}` | " in text


async def test_the_examples_of_the_reference_work(site: Site) -> None:
    """Every curl command of the page is accepted as it stands."""
    run = site.worker.new_run()
    for _ in range(15):
        run.started()
    run.step_started("clone")
    run.log("clone", b"fatal: no\n")
    run.step_finished("clone")
    run.artifact("report.html", b"x", "text/html")
    run.finished()
    commands = re.findall(r"^curl (.*(?:\\\n.*)*)$", PAGE.read_text(), re.M)
    assert len(commands) == 17
    for command in sorted(commands, key=lambda text: "DELETE" in text):
        path = re.search(r'\$URL([^ "]*)', command)
        body = re.search(r"-d '([^']*)'", command)
        assert path is not None
        method = "DELETE" if "-X DELETE" in command else "POST" if body else "GET"
        headers = dict(re.findall(r"-H '([^:]+): ([^']+)'", command))
        reply = await site.ask(
            method, path[1], headers=headers, data=body[1].encode() if body else None
        )
        assert 200 <= reply.status < 300, (command, reply.body)
