"""A state folder that is newer, or damaged: one clear line, an exit status, nothing lost."""

from __future__ import annotations

import pytest

from command_line import Site
from disks import make_read_only, small_disk

GOOD = "steps:\n  only:\n    run: echo well\n"


@pytest.mark.parametrize("command", ["runs", "run good", "reindex", "serve --listen 127.0.0.1:0"])
def test_a_folder_of_a_newer_version_is_refused_and_left_as_it_is(site: Site, command: str) -> None:
    """Exit status 2, with what to do."""
    site.pipeline("good", GOOD)
    site.state.path.mkdir()
    site.state.version.write_text("2\n")
    done = site.tailrace(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "was written by a newer Tailrace (format 2; this one knows 1); upgrade" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert site.state.version.read_text() == "2\n"
    assert not site.state.index.exists()


def test_a_damaged_state_db_stops_what_needs_it_alone(site: Site) -> None:
    """It is named and kept as it is; runs, lists and the index do without."""
    site.pipeline("good", GOOD)
    assert site.tailrace("token", "create", "ann").returncode == 0
    damaged = b"\xa5" * 9_000
    site.state.state_db.write_bytes(damaged)
    for command in (("token", "list"), ("serve", "--listen", "127.0.0.1:0")):
        done = site.tailrace(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert "state.db: is damaged: file is not a database; put back a copy" in done.stderr
        assert "Traceback" not in done.stderr
    assert site.tailrace("run", "good").returncode == 0
    assert site.tailrace("reindex").returncode == 0
    assert "good/1" in site.tailrace("runs").stdout
    assert site.state.state_db.read_bytes() == damaged
    site.state.state_db.rename(site.state.path / "state.db.damaged")
    assert site.tailrace("token", "list").returncode == 0


def test_an_index_on_a_read_only_disk_is_told_in_a_line(site: Site) -> None:
    """Exit status 3: not now, rather than what nobody foresaw."""
    with small_disk(site.state.path, "1M") as disk:
        assert site.tailrace("reindex").returncode == 0
        make_read_only(disk)
        done = site.tailrace("reindex")
    assert (done.returncode, done.stdout) == (3, "")
    assert "tailrace.db can't be used: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
