"""The token shapes that every run masks: those that Tailrace ships, and the operator's."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from tailrace.core.shapes import Shape, ShapeError, load_shapes
from tailrace.errors import InvalidInputError, Problem
from tailrace.settings import Settings

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where there is one


def load_all_shapes(settings: Settings) -> tuple[Shape, ...]:
    """Return the shapes that the settings want.

    Raises:
        InvalidInputError: a pattern of ``masking.patterns`` can't be used.
    """
    own = [{"name": name, "pattern": text} for name, text in settings.masking.patterns.items()]
    try:
        mine = load_shapes(own, "masking.patterns")
    except ShapeError as exc:
        names = list(settings.masking.patterns)
        raise InvalidInputError(
            [
                _problem_of(problem.where, problem.problem, problem.hint, names)
                for problem in exc.problems
            ]
        ) from None
    return (*_shipped(), *mine) if settings.masking.shapes else mine


def _shipped() -> tuple[Shape, ...]:
    # Not `load_shapes`, which compiles each by itself to tell of mistakes: 0.1 s for every command
    # that starts a run. Tests do it.
    data = yaml.load(shipped_file().read_bytes(), Loader=_LOADER)  # noqa: S506 - a safe one
    return msgspec.convert(data["shapes"], tuple[Shape, ...])


def shipped_file() -> Path:
    """Return ``configs/masking.yaml``: in the wheel, or in the source tree."""
    package = Path(str(resources.files("tailrace")))
    in_wheel = package / "shipped/configs/masking.yaml"
    return in_wheel if in_wheel.exists() else package.parent.parent / "configs/masking.yaml"


def _problem_of(where: str, problem: str, hint: str, names: list[str]) -> Problem:
    """Name the entry as the settings do: ``shapes[3].pattern`` is the fourth pattern."""
    number = where.removeprefix("shapes[").partition("]")[0]
    name = names[int(number)] if number.isdigit() else number
    return Problem(f"masking.patterns.{name}", problem, hint)
