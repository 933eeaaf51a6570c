"""A text that comes in pieces is masked as if it were one."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.mask import Masker
from tailrace.core.mask_rules import MaskRules
from tailrace.core.shapes import Shape
from tailrace.core.text_mask import TextMasker

RULES = MaskRules({"A": "hunter2-but-longer", "B": "pässwörd\nzwei", "C": "zzzz"})
PARTS = [
    "hunter2-",
    "but-longer",
    "pässwörd",
    "zwei",
    "zz",
    "https://",
    "u:p@",
    "\n",
    " ",
    "é",
    "s",
]


def masked(*pieces: str) -> list[str]:
    """What is told of each piece, and at the end."""
    text = TextMasker(Masker(RULES))
    return [*map(text.feed, pieces), text.close()]


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join), st.data())
def test_how_a_text_is_cut_makes_no_difference(text: str, data: st.DataObject) -> None:
    """Whole, letter by letter and at random; what is told is the text, masked."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = "".join(masked(text))
    assert whole == RULES.mask_text(text)
    assert "".join(masked(*text)) == whole
    assert "".join(masked(*pieces)) == whole


TOKEN = "ghp_" + "aB3" * 12
SHAPED = MaskRules({}, [Shape("token", r"ghp_[A-Za-z0-9]{36,}")])


@given(st.lists(st.integers(0, len(TOKEN) + 8), max_size=6))
def test_of_a_token_that_comes_in_pieces_its_kind_is_told_at_most(cuts: list[int]) -> None:
    """Wherever it is cut; what stands around it stays."""
    text = f"use {TOKEN} so"
    ends = [0, *sorted(cuts), len(text)]
    masker = TextMasker(Masker(SHAPED))
    told = "".join(masker.feed(text[a:b]) for a, b in pairwise(ends)) + masker.close()
    assert re.fullmatch(r"use (?:ghp|gh|g)?\*\*\* so", told), told


def test_all_is_told_at_once_but_what_may_become_something_to_mask() -> None:
    """A person reads along."""
    told = masked("Look, ", "here: hun", "ter2-but-", "longer, that", " hunt")
    assert told == ["Look, ", "here: ", "", "***, that", " ", "hunt"]


def test_a_letter_that_tokens_begin_with_holds_nothing_up() -> None:
    """Without secrets a text is told as it was cut."""
    masker = TextMasker(Masker(SHAPED))
    pieces = ["Let me look", " at tag", " g", "h", "p and ", "a link: https", "://example.org"]
    assert [masker.feed(piece) for piece in pieces[:-1]] == pieces[:-1]
