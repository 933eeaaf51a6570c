"""``GET /ops/{pipeline}``: one address that starts a run and shows it, for EventSource."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

from aiohttp import hdrs, web

from tailrace.errors import InvalidInputError, Problem, UnknownError
from tailrace.http.auth import is_prefetch
from tailrace.http.keys import CALLER, WORKER
from tailrace.http.query import parse_query, shown
from tailrace.http.route import SSE, Answer, Query, Route
from tailrace.http.runs import answer_resumed, answer_started
from tailrace.http.shapes import Wanted
from tailrace.http.streams import head_answer
from tailrace.worker.submission import Submission

_PLAIN: Final = Wanted(plain=True)
_OWN: Final = (
    Query("_depth", "text", "the run's depth"),
    Query("_on_disconnect", "text", "what a gone client means", ("continue", "cancel")),
)


async def start(request: web.Request) -> web.StreamResponse:
    """Start a run with the query's params, or resume the one that ``Last-Event-ID`` names.

    HEAD and prefetches start nothing: nobody has asked for a run yet.
    """
    pipeline, caller = request.match_info["pipeline"], request[CALLER]
    if not caller.may_see(pipeline):
        raise UnknownError(f"no pipeline is named '{shown(pipeline)}'")
    if request.headers.get("Last-Event-ID", "").strip():
        return await answer_resumed(request, pipeline, _PLAIN)
    if request.method == "HEAD":
        request.app[WORKER].catalog.get(pipeline)
        return head_answer(SSE)
    if is_prefetch(request.headers):
        return web.Response(status=204, headers={hdrs.CACHE_CONTROL: "no-store"})
    submission = _submission(request, pipeline)
    try:
        return await answer_started(request, submission, _PLAIN)
    except InvalidInputError as exc:
        raise InvalidInputError([_as_given(problem) for problem in exc.problems]) from None


def _as_given(problem: Problem) -> Problem:
    """Return a mistake by the name that the parameter has here."""
    own = f"_{problem.where}"
    is_own = own in {query.name for query in _OWN}
    return replace(problem, where=own) if is_own else problem


def _check_encoding(query: str) -> None:
    """Refuse a value that isn't text: it would reach the run as another one."""
    problems = []
    for pair in query.split("&"):
        try:
            unquote_to_bytes(pair).decode()
        except UnicodeDecodeError:
            name = shown(unquote_plus(pair.partition("=")[0]))
            where = name if name.startswith("_") else f"params.{name}"
            problems.append(Problem(where, "holds bytes that aren't UTF-8", "remove them"))
    if problems:
        raise InvalidInputError(problems)


def _submission(request: web.Request, pipeline: str) -> Submission:
    _check_encoding(request.rel_url.raw_query_string)
    pairs = list(request.query.items())
    own = parse_query(_OWN, [pair for pair in pairs if pair[0].startswith("_")])
    params: dict[str, str] = {}
    for name, value in pairs:
        if name.startswith("_"):
            continue
        if name in params:
            hint = "leave one of them out"
            raise InvalidInputError([Problem(f"params.{shown(name)}", "is given twice", hint)])
        params[name] = value
    on_disconnect = own.text("_on_disconnect")
    caller = request[CALLER]
    return Submission(
        pipeline=pipeline,
        params=params,
        text=True,
        depth=own.text("_depth"),
        on_disconnect="cancel"
        if on_disconnect == "cancel"
        else "continue"
        if on_disconnect
        else None,
        by=caller.name,
        via="ops",
        trusted=caller.trusted,
    )


ROUTES: Final = (
    Route(
        method="GET",
        path="/ops/{pipeline}",
        handler=start,
        summary="Start a run with the query's params and stream it as `plain=1`",
        scope="run",
        query=_OWN,  # and the pipeline's params
        headers=("Last-Event-ID",),
        starts=True,
        answers=(
            Answer(200, "its events, with ids RUNID:SEQ", media=SSE),
            Answer(204, "the run that Last-Event-ID names has ended", media=""),
        ),
    ),
)
