"""How many events a step may tell at full speed: through the channel, masked, into the journal."""

from __future__ import annotations

from typing import Any

from bench.daemon import step
from bench.figure import Figure, Goal
from bench.workshop import PRODUCER, Done, Workshop, workshop


def measure(*, quick: bool) -> list[Figure]:
    """Return the time for 100,000 events, the runner's memory, and what is left of progress."""
    count = 1_000 if quick else 100_000
    pipelines = {
        kind: {"secrets": ["SECRET"], "steps": {"tell": step(*PRODUCER, "tell", kind, str(count))}}
        for kind in ("text", "progress")
    }
    with workshop(pipelines) as place:
        texts = [_checked(place, "text", count) for _ in range(1 if quick else 3)]
        progress = _checked(place, "progress", count)
    seconds = _seconds(progress)
    return [
        Figure(
            name="events", value=count / min(map(_seconds, texts)), unit="/s",
            note=f"{count:,} text events of one step at full speed, each in the journal, in order",
        ),
        Figure(
            name="runner in a flood of events", value=max(done.peak_rss_mb for done in texts),
            unit="MB", goal=Goal(kind="most", limit=64), note="the most resident memory (VmHWM)",
        ),
        Figure(
            name="progress", value=len(_told(progress, "progress")) / max(seconds, 1), unit="/s",
            goal=Goal(kind="most", limit=6),
            note=f"{count:,} events in {seconds:.1f} s: the first, four a second, and the last",
        ),
    ]  # fmt: skip


def _checked(place: Workshop, kind: str, count: int) -> Done:
    """Run it; what is told must be in order, and end with the last.

    Raises:
        RuntimeError: it isn't.
    """
    done = place.run(kind)
    told = _told(done, kind)
    if kind == "text":
        # The masker may hold a piece's last characters back until the next one.
        text = "".join(item["delta"] for item in told)
        is_whole = text == "".join(f"word {n}" for n in range(count))
    else:
        numbers = [item["done"] for item in told]
        is_whole = numbers == sorted(numbers) and numbers[-1] == count - 1
    if not is_whole:
        raise RuntimeError(f"{kind} events were lost or out of order")
    return done


def _told(done: Done, kind: str) -> list[dict[str, Any]]:
    return [item for item in done.events if item["event"] == kind]


def _seconds(done: Done) -> float:
    return max(done.time_of("step_finished") - done.time_of("step_started"), 0.001)
