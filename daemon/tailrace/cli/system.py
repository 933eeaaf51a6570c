"""``tailrace version``, ``completion`` and ``reindex``."""

from __future__ import annotations

import click

from tailrace.cli.main import cli, global_options
from tailrace.cli.session import current


@click.command()
@global_options
def version() -> None:
    """Print the version."""
    from tailrace import __version__

    if current().as_json:
        from tailrace.cli.output import print_json

        print_json({"version": __version__})
    else:
        click.echo(f"tailrace {__version__}")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@global_options
def completion(shell: str) -> None:
    """Print the script that completes commands in a shell.

    For bash: eval "$(tailrace completion bash)" in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # the choices are click's
    click.echo(kind(cli, {}, "tailrace", "_TAILRACE_COMPLETE").source())


@click.command()
@global_options
def reindex() -> None:
    """Make the index of runs anew from their folders.

    Needed after folders were restored from a backup; the folders themselves
    are never changed.
    """
    from tailrace.store.rebuild import rebuild

    session = current()
    count = rebuild(session.own_state())
    if session.as_json:
        from tailrace.cli.output import print_json

        print_json({"runs": count})
    else:
        from tailrace.core.units import plural

        click.echo(f"{plural(count, 'run')} {'is' if count == 1 else 'are'} in the index")
