"""The unit under a real systemd: started, restarted, crashed, stuck, and looked through.

One machine for all of them; each test finds the daemon running as installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from machines import ROOT, SOCKET, Machine, machine, until
from programs import require
from runs import read_events

pytestmark = [
    pytest.mark.xdist_group("systemd"),  # one machine, not one for each process of the tests
    pytest.mark.timeout(120),
]

# What an operator changes in a drop-in; and tests don't wait as long for a restart.
DROP_IN: Final = """
[Service]
LoadCredential=BOX_TOKEN:/etc/tailrace/credentials/BOX_TOKEN
RestartSec=100ms
"""
SETTINGS: Final = "limits: {min_free: 1M}\nmax_runs: 8\n"
COUNT: Final = (
    'echo "step $$"; line=1; until [ -e "$PARAM_FILE" ]; do line=$((line + 1));'
    ' echo "line $line"; sleep 0.01; done; echo "last $((line + 1))"'
)
PIPELINES: Final = {
    "count": (
        f"params: {{file: {{required: true}}}}\nsteps:\n  count: {{run: {json.dumps(COUNT)}}}\n"
    ),
    "colour": "steps:\n  colour: {run: 'echo COLOUR=$COLOUR'}\n",
    "secret": (
        "secrets: [BOX_TOKEN]\n"
        "steps:\n  secret: {run: 'echo \"${#BOX_TOKEN} characters: $BOX_TOKEN\"'}\n"
    ),
    "nasty": (
        "steps:\n  nasty:\n    grace: 200ms\n    run: |\n"
        "      trap '' TERM\n"
        "      (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &)\n"
        "      cat /proc/self/cgroup; echo ready; while :; do sleep 0.05; done\n"
    ),
    "sandbox": (
        "steps:\n  sandbox:\n    run: |\n"
        "      cat /proc/self/mountinfo\n"
        "      bwrap --unshare-all --ro-bind / / --dev /dev --tmpfs /tmp echo sandboxed\n"
        "      touch /tmp/of-a-step /var/tmp/of-a-step\n"
    ),
}
# Asks again and again until a file appears, over TCP and the Unix socket, each time anew and on
# connections that stay; prints what went wrong. /run/asked/N tell how often each has asked.
# A client that left a connection silent for long may find it closed (RFC 9112, 9.3.1): on a busy
# machine that happens to ours too, and is its own doing.
CLIENT: Final = r"""
import http.client, json, os, socket, sys, threading, time

class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX); self.sock.settimeout(20)
        self.sock.connect("/run/tailrace/daemon.sock")

token = open("/var/lib/tailrace/token").read().strip()
wrong = []

def ask(make, stay, counter):
    connection = make()
    headers = {"Authorization": "Bearer " + token}
    if not stay:
        headers["Connection"] = "close"
    silent_since = 0.0
    while not os.path.exists("/run/enough"):
        sent_at = time.monotonic()
        try:
            if connection.sock is None:
                connection.connect()
                silent_since = time.monotonic()
            connection.request("GET", "/api/v1/runs?limit=1", headers=headers)
            sent_at = time.monotonic()
            answer = connection.getresponse()
            answer.read()
            silent_since = time.monotonic()
            if answer.status != 200:
                wrong.append(answer.status)
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            if sent_at - silent_since < 0.1:
                wrong.append(repr(exc))
        counter.write(b".")
        time.sleep(0.002)
    connection.close()

makes = [lambda: http.client.HTTPConnection("127.0.0.1", 8470, timeout=20),
         lambda: Unix("localhost")]
os.mkdir("/run/asked")
threads = [threading.Thread(target=ask, args=(make, stay, open(f"/run/asked/{i}{stay}", "wb", 0)))
           for i, make in enumerate(makes) for stay in (0, 1)]
