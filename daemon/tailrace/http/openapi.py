"""The OpenAPI 3.1 document, made from the routes and the bodies' types."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tailrace import wire
from tailrace.http.problems import MEDIA_TYPE
from tailrace.http.route import JSON, SSE, Answer, Header, Query, Route

_TEMPLATE: Final = "#/components/schemas/{name}"
_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
_PLACES: Final = {
    "id": "a run's id, an unambiguous prefix of it, or its ref (`analyze/42`, with `/` or `%2F`)",
    "step": "a step's id",
    "prompt": "a prompt's id: `STEP.ID`, or that of an `ask` step",
    "name": "a pipeline's name",
    "pipeline": "a pipeline's name",
    "path": "an artifact's name, which may hold slashes",
}
_KINDS: Final[dict[str, dict[str, Any]]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "flag": {"enum": ["0", "1"]},
    "duration": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"},
}
_HEADERS: Final[dict[Header, str]] = {
    "Last-Event-ID": "the last id that was seen, as it came",
    "Idempotency-Key": "the same key within 24 h does it once and is answered the same again",
}


def document(routes: tuple[Route, ...], *, version: str) -> dict[str, Any]:
    """Return the document that describes these routes."""
    bodies = {answer.body for route in routes for answer in route.answers} | {
        route.body for route in routes
    }
    types = [
        *sorted((kind for kind in bodies if kind), key=lambda kind: kind.__name__),
        wire.ProblemDocument,
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    refs = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tailrace",
            "version": version,
            "description": "Run pipelines over repositories and watch every line live.",
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, refs: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    places = _PLACE.findall(route.path)
    found: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"},
               "description": _PLACES[name]} for name in places),
            *(_parameter(query) for query in route.query or ()),
            *({"name": name, "in": "header", "schema": {"type": "string"},
               "description": _HEADERS[name]} for name in route.headers),
        ],
        "responses": _responses(route, refs),
    }  # fmt: skip
    if route.scope is None:
        found["security"] = []
    else:
        found["description"] = f"Needs the scope `{route.scope}`."
    if route.body is not None:
        found["requestBody"] = {
            "required": route.body_required,
            "content": {JSON: {"schema": refs[route.body]}},
        }
    return found


def operation_id(route: Route) -> str:
    """Return an operation's name, made of its method and path."""
    words = [word for word in re.split(r"[^a-z]+", route.path) if word not in ("", "api", "v")]
    return "_".join([route.method.lower(), *words])


def _parameter(query: Query) -> dict[str, Any]:
    schema = dict(_KINDS[query.kind])
    if query.choices:
        schema["enum"] = list(query.choices)
    if query.kind == "integer":
        schema["minimum"] = query.least
    return {"name": query.name, "in": "query", "description": query.help, "schema": schema}


def _responses(route: Route, refs: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for answer in route.answers:
        entry = found.setdefault(str(answer.status), {"description": answer.help})
        if answer.help not in entry["description"]:
            entry["description"] += f"; or {answer.help}"
        if answer.media:
            entry.setdefault("content", {})[answer.media] = _media(answer, refs)
    found["default"] = {
        "description": "an error (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": refs[wire.ProblemDocument]}},
    }
    return found


def _media(answer: Answer, refs: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if answer.body is not None:
        return {"schema": refs[answer.body]}
    if answer.media == SSE:
        return {}  # a schema is of the whole, or of each event: OpenAPI 3.1 doesn't say
    return {"schema": {"type": "object"} if answer.media == JSON else {"type": "string"}}
