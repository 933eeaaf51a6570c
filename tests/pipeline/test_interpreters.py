"""Where a command's item is code."""

from __future__ import annotations

import pytest

from tailrace.pipeline.interpreters import code_items


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["bash", "-c", "X"], {2}),
        (["/bin/sh", "-c", "X"], {2}),
        (["bash", "-lc", "X"], {2}),
        (["sh", "-ec", "X"], {2}),
        (["bash", "-c", "-e", "X"], {3}),
        (["bash", "-eo", "pipefail", "-c", "X"], {4}),
        (["sh", "-c", "--", "X"], {3}),
        (["dash", "-c", "X", "name", "argument"], {2}),
        (["zsh", "-xc", "X"], {2}),
        (["python", "-c", "X"], {2}),
        (["python3.11", "-W", "ignore", "-c", "X"], {4}),
        (["python3", "-Ic", "X"], {2}),
        (["python3", "-cX"], {1}),
        (["perl", "-e", "X"], {2}),
        (["perl", "-lane", "X"], {2}),
        (["perl", "-i.bak", "-pe", "X", "file"], {2 + 1}),
        (["ruby", "-eX"], {1}),
        (["node", "--eval", "X"], {2}),
        (["node", "--eval=X"], {1}),
        (["node", "-r", "module", "-p", "X"], {4}),
        (["php", "-r", "X"], {2}),
        (["awk", "-F", ":", "X", "file"], {3}),
        (["env", "A=1", "bash", "-c", "X"], {4}),
        (["timeout", "60", "nice", "sh", "-c", "X"], {5}),
        (["env", "-S", "X"], {2}),
        (["su", "-", "user", "-c", "X"], {4}),
        (["${{ params.tool }}", "-c", "X"], {2}),
        (["/opt/${{ params.tool }}/bin", "--eval", "X"], {2}),
        (["timeout", "60", "${{ params.tool }}", "-c", "X"], {4}),
        (["sudo", "-u", "nobody", "${{ params.tool }}", "-e", "X"], {5}),
        (["env", "A=1", "nice", "-n", "5", "${{ params.tool }}", "--eval=X"], {6}),
        (["bash", "--rcfile", "FILE", "-c", "X"], {4}),
        (["bash", "--norc", "-c", "X"], {3}),
        (["python3", "--check-hash-based-pycs", "default", "-c", "X"], {4}),
        (["node", "-pe", "X"], {2}),
        (["node", "-p", "X"], {2}),
        (["node", "--require", "module", "-e", "X"], {4}),
        (["node", "--input-type", "module", "--eval", "X"], {4}),
        (["bun", "-e", "X"], {2}),
        (["deno", "eval", "--quiet", "X"], {3}),
        (["zsh", "-c${{ params.x }}"], {1}),
        (["fish", "--command=X"], {1}),
        (["pwsh", "-ExecutionPolicy", "Bypass", "-Command", "X"], {4}),
        (["python3.13t", "-c", "X"], {2}),
        (["python3-dbg", "-c", "X"], {2}),
        (["Rscript", "--vanilla", "-e", "X"], {3}),
        (["emacs", "-Q", "--batch", "--eval", "X"], {4}),
        (["erl", "-noshell", "-eval", "X"], {3}),
        (["make", "-C", "folder", "--eval", "X"], {4}),
        (["psql", "base", "-c", "X"], {3}),
        (["sed", "-n", "X", "file"], {2}),
        (["sed", "-i", "-e", "X", "file"], {3}),
        (["octave", "--eval", "X"], {2}),
        (["anything", "more", "--eval", "X"], {3}),
    ],
)
def test_the_code_argument_of_an_interpreter_is_found(command: list[str], code: set[int]) -> None:
    """Whatever stands before it, in a cluster or attached."""
    assert code_items(command) == code


@pytest.mark.parametrize(
    "command",
    [
        ["git", "-c", "user.name=X", "commit"],
        ["grep", "-e", "X"],
        ["bash", "script.sh", "-c", "X"],
        ["python3", "tool.py", "-c", "X"],
        ["python3", "-m", "tool", "-c", "X"],
        ["bash", "--", "script.sh", "-c", "X"],
        ["perl", "-I", "lib", "script.pl", "-e", "X"],
        ["bash"],
        ["bash", "-c"],
        ["node", "--", "server.js", "-p", "X"],
        ["node", "--max-old-space-size=100", "server.js", "-p", "X"],
        ["awk", "-f", "script.awk", "X"],
        ["sed", "-f", "script.sed", "X"],
        ["timeout", "60", "grep", "-f", "${{ params.list }}", "-e", "X"],
        ["timeout", "${{ params.limit }}", "git", "-c", "X"],
        ["python3", "train.py", "--eval", "X"],
        ["npx", "--yes", "eslint", "-c", "X"],
        ["ruff", "check", "--config", "X"],
        [],
    ],
)
def test_what_only_looks_like_code_is_left_alone(command: list[str]) -> None:
    """Options of other programs, and arguments of scripts; never an index beyond the end."""
    assert not {item for item in code_items(command) if item < len(command)}


def test_the_letters_of_a_template_are_no_options() -> None:
    """A path with a 'c' in it isn't the option that takes code."""
    assert code_items(["psql", "-h${{ params.server }}"]) == set()
    assert code_items(["perl", "-n${{ params.size }}", "file"]) == set()
