"""The forms of a secret, checked against the programs and libraries that write them."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import subprocess
import urllib.parse
from functools import lru_cache
from xml.etree import ElementTree
from xml.sax import saxutils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs import require
from tailrace.core.mask_rules import MaskRules
from tailrace.core.needles import LINE_LENGTH, SHORTEST, needles_of

TRICKY = "p@ss'w\"o r\\d/é&<€>$`!~+=%{}"
LINES = '{\n  "key": "it\'s\\here",\r\n  "ü": 1\n}'
SECRETS = [
    TRICKY,
    LINES,
    "~user#1",
    "it''s so'",
    "#tag x",
    "ab\tc\x1bd\x7f",
    "🙂 emoji",
    "-_+/=.,;:@",
    "plain123",
    "é:~=x",
    "a b\u2028c",
]
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4, max_size=24)


def shown(secret: str, written: str | bytes) -> str:
    """Mask what a program wrote with the secret in it."""
    text = written.decode() if isinstance(written, bytes) else written
    return rules_of(secret).mask_text(f"<{text}>")


@lru_cache(maxsize=1)
def rules_of(secret: str) -> MaskRules:
    """Compile once what many forms are masked with."""
    return MaskRules({"S": secret})


def forms(secret: str) -> dict[str, str]:
    """Write a secret the way the standard library does, without what stands around it."""
    quote = urllib.parse.quote
    numbered = secret.encode("ascii", "xmlcharrefreplace").decode()
    return {
        "as is": secret,
        "hex": secret.encode().hex(),
        "HEX": secret.encode().hex().upper(),
        "quote": quote(secret),
        "quote all": quote(secret, safe=""),
        "quote_plus": urllib.parse.quote_plus(secret),
        "lower quote": re.sub("%..", lambda m: m[0].lower(), quote(secret, safe="")),
        "json": json.dumps(secret)[1:-1],
        "json utf-8": json.dumps(secret, ensure_ascii=False)[1:-1],
        "json slashes": json.dumps(secret).replace("/", "\\/")[1:-1],
        "url query": quote(secret, safe="!$%&()*+,/:;=?@[\\]^`{|}"),
        "requests": quote(secret, safe="!#$%&'()*+,/:;=?@[]~"),
        "html": html.escape(secret),
        "html all marks": re.sub("[^0-9A-Za-z]", lambda found: f"&#{ord(found[0])};", secret),
        "html text": html.escape(secret, quote=False),
        "xml": saxutils.escape(secret),
        "xml attribute": saxutils.quoteattr(secret)[1:-1],
        "etree attribute": ElementTree.tostring(ElementTree.Element("a", b=secret))[6:-4].decode()
        if all(char.isprintable() or char in "\n\t" for char in secret)
        else secret,
        "repr": repr(f"{secret}'\"")[1:-4],
        "ascii": ascii(f"{secret}'\"")[1:-4],
        "repr of bytes": repr(f"{secret}'\"".encode())[2:-4],
        "xml ascii": html.escape(secret, quote=False).encode("ascii", "xmlcharrefreplace").decode(),
        "decimal references": "".join(f"&#{ord(c)};" for c in secret),
        "hex references": "".join(f"&#x{ord(c):x};" for c in secret),
        "non-ascii references": numbered,
        "spliced": secret.replace("'", "'\"'\"'"),
        "backslash spliced": secret.replace("'", "'\\''"),
    }  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_every_encoded_form_is_masked_whole(secret: str) -> None:
    """Nothing of the value and nothing around it."""
    secret = secret.strip()
    left = {name: shown(secret, form) for name, form in forms(secret).items()}
    assert {name: text for name, text in left.items() if text != "<***>"} == {}


@given(texts.filter(lambda text: len(text.strip()) >= SHORTEST))
def test_every_encoded_form_of_any_text_is_masked(secret: str) -> None:
    """Whatever characters a secret is made of."""
    secret = secret.strip()
    left = {name: shown(secret, form) for name, form in forms(secret).items()}
    assert {name: text for name, text in left.items() if text != "<***>"} == {}


@given(st.binary(max_size=5), st.text("aZ0é/+&", min_size=4, max_size=12), st.binary(max_size=5))
def test_base64_hides_exactly_the_characters_that_depend_on_the_secret_alone(
    before: bytes, secret: str, after: bytes
) -> None:
    """Whatever stands before and behind it in what is encoded, padded or not."""
    value = secret.encode()
    first = -(-len(before) * 8 // 6)
    last = (len(before) + len(value)) * 8 // 6
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before + value + after).decode()
        needles = needles_of(secret)
        assert whole[first:last].encode() in needles
        for text in (whole, whole.rstrip("=")):
            masked = rules_of(secret).mask_text(f"<{text}>")
            assert whole[first:last] not in masked
            if not after and text.count(whole[first:last]) == 1:
                assert masked == f"<{text[:first]}***>"
            by_chance = [
                n for n in needles if n in text.encode() and n.decode() != whole[first:last]
            ]
            if not by_chance and text.count(whole[first:last]) == 1:
                assert masked == f"<{text[:first]}***{text[last:]}>"


def test_a_secret_of_four_characters_has_forms_of_four_characters_or_more() -> None:
    """Each of the three alignments of base64 has four characters that depend on it alone."""
    needles = needles_of("ab/+")
    assert min(map(len, needles)) == SHORTEST
    assert base64.b64encode(b"x" + b"ab/+")[2:6] in needles
    assert (
        MaskRules({"S": "ab/+"}).mask_text(base64.b64encode(b"user:ab/+").decode())
        != "dXNlcjphYi8r"
    )


@pytest.mark.parametrize("secret", SECRETS)
def test_what_bash_quotes_is_masked(secret: str) -> None:
    """``printf %q``, ``${x@Q}``, ``set -x`` and an unquoted variable, in UTF-8 and in C."""
    require("bash")
    scripts = [
        'printf %q "$S"',
        'printf %q "+$S"',
        'printf %s "${S@Q}"',
        "set -f; echo $S",
        'set -x; : "$S"',
        'echo "$S"',
    ]
    for script in scripts:
        for locale in ("C.UTF-8", "C"):
            env = {"S": secret, "LC_ALL": locale, "PATH": "/usr/bin:/bin"}
            ran = subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=True)
            written = (ran.stdout + ran.stderr).decode()
            masked = rules_of(secret).mask_text(written)
            rest = masked.replace("***", "").strip("$'\"\\ \n+:")
            assert rest == "", (script, locale, written, masked)


@pytest.mark.parametrize(
    ("secret", "quoted"),
    [
        ("col1\tcol2", "'col1'$'\\t''col2'"),
        ("it's\x1b[0m é", "'it'\\''s'$'\\033''[0m é'"),
        ("it's\x1b[0m é", "'it'\\''s'$'\\033''[0m '$'\\303\\251'"),
        ("ab\t'cd efg", "'ab'$'\\t'\\''cd efg'"),
        ("one\a\btwo\x7f", "'one'$'\\a\\b''two'$'\\177'"),
    ],
)
def test_what_coreutils_quote_is_masked(secret: str, quoted: str) -> None:
    """``printf %q`` of printf(1), and ls(1): between the outer quotes, in UTF-8 and in C."""
    assert rules_of(secret).mask_text(quoted) in ("'***'", "'***")


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("a\x7fbé/d", r"a\u007fbé/d"),  # jq
        ("a<\u2028é>d", r"a\u003c\u2028é\u003ed"),  # Go
    ],
)
def test_what_json_writers_escape_besides_is_masked(secret: str, text: str) -> None:
    """Each has its own idea of which characters are safe."""
    assert rules_of(secret).mask_text(f'"{text}"') == '"***"'


@pytest.mark.parametrize("secret", [s for s in SECRETS if s.isprintable()])
def test_what_shlex_and_json_quote_is_masked_within_its_quotes(secret: str) -> None:
    """The quotes stay, as nothing of the secret is in them."""
    assert shown(secret, shlex.quote(secret)).strip("<>'") in ("***", '"***')
    assert shown(secret, json.dumps({"k": secret})) == '<{"k": "***"}>'
    assert shown(secret, repr([secret])) in ("<['***']>", '<["***"]>')


def test_lines_of_an_xml_attribute_are_masked_as_one() -> None:
    """Short ones, whose marks and breaks are references."""
    secret = "user&a\npass&'b"
    for written in ("user&amp;a&#10;pass&amp;'b", "user&amp;a&#13;&#10;pass&amp;&#39;b"):
        assert MaskRules({"S": secret}).mask_text(f'"{written}"') == '"***"'


@pytest.mark.parametrize(
    ("secret", "quoted"),
    [
        ("it''s mine", """'it'"''"'s mine'"""),
        ("ends so'", """'ends so'"'\""""),
        ("'begins so", """''"'"'begins so'"""),
    ],
)
def test_what_dash_quotes_is_masked(secret: str, quoted: str) -> None:
    """``export -p``: a row of quotes at once, and none opened behind the last."""
    assert rules_of(secret).mask_text(f"S={quoted}").strip("'") in ("S='***", "S=''***")


