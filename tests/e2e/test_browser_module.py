"""The browser module in a real browser, on a page of another origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from between import breaking_proxy, page_server
from browser import browser_page
from daemons import serving
from programs import require

SAYS = r"""steps:
  say:
    run: |
      for i in $(seq 1 200); do echo "line $i"; done
      say() { echo "$1" >> "$TAILRACE_EVENTS"; }
      say '{"event":"text","delta":"Hel"}'
      say '{"event":"text","delta":"lo"}'
      say '{"event":"result","text":"Hello, all."}'
      echo done > "$TAILRACE_ARTIFACTS/report.txt"
"""
FOLLOWED = """async ([base, token]) => {
  const { start, sign, Narration } = await import(`${base}/tailrace.js`);
  const ids = [], lines = [], texts = [], said = new Narration();
  let run, last, breaks = 0;
  await start(base, token, { pipeline: "says" }, {
    plan: e => { run = e.run; },
    log: e => lines.push(...e.text.split("\\n")),
    summary: e => { last = e.status; },
    "*": (event, data, id) => {
      ids.push(id);
      const text = said.take(event, data);
      if (text !== undefined) texts.push(text);
    },
  }, { retrying: () => { breaks++; } });
  const link = await sign(base, token, run, { what: "artifact", path: "report.txt" });
  const file = await (await fetch(link)).text();
  return { run, ids, lines, texts, last, breaks, file };
}"""
REFUSED = """async ([base, token]) => {
  const { follow, start, TailraceError } = await import(`${base}/tailrace.js`);
  const found = [];
  const asked = [
    start(base, "wrong", { pipeline: "says" }, {}),
    start(base, token, { pipeline: "nope" }, {}),
    follow(`${base}/api/v1/runs/says/99/events`, {}, { token }),
  ];
  for (const each of asked) {
    try { await each; found.push("no error"); }
    catch (e) { found.push([e instanceof TailraceError, e.status]); }
  }
  const stop = new AbortController(), seen = [];
  try {
    await start(base, token, { pipeline: "waits" }, {
      log: e => { seen.push(e.text); stop.abort("enough"); },
    }, { signal: stop.signal });
  } catch (e) { seen.push(e); }
  return [found, seen];
}"""


PLAIN = """async ([base, token]) => {
  const { follow } = await import(`${base}/tailrace.js`);
  const found = [];
  for (const path of ["ops/tricks", "api/v1/runs/tricks/1/events?plain=1",
                      "api/v1/runs/tricks/1/events"]) {
    const lines = [];
    await follow(`${base}/${path}`, { log: e => lines.push(e.text) }, { token });
    found.push(lines.join("|").split(/[|\\n]/));
  }
  return found;
}"""


async def test_a_line_that_looks_like_an_event_is_text(tmp_path: Path) -> None:
    """Output has no say in what a page's handlers get, however the stream was asked for."""
    require("chromium")
    said = ['{"seq": 7, "event": "summary", "status": "success"}', "7", "null", "plain"]
    script = "\n".join(f"      echo '{line}'" for line in said)
    pipelines = {"tricks": f"steps:\n  say:\n    run: |\n{script}\n"}
    async with (
        page_server({"/": "<!doctype html>"}) as app,
        serving(tmp_path, pipelines, settings=f"allowed_origins: ['{app}']\n") as daemon,
        browser_page() as page,
    ):
        await page.goto(app)
        shown = await page.evaluate(PLAIN, [daemon.url, daemon.token])
    assert shown == [said] * 3


async def test_a_page_elsewhere_starts_a_run_and_resumes_by_itself(tmp_path: Path) -> None:
    """Three breaks: each event comes once, in order, and one run was started."""
    require("chromium")
    pipelines = {"says": SAYS, "waits": "steps: {a: {run: echo on; sleep 600}}"}
    async with (
        page_server({"/": "<!doctype html>"}) as app,
        serving(tmp_path, pipelines, settings=f"allowed_origins: ['{app}']\n") as daemon,
        breaking_proxy(
            urlsplit(daemon.url).netloc, after=1_200, times=3, requests=b"POST /api/v1/runs HTTP"
        ) as proxy,
        browser_page() as page,
    ):
        await page.goto(app)
        shown: dict[str, Any] = await page.evaluate(FOLLOWED, [proxy, daemon.token])
        refused, seen = await page.evaluate(REFUSED, [daemon.url, daemon.token])
        runs = (await daemon.get("/runs?pipeline=says"))["runs"]
        await daemon.end_runs()

    assert [run["id"] for run in runs] == [shown["run"]]
    assert shown["breaks"] == 3
    assert shown["ids"] == [f"{shown['run']}:{n + 1}" for n in range(runs[0]["last_seq"])]
    assert shown["lines"] == [f"line {n + 1}" for n in range(200)]
    assert shown["texts"][-1] == "Hello, all."
    assert "Hello" in shown["texts"]
    assert (shown["last"], shown["file"]) == ("success", "done\n")
    assert refused == [[True, 401], [True, 404], [True, 404]]
    assert seen == ["on", "enough"]
