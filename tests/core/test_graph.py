"""The graph of needs."""

from __future__ import annotations

import itertools
from graphlib import CycleError, TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.graph import (
    find_cycles,
    nearest,
    transitive_needs,
    without,
)

Graph = dict[str, tuple[str, ...]]

NAMES = st.sampled_from("abcdefgh")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4).map(tuple), max_size=8)


def test_a_graph_without_cycles_has_none() -> None:
    """A diamond is no cycle."""
    assert find_cycles({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}) == []


def test_a_cycle_is_told_as_a_path_along_needs_from_its_first_step() -> None:
    """The contract writes ``a -> b -> a``."""
    assert find_cycles({"a": ("b",), "b": ("a",)}) == [("a", "b", "a")]
    assert find_cycles({"x": (), "c": ("b",), "b": ("a",), "a": ("c",)}) == [("c", "b", "a", "c")]


def test_a_step_that_needs_itself_is_a_cycle() -> None:
    """The shortest cycle has one step."""
    assert find_cycles({"a": ("a",)}) == [("a", "a")]


def test_every_knot_of_steps_is_told_once() -> None:
    """Cycles that are apart are told apart, also where one leads to the other."""
    graph = {"s": ("x",), "x": ("s", "a"), "a": ("b",), "b": ("a",), "z": ("z",)}
    assert find_cycles(graph) == [("s", "x", "s"), ("a", "b", "a"), ("z", "z")]


def test_needs_that_name_nothing_are_ignored() -> None:
    """A misspelled need doesn't hide the other mistakes."""
    assert find_cycles({"a": ("nope", "b"), "b": ("a",)}) == [("a", "b", "a")]
    assert transitive_needs({"a": ("nope",)}, "a") == ()


def test_transitive_needs_come_nearest_first() -> None:
    """Direct needs, then what they need."""
    graph = {"d": ("c", "b"), "c": ("a",), "b": (), "a": ()}
    assert transitive_needs(graph, "d") == ("c", "b", "a")


def test_the_nearest_of_some_steps_are_those_with_the_fewest_edges() -> None:
    """Two at the same distance are both told; a farther one isn't."""
    graph = {"one": (), "two": ("one",), "lint": ("two",), "both": ("one", "two"), "free": ()}
    assert nearest(graph, "lint", {"one", "two"}) == ("two",)
    assert nearest(graph, "both", {"one", "two"}) == ("one", "two")
    assert nearest(graph, "free", {"one", "two"}) == ()


def test_dependents_of_an_absent_step_inherit_its_needs_in_its_place() -> None:
    """Also across several absent steps, each need once."""
    graph: Graph = {"a": (), "b": ("a",), "c": ("b",), "d": ("c", "a"), "e": ("a", "c")}
    assert without(graph, {"b", "c"}) == {"a": (), "d": ("a",), "e": ("a",)}


def test_absent_steps_that_need_each_other_end_nothing_in_a_loop() -> None:
    """A cycle is told elsewhere; here it must only not hang."""
    assert without({"a": ("b",), "b": ("c",), "c": ("b",)}, {"b", "c"}) == {"a": ()}


def test_a_chain_of_ten_thousand_steps_needs_no_recursion() -> None:
    """Every function walks it."""
    graph: Graph = {str(n): (str(n + 1),) for n in range(10_000)}
    graph["10000"] = ()
    assert find_cycles(graph) == []
    assert len(transitive_needs(graph, "0")) == 10_000
    assert nearest(graph, "0", {"10000"}) == ("10000",)
    assert without(graph, set(graph) - {"0"}) == {"0": ()}


@given(GRAPHS)
def test_a_cycle_is_found_exactly_where_there_is_no_order(graph: Graph) -> None:
    """Cycles are real paths; the standard library says where needs can't go first."""
    cycles = find_cycles(graph)
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert all(after in graph[step] for step, after in itertools.pairwise(cycle))
    known = {step: [need for need in needs if need in graph] for step, needs in graph.items()}
    if not cycles:
        TopologicalSorter(known).prepare()
        return
    with pytest.raises(CycleError):
        TopologicalSorter(known).prepare()
