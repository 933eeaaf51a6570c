"""A figure, what it is held against, and how both are sampled on a noisy machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure should reach.

    ``share``: at least this share of the bare minimum. ``over``: at most so
    much over it. ``most``: at most this, whatever the bare minimum is.
    """

    kind: Literal["share", "over", "most"]
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table."""

    name: str
    value: float
    unit: str
    bare: float | None = None  # the bare minimum, in the same unit
    goal: Goal | None = None
    note: str = ""  # what was measured, and against what

    @property
    def ratio(self) -> float | None:
        """The value in bare minimums."""
        return self.value / self.bare if self.bare else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        if self.goal.kind == "most":
            return self.value <= self.goal.limit
        assert self.bare is not None
        if self.goal.kind == "over":
            return self.value - self.bare <= self.goal.limit
        return self.value >= self.goal.limit * self.bare


def interleaved(rounds: int, ways: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Measure each way once a round, in turn, and return the median of each.

    In turn, because a machine that others use is slow for a while rather than
    for one of the ways.
    """
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            samples[name].append(measure())
    return {name: statistics.median(values) for name, values in samples.items()}


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of *values* doesn't exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