def test_what_base64_wraps_is_masked_line_by_line() -> None:
    """A long value at the beginning of what base64(1) and openssl(1) encode."""
    secret = "".join(chr(33 + i * 7 % 90) for i in range(200))
    coded = base64.b64encode(secret.encode() + b"\n").decode()
    for columns in (76, 64):
        lines = [coded[i : i + columns] for i in range(0, len(coded), columns)]
        masked = MaskRules({"S": secret}).mask_text("\n".join(lines))
        assert masked.startswith("***")
        assert len(masked) <= len("***") + 4  # the last characters depend on the line feed, too
        assert set(MaskRules({"S": secret}).mask_text("\n  ".join(lines[:-1])).split()) == {"***"}


def test_white_space_at_the_ends_is_no_part_of_a_secret() -> None:
    """A file of a secret ends in a line feed more often than not."""
    assert MaskRules({"S": " \thunter22\n"}).mask_text("x hunter22 y") == "x *** y"


def test_short_lines_are_no_secrets_of_their_own() -> None:
    """A brace on a line of a JSON key must not hide every brace."""
    needles = needles_of('{\n"a": "0123456789",\n}')
    assert not needles & {b"{", b"}", b'"a":'}
    assert b'"a": "0123456789",' in needles
    assert all(len(n) >= LINE_LENGTH for n in needles if b"{" not in n and b"7b" not in n.lower())
