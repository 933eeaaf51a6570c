"""``python -m tailrace.runner.chosen ASKED``: tells what containment runners choose here, as JSON.

ASKED is the setting ``limits.containment``. A process of its own, such as a
runner is, because that is where it is tried out.
"""

from __future__ import annotations

import os
import sys

import msgspec

from tailrace import cgroup
from tailrace.runner.mechanism import choose

if __name__ == "__main__":
    mechanism = choose(sys.argv[1], f"doctor-{os.getpid()}")  # type: ignore[arg-type]  # as the settings have it
    mechanism.close()
    why = mechanism.why or (None if mechanism.name == "cgroup" else cgroup.why_unusable())
    answer = {"containment": mechanism.containment, "why": why}
    sys.stdout.write(msgspec.json.encode(answer).decode())
