"""What the documentation tells people to type works, and prints what it shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from documents import PAGES, Block, House, all_blocks, blocks_of, run_page
from tailrace.cli.main import Globals, cli
from tailrace.errors import InvalidInputError
from tailrace.pipeline.loader import read_pipeline
from tailrace.settings_file import load_settings

CONSOLES = [page for page in PAGES if any(b.language == "console" for b in blocks_of(page))]


def _place(block: Block) -> str:
    return block.at


@pytest.mark.parametrize("page", CONSOLES, ids=lambda page: page.stem)
def test_a_page_can_be_followed_from_its_beginning_to_its_end(page: Path, house: House) -> None:
    """Each command is run, in one shell, and prints what stands below it."""
    run_page(page, house)


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=_place)
def test_yaml_in_the_documentation_is_a_pipeline_or_settings(block: Block, tmp_path: Path) -> None:
    """That loads as it stands; where it is broken, so that it is refused."""
    if "settings" in block.words or not re.search(r"^steps:", block.text, re.MULTILINE):
        (tmp_path / "tailrace.yaml").write_text(block.text)
        load_settings(str(tmp_path / "tailrace.yaml"), {})
    elif "broken" in block.words:
        with pytest.raises(InvalidInputError):
            read_pipeline(block.text.encode(), name="example", display=block.at)
    else:
        read_pipeline(block.text.encode(), name="example", display=block.at)


@pytest.mark.parametrize("block", all_blocks("json"), ids=_place)
def test_json_in_the_documentation_parses(block: Block) -> None:
    """Each block is one document."""
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("sh", "console"), ids=_place)
def test_commands_of_ours_in_the_documentation_are_understood(block: Block) -> None:
    """Every `tailrace …` of a shell block is a command with options that it has."""
    for words in _calls(block):
        _understand(cli, words)


def _understand(command: click.Command, words: list[str]) -> None:
    """Parse as the command line does, without doing anything; raise where it would refuse."""
    if isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words[0])
        assert inner is not None, words
        _understand(inner, words[1:])
    else:
        command.make_context(command.name, list(words), obj=Globals())


def _calls(block: Block) -> list[list[str]]:
    found = []
    for line in block.text.splitlines():
        text = line.removeprefix("$ ")
        if block.language == "console" and text == line:
            continue
        match = re.match(r"(?:[A-Z_]+=\S* )*tailrace ([^|;&>]*)", text)
        if match is not None:
            found.append(shlex.split(match[1], comments=True))
    return found
