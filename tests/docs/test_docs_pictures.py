"""What the README shows of `make demo` is what it prints, and the picture loads nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from documents import ROOT, House, blocks_of
from tailrace.pipeline.loader import load_pipeline

ANALYZE = load_pipeline(ROOT / "pipelines/analyze.yaml", display="analyze.yaml")
PICTURES = ROOT / "docs/pictures"


def shown_in(picture: Path) -> str:
    """Return the text of a picture, with plain spaces."""
    svg = picture.read_text()
    assert re.findall(r"https?://[^\"<]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "@import" not in svg
    root = ElementTree.fromstring(svg)
    return " ".join(" ".join(root.itertext()).replace("\xa0", " ").split())


def test_the_demo_in_the_readme_has_the_steps_of_analyze() -> None:
    """Each of them ends once, and the report's address comes last."""
    (demo,) = [block.text for block in blocks_of(ROOT / "README.md") if "demo" in block.words]

    ended = re.findall(r"^tailrace: ([\w-]+): success in ", demo, re.MULTILINE)

    assert sorted(ended) == sorted(ANALYZE.steps)
    assert f"analyze/1 has {len(ANALYZE.steps)} steps" in demo
    assert demo.splitlines()[-1].endswith("/artifacts/report.html")


def test_the_picture_shows_the_steps_of_analyze() -> None:
    """By their labels, and nothing of the machine that drew it."""
    text = shown_in(PICTURES / "demo.svg")

    assert all(str(step.label) in text for step in ANALYZE.steps.values())
    assert "analyze/1 succeeded" in text
    assert "file:///srv/tailrace/.demo/" in text


def test_the_script_draws_the_picture_of_a_run(house: House, tmp_path: Path) -> None:
    """With the command line's own view."""
    (tmp_path / "one.yaml").write_text("steps: {only: {label: The only one, run: 'true'}}\n")
    state = tmp_path / "state"
    run = ["tailrace", "run", "./one.yaml", "--local", "--state", str(state)]
    subprocess.run(run, cwd=tmp_path, env=house.env, check=True, capture_output=True)
    (folder,) = (state / "runs").iterdir()
    script = tmp_path / "draw.py"
    script.write_bytes((PICTURES / "draw.py").read_bytes())

    subprocess.run([sys.executable, script, folder], check=True)

    assert "The only one" in shown_in(tmp_path / "demo.svg")
