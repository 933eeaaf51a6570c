"""What `serve` says, and to whom."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from command_line import Site
from daemons import serving
from runs import eventually
from tailrace import wire
from tailrace.client import Lateness

LOGGING = """
import logging, structlog
from tailrace.logs import set_up_logs
from tailrace.settings import Log
set_up_logs(Log(format={format!r}))
log = structlog.get_logger("tailrace.test")
log.info("run_finished", run="demo/1")
log.debug("too_much")
logging.getLogger("asyncio").warning("slow")
logging.getLogger("asyncio").info("chatter")
secret = "hunter22"
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def logged(form: str) -> list[str]:
    """What a program with our logging writes to standard error."""
    code = LOGGING.format(format=form)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_journal_gets_an_object_a_line() -> None:
    """Ours from info on, libraries' from warning on, tracebacks without the values of variables."""
    lines = [json.loads(line) for line in logged("auto")]
    assert [line["event"] for line in lines] == ["run_finished", "slow", "failed"]
    assert lines[0]["run"] == "demo/1"
    assert "ZeroDivisionError" in json.dumps(lines[2])
    assert "hunter22" not in json.dumps(lines)


def test_a_person_gets_readable_lines() -> None:
    """Without colours where they are not wanted, and without the values of variables either."""
    text = "\n".join(logged("console"))
    assert "run_finished" in text
    assert "run=demo/1" in text
    assert "\x1b" not in text
    assert "hunter22" not in text


def test_a_terminal_is_told_the_page_with_its_token(site: Site) -> None:
    """As Jupyter does; and Ctrl-C stops the daemon."""
    with site.terminal("serve", "--listen", "127.0.0.1:0", columns=160) as terminal:
        terminal.until(lambda t: "The page: http://127.0.0.1:" in t.text)
        token = site.state.token.read_text().strip()
        address = site.state.address.read_text().strip()
        assert f"The page: http://{address}/?token={token}" in terminal.text
        terminal.press(b"\x03")
        assert terminal.exit_status() == 0
    assert not site.state.address.exists()
    assert not site.state.socket.exists()


async def test_a_hangup_reads_the_settings_again_and_mistakes_change_nothing(
    tmp_path: Path,
) -> None:
    """From the next run and the next request on; the daemon goes on either way."""
    pipelines = {"show": "steps:\n  env: {run: 'echo COLOUR=$COLOUR'}\n"}
    config = tmp_path / "tailrace.yaml"
    async with serving(tmp_path, pipelines) as daemon:

        async def colour_after(text: str, told: str) -> str:
            config.write_text("limits: {min_free: 1K}\n" + text)
            daemon.process.send_signal(signal.SIGHUP)
            await eventually(lambda: f'"{told}"' in daemon.log.read_text())
            run = await daemon.until_final((await daemon.start("show"))["id"])
            return daemon.state.run(run["id"]).log("env", 1).read_text()

        good, bad = "step_env: {COLOUR: red}\n", "step_env: {COLOUR: blue}\ncolour: x\n"
        assert await colour_after(good, "settings_read") == "COLOUR=red\n"
        assert await colour_after(bad, "settings_not_read") == "COLOUR=red\n"


async def test_a_hangup_names_the_settings_that_need_a_new_start(tmp_path: Path) -> None:
    """Those that differ from the start's, each time, and no others."""
    config = tmp_path / "tailrace.yaml"
    async with serving(tmp_path, {}, settings="public_url: https://ci.example\n") as daemon:

        def logged(event: str) -> list[dict[str, object]]:
            whole = daemon.log.read_text().rpartition("\n")[0]
            return [d for d in map(json.loads, whole.splitlines()) if d["event"] == event]

        async def reload(text: str) -> None:
            config.write_text(text)
            before = len(logged("settings_read"))
            daemon.process.send_signal(signal.SIGHUP)
            await eventually(lambda: len(logged("settings_read")) > before)

        same = "public_url: https://ci.example\nmax_runs: 3\n"
        other = "listen: 127.0.0.1:1\nlog: {level: debug}\n"
        await reload(same)
        await reload("limits: {body: 2M}\n" + other)
        await reload(same)
        held = [line["keys"] for line in logged("settings_held")]
        assert held == [["listen", "public_url", "log", "limits.body"]]


def at(seconds: float) -> wire.Frame:
    """An event of that time."""
    data = wire.encode_json({"seq": 1, "event": "log", "t": wire.timestamp(seconds)})
    return wire.Frame(1, "log", "a", data)


def test_a_stream_is_late_when_it_falls_behind() -> None:
    """Neither another machine's clock nor a long past counts, only growing lateness."""
    lateness = Lateness()
    assert not lateness.take(at(1_000), 5_000)  # from long ago
    assert not lateness.take(at(4_000), 5_001)  # catching up
    assert not lateness.take(at(5_100), 5_002)  # their clock goes ahead
    assert not lateness.take(at(5_101), 5_003.5)
    assert lateness.take(at(5_102), 5_005.5)
    assert lateness.is_late