for each in threads: each.start()
for each in threads: each.join()
print(json.dumps(wrong))
"""


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    """The machine, with pipelines and settings."""
    with machine() as made:
        made.write("/etc/tailrace/tailrace.yaml", SETTINGS)
        for name, text in PIPELINES.items():
            made.write(f"/etc/tailrace/pipelines/{name}.yaml", text)
        made.write("/etc/tailrace/credentials/BOX_TOKEN", "s3cret-of-the-box\n", mode=0o600)
        made.write("/etc/systemd/system/tailrace.service.d/operator.conf", DROP_IN)
        made.systemctl("daemon-reload")
        yield made


@pytest.fixture
def box(booted: Machine) -> Iterator[Machine]:
    """The machine, its daemon running; afterwards it is as installed again."""
    booted.systemctl("start", "tailrace.service")
    yield booted
    drop_in = booted.root / "etc/systemd/system/tailrace.service.d/test.conf"
    if drop_in.exists():
        drop_in.unlink()
        booted.systemctl("daemon-reload")
        booted.systemctl("reset-failed", "tailrace.service", "tailrace.socket")
        booted.systemctl("stop", "tailrace.service")


def counting(box: Machine, name: str) -> tuple[str, Path]:
    """Start a run that counts; return it and the file that ends it."""
    run_id = box.start("count", file=f"/var/tmp/{name}")
    log = box.state.run(run_id).log("count", 1)
    until(lambda: log.exists() and b"line 3\n" in log.read_bytes(), "its third line")
    return run_id, box.root / f"var/tmp/{name}"


def check_counted(box: Machine, run_id: str, file: Path) -> None:
    """End such a run: it succeeds, with every number once and every event in order."""
    log = box.state.run(run_id).log("count", 1)
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size, "more output")
    file.touch()
    assert box.until_final(run_id)["status"] == "success"
    told = read_events(box.state.run(run_id))
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert [event["event"] for event in told].count("step_started") == 1
    lines = log.read_text().splitlines()
    words = ["step", *["line"] * (len(lines) - 2), "last"]
    assert [line.split()[0] for line in lines] == words
    assert [int(line.split()[1]) for line in lines[1:]] == list(range(2, len(lines) + 1))
    shown = "".join(e["text"] + "\n" for e in told if e["event"] == "log")
    assert shown.splitlines() == lines


def test_start_returns_when_requests_are_answered(box: Machine) -> None:
    """READY=1 comes no sooner, and the status line says where, and what it does."""
    box.systemctl("restart", "tailrace.service")
    assert (box.root / SOCKET[1:]).is_socket()
    assert box.ask("GET", "/pipelines")["pipelines"]
    assert box.show("ActiveState") == "active"
    until(lambda: "0 runs live" in box.show("StatusText"), "the status line")
    assert box.show("StatusText").startswith(f"127.0.0.1:8470 and {SOCKET} and ")
    run_id, file = counting(box, "status")
    until(lambda: "; 1 run live, 0 queued" in box.show("StatusText"), "a live run in it")
    check_counted(box, run_id, file)


def test_the_first_connection_starts_the_daemon(box: Machine) -> None:
    """systemd holds the sockets, and the one who connects waits for the answer."""
    require("curl")
    box.systemctl("stop", "tailrace.service", "tailrace.socket")
    assert not (box.root / SOCKET[1:]).exists()
    box.systemctl("start", "tailrace.socket")
    assert box.show("ActiveState") == "inactive"
    asked = box.run("curl", "-fsS", "http://127.0.0.1:8470/healthz")
    assert json.loads(asked.stdout)["status"] == "ok"
    assert box.show("ActiveState") == "active"


def test_nobody_is_refused_during_a_restart_and_runs_go_on(box: Machine) -> None:
    """Over TCP and the Unix socket, on new connections and on open ones."""
    run_id, file = counting(box, "restart")
    enough, asked = box.root / "run/enough", box.root / "run/asked"
    box.write("/run/client.py", CLIENT)
    client = box.begin("/opt/tailrace/bin/python", "/run/client.py")

    def asked_more() -> None:
        """Wait until each of the four has asked some times more."""
        until(lambda: asked.is_dir() and len(list(asked.iterdir())) == 4, "the clients")
        goals = {file: file.stat().st_size + 10 for file in asked.iterdir()}
        until(lambda: all(f.stat().st_size >= goal for f, goal in goals.items()), "their requests")

    before = box.show("MainPID")
    try:
        for _ in range(2):
            asked_more()
            box.systemctl("restart", "tailrace.service")
            assert box.status(run_id) == "running"  # adopted before it was ready
        asked_more()
    finally:
        enough.touch()
        out, err = client.communicate(timeout=60)
    assert box.show("MainPID") != before
    assert json.loads(out) == [], err
    check_counted(box, run_id, file)


def test_a_killed_daemon_comes_back_and_runs_go_on(box: Machine) -> None:
    """Restart=on-failure, and KillMode=process."""
    run_id, file = counting(box, "kill")
    before, restarts = box.show("MainPID"), int(box.show("NRestarts"))
    box.systemctl("kill", "--signal=KILL", "--kill-who=main", "tailrace.service")
    until(lambda: int(box.show("NRestarts")) == restarts + 1, "the restart")
    assert box.status(run_id) == "running"
    assert box.show("MainPID") != before
    check_counted(box, run_id, file)


def test_the_watchdog_restarts_a_stuck_daemon(box: Machine) -> None:
    """A loop that turns feeds it; one that doesn't is killed, and runs go on."""
    box.drop_in("[Service]\nWatchdogSec=3s\n")
    box.systemctl("restart", "tailrace.service")
    run_id, file = counting(box, "watchdog")
    last = box.show("WatchdogTimestampMonotonic")
    until(lambda: box.show("WatchdogTimestampMonotonic") != last, "its feeding")
    before, restarts = box.show("MainPID"), int(box.show("NRestarts"))
    box.systemctl("kill", "--signal=STOP", "--kill-who=main", "tailrace.service")
    until(lambda: int(box.show("NRestarts")) > restarts, "the watchdog")
    assert box.status(run_id) == "running"
    assert box.show("MainPID") != before
    assert "Watchdog timeout" in box.log()
    check_counted(box, run_id, file)


