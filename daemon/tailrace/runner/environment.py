"""The environment of a step: fresh, and just what section 1 of the contract lists."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Final

from tailrace.core.plan import ParamValue
from tailrace.pipeline.expressions import text_of
from tailrace.pipeline.paths import variable_of
from tailrace.search_path import search_path

MAX_VALUE: Final = 1 << 16  # bytes; longer params are in the file only (execve(2) allows 128 KiB)

# Bytes of all outputs, with their names, so that a whole step's have room. execve(2) allows 2 MiB
# together with everything else, where the stack may have the usual 8 MiB.
MAX_OUTPUTS: Final = 1280 << 10
_OVERHEAD: Final = 10  # bytes a variable: "=", NUL and a pointer


def base_environment(step_env: Mapping[str, str]) -> dict[str, str]:
    """Return what every step gets: the account's, with the daemon's ``step_env`` over it."""
    account = pwd.getpwuid(os.getuid())
    return {
        "PATH": search_path({}),
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "CI": "true",
        "TAILRACE": "1",
        **step_env,
    }


def param_variables(params: Mapping[str, ParamValue]) -> dict[str, str]:
    """Return ``PARAM_*``: text, decimal, or ``true|false``; none for null or what is too long."""
    found: dict[str, str] = {}
    for name, value in params.items():
        if value is None:
            continue
        text = text_of(value, f"params.{name}")
        if len(text.encode()) <= MAX_VALUE and "\0" not in text:
            found[variable_of("PARAM", name)] = text
    return found


def output_variables(
    outputs: Mapping[str, Mapping[str, str]],
) -> tuple[dict[str, str], list[str]]:
    """Return ``OUTPUT_<STEP>_<NAME>`` for the outputs of the steps given, and what is left out.

    The shortest have their place first, up to `MAX_OUTPUTS`; of the others the
    names are returned, sorted.
    """
    found = {
        variable_of("OUTPUT", step, name): value
        for step, values in outputs.items()
        for name, value in values.items()
        if "\0" not in value
    }
    sizes = {name: len(name) + len(value.encode()) + _OVERHEAD for name, value in found.items()}
    left = MAX_OUTPUTS - sum(sizes.values())
    left_out: list[str] = []
    for name in sorted(sizes, key=lambda name: (sizes[name], name), reverse=True):
        if left >= 0:
            break
        left += sizes[name]
        left_out.append(name)
        del found[name]
    return found, sorted(left_out)
