"""``tailrace doctor`` as people and programs call it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from command_line import Site
from daemons import serving
from mcp_server import command
from runs import eventually
from tailrace import wire

FINE = "requires: {commands: [sh]}\nsteps: {a: {run: 'true'}}\n"
LACKS = "requires: {commands: [no-such-tool], mcp: [docs]}\nsecrets: [GONE]\nsteps: {a: {run: x}}\n"


def settings(site: Site, how: str) -> None:
    """Settings with an MCP server."""
    path = site.folder / "tailrace.yaml"
    path.write_text(json.dumps({"mcp": {"docs": {"command": command(how)}}}))
    site.env["TAILRACE_CONFIG"] = str(path)


def test_what_is_missing_is_told_with_what_to_do_and_exit_status_1(site: Site) -> None:
    """And the same run is refused with exit status 2; nothing is made by looking."""
    settings(site, "die")
    site.pipeline("fine", FINE)
    site.pipeline("lacks", LACKS)

    found = site.tailrace("doctor")

    assert found.returncode == 1, found.stderr
    assert not site.state.path.exists()
    lines = found.stdout.splitlines()
    assert "ok  fine pipeline  has what it requires: sh" in lines
    assert (
        "problem  lacks requires.commands  'no-such-tool' isn't there; "
        "install it where the daemon's PATH finds it"
    ) in lines
    assert any(line.startswith("problem  lacks secrets.GONE  ") for line in lines)
    assert any(line.startswith("problem  lacks requires.mcp.docs  ") for line in lines)
    assert lines[-1].startswith("4 problems")

    refused = site.tailrace("run", "lacks")
    assert refused.returncode == 2
    assert "API_KEY is not set" in refused.stderr
    assert "requires.commands: 'no-such-tool' isn't there" in refused.stderr


def test_only_the_pipelines_that_are_named_count(site: Site) -> None:
    """By name or as a file; a name that isn't there is exit status 2."""
    settings(site, "die")
    site.pipeline("fine", FINE)
    path = site.pipeline("lacks", LACKS)

    named = site.tailrace("doctor", "fine")
    assert named.returncode == 0, named.stdout
    assert "mcp.docs" not in named.stdout

    file = site.tailrace("doctor", f"./{path.relative_to(site.folder)}")
    assert file.returncode == 1
    assert "problem  lacks secrets.GONE" in file.stdout

    unknown = site.tailrace("doctor", "fin")
    assert unknown.returncode == 2
    assert unknown.stderr == "tailrace: no pipeline is named 'fin'; did you mean 'fine'?\n"
    elsewhere = site.tailrace("doctor", str(path), "--url", "http://127.0.0.1:9")
    assert elsewhere.returncode == 2


def test_programs_get_one_document_of_a_known_shape(site: Site) -> None:
    """Its keys are those of the reference, and no others."""
    settings(site, "well")
    site.pipeline("fine", FINE)
    found = site.tailrace("doctor", "--json")
    assert found.returncode == 0, found.stdout
    document = json.loads(found.stdout)
    assert set(document) == {"status", "version", "checks", "mcp"}
    report = msgspec.json.decode(found.stdout, type=wire.DoctorReport, strict=True)
    assert {frozenset(check) for check in document["checks"]} == {
        frozenset({"check", "status", "text", "hint", "pipeline"})
    }
    assert [msgspec.to_builtins(server) for server in report.mcp] == [
        {"name": "docs", "alive": True, "tools": ("search", "read", "quote"), "error": None}
    ]
    assert report.status == document["status"] != "problem"


def test_a_terminal_shows_signs_and_wraps_what_is_long(site: Site) -> None:
    """Each hint on a line of its own."""
    site.pipeline("lacks", "requires: {commands: [no-such-tool]}\nsteps: {a: {run: x}}\n")
    with site.terminal("doctor", columns=70, rows=60) as terminal:
        assert terminal.exit_status() == 1
        lines = [line.rstrip() for line in terminal.rows]
    (place,) = (i for i, line in enumerate(lines) if "requires.commands" in line)
    assert lines[place] == "✗  lacks  requires.commands: 'no-such-tool' isn't there"
    assert lines[place + 1].strip() == "→ install it where the daemon's PATH finds it"
    assert max(map(len, lines)) <= 70


async def test_a_daemon_looks_by_itself_and_logs_what_it_finds(tmp_path: Path, site: Site) -> None:
    """One line for each pipeline in need, once it serves; who asks it sees what it sees."""
    pipelines = {"fine": FINE, "lacks": LACKS}
    config = f"mcp: {json.dumps({'docs': {'command': command('well')}})}\nnotify: {{mail: x}}\n"
    async with serving(tmp_path, pipelines, settings=config) as daemon:

        def logged(event: str = "requirements_unmet") -> list[dict[str, object]]:
            whole = daemon.log.read_text().rpartition("\n")[0]
            lines = map(json.loads, whole.splitlines())
            return [line for line in lines if line["event"] == event]

        await eventually(lambda: bool(logged()))
        assert [line.get("pipeline") for line in logged()] == ["lacks"]
        assert logged()[0]["problems"] == [
            "requires.commands: 'no-such-tool' isn't there",
            "secrets.GONE: no secret is named 'GONE'",
        ]
        (unenforced,) = logged("unenforced")
        assert unenforced["what"] == "the setting notify has no effect yet: nobody is told of runs"
        found = site.tailrace("doctor", "--json", "--url", daemon.url, TAILRACE_TOKEN=daemon.token)
        assert found.returncode == 1, found.stderr
        report = msgspec.json.decode(found.stdout, type=wire.DoctorReport)
        assert {check.pipeline for check in report.checks} == {None, "fine", "lacks"}
        assert [server.alive for server in report.mcp] == [True]
        one = site.tailrace("doctor", "fine")
        assert one.returncode == 0, one.stdout
        assert one.stdout.splitlines()[-1].endswith(
            f", as the daemon at {daemon.state.socket} sees it"
        )
