"""``tailrace``: the command line's entry, which imports a command only when it is called."""

from __future__ import annotations

import functools
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click

# name -> (module, attribute, what it does: the first line of its help)
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "run": ("run", "run", "Run a pipeline and watch every line live."),
    "tail": ("tail", "tail", "Show a run's output, and go on while it lives."),
    "runs": ("runs", "runs", "List runs, newest first."),
    "show": ("runs", "show", "Show a run: its steps, times and artifacts."),
    "cancel": ("steer", "cancel", "Cancel a run."),
    "retry": ("run", "retry", "Run again what failed, on the old run's workspace."),
    "pause": ("steer", "pause", "Freeze a run: its processes stand still, and no step begins."),
    "resume": ("steer", "resume", "Go on with a paused run."),
    "answer": ("steer", "answer", "Answer a question that a run asks."),
    "skip": ("steer", "skip", "Skip a step of a live run."),
    "extend": ("steer", "extend", "Give a running step more time before it times out."),
    "artifacts": ("artifacts", "artifacts", "List what a run left, or get one of its files."),
    "rm": ("steer", "rm", "Delete finished runs with all their files."),
    "pipelines": ("pipelines", "pipelines", "List the pipelines, broken ones with their mistakes."),
    "validate": ("pipelines", "validate", "Check pipeline files and tell every mistake."),
    "schema": ("pipelines", "schema", "Print the JSON Schema of pipeline files."),
    "doctor": (
        "doctor",
        "doctor",
        "Tell whether this machine can do what its pipelines ask for.",
    ),
    "serve": ("serve", "serve", "Start the daemon: queue, HTTP and page."),
    "mcp": ("mcp", "mcp", "Let an AI agent run pipelines: the Model Context Protocol on stdio."),
    "open": ("serve", "open_page", "Open the daemon's page in a browser."),
    "token": ("token", "token", "Make, list and revoke the tokens that HTTP asks for."),
    "gc": ("gc", "gc", "Remove what the retention settings keep no longer."),
    "reindex": ("system", "reindex", "Make the index of runs anew from their folders."),
    "prove": ("prove", "prove", "Prove that nothing is lost, left behind or leaked here."),
    "version": ("system", "version", "Print the version."),
    "completion": ("system", "completion", "Print the script that completes commands in a shell."),
}


@dataclass(slots=True)
class Globals:
    """The options that every command takes, before or after its name."""

    config: str | None = None
    pipelines: str | None = None
    state: str | None = None
    url: str | None = None
    as_json: bool = False


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # Given after the command's name it wins over the same option before it.
    if value not in (None, False):
        _refuse_bytes(param, value)
        if value == "":  # as of an unset variable: the default is somewhere else than was meant
            raise click.UsageError(f"{param.opts[0]} is empty; leave it out for the default")
        setattr(ctx.ensure_object(Globals), str(param.name), value)


_FILE: Final = click.Path()
_DIR: Final = click.Path(file_okay=False)
_OPTIONS: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (
        ("--config", "config"),
        {"type": _FILE, "metavar": "FILE", "help": "The settings' file."},
    ),
    (
        ("--pipelines", "pipelines"),
        {"type": _DIR, "metavar": "DIR", "help": "The pipelines' folder."},
    ),
    (("--state", "state"), {"type": _DIR, "metavar": "DIR", "help": "The state folder."}),
    (("--url", "url"), {"metavar": "URL", "help": "The daemon's address; also $TAILRACE_URL."}),
    (("--json", "as_json"), {"is_flag": True, "help": "Print JSON for programs."}),
)


def global_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the options that are accepted everywhere.

    Its own arguments are text, or declared as paths: those may be any bytes.
    """
    command = _text_alone(command)
    for names, settings in reversed(_OPTIONS):
        command = click.option(*names, expose_value=False, callback=_keep, **settings)(command)
    return command


def _text_alone(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for param in click.get_current_context().command.params:
            _refuse_bytes(param, kwargs.get(str(param.name)))
        return command(*args, **kwargs)

    return checked


def _refuse_bytes(param: click.Parameter, value: object) -> None:
    """Refuse what isn't UTF-8 (PEP 383): no name of ours, and nothing that JSON could hold."""
    if isinstance(param.type, click.Path):
        return
    for text in value if isinstance(value, tuple) else (value,):
        try:
            str(text).encode()
        except UnicodeEncodeError:
            shown = str(text).encode(errors="surrogateescape").decode(errors="replace")
            raise click.UsageError(f"'{shown}' is not UTF-8; give it in that encoding") from None


class ReaderGoneError(Exception):
    """Whoever read our output has gone, as `head` does."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"tailrace.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may be meant."""
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "`tailrace --help` lists the commands"
            raise click.UsageError(f"no command is named '{name}'; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; that our reader has gone is told apart here, because click hides it."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise ReaderGoneError from None
        return status

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    if value and not ctx.resilient_parsing:
        from tailrace import __version__

        click.echo(f"tailrace {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True,
              callback=_print_version, hidden=True)  # fmt: skip
@global_options
def cli() -> None:
    """Run pipelines over repositories and watch every line live."""


def _open_closed_streams() -> None:
    """Give standard streams that came closed the null device.

    Otherwise the next file that is opened would be taken for one of them.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - it lives as long as we do
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - likewise
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - likewise


def main() -> None:
    """Run the command line and exit with its status.

    0 success; 1 the run failed; 2 bad usage, a bad pipeline or an unknown run; 3 the daemon
    can't be reached or answered wrongly; 4 aborted; 130 left by Ctrl-C; 141 where nobody reads
    our output any more.
    """
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # where it isn't UTF-8, not every text has a form
        sys.stdout.reconfigure(errors="replace")
    sys.exit(_run())


def _run() -> int:
    found = Globals()
    try:
        status = cli.main(prog_name="tailrace", standalone_mode=False, obj=found)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except ReaderGoneError:
        _drop_output()
        return 128 + signal.SIGPIPE
    except Exception as exc:  # noqa: BLE001 - the boundary: every error becomes one clear line
        if "_TAILRACE_COMPLETE" in os.environ:
            return 1  # a shell asks, in the middle of a line
        from tailrace.cli.failure import report

        if isinstance(exc, OSError):
            _drop_output()
        return report(exc, as_json=found.as_json)
    return status if isinstance(status, int) else 0


def _drop_output() -> None:
    """Keep Python from failing again at exit, over output that can't be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    # Under its own name: `python -m` would give this module a second life as __main__.
    from tailrace.cli.main import main as main_of_package

    main_of_package()
