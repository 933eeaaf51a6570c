"""``GET /tailrace.js``: the browser module, for pages of any origin; there is no secret in it."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from tailrace.http.auth import LINKED
from tailrace.http.files import is_unchanged
from tailrace.http.route import Answer, Route

_FILE: Final = Path(__file__).parent / "static" / "tailrace.js"
_MEDIA: Final = "text/javascript"


@functools.cache
def _module() -> tuple[bytes, str]:
    """Return the module and its entity tag; both are read once."""
    text = _FILE.read_bytes()
    return text, f'"{hashlib.sha256(text).hexdigest()}"'


async def show(request: web.Request) -> web.StreamResponse:
    """Send the module; a page of another origin may import it (CORS)."""
    text, etag = _module()
    headers = {**LINKED, hdrs.ETAG: etag, "Cross-Origin-Resource-Policy": "cross-origin"}
    if is_unchanged(request.headers.get(hdrs.IF_NONE_MATCH), etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=text, content_type=_MEDIA, charset="utf-8", headers=headers)


ROUTES: Final = (
    Route(
        method="GET",
        path="/tailrace.js",
        handler=show,
        summary="Get the browser module, for pages of any origin",
        scope=None,
        query=None,
        answers=(
            Answer(200, "the module", media=_MEDIA),
            Answer(304, "If-None-Match names it", media=""),
        ),
    ),
)
