"""Trees of processes that don't want to be ended, as POSIX shell: for proofs, tests and bench.

``$NAP`` is a ``sleep`` whose path holds the run's mark, and descriptor 9 a file
whose path does. Everything is bounded: a storm of forks has at most some fifty
processes at a time, and none of its sleepers outlives ten minutes.
"""

from __future__ import annotations

from typing import Final

# Leaves its session, wipes its environment and loses its parent: only containment holds it.
HIDING: Final = '(setsid env -i "$NAP" 600 &);'

_STORM: Final = 'i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); ("$NAP" 0.5 &); "$NAP" 0.01; done'
_WAIT: Final = '"$NAP" 600'

TREES: Final[dict[str, str]] = {
    "in the background": f'"$NAP" 600 & "$NAP" 600 & ready; {_WAIT}',
    "in a session of its own": f'setsid "$NAP" 600 & setsid "$NAP" 600 & ready; {_WAIT}',
    "forked twice": f'( ("$NAP" 600 &) & ); ready; {_WAIT}',
    "a daemon: own session, forked twice": f"(setsid sh -c '(\"$NAP\" 600 &)' &); ready; {_WAIT}",
    "behind nohup": f'nohup "$NAP" 600 > /dev/null 2>&1 & ready; {_WAIT}',
    "deaf to SIGTERM": f"trap '' TERM INT HUP QUIT; \"$NAP\" 600 & ready; {_WAIT}; {_WAIT}",
    "stopped": f"sh -c 'kill -STOP $$' & sh -c 'kill -STOP $$; \"$NAP\" 600' & ready; {_WAIT}",
    "a storm of forks": f"({_STORM}) & ready; {_WAIT}",
    "a storm deaf to SIGTERM": f"trap '' TERM; ({_STORM}) & ready; {_WAIT}; {_WAIT}",
    "with its output closed": f'"$NAP" 600 >&- 2>&- <&- & ready; {_WAIT}',
    "its output closed by the leader": f'"$NAP" 600 & ready; exec >&- 2>&-; {_WAIT}',
    "its environment wiped": f'env -i "$NAP" 600 & ready; {_WAIT}',
    "wiped, in a session of its own": f'env -i setsid "$NAP" 600 & ready; {_WAIT}',
    "hiding": f"{HIDING} {HIDING} ready; {_WAIT}",
    "all at once": (
        f"trap '' TERM; \"$NAP\" 600 & setsid \"$NAP\" 600 & ( (\"$NAP\" 600 &) & ); "
        f"nohup \"$NAP\" 600 > /dev/null 2>&1 & {HIDING} ({_STORM}) & ready; {_WAIT}; {_WAIT}"
    ),
}  # fmt: skip


def in_background() -> str:
    """Return what leaves some of each kind in the background, one that hides aside."""
    return (
        '"$NAP" 600 & setsid "$NAP" 600 & ( ("$NAP" 600 &) & ); '
        'nohup "$NAP" 600 > /dev/null 2>&1 & '
        "(trap '' TERM HUP; \"$NAP\" 600) & (setsid sh -c '(\"$NAP\" 600 &)' &)"
    )


def script(tree: str) -> str:
    """Return the script of a step that grows a tree; it prints ``ready`` once that stands.

    ``$PROOF_FOLDER`` must be the folder of the mark that its processes get.
    """
    return (
        'export NAP="$PROOF_FOLDER/sleep"; exec 9> "$PROOF_FOLDER/held"; '
        f"ready() {{ echo ready; }}; {TREES[tree]}"
    )
