"""A bare page in a real browser: ten lines, and a clone is seen live."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import async_playwright

from daemons import serving
from programs import require

CLONE = (Path(__file__).parents[2] / "pipelines" / "clone.yaml").read_text()
PAGE = """<!doctype html><pre id=seen></pre><script>
const seen = document.getElementById("seen"), source = new EventSource("/ops/clone?repo=REPO");
const show = event => seen.append(event.type + " " + event.lastEventId + " " + event.data + "\\n");
for (const name of ["step_started", "log", "progress", "step_finished", "summary"])
  source.addEventListener(name, show);
source.addEventListener("error", () => seen.append("error\\n"));
</script>"""


@asynccontextmanager
async def breaking_proxy(target: str, *, after: int, times: int) -> AsyncIterator[str]:
    """Pass TCP through to *target*; the first *times* streams break after so many bytes."""
    host, port = target.rsplit(":", 1)
    left = times

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int) -> None:
        with contextlib.suppress(ConnectionError):
            while most > 0 and (data := await reader.read(min(most, 1 << 16))):
                most -= len(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        head = await reader.readuntil(b"\r\n\r\n")
        there, away = await asyncio.open_connection(host, int(port))
        # One request a connection, so that each is looked at.
        away.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        breaks = head.startswith(b"GET /ops/") and left > 0
        left -= breaks
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(there, writer, after if breaks else 1 << 60))
            tasks.create_task(pump(reader, away, 1 << 60))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_page_of_ten_lines_shows_a_clone_live_and_reconnects_start_nothing(
    tmp_path: Path,
) -> None:
    """The connection breaks twice; the browser comes back by itself and misses nothing."""
    require("chromium")
    repo = tmp_path / "repo"
    git = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-C", str(repo)]
    await asyncio.to_thread(_make_repository, repo, git)
    allow = f"git: {{local_paths: ['{tmp_path}']}}\n"
    async with (
        serving(tmp_path, {"clone": CLONE}, settings=allow) as daemon,
        breaking_proxy(urlsplit(daemon.url).netloc, after=2_500, times=2) as origin,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        await page.goto(f"{origin}/?token={daemon.token}")
        assert "token" not in page.url
        html = PAGE.replace("REPO", str(repo))
        await page.route(
            f"{origin}/bare.html",
            lambda route: route.fulfill(body=html, content_type="text/html"),
        )
        await page.goto(f"{origin}/bare.html")
        await page.wait_for_function(
            "document.getElementById('seen').textContent.includes('summary ')", timeout=40_000
        )
        shown = await page.text_content("#seen") or ""
        await browser.close()
        runs = (await daemon.get("/runs"))["runs"]

    assert len(runs) == 1
    assert runs[0]["status"] == "success"
    lines = [line.split(" ", 2) for line in shown.splitlines()]
    assert sum(line == ["error"] for line in lines) >= 2
    told = [tuple(line) for line in lines if line != ["error"]]
    assert len(told) == len(set(told))
    ids = [int(line[1].partition(":")[2]) for line in told]
    assert ids == sorted(ids)
    assert [line[2] for line in told if line[2].startswith("files")] == ["files   50"]
    assert {line[0] for line in lines} >= {
        "step_started", "log", "progress", "step_finished", "summary",
    }  # fmt: skip


def _make_repository(repo: Path, git: list[str]) -> None:
    repo.mkdir()
    for number in range(50):
        (repo / f"file{number}.txt").write_text(f"{number}\n" * 100)
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "First"], check=True)
