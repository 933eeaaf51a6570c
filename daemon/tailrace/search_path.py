"""Where steps find programs: section 1 of the contract."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def search_path(step_env: Mapping[str, str]) -> str:
    """Return the ``PATH`` of steps: ``step_env``'s, else this process's with ours at its end."""
    if "PATH" in step_env:
        return step_env["PATH"]
    installed = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if installed not in path:
        path.append(installed)
    return os.pathsep.join(path)
