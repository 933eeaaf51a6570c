"""The command line's frame: what it imports, how it refuses, what it exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import click
import pytest

from command_line import TAILRACE, Site
from tailrace.cli.main import COMMANDS, cli


def test_help_imports_nothing_heavy() -> None:
    """`--help` answers at once because it needs click alone."""
    code = (
        "import sys\n"
        "from tailrace.cli.main import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "heavy = {'aiohttp', 'rich', 'yaml', 'msgspec', 'asyncio', 'structlog'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_own_help_says(name: str) -> None:
    """The table that saves importing them is true."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name][2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_global_options(name: str) -> None:
    """--config, --pipelines, --state, --url and --json are accepted everywhere."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {option for param in command.params for option in param.opts}
    assert options >= {"--config", "--pipelines", "--state", "--url", "--json"}


def test_global_options_may_stand_before_and_after_the_command(site: Site) -> None:
    """The one nearer to the end wins."""
    for args in (("--json", "version"), ("version", "--json")):
        assert "version" in json.loads(site.tailrace(*args).stdout)
    before = site.tailrace("--state", "a", "runs", "--state", "b")
    assert before.returncode == 0
    assert [(site.folder / name).exists() for name in "ab"] == [False, True]


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["rnu"], 2, "no command is named 'rnu'; did you mean 'run'?"),
        (["run"], 2, "Missing argument 'PIPELINE'; see `tailrace run --help`"),
        (["run", "nope"], 2, "no pipeline is named 'nope'"),
        (["run", "hello", "-p", "x"], 2, "'-p x' has no value; write -p NAME=VALUE"),
        (["run", "hello", "-p", "a=1", "-p", "a=2"], 2, "'-p a=…' is given twice"),
        (["run", "hello", "-p", "count=x", "-p", "z=1"], 2, "params.z: no such param"),
        (["run", "hello", "-p", "count=x"], 2, "params.count: 'x' isn't a whole number"),
        (["run", "hello", "--depth", "deep"], 2, "depth"),
        (["run", "./missing.yaml"], 2, "missing.yaml"),
        (["run", "broken"], 2, "broken.yaml:2:14: steps.a.needs: no step is named 'b'"),
        (["show", "hello/1"], 2, "there is no run 'hello/1'"),
        (["tail"], 2, "there are no runs yet"),
        (["tail", "--grep", "("], 2, "--grep '(' is no pattern of RE2: missing )"),
        (["tail", "--plain", "--raw"], 2, "exclude each other"),
        (["runs", "-n", "0"], 2, "Invalid value for '-n' / '--limit': 0 is not in the range"),
        (["runs", "-n", "1001"], 2, "Invalid value for '-n' / '--limit': 1001 is not in the"),
        (["serve", "--url", "http://127.0.0.1:1"], 2, "on a state folder of this machine"),
        (["prove", "--url", "http://127.0.0.1:1"], 2, "--url means nothing here: it makes state"),
        (["prove", "--state", "s"], 2, "--state means nothing here: it makes state folders"),
        (["runs", "--status", "done"], 2, "'done' is no status"),
        (["runs", "--url", "ftp://x"], 2, "'ftp://x' is no address of a daemon"),
        (["runs", "--url", "http://127.0.0.1:1"], 3, "can't be reached"),
        (["runs", "--url", "http://u:pw@127.0.0.1:1"], 3, "http://***@127.0.0.1:1 can't be reach"),
        (["open", "--url", "http://u:pw@127.0.0.1:1"], 3, "http://***@127.0.0.1:1 can't be reach"),
        (["run", "./x.yaml", "--url", "http://u:pw@h"], 2, "http://***@h runs pipelines of its"),
        (["doctor", "./x.yaml", "--url", "http://u:pw@h"], 2, "be checked by http://***@h; leave"),
        (["runs", "--url", "ftp://u:pw@x"], 2, "'ftp://***@x' is no address of a daemon"),
        (["runs", "--url", "http://x?x=1"], 2, "'http://x?x=1' is no address of a daemon"),
        (["runs", "--url", "http://x#f"], 2, "'http://x#f' is no address of a daemon"),
        (["runs", "--config", "missing"], 2, "missing: No such file or directory"),
        (["run", "./x.yaml", "--url", "http://127.0.0.1:1"], 2, "'./x.yaml' is a file here"),
        (["open"], 3, "no daemon runs on"),
        (["open", "--url", "http://127.0.0.1:1"], 3, "http://127.0.0.1:1 can't be reached: "),
        (["open", "--url", "ftp://x"], 2, "'ftp://x' is no address of a daemon"),
        (["prove", "cancels", "--plant", "lost"], 2, "is made by daemon-kills and watchers; name"),
        (["prove", "watchers", "--plant", "leaks"], 2, "--plant leaks is made by canaries; name"),
        (["token", "create", "a b"], 2, "'a b' is no name"),
        (["token", "create", "owner"], 2, "'owner' is the token that the daemon makes for itself"),
        (["token", "create", "a", "--expires", "soon"], 2, "--expires soon: write a duration"),
        (["token", "revoke", "nobody"], 2, "there is no token 'nobody'"),
        (["completion", "tcsh"], 2, "'tcsh' is not one of"),
        (["artifacts", "x", "-o", "y"], 2, "name one with --get"),
        (["artifacts", "x", "--get", "y", "-o", ""], 2, "-o needs the name of a file"),
        (
            ["completion"],
            2,
            "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish; see",
        ),
        (
            ["token", "create", "a", "--expires", "99999999d"],
            2,
            "--expires 99999999d: write",
        ),
        (["token", "create", "a", "--expires", "9999999999d"], 2, "--expires 9999999999d: "),
        (["run", "./missing.yaml"], 2, "tailrace: ./missing.yaml: file: no such file"),
        (["run", "hello", "-p", "count=\udcff"], 2, "'count=\ufffd' is not UTF-8"),
        (["show", "\udcff"], 2, "'\ufffd' is not UTF-8"),
        (["tail", "--grep", "\udcff"], 2, "'\ufffd' is not UTF-8"),
        (["runs", "--url", "http://\udcff"], 2, "'http://\ufffd' is not UTF-8"),
        (["runs", "--config", "missing\udcff"], 2, "missing\\udcff: No such file or directory"),
        (["pipelines", "--pipelines", "nowhere"], 2, "nowhere is no folder; name another one"),
        (["token", "list", "--url", "http://127.0.0.1:1"], 2, "on a state folder of this machine"),
        (["runs", "--state", ""], 2, "--state is empty; leave it out for the default"),
        (["gc", "--url", "http://127.0.0.1:1"], 2, "on a state folder of this machine"),
        (["reindex", "--url", "http://127.0.0.1:1"], 2, "on a state folder of this machine"),
    ],
)
def test_a_mistake_gets_one_clear_line(site: Site, args: list[str], status: int, said: str) -> None:
    """It goes to standard error, with the exit status that the contract names."""
    site.pipeline("hello", "params: {count: {type: integer}}\nsteps: {a: {run: echo hi}}\n")
    site.pipeline("broken", "steps:\n  a: {needs: b, run: echo hi}\n")
    done = site.tailrace(*args)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert all(line.startswith("tailrace: ") for line in done.stderr.splitlines())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [[], ["token"]])
def test_without_a_command_the_help_is_shown_as_it_is(site: Site, args: list[str]) -> None:
    """On standard error, because nothing was done."""
    done = site.tailrace(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == site.tailrace(*args, "--help").stdout


def test_a_name_that_is_not_utf_8_is_no_problem_for_json(site: Site) -> None:
    """What JSON can't hold is escaped in the problem document."""
    done = site.tailrace("show", "\udcff", "--json")
    assert (done.returncode, json.loads(done.stderr)["exit_status"]) == (2, 2)
    done = site.tailrace("validate", "\udcff.yaml", "--json")
    assert json.loads(done.stdout)["problems"][0]["position"] == r"\udcff.yaml"


