"""The page of the how-to, behind the web server of the how-to, in a real browser."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from between import page_server
from browser import browser_page
from daemons import serving
from documents import ROOT, House, blocks_of
from programs import require

PAGE = ROOT / "docs/how-to/watch-a-run-from-a-browser.md"
FILES = {block.file: block.text for block in blocks_of(PAGE) if block.file}


@contextmanager
def web_server(folder: Path, daemon: str) -> Iterator[str]:
    """Serve *folder* as the how-to's server does, and the daemon behind it; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = FILES["tailrace.conf"].replace("listen 8080", f"listen 127.0.0.1:{port}")
    server = server.replace("/srv/www", str(folder)).replace("127.0.0.1:8470", daemon)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{server}\n}}\n"
    )
    nginx = subprocess.Popen(["nginx", "-e", "stderr", "-c", str(config), "-p", str(folder)])
    try:
        while not _listens(port):
            assert nginx.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_the_script_of_the_readme_runs_in_the_console_of_the_daemons_page(
    house: House,
) -> None:
    """Logged in as `tailrace open` does it; no web server is needed."""
    require("chromium")
    (script,) = [b.text for b in blocks_of(ROOT / "README.md") if b.language == "js"]
    for address, repo in house.swaps.items():
        script = script.replace(address, repo)
    token = (house.state / "token").read_text().strip()
    said: list[str] = []
    async with browser_page() as page:
        await page.goto(f"http://{house.address}/?token={token}")
        page.on("console", lambda m: said.append(m.text) if m.type == "log" else None)
        async with page.expect_console_message(lambda message: message.text == "success"):
            await page.evaluate(f"() => {{ {script} }}")
    assert said[:2] == ["Cloning repository", "Cloning into '.'..."]
    assert said[-1] == "success"


OVER_WEBSOCKET = """() => new Promise(done => {
  const ws = new WebSocket(`ws://${location.host}/api/v1/runs/clone/1/ws`);
  let first;
  ws.onmessage = e => { first ??= JSON.parse(e.data).event; };
  ws.onclose = e => done([first, e.code]);
})"""


async def test_the_page_of_the_how_to_shows_a_clone_behind_its_web_server(
    house: House, tmp_path: Path
) -> None:
    """As a reader has it who copies both: logged in by the address, streamed, whole."""
    require("chromium", "nginx")
    repo = house.swaps["https://github.com/pallets/flask"]
    html = FILES["watch.html"].replace("https://github.com/pallets/flask", repo)
    (tmp_path / "watch.html").write_text(html)
    token = (house.state / "token").read_text().strip()
    with web_server(tmp_path, house.address) as origin:
        async with browser_page() as page:
            await page.goto(f"{origin}/?token={token}")
            assert page.url == f"{origin}/"
            await page.goto(f"{origin}/watch.html")
            await page.wait_for_function(
                "document.getElementById('output').textContent.includes('succeeded')",
                timeout=30_000,
            )
            shown = await page.text_content("#output") or ""
            told = await page.evaluate(OVER_WEBSOCKET)
    assert told == ["plan", 1000]
    assert re.search(r"== Cloning repository\nCloning into", shown)
    assert "subject First commit\n" in shown
    assert shown.endswith("2 steps: 2 succeeded")


ELSEWHERE = ROOT / "docs/how-to/watch-from-another-origin.md"


async def test_the_page_of_another_origin_shows_the_steps_and_a_report(
    house: House, tmp_path: Path
) -> None:
    """As its how-to has it: page, settings, token behind the #."""
    require("chromium")
    repo = house.swaps["https://github.com/pallets/flask"]
    blocks = blocks_of(ELSEWHERE)
    (html,) = [block.text for block in blocks if block.file == "steps.html"]
    (settings,) = [block.text for block in blocks if block.language == "yaml"]
    shipped = {path.stem: path.read_text() for path in (ROOT / "pipelines").glob("*.yaml")}
    pages: dict[str, str] = {}
    async with page_server(pages) as origin:
        settings = settings.replace("http://127.0.0.1:8080", origin)
        settings += f"git: {{local_paths: ['{repo}']}}\n"
        async with (
            serving(tmp_path, shipped, settings=settings, env=house.env) as daemon,
            browser_page() as page,
        ):
            html = html.replace("http://127.0.0.1:8470", daemon.url)
            pages["/steps.html"] = html.replace("https://github.com/pallets/flask", repo)
            await page.goto(f"{origin}/steps.html#{daemon.token}")
            button = page.get_by_text("Download the report")
            await button.wait_for(timeout=40_000)
            shown = await page.locator("li").all_text_contents()
            async with page.expect_download() as download:
                await button.click()
            report = (await (await download.value).path()).read_text()
    assert "Cloning repository: success" in shown
    assert report.startswith("<!doctype html>")
