"""The stream: the cutting of the output never matters, and a slow reference agrees."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.core import chains
from tailrace.core.layers import REACH, Layer
from tailrace.core.mask import BLOCK, OPEN, Masker
from tailrace.core.mask_rules import MaskRules, SecretTooShortError
from tailrace.core.needles import needles_of
from tailrace.core.scanner import Found, ScanStream
from tailrace.core.shapes import Shape

SECRETS = {
    "PLAIN": "hunter2!",
    "SELF": "abcabcab",
    "SAME": "aaaa",
    "TWO": "xyxyx",
    "THREE": "-=+-=+-",
    "SLASHED": 'one \\\n two"\\\r\nthree',
    "BEGUN_BY_OTHER": "abcabcab-and-more",
    "OVERLAP": "cabxyz&'q",
    "LINES": "first line!\n{\n  ab\r\n\nlast line of it\n}",
    "SHORT_LINES": "a\nb\nc\nd",
}
SHAPES = (
    Shape("run", r"tok_[ab]{2,}"),
    Shape("inner", r"x[ab]+y"),
    Shape("fixed", r"k[0-9]{3}"),
    Shape("value", r"[ab]{3,}", before=r"pw *= *"),
)
RULES = MaskRules(SECRETS, SHAPES)
NEEDLES = [needle for secret in SECRETS.values() for needle in needles_of(secret)]
BREAKS = rb"""(?:[ \t\r\n]|\\+(?:[nrt]|\r?\n|u000a)|'\$'\\n''|%0[aAdD]|&#10;|<br>){0,64}"""
CHAINS = [
    BREAKS.join(map(re.escape, lines))
    for lines in (
        [b"first line!", b"{", b"ab", b"last line of it", b"}"],
        [b"a", b"b", b"c", b"d"],
        [b"one \\", b'two"\\', b"three"],
        [b"one \\\\", b'two\\"\\\\', b"three"],
    )
]
TOKENS = [rb"tok_[ab]{2,}", rb"x[ab]+y", rb"k[0-9]{3}"]

PIECES = [
    *(b"hunter2! hunter2 abcabcab cabxyz&'q a b c d aaaa aaa first { } ab tok_ tok_ab".split()),
    *(b"tok_abba x xa xaby k k1 k12 k123 pw pw= aab \xff \xc3\xa9 *** -and-more line!".split()),
    *(b"xyxyx xyx yxy -=+-=+- -=+ =+-= + aaaaa %0A &#10; &#1 <br> u000a '$'\\n'' \\".split()),
    *(b"one \\", b"one \\\\", b"two", b'two"\\', b'two\\"\\\\', b"three", b"\\n", b"\\\\", b"0a"),
    *(b"first line!\\n{ ", b"ab%0Alast line of it", b"\\u000a\t}", b"a&#10;b", b"\tc'$'\\n''d"),
    *(b" ", b"\n", b"\r\n", b"\r", b"first line!", b"last line of it", b"first line!\n{\n"),
    *(b"  ab\r\n\n", b"a\nb\nc\nd", b"a\nb\nc\n", b"cabxyz&amp;", b"cabxyz%26%27q", b"lastline"),
    *(b"://u:p@", b"://u", b"@h/", b"abcabcababcabcab", b"pw = abba"),
    SECRETS["LINES"].encode(),
    SECRETS["LINES"].replace("\r\n", "\n").encode(),
]
GAPS = ["", "\n", "\r\n", "\r", " ", "\t", "\\n", "\\\\n", "\\r\\n", "\n  ", " \\\n ", "'$'\\n''",
        "%0A", "%0D%0A", "&#10;", "<br>\n", "\\u000a", " | ", "\\", "%0",
        "\n" * 64, "\n" * 65]  # fmt: skip


@st.composite
def printed(draw: st.DrawFn) -> bytes:
    """A secret of several lines as programs may print it, or not quite, or a part of it."""
    lines = draw(
        st.sampled_from(
            [["first line!", "{", "ab", "last line of it", "}"], ["a", "b", "c", "d"],
             ["one \\", 'two"\\', "three"], ["one \\\\", 'two\\"\\\\', "three"]]
        )
    )  # fmt: skip
    text = lines[0]
    for line in lines[1:]:
        text += draw(st.sampled_from(GAPS)) + line
    return text[: draw(st.sampled_from([len(text), len(text) - 1, len(text) // 2]))].encode()


outputs = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3) | printed(), max_size=24).map(
    b"".join
)


def reference(data: bytes) -> bytes:
    """Mask *data* the slow and obvious way."""
    covered = bytearray(len(data))

    def cover(begin: int, end: int) -> None:
        covered[begin:end] = b"\1" * (end - begin)

    for needle in NEEDLES:
        for at in range(len(data)):
            if data.startswith(needle, at):
                cover(at, at + len(needle))
    for begin in range(len(data)):
        for chain in CHAINS:
            if (found := re.compile(chain).match(data, begin)) and found.end() - begin >= 4:
                cover(begin, found.end())
        if data[begin] not in b"txk:p":  # none of the others can begin here
            continue
        for end in range(begin + 1, len(data) + 1):
            if any(re.fullmatch(token, data[begin:end]) for token in TOKENS):
                cover(begin, end)
            if re.fullmatch(rb"://[^\s/?#\"<>`]+@", data[begin:end]):
                cover(begin + 3, end - 1)
            if re.fullmatch(rb"pw *= *", data[begin:end]):
                value = re.compile(rb"[ab]{3,}").match(data, end)
                cover(end, value.end() if value else end)
    shown = (
        (b"***" if hidden else b"", data[i : i + 1], hidden) for i, hidden in enumerate(covered)
    )
    out = b""
    before = 0
    for stars, byte, hidden in shown:
        out += (b"" if before else stars) if hidden else byte
        before = hidden
    return out


def masked(rules: MaskRules, chunks: Iterable[bytes], flushes: Iterable[bool] = ()) -> bytes:
    masker, flushing = Masker(rules), iter(flushes)
    out = b""
    for chunk in chunks:
        out += masker.feed(chunk)
        if next(flushing, False):
            out += masker.flush()
        assert 0 <= masker.held <= rules.reach + OPEN
    return out + masker.close()


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@given(outputs, st.lists(st.integers(0, 10_000), max_size=8), st.lists(st.booleans(), max_size=12))
def test_any_cutting_and_any_flushes_give_what_the_reference_gives(
    data: bytes, places: list[int], flushes: list[bool]
) -> None:
    """Whole, cut at random with flushes at random, and byte by byte with a flush after each."""
    check_against_reference(data, places, flushes)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, derandomize=False)
@given(outputs, st.lists(st.integers(0, 10_000), max_size=8), st.lists(st.booleans(), max_size=12))
def test_the_reference_agrees_ten_thousand_times(
    data: bytes, places: list[int], flushes: list[bool]
) -> None:
    """The same, for longer."""
    check_against_reference(data, places, flushes)


def check_against_reference(data: bytes, places: list[int], flushes: list[bool]) -> None:
    """Mask *data* in three ways."""
    expected = reference(data)
    assert masked(RULES, [data]) == expected
    assert masked(RULES, cut(data, places), flushes) == expected
    assert masked(RULES, bytewise(data), [True] * len(data)) == expected


AUTHORIZATION = [
    *(b"Authorization", b"authorization", b": ", b":", b"=", b" ", b"Bearer ", b"Bea", b"rer"),
    *(b"basic\t", b"Token ", b"'", b'"', b"\\", b"\n", b"\r", b"abc.def", b"://u:p@h/", b"-"),
    *(b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN ", b"RSA ", b"PRIVATE KEY-----", b"MIIE\n"),
    *(b"-----END PRIVATE KEY-----", b"-----END ", b"eyJ", b".sig", b"AKIA0123456789ABCDEF"),
    *(b'\\"', b'\\\\\\"', b"\\'", b"'\\''", b"'\"'\"'", b"\\\\", b"\x1b[0m", b"\x1b[?25h", b"\x1b"),
    *(b", ", b'"value": ', b"-H", b'"Authorization"', b"'authorization', ", b"0123456789abcdefgh"),
    b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0",
]
EDGES = (Shape("edges", r"\bAKIA[0-9A-F]{16}\b"), Shape("jwt", r"\beyJ[\w-]{10,}\.eyJ[\w.-]{10,}"),
         Shape("line", r"^abc\.d[a-z]*$"))  # fmt: skip


@given(
    st.lists(st.sampled_from(AUTHORIZATION), max_size=16).map(b"".join),
    st.lists(st.integers(0, 10_000), max_size=8),
    st.lists(st.booleans(), max_size=12),
)
def test_headers_keys_and_edges_dont_depend_on_the_cutting(
    data: bytes, places: list[int], flushes: list[bool]
) -> None:
    """The shapes that have state, look ahead or look at edges give the same however they come."""
    rules = MaskRules({}, EDGES)
    expected = masked(rules, [data])
    assert masked(rules, cut(data, places), flushes) == expected
    assert masked(rules, bytewise(data), [True] * len(data)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abcabcabcab", "***"),
        ("xabcabcabcabyz", "x***yz"),
        ("aaaaaaaaa", "***"),
        ("aaa aaaa aaaaa", "aaa *** ***"),
        ("hunter2!hunter2!", "***"),
        ("abcabcabxyz&'q", "***"),
        ("hunter2!tok_abba", "***"),
        ("hunter2!\nhunter2!", "***\n***"),
        ("***hunter2!***", "*********"),
    ],
)  # fmt: skip
def test_overlapping_and_touching_matches_are_one_mask(text: str, expected: str) -> None:
    """The union of all matches, in order."""
    assert RULES.mask_text(text) == expected


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", " ", "", "\\n", "\\r\\n"])
def test_a_secret_of_several_lines_is_masked_whole_whatever_its_breaks_became(
    line_break: str,
) -> None:
    """Short lines are hidden with it, too."""
    whole = line_break.join(["first line!", "{", "  ab", "", "last line of it", "}"])
    for chunks in ([whole.encode()], bytewise(whole.encode())):
        assert masked(RULES, [b"<", *chunks, b">"], [True] * 200) == b"<***>"


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\\n", " "])
def test_a_secret_of_thousands_of_bytes_is_one_mask(line_break: str) -> None:
    """Also where it doesn't fit into a chunk, and after a beginning that came to nothing."""
    lines = [f"{number:04}" * 16 for number in range(60)]
    rules = MaskRules({"KEY": "\n".join([*lines[:30], "}", *lines[30:]])})
    key = line_break.join([*lines[:30], "}", *lines[30:]]).encode()
    whole = b"<" + key[:2000] + b"!" + key + b">" + key
    expected = rules.mask_text(whole.decode()).encode()
    assert expected.endswith(b"!***>***")
    for step in (7, 100, 3000):
        chunks = [whole[at : at + step] for at in range(0, len(whole), step)]
        assert masked(rules, chunks, [True, False, False] * 5000) == expected


def test_lines_of_a_secret_count_from_eight_characters() -> None:
    """A brace is no secret, a long line is."""
    assert RULES.mask_text("{ ab }") == "{ ab }"
    assert RULES.mask_text("see last line of it.") == "see ***."


def test_what_is_open_leaves_at_a_flush_but_for_what_may_be_a_secret() -> None:
    """A prompt is seen at once; the beginning of a secret waits for what comes."""
    masker = Masker(RULES)
    assert masker.feed(b"Continue? [y/N] ") == b""
    assert masker.flush() == b"Continue? [y/N] "
    assert masker.feed(b"it is hunt") == b""
    assert masker.flush() == b"it is "
    assert masker.held == 4
    assert masker.feed(b"ing season\n> hunter2!") == b"hunting season\n"
    assert masker.flush() == b"> ***"
    assert masker.feed(b"hunter2!") == b""
    assert masker.flush() == b""
    assert masker.close() == b""


def test_a_closed_line_waits_only_for_a_secret_of_several_lines() -> None:
    """What could begin on one line and end on another is held, nothing else."""
    masker = Masker(RULES)
    assert masker.feed(b"hunt\n") == b"hunt\n"
    assert masker.feed(b"x\nfirst line!\n{\n") == b"x\n"[:2] + b"***"
    assert masker.feed(b"other\n") == b"\n{\nother\n"
    assert masker.close() == b""


def test_clean_output_passes_untouched_and_uncopied() -> None:
    """A chunk of whole lines without a match is returned as the object that came."""
    masker = Masker(RULES)
    chunk = b"nothing to see here\n" * 5000
    assert masker.feed(chunk) is chunk
    assert masker.feed(b"invalid \xff\xfe utf-8\n") == b"invalid \xff\xfe utf-8\n"
    assert masker.close() == b""


@pytest.mark.parametrize("step", [1_000, 65_536, 10_000_000])
def test_a_line_of_ten_megabytes_streams_in_bounded_memory(step: int) -> None:
    """Held bytes stay bounded, and a secret across any cut is masked."""
    filler = b"0123456789" * 100_000
    line = (filler + b"hunter2!") * 5 + filler * 5
    masker, out = Masker(RULES), []
    for at in range(0, len(line), step):
        out.append(masker.feed(line[at : at + step]))
        assert masker.held <= RULES.reach + OPEN
    assert b"".join([*out, masker.close()]) == (filler + b"***") * 5 + filler * 5


def test_a_token_is_masked_as_long_as_its_characters_go_on() -> None:
    """A JWT of 40 KiB is decided within its first bytes and hidden to its end."""
    jwt = b"eyJhbGciOiJIUzI1NiJ9.eyJ" + b"A" * 40_000 + b".c2ln"
    rules = MaskRules({}, EDGES)
    for step in (len(jwt), 777):
        chunks = [jwt[at : at + step] for at in range(0, len(jwt), step)]
        assert masked(rules, [b"<", *chunks, b"> ok"], [True] * 100) == b"<***> ok"


@pytest.mark.parametrize(("width", "expected"), [(REACH, b"***"), (REACH + 1, None)])
def test_a_candidate_is_decided_within_sixteen_kibibytes(
    width: int, expected: bytes | None
) -> None:
    """What is longer before its last run isn't one, however it is cut."""
    candidate = b"x" + b"a" * (width - 2) + b"y"
    for step in (len(candidate), 1_000):
        chunks = [candidate[at : at + step] for at in range(0, len(candidate), step)]
        assert masked(MaskRules({}, SHAPES), chunks, [True] * 100) == (expected or candidate)


KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc=\n-----END RSA PRIVATE KEY-----"


def test_a_private_key_is_masked_from_begin_to_end() -> None:
    """As lines, and in one line of JSON."""
    rules = MaskRules({})
    for key in (
        KEY,
        KEY.replace("\n", "\\n"),
        KEY.replace("RSA PRIVATE KEY", "OPENSSH PRIVATE KEY"),
    ):
        data = f"key: {key}\nafter\n".encode()
        assert masked(rules, [data]) == b"key: ***\nafter\n"
        assert masked(rules, bytewise(data), [True] * len(data)) == b"key: ***\nafter\n"
    public = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n"
    assert rules.mask_text(public) == public


@pytest.mark.parametrize("step", [100_000, 4096, 1009])
def test_a_private_key_without_an_end_covers_64_kibibytes(step: int) -> None:
    """Then the output is readable again, at exactly the same byte."""
    data = b"ok\n-----BEGIN PRIVATE KEY-----\n" + b"line of output\n" * 10_000
    expected = b"ok\n***" + data[3 + BLOCK :]
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert masked(MaskRules({}), chunks, [True, False] * 1000) == expected


def test_a_late_secret_reaches_all_that_is_held() -> None:
    """The rules can change in the middle of a line, and half a match of old ones is kept."""
    masker = Masker(RULES)
    assert masker.feed(b"late-") == b""
    masker.rules = RULES.with_values(["late-value"])
    assert masker.feed(b"value hunt") == b"***"  # what is masked needn't wait
    assert masker.flush() == b" "
    masker.rules = masker.rules.with_values(["another one"])
    assert masker.feed(b"er2! Authoriz") == b"***"
    assert masker.flush() == b" Authoriz"
    masker.rules = masker.rules.with_values(["a third one"])
    assert masker.feed(b"ation: Bearer xyz\nlate-value another one a third one\n") == (
        b"ation: Bearer ***\n*** *** ***\n"
    )
    assert masker.close() == b""


def test_nothing_passes_a_masker_that_is_closed() -> None:
    """Late bytes are refused rather than let through, and late rules do no harm."""
    masker = Masker(RULES)
    assert masker.feed(b"hunter2!x") + masker.close() == b"***x"
    masker.rules = RULES.with_values(["late-value"])
    assert masker.close() + masker.flush() == b""
    with pytest.raises(ValueError, match="closed"):
        masker.feed(b"late-value")


def test_a_thousand_late_secrets_at_once_are_one_layer() -> None:
    """As a step tells them when it starts; known ones cost nothing."""
    rules = MaskRules({}).with_values(f"value-{number:04}" for number in range(1000))
    assert len(rules.layers) == 2
    assert rules.with_values(["value-0007", "value-0999"]) is rules
    assert rules.mask_text("value-0000 value-0999 value-1000") == "*** *** value-1000"


def test_late_secrets_that_repeat_themselves_merge_like_others() -> None:
    """Rulers of every length, one after the other."""
    rules = MaskRules({})
    for size in range(4, 24):
        rules = rules.with_values(["=" * size, f"first {size} line\n{{\nlast of it"])
    assert len(rules.layers) < 8
    assert rules.mask_text("=== ==== ================") == "=== *** ***"
    assert rules.mask_text("first 7 line {\\n last of it") == "***"


def test_hundreds_of_late_secrets_stay_few_layers() -> None:
    """Each is masked, known ones cost nothing, and none compiles all the others anew."""
    rules = MaskRules({})
    for number in range(300):
        rules = rules.with_values([f"value{number:04}"])
    assert rules.with_values(["value0007"]) is rules
    assert len(rules.layers) < 12
    assert rules.mask_text("value0000 value0299 value0300") == "*** *** value0300"


@pytest.mark.parametrize("value", ["", "abc", "  ab \n"])
def test_a_secret_of_less_than_four_characters_is_refused_by_name(value: str) -> None:
    """The error names it and never shows it."""
    with pytest.raises(SecretTooShortError, match="TOKEN is shorter than 4") as caught:
        MaskRules({"TOKEN": value})
    assert caught.value.name == "TOKEN"
    with pytest.raises(SecretTooShortError):
        RULES.with_values([value])


def test_one_value_is_masked_whole() -> None:
    """Labels and names of files; what needs no mask is the same object."""
    label = "Building café"
    assert RULES.mask_text(label) is label
    assert RULES.mask_text("logged in with hunter2!, café") == "logged in with ***, café"
    assert RULES.would_mask("a hunter2! b")
    assert not RULES.would_mask("a hunter2 b")
    odd = os.fsdecode(b"name-\xff")
    assert RULES.mask_text(odd) is odd
    assert RULES.mask_text(odd + "hunter2!") == "name-\ufffd***"
    assert RULES.mask_text("\ud800 hunter2!").endswith(" ***")


FLOODS = {  # what is repeated, and how many matches a byte of it may cost at most
    b"hunter2": 0.0,
    b"correct-horse": 0.0,
    b"first line!\n{\n": 0.1,
    b"x" + b"a" * 50: 0.03,
    b"://a": 0.0,
    b"://a@" + b"@" * 500: 0.01,
    b"aaaa": 0.001,
    b"xy": 0.001,
    b"-=+": 0.001,
    b"eyJ": 0.0,
    b"pw = aa": 0.15,
    b"pw =" + b" " * 500: 0.01,
    b"Authorization:" + b" " * 500: 0.01,
    b"-----BEGIN PRIVATE KEY-----": 0.04,
    b"-----BEGIN PRIVATE": 0.0,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_beginnings_costs_no_more_than_its_bytes(
    flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are scanned once, matches are few, little is looked at again: counted, not timed."""
    scanned = matches = looked_at = 0
    scan, unfinished = ScanStream.scan, Layer.unfinished

    def counting(stream: ScanStream, data: bytes) -> list[Found]:
        nonlocal scanned, matches
        found = scan(stream, data)
        scanned += len(data)
        matches += len(found)
        return found

    def looking(layer: Layer, tail: bytes) -> int:
        nonlocal looked_at
        looked_at += len(tail)
        return unfinished(layer, tail)

    monkeypatch.setattr(ScanStream, "scan", counting)
    monkeypatch.setattr(Layer, "unfinished", looking)
    rules = MaskRules({**SECRETS, "LONG": "correct-horse-battery-staple"}, SHAPES)
    chunk, flushed = 16_384, 64
    data = flood * (chunk * flushed // len(flood))
    masked(rules, (data[at : at + chunk] for at in range(0, len(data), chunk)), [True] * 999)
    assert scanned == len(rules.layers) * len(data)
    assert matches <= FLOODS[flood] * len(data) + len(rules.layers)
    assert looked_at <= len(rules.layers) * flushed * (rules.reach + chunk)


def test_many_equal_lines_cost_what_other_lines_do() -> None:
    """A secret of them isn't compared line by line at each of its ends."""
    rules = MaskRules({"S": "\n".join(["a"] * 400)})
    assert rules.mask_text("a\n" * 20_000) == "***\n"
    assert rules.mask_text("a\n" * 399 + "b\n") == "a\n" * 399 + "b\n"
    assert rules.mask_text("a\r\n" * 400) == "***\r\n"


@pytest.mark.parametrize("gap", [b"", b"\r\n"], ids=["joined", "crlf"])
@pytest.mark.parametrize("lines", [("ab", "abab", "aba"), ("n", "nn", "r", "t")], ids=["a", "n"])
def test_lines_that_can_be_read_in_many_ways_cost_little_and_cut_alike(
    lines: tuple[str, ...], gap: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step may tell such a value and flood its output with it; its runner must stay awake."""
    monkeypatch.setattr(chains, "_LOOKS", 1 << 10)
    rules = MaskRules({"KEY": "\n".join(lines * 40)}, ())
    data = b"clean\n" * 9 + gap.join(map(str.encode, lines * 40)) * 20 + b"\nclean\n"
    looks = 0
    look = chains._ends_before

    def counted(raw: chains.Raw, at: int, line: bytes) -> Iterator[int]:
        nonlocal looks
        looks += 1
        return look(raw, at, line)

    monkeypatch.setattr(chains, "_ends_before", counted)
    masker = Masker(rules)
    whole = masker.feed(data) + masker.close()
    assert looks <= 3 * (1 << 10) + len(data)
    masker = Masker(rules)
    parts = [masker.feed(data[at : at + 1009]) for at in range(0, len(data), 1009)]
    assert b"".join(parts) + masker.close() == whole
