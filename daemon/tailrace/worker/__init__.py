"""From a submission to a runner: accepting, queueing, spawning, following and ending runs.

`accept` and `spawn` serve ``tailrace run`` without a daemon too; `worker` is
the daemon's.
"""
