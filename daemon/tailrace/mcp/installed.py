"""Whether the extra ``mcp`` is there; nothing of it is imported before somebody asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.errors import InvalidInputError, Problem

if TYPE_CHECKING:
    from types import ModuleType


class NotInstalledError(InvalidInputError):
    """The SDK is missing: exit status 2, HTTP 501."""

    def __init__(self, why: str) -> None:
        problem = f"the SDK of the Model Context Protocol isn't installed ({why})"
        super().__init__([Problem("", problem, "pip install '.[mcp]' in the checkout")])


def import_server() -> ModuleType:
    """Import `tailrace.mcp.server`; the first time takes about half a second.

    Raises:
        NotInstalledError: the SDK is missing, or older than 2.
    """
    try:
        from tailrace.mcp import server
    except ImportError as exc:
        raise NotInstalledError(str(exc)) from None
    return server
