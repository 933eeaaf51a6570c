"""The graph that ``needs`` draws, as plain functions over names.

A graph is a mapping from each step to the steps it needs, in the file's order.
Names that aren't keys are ignored, so that a file with a misspelled need can
still be searched for its other mistakes. Nothing recurses: a chain of ten
thousand steps is as fine as two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

Graph = Mapping[str, Sequence[str]]


def find_cycles(graph: Graph) -> list[tuple[str, ...]]:
    """Return one cycle for each knot of steps that wait for each other.

    A cycle is the shortest path along ``needs`` from the knot's first step in
    the file back to it: ``("a", "b", "a")`` where *a* needs *b* and *b* needs
    *a*. The graph without cycles gives an empty list.
    """
    order = {step: place for place, step in enumerate(graph)}
    knots = [sorted(knot, key=order.__getitem__) for knot in _components(graph)]
    cycles = [cycle for knot in knots if (cycle := _cycle_in(graph, knot))]
    return sorted(cycles, key=lambda cycle: order[cycle[0]])


def _components(graph: Graph) -> Iterator[set[str]]:
    """Give the strongly connected components (Tarjan 1972, with a stack of our own)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    unassigned: list[str] = []
    done: set[str] = set()
    for start in graph:
        if start in number:
            continue
        visits: list[tuple[str, Iterator[str]]] = [(start, iter(graph[start]))]
        while visits:
            step, needs = visits[-1]
            if step not in number:
                number[step] = low[step] = len(number)
                unassigned.append(step)
            need = next(needs, None)
            if need is not None:
                if need in graph and need not in number:
                    visits.append((need, iter(graph[need])))
                elif need in graph and need not in done:
                    low[step] = min(low[step], number[need])
                continue
            visits.pop()
            if visits:
                parent = visits[-1][0]
                low[parent] = min(low[parent], low[step])
            if low[step] == number[step]:
                component = {unassigned.pop()}
                while step not in component:
                    component.add(unassigned.pop())
                done |= component
                yield component


def _cycle_in(graph: Graph, knot: Sequence[str]) -> tuple[str, ...]:
    """Return the shortest cycle through the first of *knot*; empty where there is none."""
    first, inside = knot[0], set(knot)
    came_from: dict[str, str] = {}
    layer = [first]
    while layer and first not in came_from:
        following: list[str] = []
        for step in layer:
            for need in graph[step]:
                if need in inside and need not in came_from:
                    came_from[need] = step
                    following.append(need)
        layer = following
    if first not in came_from:
        return ()
    path = [first, came_from[first]]
    while path[-1] != first:
        path.append(came_from[path[-1]])
    return tuple(reversed(path))


def transitive_needs(graph: Graph, step: str) -> tuple[str, ...]:
    """Return every step that *step* needs, directly or not, nearest first; never *step* itself."""
    return tuple(found for found, _ in _walk(graph, step))


def nearest(graph: Graph, step: str, among: Collection[str]) -> tuple[str, ...]:
    """Return those *among* the given steps that *step* needs by the fewest edges.

    Several are equally near; none are needed where the result is empty.
    """
    result: list[str] = []
    least = 0
    for found, distance in _walk(graph, step):
        if result and distance > least:
            break
        if found in among:
            result.append(found)
            least = distance
    return tuple(result)


def _walk(graph: Graph, step: str) -> Iterator[tuple[str, int]]:
    """Give each needed step once with its distance, breadth first."""
    seen = {step}
    layer: list[str] = [step]
    distance = 0
    while layer:
        distance += 1
        following: list[str] = []
        for name in layer:
            for need in graph.get(name, ()):
                if need in graph and need not in seen:
                    seen.add(need)
                    following.append(need)
                    yield need, distance
        layer = following


def without(graph: Graph, absent: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the graph with the *absent* steps taken out; their dependents inherit their needs.

    An inherited need takes the place of the absent one; a need that comes
    twice stands where it came first.
    """
    return {
        step: tuple(dict.fromkeys(_present(graph, step, absent)))
        for step in graph
        if step not in absent
    }


def _present(graph: Graph, step: str, absent: Collection[str]) -> Iterator[str]:
    seen: set[str] = set()
    pending = [iter(graph[step])]
    while pending:
        need = next(pending[-1], None)
        if need is None:
            pending.pop()
        elif need not in absent:
            yield need
        elif need not in seen:  # also ends the walk where absent steps need each other
            seen.add(need)
            pending.append(iter(graph.get(need, ())))
