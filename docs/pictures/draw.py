"""Draws demo.svg: what a terminal shows when `make demo` has ended.

    .venv/bin/python docs/pictures/draw.py RUN_FOLDER

takes a run of `analyze` (``<state>/runs/<id>``) and writes the picture beside
this script. It is the command line's own view, printed to a console of rich
that records instead of painting.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tailrace.cli.model import Model
from tailrace.cli.picture import THEME, print_end
from tailrace.rundir.journal import JournalReader
from tailrace.rundir.layout import RunDir
from tailrace.wire import Frame

ROOT: Final = Path(__file__).resolve().parents[2]
CHECKOUT: Final = "/srv/tailrace"
WIDTH: Final = 104
COMMAND: Final = "make demo"

COLOURS: Final = TerminalTheme(
    (24, 26, 31),
    (214, 218, 226),
    [(24, 26, 31), (240, 113, 120), (148, 201, 115), (229, 192, 123),
     (97, 175, 239), (198, 120, 221), (86, 182, 194), (214, 218, 226)],
    [(128, 136, 150), (240, 113, 120), (148, 201, 115), (229, 192, 123),
     (97, 175, 239), (198, 120, 221), (86, 182, 194), (255, 255, 255)],
)  # fmt: skip

# Fonts that machines have; a picture must load nothing from anywhere.
FORMAT: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  line-height: {line_height}px; white-space: pre }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
<rect fill="#181a1f" x="0" y="0" width="{width}" height="{height}" rx="8"/>
<g transform="translate({terminal_x}, 16)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def elsewhere(frame: Frame, folder: Path) -> Frame:
    """Return the frame without the paths of the machine that drew it."""
    data = frame.data.decode()
    for ours, shown in ((folder.parents[1], f"{CHECKOUT}/.demo/state"), (ROOT, CHECKOUT)):
        data = data.replace(str(ours), shown)
    return msgspec.structs.replace(frame, data=data.encode())


def draw(folder: Path) -> str:
    """Return the picture of the run in *folder*."""
    model = Model()
    reader = JournalReader(RunDir(folder))
    while frames := reader.read():
        model.take([elsewhere(frame, folder) for frame in frames])
    reader.close()
    console = Console(
        theme=THEME, record=True, width=WIDTH, height=40, file=io.StringIO(), force_terminal=True,
        color_system="truecolor", highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    console.print(Text.assemble(("$ ", "bright_black"), (COMMAND, "bold")))
    print_end(console, model)
    svg = console.export_svg(title="", theme=COLOURS, code_format=FORMAT, unique_id="demo")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def main() -> None:
    """Draw the run that the first argument names."""
    if len(sys.argv) != 2:
        sys.exit("usage: draw.py RUN_FOLDER")
    Path(__file__).with_name("demo.svg").write_text(draw(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