def test_a_deleted_folder_is_told(site: Site) -> None:
    """Wherever the settings point: relative names and repositories mean nothing there."""
    gone = site.folder / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd gone && rmdir ../gone && exec "$@"', "-", *TAILRACE, "runs"],
        cwd=site.folder, env=site.env, capture_output=True, text=True,
    )  # fmt: skip
    said = "tailrace: the current folder has been deleted; go to another one\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize("columns", ["0", "-3", "x", "99999999"])
def test_what_is_no_width_counts_for_nothing(site: Site, columns: str) -> None:
    """$COLUMNS holds whatever somebody has put there."""
    site.pipeline("hello", "steps: {a: {run: echo hi}}\n")
    assert site.tailrace("run", "hello").returncode == 0
    done = site.tailrace("runs", COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hello/1  success" in done.stdout


@pytest.mark.parametrize("args", [["pipelines"], ["run", "--help"]])
def test_an_encoding_without_a_character_shows_another_one(site: Site, args: list[str]) -> None:
    """Nothing fails for want of a letter."""
    site.pipeline("hello", "description: 分析 it\nsteps: {a: {run: echo hi}}\n")
    done = site.tailrace(*args, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_we_are_imported_ends_us_quietly(site: Site) -> None:
    """With 130 as later, and without a traceback."""
    (site.folder / "slow").mkdir()
    (site.folder / "slow" / "click.py").write_text(
        "import time; print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "tailrace.cli", "runs"], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.PIPE, env={**site.env, "PYTHONPATH": str(site.folder / "slow")},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 130


def test_with_json_a_mistake_is_a_problem_document_on_standard_error(site: Site) -> None:
    """Standard output holds data alone, also when there is none."""
    site.pipeline("hello", "params: {count: {type: integer}}\nsteps: {a: {run: echo hi}}\n")
    done = site.tailrace("run", "hello", "-p", "count=x", "--json")
    problem = json.loads(done.stderr)
    assert (done.returncode, problem["exit_status"], done.stdout) == (2, 2, "")
    assert problem["errors"][0]["where"] == "params.count"


def test_with_json_a_mistake_in_a_file_tells_its_path_and_its_place(site: Site) -> None:
    """As the daemon's problem documents do."""
    site.pipeline("broken", "steps:\n  a: {needs: b, run: echo hi}\n")
    (error,) = json.loads(site.tailrace("run", "broken", "--json").stderr)["errors"]
    assert error["where"] == "steps.a.needs"
    assert error["position"].endswith("broken.yaml:2:14")


@pytest.mark.parametrize("command", ["run", "retry", "tail"])
def test_two_ways_of_printing_exclude_each_other(site: Site, command: str) -> None:
    """Neither wins in silence."""
    done = site.tailrace(command, "hello", "--json", "--plain")
    assert (done.returncode, "exclude each other" in json.loads(done.stderr)["detail"]) == (2, True)


def test_an_unforeseen_error_keeps_its_traceback_in_a_file(site: Site) -> None:
    """One line says where; TAILRACE_DEBUG=1 prints it."""
    code = (
        "import sys\n"
        "from tailrace.cli.main import main\n"
        "from tailrace.store import rebuild\n"
        "rebuild.rebuild = lambda state: 1 // 0\n"
        "sys.argv = ['tailrace', 'reindex']\n"
        "main()\n"
    )

    def reindex(**env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=site.env | env, capture_output=True, text=True)

    done = reindex(TMPDIR=str(site.folder))
    assert done.returncode == 1
    assert "unforeseen ZeroDivisionError" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    path = done.stderr.split("traceback is in ")[1].split(",")[0]
    with open(path) as file:
        assert "Traceback" in file.read()
    assert "Traceback" in reindex(TAILRACE_DEBUG="1").stderr


def test_output_that_can_not_be_written_is_told(site: Site) -> None:
    """A full disk behind our output is nobody's bug."""
    for args in (["version"], ["schema"], ["completion", "bash"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*TAILRACE, *args], env=site.env, stdout=full, stderr=subprocess.PIPE, text=True
            )
        said = "tailrace: writing output: No space left on device\n"
        assert (done.returncode, done.stderr) == (1, said)


def test_every_mistake_of_every_file_is_told_at_once(site: Site) -> None:
    """`validate` names file, line and column of each, and exits with 2."""
    good = site.pipeline("good", "steps: {a: {run: echo hi}}\n")
    bad = site.pipeline("bad", "steps:\n  a: {needs: b, rnu: echo hi}\n")
    done = site.tailrace("validate", str(good), str(bad))
    assert done.returncode == 2
    fine, *told = done.stdout.splitlines()
    assert fine == f"{good}: fine"
    assert len(told) >= 2
    assert all(line.startswith(f"{bad}:2:") for line in told)
    assert site.tailrace("validate", str(good)).returncode == 0


def test_the_schema_is_a_json_schema(site: Site) -> None:
    """Editors can use what `schema` prints."""
    printed = site.tailrace("schema").stdout
    schema = json.loads(printed)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert printed.splitlines()[1].startswith("  ")
    (line,) = site.tailrace("schema", "--json").stdout.splitlines()
    assert json.loads(line) == schema


def test_broken_pipelines_are_listed_with_their_mistakes(site: Site) -> None:
    """Nothing hides a file that can't run."""
    site.pipeline("good", "description: Says hi\nsteps: {a: {run: echo hi}}\n")
    site.pipeline("bad", "steps:\n  a: {needs: b, run: echo hi}\n")
    listed = site.tailrace("pipelines").stdout
    assert "Says hi" in listed
    assert "bad.yaml:2:14: steps.a.needs: no step is named 'b'" in listed


def test_a_token_is_made_listed_and_revoked(site: Site) -> None:
    """Its text is printed once, and listed never."""
    text = site.tailrace("token", "create", "ci", "--scope", "run", "--expires", "30d").stdout
    assert text.startswith("tr_")
    listed = site.tailrace("token", "list").stdout
    assert "ci" in listed
    assert text.strip() not in listed
    assert site.tailrace("token", "revoke", "ci").returncode == 0
    (token,) = json.loads(site.tailrace("token", "list", "--json").stdout)["tokens"]
    assert token["revoked_at"] is not None
    assert token["scopes"] == ["read", "run"]


def test_tokens_without_a_name_are_numbered(site: Site) -> None:
    """Who asks for nothing special needs to think of nothing."""
    for _ in range(2):
        assert site.tailrace("token", "create").stdout.startswith("tr_")
    tokens = json.loads(site.tailrace("token", "list", "--json").stdout)["tokens"]
    assert [token["name"] for token in tokens] == ["token-1", "token-2"]


def test_the_version_can_be_asked_for_as_an_option(site: Site) -> None:
    """As most programs have it."""
    assert site.tailrace("--version").stdout == site.tailrace("version").stdout


def test_a_closed_standard_output_is_no_bug(site: Site) -> None:
    """What is opened next must not be taken for it either."""
    site.pipeline("hello", "steps: {a: {run: echo hi}}\n")
    command = ["bash", "-c", 'exec "$@" >&-', "bash", *TAILRACE, "run", "hello"]
    done = subprocess.run(
        command, env=site.env, cwd=site.folder, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, "unforeseen" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("args", [["runs"], ["pipelines"], ["token", "list"], ["schema"]])
def test_a_reader_that_goes_is_told_by_one_exit_status(site: Site, args: list[str]) -> None:
    """141, as of a program that SIGPIPE ended, whatever prints."""
    site.pipeline("hello", "steps: {a: {run: echo hi}}\n")
    site.tailrace("run", "hello")
    site.tailrace("token", "create")
    readable, writable = os.pipe()
    os.close(readable)
    with open(writable, "wb") as nobody:
        done = subprocess.run(
            [*TAILRACE, *args], env=site.env, cwd=site.folder, stdout=nobody,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


def test_booleans_are_listed_as_they_are_given(site: Site) -> None:
    """`true`, not the `True` of Python."""
    site.pipeline("b", "params: {yes_: {type: boolean}}\nsteps: {a: {run: echo hi}}\n")
    site.tailrace("run", "b", "-p", "yes_=true")
    for command in (["runs"], ["show", "latest"]):
        assert "yes_=true" in site.tailrace(*command).stdout


def test_completion_knows_the_commands(site: Site) -> None:
    """The script calls us back, and we answer."""
    assert "_TAILRACE_COMPLETE" in site.tailrace("completion", "bash").stdout
    done = site.tailrace(
        "x", _TAILRACE_COMPLETE="bash_complete", COMP_WORDS="tailrace ru", COMP_CWORD="1"
    )
    assert {"plain,run", "plain,runs"} <= set(done.stdout.split())


def completed(site: Site, *words: str, **env: str) -> list[str]:
    """What bash is offered for the last of these words."""
    done = site.tailrace(
        "x", _TAILRACE_COMPLETE="bash_complete", COMP_WORDS=" ".join(("tailrace", *words)),
        COMP_CWORD=str(len(words)), **env,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_knows_what_is_there(site: Site) -> None:
    """Pipelines, runs, steps, files, statuses; of paths it tells the shell that they are some."""
    assert completed(site, "show", "") == []
    assert not site.state.path.exists()
    site.pipeline(
        "hello", "steps: {a: {run: 'echo x > $TAILRACE_ARTIFACTS/f'}, ab: {run: 'true'}}\n"
    )
    site.pipeline("other", "steps: {a: {run: 'true'}}\n")
    assert site.tailrace("run", "hello").returncode == 0
    assert completed(site, "run", "h") == ["plain,hello"]
    assert completed(site, "run", "./p") == ["file,./p"]
    assert completed(site, "runs", "--pipeline", "") == ["plain,hello", "plain,other"]
    assert completed(site, "runs", "--status", "s") == ["plain,success"]
    assert completed(site, "show", "") == ["plain,hello/1", "plain,latest"]
    assert completed(site, "skip", "hello/1", "a") == ["plain,a", "plain,ab"]
    assert completed(site, "tail", "--step", "ab") == ["plain,ab"]
    assert completed(site, "retry", "hello/1", "--from", "") == [
        "plain,failed", "plain,start", "plain,a", "plain,ab",
    ]  # fmt: skip
    assert completed(site, "artifacts", "hello/1", "--get", "") == ["plain,f"]
    assert completed(site, "validate", "p") == ["file,p"]
    assert completed(site, "--state", "p") == ["dir,p"]


def test_completion_offers_what_the_named_run_has(site: Site) -> None:
    """Not what the latest one has, also where an option's value is completed."""
    site.pipeline("one", "steps: {a: {run: 'echo x > $TAILRACE_ARTIFACTS/f'}}\n")
    site.pipeline("two", "steps: {b: {run: 'echo x > $TAILRACE_ARTIFACTS/g'}}\n")
    for name in ("one", "two"):
        assert site.tailrace("run", name).returncode == 0
    assert completed(site, "tail", "one/1", "--step", "") == ["plain,a"]
    assert completed(site, "tail", "--raw", "one/1", "--step", "") == ["plain,a"]
    assert completed(site, "tail", "--step", "") == ["plain,b"]
    assert completed(site, "artifacts", "one/1", "--get", "") == ["plain,f"]
    assert completed(site, "retry", "one/1", "--from", "") == [
        "plain,failed", "plain,start", "plain,a",
    ]  # fmt: skip
    assert completed(site, "skip", "one/1", "") == ["plain,a"]


def test_completion_keeps_silent_where_it_can_not_know(site: Site) -> None:
    """An unknown run or command, a daemon out of reach, settings with mistakes."""
    assert completed(site, "skip", "nope/1", "") == []
    assert completed(site, "rnu", "") == []
    assert completed(site, "show", "", TAILRACE_URL="http://127.0.0.1:1") == []
    assert completed(site, "show", "", TAILRACE_MAX_RUNS="x") == []
