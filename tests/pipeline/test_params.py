"""What a run is given, typed or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

from pipeline_files import read
from tailrace.core.plan import ParamValue
from tailrace.errors import InvalidInputError
from tailrace.pipeline.params import check_params, params_schema

PIPELINE = read("""
    params:
      repo: {type: git-url, required: true, help: Repository to analyze}
      ref: {type: git-ref, default: HEAD}
      lang: {type: enum, choices: [python, "3.10", any], default: any}
      name: {pattern: "[a-z]+"}
      count: {type: integer, minimum: 1, maximum: 10}
      ratio: {type: number, minimum: 0.5}
      fast: {type: boolean}
      size: {type: integer, choices: [1, 2]}
    steps:
      one: {run: "true"}
    """)


def refused(given: dict[str, object], *, text: bool = False) -> list[str]:
    """Return the mistakes in what a run was given."""
    with pytest.raises(InvalidInputError) as refusal:
        check_params(PIPELINE, {"repo": "https://x/y", **given}, text=text)
    return str(refusal.value).split("\n")


def test_a_value_is_quoted_whole_or_not_at_all() -> None:
    """What a cut would leave of a secret, no masker would know."""
    (told,) = refused({"lang": "x" * 48 + "hunter2-but-longer"})
    assert told.startswith("params.lang: '…' (66 characters) isn't one of its choices;")


def value(name: str, given: object, *, text: bool = False) -> ParamValue:
    """Return what becomes of one value."""
    return check_params(PIPELINE, {"repo": "https://x/y", name: given}, text=text)[name]


def test_every_declared_param_has_a_value() -> None:
    """Given, default, or null."""
    assert check_params(PIPELINE, {"repo": "https://x/y"}, text=True) == {
        "repo": "https://x/y", "ref": "HEAD", "lang": "any", "name": None, "count": None,
        "ratio": None, "fast": None, "size": None,
    }  # fmt: skip


def test_all_mistakes_are_told_at_once() -> None:
    """Unknown names, missing values, wrong types and values out of bounds."""
    with pytest.raises(InvalidInputError) as refusal:
        check_params(PIPELINE, {"rep": "x", "lang": "pythn", "count": 11, "fast": "x"}, text=False)
    assert str(refusal.value).split("\n") == [
        "params.rep: no such param; did you mean 'repo'?",
        "params.repo: is required; Repository to analyze",
        "params.lang: 'pythn' isn't one of its choices; did you mean 'python'?",
        "params.count: 11 is too large; give at most 10",
        "params.fast: expects a boolean, not the text 'x'; write true or false",
    ]


@pytest.mark.parametrize(
    ("declared", "hint"), [(0, "it takes none"), (2, "known: p0, p1"), (9, "check its spelling")]
)
def test_an_unknown_param_says_what_there_is(declared: int, hint: str) -> None:
    """As far as a reader is helped by it."""
    names = ", ".join(f"p{n}: {{}}" for n in range(declared))
    with pytest.raises(InvalidInputError) as refusal:
        check_params(
            read(f"{{params: {{{names}}}, steps: {{a: {{run: x}}}}}}"), {"S": 1}, text=False
        )
    assert str(refusal.value) == f"params.S: no such param; {hint}"


@pytest.mark.parametrize(
    ("name", "text", "typed"),
    [
        ("count", "3", 3),
        ("count", "+3", 3),
        ("ratio", "1", 1),
        ("ratio", "1.5e2", 150.0),
        ("fast", "true", True),
        ("fast", "No", False),
        ("lang", "3.10", "3.10"),
        ("name", "abc", "abc"),
        ("size", "2", 2),
        ("ref", "refs/heads/feature/é", "refs/heads/feature/é"),
        ("ref", "3f2a91c", "3f2a91c"),
    ],
)
def test_text_is_read_by_the_type_of_its_param(name: str, text: str, typed: ParamValue) -> None:
    """As the command line and query strings bring it."""
    found = value(name, text, text=True)
    assert found == typed
    assert type(found) is type(typed)


@pytest.mark.parametrize(
    ("name", "given", "typed"),
    [
        ("count", 3.0, 3),
        ("ratio", 2, 2),
        ("name", None, None),
        ("fast", False, False),
        ("ref", 1234567, "1234567"),
    ],
)
def test_json_is_converted_only_where_nothing_is_lost(
    name: str, given: object, typed: ParamValue
) -> None:
    """A whole float is an integer, an integer is text."""
    found = value(name, given)
    assert found == typed
    assert type(found) is type(typed)


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("count", "3", "params.count: expects an integer, not the text '3'"),
        ("count", 3.5, "params.count: expects an integer, not the number 3.5"),
        ("count", True, "params.count: expects an integer, not a boolean"),
        ("ratio", float("nan"), "params.ratio: expects a number, not the number nan"),
        ("ratio", 0.25, "params.ratio: 0.25 is too small; give at least 0.5"),
        ("fast", 1, "params.fast: expects a boolean, not the number 1"),
        ("name", 1.5, "params.name: expects text, not the number 1.5"),
        ("name", ["a"], "params.name: expects text, not a list"),
        ("name", {"a": 1}, "params.name: expects text, not an object"),
        ("name", "abc1", "params.name: 'abc1' doesn't match [a-z]+"),
        ("name", "a\0b", "params.name: holds a NUL or bytes that aren't UTF-8"),
        ("name", "a\udcff", "params.name: holds a NUL or bytes that aren't UTF-8"),
        ("count", 1 << 63, "params.count: the number has more than 64 bits"),
        ("size", 3, "params.size: '3' isn't one of its choices; choose one of 1, 2"),
        ("ref", "-x", "params.ref: a ref can't begin with '-'"),
        ("ref", "a..b", "params.ref: a ref can't have '..' in it"),
        ("ref", "x.lock", "params.ref: no part of a ref can"),
        ("repo", "ext::sh -c id", "params.repo: "),
        ("repo", "-u", "params.repo: "),
        ("repo", "https://x/\ny", "params.repo: "),
    ],
)
def test_a_value_that_fits_nothing_says_why(name: str, given: object, problem: str) -> None:
    """With what was expected and what came."""
    found = refused({name: given})
    assert len(found) == 1
    assert found[0].startswith(problem)
    assert "; " in found[0]


def test_a_refused_address_is_not_repeated() -> None:
    """It may hold a password."""
    assert "hunter2" not in refused({"repo": "https://me:hunter2@x y/z"})[0]


@pytest.mark.parametrize("text", ["3.5", "x", "", "0x10", "1_000", "٣", "9" * 5_000, "1e3"])
def test_text_that_is_no_whole_number_is_refused(text: str) -> None:
    """Also a number of five thousand digits, which Python itself refuses to read."""
    assert refused({"count": text}, text=True)[0].startswith("params.count: ")


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=2), st.just({"a": 1}),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*PIPELINE.params, "x"]), VALUES), st.booleans())
def test_any_values_are_typed_or_refused(given: dict[str, object], text: bool) -> None:
    """What passes is of the param's type and within its schema."""
    try:
        typed = check_params(PIPELINE, given, text=text)
    except InvalidInputError:
        return
    given_back = {name: found for name, found in typed.items() if found is not None}
    Draft202012Validator(params_schema(PIPELINE)).validate(given_back)


def test_the_schema_of_params_is_one_that_forms_can_use() -> None:
    """Types, bounds, choices, defaults and help."""
    schema = params_schema(PIPELINE)
    Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["repo"]
    assert schema["properties"]["repo"]["description"] == "Repository to analyze"
    assert schema["properties"]["count"] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert schema["properties"]["lang"]["enum"] == ["python", "3.10", "any"]
    assert schema["properties"]["name"]["pattern"] == "^(?:[a-z]+)$"
    assert schema["properties"]["ref"]["default"] == "HEAD"
