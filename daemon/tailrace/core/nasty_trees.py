"""Process trees that are hard to end: what stopping is tried on, in tests, bench and proofs."""

from __future__ import annotations

from typing import Final

# Shell text. TOKEN is a word of digits that every process has in its arguments, so that
# survivors are found whatever else they changed: `sleep 600.TOKEN` sleeps ten minutes.
_TREES: Final = {
    "in the background": "sleep 600.TOKEN & sleep 600.TOKEN &",
    "in another session": "setsid sleep 600.TOKEN & setsid -f sleep 600.TOKEN;",
    "doubly forked": "( (sleep 600.TOKEN &) & );",
    "deaf to hang-ups": "nohup sleep 600.TOKEN >/dev/null 2>&1 &",
    "deaf to SIGTERM": "(trap '' TERM; while :; do sleep 0.1; : TOKEN; done) &",
    "stopped": "sh -c 'kill -STOP $$; : TOKEN' &",
    "with closed output": "sleep 600.TOKEN >&- 2>&- <&- &",
    "a storm of forks": "(while :; do (sleep 600.TOKEN &); sleep 0.02; done) &",
    "hidden": "(setsid env -i sh -c 'trap \"\" TERM; sleep 600.TOKEN; :' >/dev/null 2>&1 &);",
}

NAMES: Final = tuple(_TREES)


def nasty_tree(name: str, token: int) -> str:
    """Return shell text that starts a tree, says ``ready`` and stays; for bash and sh.

    *hidden* has no parent, no session and no environment by which it could be
    told whose it is.
    """
    return f"{_TREES[name].replace('TOKEN', str(token))} echo ready; sleep 600.{token}"