def test_reload_reads_the_settings_again(box: Machine) -> None:
    """Mistakes change nothing, and the status line names them."""

    def colour() -> str:
        run_id = box.start("colour")
        assert box.until_final(run_id)["status"] == "success"
        return box.state.run(run_id).log("colour", 1).read_text()

    try:
        for text, told in (("step_env: {COLOUR: red}\n", ""), ("colour: x\n", "mistakes")):
            box.write("/etc/tailrace/tailrace.yaml", SETTINGS + text)
            box.systemctl("reload", "tailrace.service")
            until(lambda: told in box.show("StatusText"), "the status line")  # noqa: B023 - now
            until(lambda: box.show("ActiveState") == "active", "the end of the reload")
            until(lambda: colour() == "COLOUR=red\n", "the new settings")
        assert "Reloading" in box.log()
    finally:
        box.write("/etc/tailrace/tailrace.yaml", SETTINGS)
        box.systemctl("reload", "tailrace.service")
    until(lambda: "mistakes" not in box.show("StatusText"), "the settings as they were")


def test_settings_with_mistakes_stop_a_start_and_are_not_tried_again(box: Machine) -> None:
    """Exit status 2, with the mistake in the journal."""
    box.drop_in("[Service]\nEnvironment=TAILRACE_MAX_RUNS=many\n")
    box.systemctl("restart", "tailrace.service", check=False)
    assert box.show("ActiveState") == "failed"
    assert (box.show("ExecMainStatus"), box.show("NRestarts")) == ("2", "0")
    assert "max_runs" in box.log()


def test_a_credential_is_a_secret(box: Machine) -> None:
    """LoadCredential= hands it over by name; the file is root's alone, and the value masked."""
    run_id = box.start("secret")
    assert box.until_final(run_id)["status"] == "success"
    log = box.state.run(run_id).log("secret", 1).read_text()
    assert log == "17 characters: ***\n"


