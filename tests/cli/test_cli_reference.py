"""The reference page of the command line says what the command line does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from documents import ROOT, rows_of
from tailrace.cli.main import COMMANDS, cli

PAGE = ROOT / "docs/reference/cli.md"
EVERYWHERE = {name for row in rows_of(PAGE, "## Options everywhere") for name in [row[0]]}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name, those of groups too."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", each) for sub, each in command.commands.items())


ALL = dict(commands())


def options(command: click.Command) -> list[tuple[str, str]]:
    """A command's options as the tables have them: how they are written, and what they do."""
    found = []
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        names = ", ".join(f"`{name}`" for name in option.opts)
        if not option.is_flag:
            choices = "|".join(getattr(option.type, "choices", ()))
            names += f" `{option.metavar or choices}`".replace("|", "\\|")
        found.append((names, option.help or ""))
    return found


def test_every_command_has_its_section_in_the_order_of_the_help() -> None:
    """And no section is left of a command that has gone."""
    general = {"Options everywhere", "Exit status", "What is shown"}
    headings = re.findall(r"^##+ (.+)$", PAGE.read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading not in general] == list(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_section_tells_its_command(name: str) -> None:
    """How it is called, what it does in the help's words, and each option that it has."""
    command = ALL[name]
    usage = " ".join(command.collect_usage_pieces(click.Context(command)))
    usage = usage.removeprefix("[OPTIONS]").removesuffix(" [ARGS]...").strip()
    does = (command.help or "").split("\n\n")[0].replace("\n", " ")
    assert f"\n`{f'tailrace {name} {usage}'.strip()}`: {does}\n" in PAGE.read_text()
    own = [option for option in options(command) if option[0] not in EVERYWHERE]
    heading = "###" if " " in name else "##"
    if own:
        assert [tuple(row) for row in rows_of(PAGE, f"{heading} {name}")] == own


def test_the_options_everywhere_are_those_of_the_program() -> None:
    """The table is the group's own options."""
    assert [tuple(row) for row in rows_of(PAGE, "## Options everywhere")] == options(cli)
