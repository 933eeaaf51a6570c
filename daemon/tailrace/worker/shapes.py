"""The token shapes that every run masks: those that Tailrace ships, and the operator's."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from tailrace.core.shapes import Shape
from tailrace.settings import Settings

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where there is one


def load_all_shapes(settings: Settings) -> tuple[Shape, ...]:
    """Return the shapes that the settings want.

    Those of ``masking.patterns`` are believed: whoever read the settings has compiled them.
    """
    patterns = settings.masking.patterns.items()
    mine = tuple(Shape(name=name, pattern=pattern) for name, pattern in patterns)
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
