"""The folder of pipelines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tailrace.errors import InvalidInputError, UnknownError
from tailrace.pipeline.catalog import Catalog

GOOD = "steps: {a: {run: x}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one pipeline."""
    (tmp_path / "build.yaml").write_text(GOOD)
    return tmp_path


def test_a_folder_lists_its_pipelines_and_nothing_else(folder: Path) -> None:
    """Sorted by name; other files and hidden ones don't count."""
    for name in ("analyze.yaml", "README.md", ".hidden.yaml", "x.yaml~", "x.json"):
        (folder / name).write_text(GOOD)
    assert Catalog(folder).names() == ["analyze", "build"]
    assert Catalog(folder).get("build").steps["a"].run == "x"


def test_a_broken_file_is_listed_with_its_mistakes_and_refuses_only_itself(folder: Path) -> None:
    """Its name in the messages is the folder's display and its own."""
    (folder / "bad.yaml").write_text("stepz: {}\n")
    catalog = Catalog(folder, display="pipelines")

    bad, build = catalog.entries()

    assert (bad.name, bad.pipeline) == ("bad", None)
    assert str(bad.problems[0]).startswith("pipelines/bad.yaml:1:1: ")
    assert build.pipeline is not None
    with pytest.raises(InvalidInputError):
        catalog.get("bad")
    assert catalog.get("build")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("Bad Name.yaml", "'Bad Name' can't be a pipeline's name"),
        ("other.yml", "doesn't end in .yaml; rename the file to other.yaml"),
    ],
)
def test_a_bad_file_name_is_a_mistake(folder: Path, file: str, message: str) -> None:
    """So that nobody wonders where a pipeline has gone."""
    (folder / file).write_text(GOOD)
    entries = {entry.path.name: entry for entry in Catalog(folder).entries()}
    assert message in str(entries[file].problems[0])


def test_a_file_is_read_again_when_it_changes(folder: Path) -> None:
    """And only then: the same pipeline comes back as long as nothing did."""
    catalog = Catalog(folder)
    first = catalog.get("build")
    assert catalog.get("build") is first

    (folder / "build.yaml").write_text("steps: {bb: {run: y}}\n")
    assert list(catalog.get("build").steps) == ["bb"]

    replacement = folder / "new"
    replacement.write_text("steps: {cc: {run: y}}\n")
    before = (folder / "build.yaml").stat()
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    replacement.rename(folder / "build.yaml")  # same time, same size
    assert list(catalog.get("build").steps) == ["cc"]


def test_files_come_and_go(folder: Path) -> None:
    """Without a restart."""
    catalog = Catalog(folder)
    catalog.entries()
    (folder / "build.yaml").unlink()
    (folder / "later.yaml").write_text(GOOD)
    assert [entry.name for entry in catalog.entries()] == ["later"]


def test_an_unknown_pipeline_is_told_with_the_nearest_name(folder: Path) -> None:
    """Or with those that there are."""
    with pytest.raises(UnknownError, match=r"no pipeline is named 'biuld'; did you mean 'build'\?"):
        Catalog(folder).get("biuld")
    with pytest.raises(UnknownError, match="no pipeline is named 'x'; known: build"):
        Catalog(folder).get("x")


def test_an_absent_folder_holds_no_pipelines(tmp_path: Path) -> None:
    """And the message says which folder that was."""
    catalog = Catalog(tmp_path / "nowhere", display="nowhere")
    assert catalog.entries() == []
    with pytest.raises(UnknownError, match="'nowhere' holds no pipelines"):
        catalog.get("build")


@pytest.mark.parametrize("name", ["../build", "/etc/passwd", "a/b", ".", "", "build.yaml", "\0"])
def test_a_name_never_leads_out_of_the_folder(folder: Path, name: str) -> None:
    """Only names that the folder lists are looked at."""
    with pytest.raises(UnknownError):
        Catalog(folder).get(name)


def test_a_file_that_leads_nowhere_is_a_mistake(folder: Path) -> None:
    """A dangling link is listed like any broken file."""
    (folder / "link.yaml").symlink_to(folder / "absent")
    (folder / "dir.yaml").mkdir()
    entries = {entry.name: entry for entry in Catalog(folder).entries()}
    assert entries["link"].problems
    assert entries["dir"].problems
