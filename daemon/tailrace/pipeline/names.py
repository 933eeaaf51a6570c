"""Whether the paths in templates and conditions lead anywhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from tailrace.core.graph import Graph, transitive_needs
from tailrace.pipeline.model import Pipeline, StepDef
from tailrace.pipeline.paths import (
    EVENT_KEYS,
    PR_KEYS,
    RUN_FACTS,
    STEP_FACTS,
    TEMPLATE_NAMES,
    Path,
)
from tailrace.pipeline.reading import Place, Reading
from tailrace.pipeline.spelling import suggest

_ROOTS: Final[dict[Place, tuple[str, ...]]] = {
    "run": ("params", "depth", "run", "event"),
    "step": TEMPLATE_NAMES,
    "event": ("event",),
    "condition": ("params", "depth", "matrix", "event", "steps"),
}


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a path, and a hint."""

    problem: str
    hint: str


class Names:
    """The names that a pipeline's expressions may use."""

    def __init__(self, pipeline: Pipeline, graph: Graph, reading: Reading) -> None:
        self._pipeline = pipeline
        self._graph = graph
        self._reading = reading
        self._needed: dict[str, frozenset[str]] = {}

    def fault(self, path: Path, place: Place, step: StepDef | None) -> Fault | None:
        """Return what is wrong with *path* at that place of that step; None where it leads on."""
        root, *rest = path.parts
        allowed = _ROOTS[place]
        if root not in TEMPLATE_NAMES:
            return Fault(f"nothing is named '{root}'", suggest(root, allowed))
        if root not in allowed:
            names = ", ".join(allowed)
            return Fault(f"'{root}' isn't known here", f"this place takes {names}")
        match root:
            case "params":
                return self._of(path, rest, self._pipeline.params, "param")
            case "matrix":
                return self._of(path, rest, step.matrix if step else (), "matrix value")
            case "run":
                return self._of(path, rest, RUN_FACTS, "fact of a run")
            case "depth":
                return Fault(f"'{path}' leads nowhere", "write depth") if rest else None
            case "event":
                return _event_fault(path, rest, place)
        return self._step_fault(path, rest, place, step)

    def _of(
        self, path: Path, rest: Sequence[str], known: Collection[str], what: str
    ) -> Fault | None:
        root = path.parts[0]
        if not rest:
            return Fault(f"'{root}' alone is no value", f"name a {what}: {root}.NAME")
        if rest[0] not in known:
            if root == "params" and self._reading.has(f"params.{rest[0]}"):
                return None  # what is wrong is told where it is declared
            otherwise = f"declare it under '{root}'" if not known else ""
            hint = self._reading.suggest(rest[0], known, otherwise=otherwise)
            return Fault(f"no {what} is named '{rest[0]}'", hint)
        if len(rest) > 1:
            return Fault(f"'{path}' leads nowhere", f"{root}.{rest[0]} is one value")
        return None

    def _step_fault(
        self, path: Path, rest: Sequence[str], place: Place, step: StepDef | None
    ) -> Fault | None:
        if not rest:
            return Fault("'steps' alone is no value", "name a step: steps.ID.outputs.NAME")
        name, *facts = rest
        base = name.partition("[")[0]
        if base not in self._pipeline.steps:
            if self._reading.has(f"steps.{base}"):
                return None
            return Fault(f"no step is named '{name}'", self._reading.suggest(name, self._graph))
        if step is not None and base not in self._needs_of(step.id):
            hint = f"add {base} to its needs" if base != step.id else "a step can't read itself"
            return Fault(f"'{name}' isn't among the steps that it needs", hint)
        if facts and facts[0] not in STEP_FACTS:
            return Fault(f"a step has no '{facts[0]}'", suggest(facts[0], STEP_FACTS))
        written = f"steps.{name}" if place != "condition" or "-" not in name else f"steps['{name}']"
        if place == "step" and (len(facts) != 2 or facts[0] != "outputs"):
            return Fault(f"'{path}' isn't an output", f"write {written}.outputs.NAME")
        if facts == ["outputs"] or not facts:
            return (
                None if place == "condition" else Fault(f"'{path}' is no value", "name an output")
            )
        return None

    def _needs_of(self, step: str) -> frozenset[str]:
        if step not in self._needed:
            self._needed[step] = frozenset(transitive_needs(self._graph, step))
        return self._needed[step]


def _event_fault(path: Path, rest: Sequence[str], place: Place) -> Fault | None:
    if place != "condition" and rest in ([], ["pr"], ["raw"]):
        return Fault(f"'{path}' alone is no value", f"name one of its keys: {path}.KEY")
    if rest and rest[0] not in EVENT_KEYS:
        return Fault(f"an event has no '{rest[0]}'", suggest(rest[0], EVENT_KEYS))
    if len(rest) > 1 and rest[0] == "pr" and rest[1] not in PR_KEYS:
        return Fault(f"a pull request has no '{rest[1]}'", suggest(rest[1], PR_KEYS))
    if len(rest) > 1 and rest[0] not in ("pr", "raw"):
        return Fault(f"'{path}' leads nowhere", f"event.{rest[0]} is one value")
    return None