def test_the_group_uses_the_socket_and_nobody_else(box: Machine) -> None:
    """`tailrace run` finds it by itself."""
    require("curl")
    for name, group in (("ann", "tailrace"), ("eve", "nogroup")):
        box.run("useradd", "--create-home", "--groups", group, name)

    def tailrace(user: str, *args: str) -> tuple[int, str]:
        done = box.run(
            "runuser", "-u", user, "--", "/opt/tailrace/bin/tailrace", *args, check=False
        )
        return done.returncode, done.stdout + done.stderr

    status, said = tailrace("ann", "run", "colour", "--detach")
    assert (status, said.startswith("colour/")) == (0, True), said
    (latest, *_) = box.ask("GET", "/runs?limit=1")["runs"]
    assert (latest["ref"], latest["by"]) == (said.strip(), "ann")
    assert tailrace("eve", "tail", latest["ref"])[0] == 2  # she has no such run
    token = ("token", "create", "dashboard", "--state", "/var/lib/tailrace")
    assert (tailrace("tailrace", *token)[0], tailrace("ann", *token)[0]) == (0, 2)
    refused = box.run(
        "runuser", "-u", "eve", "--", "curl", "-sS", "--unix-socket", SOCKET,
        "http://localhost/readyz", check=False,
    )  # fmt: skip
    assert refused.returncode == 7  # couldn't connect
    box.until_final(latest["id"])


def test_cancel_leaves_nothing_and_told_containment_is_true(box: Machine) -> None:
    """What left its session and ignores SIGTERM included."""
    run_id = box.start("nasty")
    log = box.state.run(run_id).log("nasty", 1)
    until(lambda: log.exists() and b"ready\n" in log.read_bytes(), "its output")
    box.ask("POST", f"/runs/{run_id}/cancel", {})
    assert box.until_final(run_id)["status"] == "aborted"
    told = read_events(box.state.run(run_id))
    (finished,) = [event for event in told if event["event"] == "step_finished"]
    assert finished["kill"]["survivors"] == []
    (started,) = [event for event in told if event["event"] == "started"]
    unit = "/system.slice/tailrace.service"
    (group,) = re.findall(r"^0::(.*)$", log.read_text(), re.MULTILINE)
    assert group.startswith(unit)
    assert started["containment"] == finished["kill"]["mechanism"] == "cgroup"
    assert group not in (unit, box.group_of(box.show("MainPID")))
    left = box.run("sh", "-c", f"grep -lz TAILRACE_RUN_ID={run_id} /proc/*/environ", check=False)
    assert left.stdout == ""


def test_a_sandbox_works_under_the_hardening(box: Machine) -> None:
    """bubblewrap runs, nothing more covers /proc, and /tmp and /var/tmp are there to write.

    A covered /proc would keep a sandbox from a /proc of its own; this machine's is covered.
    """
    require("bwrap")
    run_id = box.start("sandbox")
    assert box.until_final(run_id)["status"] == "success"
    log = box.state.run(run_id).log("sandbox", 1).read_text()
    assert "sandboxed\n" in log

    def covers(mounts: str) -> set[str]:
        return set(re.findall(r"^(?:\S+ ){4}(/proc\S*) ", mounts, re.MULTILINE))

    assert covers(log) == covers(box.run("cat", "/proc/1/mountinfo").stdout)
    assert (box.root / "tmp/of-a-step").exists()
    assert (box.root / "var/tmp/of-a-step").exists()


def test_the_units_are_clean_and_hardened(box: Machine) -> None:
    """`systemd-analyze` says so, and the page that explains it has its figure."""
    verified = box.run("systemd-analyze", "verify", "tailrace.service", "tailrace.socket")
    assert verified.stdout + verified.stderr == ""
    said = box.run("systemd-analyze", "security", "--no-pager", "tailrace.service").stdout
    figure = re.search(r"exposure level for tailrace.service: ([\d.]+)", said)
    assert figure is not None
    assert float(figure[1]) <= 4.0
    assert f"exposure is {figure[1]}" in (ROOT / "docs/explanation/security.md").read_text()


def test_what_runs_after_a_stop_succeeds(box: Machine) -> None:
    """It takes back controllers, also where there are none."""
    box.systemctl("stop", "tailrace.service")
    assert "status=0" in box.show("ExecStopPost")
    assert (box.show("Result"), box.show("ExecMainStatus")) == ("success", "0")
