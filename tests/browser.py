"""Debian's Chromium, for tests that look at a page as a person's browser does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import Page, async_playwright

# Root may not use Chromium's own sandbox, and there is no screen.
_ARGUMENTS: Final = ("--no-sandbox", "--disable-gpu")


@asynccontextmanager
async def browser_page() -> AsyncIterator[Page]:
    """Open a page in a browser of its own, which ends with the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(_ARGUMENTS)
        )
        try:
            yield await browser.new_page()
        finally:
            await browser.close()
