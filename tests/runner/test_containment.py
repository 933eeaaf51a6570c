"""What is known of a stopped attempt's leader."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tailrace.runner.containment import Containment, is_alive
from tailrace.runner.process import start


async def test_a_leader_that_dies_before_the_loop_looks_again_has_its_exit_status(
    tmp_path: Path,
) -> None:
    """Stopping returns with the leader reaped, however fast it went."""
    leader = start(["sleep", "600"], cwd=tmp_path, env=dict(os.environ))
    try:
        leader.signal_group(signal.SIGTERM)
        while is_alive(leader.pid):
            time.sleep(0.001)  # noqa: ASYNC251 - the loop must not hear of it
        kill = await Containment(leader, {}, set()).stop(grace_s=5)
    finally:
        os.close(leader.output)

    assert leader.returncode == -signal.SIGTERM
    assert kill.survivors == ()
