"""What depth and matrix make of a pipeline's graph: which steps there are, and how many times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from tailrace.core.graph import Graph, without
from tailrace.pipeline.model import Pipeline, StepDef


def default_depth(pipeline: Pipeline) -> str | None:
    """Return the depth of runs that name none: the one marked, else the first; None without any."""
    for name, depth in pipeline.depths.items():
        if depth.default:
            return name
    return next(iter(pipeline.depths), None)


def absent_steps(pipeline: Pipeline, depth: str | None) -> tuple[str, ...]:
    """Return the ids of the steps that *depth* leaves out, in the file's order."""
    return tuple(
        step.id for step in pipeline.steps.values() if step.depth and depth not in step.depth
    )


def graph_of(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """Return the graph as the file draws it: each step's id and the ids that it needs."""
    return {step.id: step.needs for step in pipeline.steps.values()}


def graph_at(pipeline: Pipeline, depth: str | None) -> Graph:
    """Return the graph of the steps that *depth* keeps, with inherited needs."""
    return without(graph_of(pipeline), absent_steps(pipeline, depth))


def count_combinations(step: StepDef) -> int:
    """Return how many steps its matrix makes: 1 without one."""
    return math.prod(len(values) for values in step.matrix.values())


def combinations(step: StepDef) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the id and values of each combination: ``test[3.11,linux]``; the step itself without."""
    if not step.matrix:
        yield step.id, {}
        return
    for values in itertools.product(*step.matrix.values()):
        combination = dict(zip(step.matrix, values, strict=True))
        yield f"{step.id}[{','.join(values)}]", combination
