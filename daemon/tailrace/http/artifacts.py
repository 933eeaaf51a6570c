"""``GET /runs/{id}/artifacts/{path}``: files whose contents nobody vouches for."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from tailrace.core.events import Artifact
from tailrace.errors import UnknownError
from tailrace.http.files import attachment, is_unchanged, open_beneath, send_file
from tailrace.http.keys import CALLER, WORKER
from tailrace.http.query import shown
from tailrace.http.requests import parameters, run_of
from tailrace.http.route import ANY, LINK, Answer, Query, Route
from tailrace.views import API

CSP: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_IMAGES: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"}
)
_TEXTS: Final = frozenset({"text/plain", "text/html", "text/csv", "text/markdown"})


async def show(request: web.Request) -> web.StreamResponse:
    """Send an artifact that the run has collected."""
    download = parameters(request).flag("download")
    run_id, name = run_of(request), request.match_info["path"]
    worker = request.app[WORKER]
    # What isn't in the journal may still be half copied.
    collected = (await worker.snapshot(run_id)).artifacts
    known = [item for item in collected if item.name == name]
    if not known:
        raise UnknownError(f"the run has no artifact '{shown(name)}'; GET /runs/{{id}} lists them")
    etag = f'"{known[-1].sha256}"'
    headers = headers_of(known[-1], download=download)
    if request[CALLER].how == "link":
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if is_unchanged(request.headers.get(hdrs.IF_NONE_MATCH), etag):
        return web.Response(status=304, headers={**headers, hdrs.ETAG: etag})
    with open_beneath(worker.state.run(run_id).artifacts, name.split("/")) as file:
        return await send_file(request, file, headers, etag=etag)


def headers_of(item: Artifact, *, download: bool) -> dict[str, str]:
    """Return the headers under which a browser may have an artifact.

    Shown are text, JSON, HTML (without scripts, forms and origin) and raster
    images; all else is a download. Text of other kinds is shown as plain text,
    because XML can carry scripts.
    """
    media = item.media_type.partition(";")[0].strip().lower()
    name = item.name.rpartition("/")[2]
    headers = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
    if media.startswith("text/"):
        headers[hdrs.CONTENT_TYPE] = f"{media if media in _TEXTS else 'text/plain'}; charset=utf-8"
    elif media == "application/json" or media.endswith("+json") or media in _IMAGES:
        headers[hdrs.CONTENT_TYPE] = media
    else:
        headers[hdrs.CONTENT_TYPE] = (
            media
            if "/" in media and media.isascii() and media.isprintable()
            else "application/octet-stream"
        )
        download = True
    if media == "text/html":
        headers["Content-Security-Policy"] = CSP
    headers[hdrs.CONTENT_DISPOSITION] = attachment(name) if download else "inline"
    return headers


ROUTES: Final = (
    Route(
        method="GET",
        path=f"{API}/runs/{{id}}/artifacts/{{path}}",
        handler=show,
        summary="Get an artifact, with ETag and Range",
        scope="read",
        query=(Query("download", "flag", "as an attachment"), LINK),
        link="artifact",
        answers=(
            Answer(200, "the file", media=ANY),
            Answer(206, "the part that Range asks for", media=ANY),
            Answer(304, "If-None-Match names it", media=""),
        ),
    ),
)
