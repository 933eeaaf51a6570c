"""What isn't HTTP gets a problem document too, in place of aiohttp's plain text."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from tailrace.http.problems import problem

_original: Final = web.RequestHandler.handle_error


def answer_malformed_with_problems() -> None:
    """Make aiohttp's servers in this process answer so from now on.

    Such a request reaches no middleware: its head couldn't be read, so that
    there is no request yet. aiohttp logs it and closes the connection.
    """
    web.RequestHandler.handle_error = _handle_error  # type: ignore[method-assign]  # its one hook


def _handle_error(
    self: web.RequestHandler,
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,
) -> web.StreamResponse:
    given = _original(self, request, status, exc, message)
    if isinstance(exc, LineTooLong):
        detail = "a line of the request's head is too long; send long values in a body"
    elif given.status < 500:  # its first line says what; the rest repeats what came
        said = (message or "").partition("\n")[0].strip(" :.")
        detail = f"the request isn't HTTP that we can read: {said or 'it is malformed'}"
    else:
        detail = "something went wrong in the daemon; its log says what"
    answer = problem(given.status, detail)
    answer.force_close()
    return answer
