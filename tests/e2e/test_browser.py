"""A bare page in a real browser: ten lines, and a clone is seen live."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from between import breaking_proxy
from browser import browser_page
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
        browser_page() as page,
    ):
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
