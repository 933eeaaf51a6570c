"""Shapes: tokens that nobody declared, and what merely looks like one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tailrace.core import pattern_syntax, patterns
from tailrace.core.mask import Masker
from tailrace.core.mask_rules import MaskRules
from tailrace.core.shapes import Shape, ShapeError, load_shapes
from token_examples import BEHIND, KEPT, TOKENS

CONFIG = Path(__file__).parents[2] / "configs" / "masking.yaml"
SHAPES = load_shapes(yaml.safe_load(CONFIG.read_text()), "configs/masking.yaml")
RULES = MaskRules({}, SHAPES)


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_masked_whole(name: str) -> None:
    """At any place of a line, also byte by byte."""
    for token in TOKENS[name]:
        for text in (f"{token}", f"token={token}\nnext", f"x '{token}' y", f'{{"t":"{token}"}}'):
            assert RULES.mask_text(text) == text.replace(token, "***")
            masker = Masker(RULES)
            out = b"".join(masker.feed(bytes([byte])) + masker.flush() for byte in text.encode())
            assert (out + masker.close()).decode() == text.replace(token, "***")


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_masked_behind_an_escape(name: str) -> None:
    """What is in front stays, also where it ends in a letter and the output comes byte by byte."""
    for token in TOKENS[name]:
        for before in BEHIND:
            text = f"x {before}{token}"
            assert RULES.mask_text(text) == f"x {before}***"
            masker = Masker(RULES)
            out = b"".join(masker.feed(bytes([byte])) + masker.flush() for byte in text.encode())
            assert (out + masker.close()).decode() == f"x {before}***"


@pytest.mark.parametrize("name", KEPT)
def test_what_must_stand_in_front_of_a_value_stays_readable(name: str) -> None:
    """Only the value is hidden."""
    for before, value in KEPT[name]:
        assert RULES.mask_text(f"x {before}{value} y") == f"x {before}*** y"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_beginning_of_a_token_is_none(shape: Shape) -> None:
    """One character less than a shape needs, or in the midst of a word where it begins one."""
    rules, least = MaskRules({}, (shape,)), patterns.widths(pattern_syntax.parse(shape.pattern))[0]
    for token in TOKENS.get(shape.name, ()):
        text = f"x {token[: least - 1]} y"
        assert rules.mask_text(text) == text
        if shape.pattern.startswith("\\b"):
            assert rules.mask_text(f"x{token}") != "x***"
    for before, value in KEPT.get(shape.name, ()):
        text = f"x {before}{value[: least - 1]} y"
        assert rules.mask_text(text) == text


def test_each_shape_of_the_config_has_an_example_here() -> None:
    """A new entry needs its test."""
    assert {shape.name for shape in SHAPES} == TOKENS.keys() | KEPT.keys()


@pytest.mark.parametrize(
    "text",
    [
        "commit 3f2a91c0b6b1a7c8d9e0f1a2b3c4d5e6f7a8b9c0",
        "ghp_short gho_ github_pat_ glpat-abc xoxb- sk_live_ npm_install npm_config_cache=x",
        "AKIASHORT AKIAABCDEFGHIJKLMNOPQ xAKIAABCD2345ABCD2345",
        "eyJhbGciOiJIUzI1NiJ9 and eyJ.eyJ",
        "https://github.com/a/b@v1 http://[::1]:8080/x?mail=me@example.com see user@example.com",
        "git@github.com:org/repo.git ssh: connect to host x port 22",
        '["https://a.example","me@example.com"] <https://a.example> me@example.com',
        "sha512-" + "aB3/" * 21 + "==",
        "authorization required; authorization::check; the authorization header",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "risk_live_" + "a" * 30 + " task-ant sky29.x",
        "AIza-not-long-enough 2024-01-01T00:00:00 1700000000:AA",
        "secret_access_key: <set in the console>",
        "proxy_auth=self._default_proxy_auth CLIENT_AUTH = ObjectIdentifier(",
        "self._auth = self._build_auth(x); self._password=self.find_the_password()",
        "    _password = handler.password_of_the_server",
        '["authorization", "content-type", "x-request-id"] {"authorization", "cookie"}',
        "'AUTHORIZATION', 'AVG', 'BACKWARD'; \"Authorization\", \"expected space after scheme\"",
        '{"name": "Authorization", "in": "header", "required": true}',
        "-----BEGIN CERTIFICATE-----MIIB-----END CERTIFICATE----- PRIVATE KEY-----",
    ],
)
def test_what_merely_looks_like_a_token_stays(text: str) -> None:
    """Hashes, host names, prose, certificates."""
    assert RULES.mask_text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("clone ssh://git@host:22/x.git", "clone ssh://***@host:22/x.git"),
        ("postgres://u:p@ss@db/x, http://u:p@h", "postgres://***@db/x, http://***@h"),
        (r'"https:\/\/u:p@host\/x"', r'"https:\/\/***@host\/x"'),
        (r'"https:\\/\\/u:p@host"', r'"https:\\/\\/***@host"'),
        (r'"https:\\\/\\\/u:p@host"', r'"https:\\\/\\\/***@host"'),
        (r'"https:\u002F\u002fu:p@host"', r'"https:\u002F\u002f***@host"'),
        ("Authorization: Basic dTpw", "Authorization: Basic ***"),
        ("authorization: bearer  a.b c\r\nHost: x", "authorization: bearer  ***\r\nHost: x"),
        ("> Proxy-Authorization:Negotiate abc=", "> Proxy-Authorization:Negotiate ***"),
        ("Authorization: hunter2", "Authorization: ***"),
        ("Authorization: Custom hunter2", "Authorization: ***"),
        ("http.extraheader=AUTHORIZATION: basic eA==", "http.extraheader=AUTHORIZATION: basic ***"),
        ("curl -H 'Authorization: token x' url", "curl -H 'Authorization: token ***' url"),
        ('curl -H "authorization: Bearer x" url', 'curl -H "authorization: Bearer ***" url'),
        ('{"Authorization": "Bearer x", "a": 1}', '{"Authorization": "Bearer ***", "a": 1}'),
        ("{'authorization': 'x', 'a': 1}", "{'authorization': '***', 'a': 1}"),
        (
            r"{\"Authorization\":\"Bearer x\",\"a\":1}",
            r"{\"Authorization\":\"Bearer ***\",\"a\":1}",
        ),
        ('headers["Authorization"] = "Bearer x"', 'headers["Authorization"] = "Bearer x"'),
        ("('Authorization', 'Bearer x'), 1", "('Authorization', 'Bearer ***'), 1"),
        ("(b'authorization', b'Bearer x')", "(b'authorization', b'Bearer ***')"),
        ('Header.Set("Authorization", "Bearer x")', 'Header.Set("Authorization", "Bearer ***")'),
        ('{"name":"authorization","value":"x"}', '{"name":"authorization","value":"***"}'),
        (
            '{"key":"authorization","type":"text","value":"x"}',
            '{"key":"authorization","type":"text","value":"***"}',
        ),
        ('set("Authorization", "abcDEFghiJKLmnop")', 'set("Authorization", "***")'),
        ("['authorization', '0a1b2c3d-0a1b-4c3d']", "['authorization', '***']"),
        ("curl '-HAuthorization: Bearer x' url", "curl '-HAuthorization: Bearer ***' url"),
        (r"curl -HAuthorization:Bearer\ x", r"curl -HAuthorization:Bearer\ ***"),
        ("\x1b[2KAuthorization: Basic x", "\x1b[2KAuthorization: Basic ***"),
        (r"Authorization: \u001b[32mBasic x", r"Authorization: \u001b[32mBasic ***"),
        ("Authorization: \x1b]0;t\x07Basic x", "Authorization: ***"),
        (r"curl -H Authorization:\ Bearer\ x", r"curl -H Authorization:\ Bearer\ ***"),
        ("\x1b[1mAuthorization\x1b[0m: Basic x", "\x1b[1mAuthorization\x1b[0m: Basic ***"),
        (r"b'GET /\r\nAuthorization: x'", r"b'GET /\r\nAuthorization: ***"),
        ('"deviceAuthorization": {"$ref": "#"}', '"deviceAuthorization": {"$ref": "#"}'),
        ("HTTP_AUTHORIZATION=Bearer x", "HTTP_AUTHORIZATION=Bearer ***"),
        ("Authorization: Bearer" + " " * 40 + "x", "Authorization: Bearer" + " " * 16 + "***"),
        ("Authorization:" + " " * 40 + "x", "Authorization:" + " " * 40 + "***"),
    ],
)
def test_userinfo_and_authorization_are_always_masked(text: str, expected: str) -> None:
    """Without any shape configured; names, schemes and what follows stay."""
    assert MaskRules({}).mask_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"authorization":"Token t=\"x\"","a":1}', r'{"authorization":"Token ***","a":1}'),
        (r'["Authorization: Digest u=\"x\", r=\"y\"",1]', '["Authorization: Digest ***",1]'),
        (r'["authorization", "Digest u=\"x\", r=\"y\"",1]', '["authorization", "Digest ***",1]'),
        (
            r'{"cmd":"curl -H \"Authorization: Token t=\\\"x\\\"\" url"}',
            r'{"cmd":"curl -H \"Authorization: Token ***\" url"}',
        ),
        (
            r'"{\"cmd\":\"curl -H \\\"Authorization: Token t=\\\\\\\"x\\\\\\\"\\\" url\"}"',
            r'"{\"cmd\":\"curl -H \\\"Authorization: Token ***\\\" url\"}"',
        ),
        (r"b'Authorization: Token t=\'x\'', 1", "b'Authorization: Token ***', 1"),
        (r'-H "Authorization: Token t=\"x\"" url', '-H "Authorization: Token ***" url'),
        (r"""'Authorization: Token t='\''x'\''' url""", "'Authorization: Token ***' url"),
        ("""'Authorization: Token t='"'"'x'"'"'' url""", "'Authorization: Token ***' url"),
        (r'{"authorization":"a\b","c":"d"}', '{"authorization":"***","c":"d"}'),
        (r"\"authorization\":\"a\\b\",\"c\":1", r"\"authorization\":\"***\",\"c\":1"),
    ],
)
def test_a_value_in_quotes_ends_at_no_quote_within_it(text: str, expected: str) -> None:
    """JSON, JSON in JSON, Python and shells, whole and byte by byte; the closing quote stays."""
    rules = MaskRules({})
    assert rules.mask_text(text) == expected
    masker = Masker(rules)
    out = b"".join(masker.feed(bytes([byte])) + masker.flush() for byte in text.encode())
    assert (out + masker.close()).decode() == expected


@pytest.mark.parametrize(
    "text",
    [
        '\x1b[34;1m"Authorization"\x1b[0m\x1b[1;39m: \x1b[0m\x1b[0;32m"Bearer {}"\x1b[0m,',
        '\x1b[0m\x1b[34;1m"authorization"\x1b[0m\x1b[1;39m:\x1b[0m \x1b[0;32m"Bearer {}"\x1b[0m, 1',
        '\x1b[94m"Authorization"\x1b[39;49;00m:\x1b[37m \x1b[39;49;00m\x1b[33m"Bearer {}"\x1b[0m]',
        "\x1b[33m'authorization'\x1b[39m, \x1b[32m'Bearer {}'\x1b[39m ]",
        '"Authorization\x1b[0m: \x1b[1mBearer {}"\x1b[0m url',
    ],
)
def test_colours_between_a_name_and_its_value_are_no_obstacle(text: str) -> None:
    """As jq -C, pygments and node write JSON and headers; the scheme and what follows stay."""
    assert MaskRules({}).mask_text(text.format("abc123DEF456")) == text.format("***")


def test_a_quote_that_may_belong_to_a_value_waits_for_what_follows() -> None:
    """Between single quotes: one that a shell spells goes on, and all others end the value."""
    for more, expected in ((b"\\''x' url", b"***' url"), (b" url", b"***' url")):
        masker = Masker(MaskRules({}))
        out = masker.feed(b"'Authorization: " + b"abc" * 20 + b"'") + masker.flush()
        assert out == b"'Authorization: ***"
        assert masker.held == 1
        assert out + masker.feed(more) + masker.close() == b"'Authorization: " + expected


@pytest.mark.parametrize("kind", ["X9.42 DH", "ML-DSA-65", "ec"])
def test_every_label_of_a_private_key_begins_one(kind: str) -> None:
    """Words of letters, digits and dots, parted by a blank or a hyphen."""
    text = f"-----BEGIN {kind} PRIVATE KEY-----\nMIIE\n-----END {kind} PRIVATE KEY-----\nok"
    assert MaskRules({}).mask_text(text) == "***\nok"


@pytest.mark.parametrize("line", ["_auth = {}", '  //r.example/:_authToken= "{}"', "_password={}"])
def test_npm_tokens_are_masked_with_and_without_blanks(line: str) -> None:
    """A file in the ini format may have them around the sign."""
    value = "dXNlcjpwYXNzd29yZA=="
    assert RULES.mask_text(line.format(value)) == line.format("***")


@pytest.mark.parametrize("lead", [" " * 40, '"', '\\"', "  '"])
def test_blanks_and_quotes_before_a_value_are_no_obstacle(lead: str) -> None:
    """However many; where they stop is one look."""
    for name in ("aws_session_token=", "aws_secret_access_key:", '"SecretAccessKey":'):
        value = "aB3d" * 20
        assert RULES.mask_text(f"{name}{lead}{value}") == f"{name}{lead}***"


def test_a_value_is_masked_while_it_streams() -> None:
    """A header's name is seen at once, and its value never waits for the line's end."""
    masker = Masker(MaskRules({}))
    assert masker.feed(b"Authorization: ") + masker.flush() == b"Authorization: "
    assert masker.feed(b"Bea") + masker.flush() == b""
    assert masker.feed(b"rer abc" + b"x" * 200) + masker.flush() == b"Bearer ***"
    assert masker.feed(b"x" * 200_000) + masker.flush() == b""
    assert masker.held == 0
    assert masker.feed(b"\nok") + masker.flush() == b"\nok"
    assert masker.close() == b""


@pytest.mark.parametrize(
    ("item", "where", "problem"),
    [
        ({"name": "a", "pattern": "x*"}, "shapes[0].pattern", "matches the empty text"),
        ({"name": "a", "pattern": "a|"}, "shapes[0].pattern", "matches the empty text"),
        ({"name": "a", "pattern": "(a"}, "shapes[0].pattern", "')' is missing"),
        ({"name": "a", "pattern": "a)"}, "shapes[0].pattern", "closes nothing"),
        ({"name": "a", "pattern": "[a"}, "shapes[0].pattern", "ends too early"),
        ({"name": "a", "pattern": "a(?=b)"}, "shapes[0].pattern", "look-around"),
        ({"name": "a", "pattern": r"(a)\1"}, "shapes[0].pattern", "unknown escape"),
        ({"name": "a", "pattern": "a++"}, "shapes[0].pattern", "repeat of a repeat"),
        ({"name": "a", "pattern": "*a"}, "shapes[0].pattern", "nothing to repeat"),
        ({"name": "a", "pattern": r"a\nb"}, "shapes[0].pattern", "line break"),
        ({"name": "a", "pattern": "[z-a]"}, "shapes[0].pattern", "smaller end first"),
        ({"name": "a", "pattern": "a{9999}"}, "shapes[0].pattern", "counts go from 0"),
        ({"name": "a", "pattern": "x.{0,500}y"}, "shapes[0].pattern", "too large"),
        ({"name": "a", "pattern": "ab+c", "before": "x"}, "shapes[0].pattern", "fixed width"),
        ({"name": "a", "pattern": "[a]{3,}", "before": "x*"}, "shapes[0].pattern", "empty text"),
        ({"name": "a"}, "shapes[0].pattern", "missing"),
        ({"name": "a", "pattern": 5}, "shapes[0].pattern", "isn't text"),
        ({"name": "a", "pattern": "b", "regex": "c"}, "shapes[0].regex", "unknown key"),
        (None, "shapes[0].name", "missing"),
    ],
)
def test_a_shape_that_cant_be_used_is_refused_with_its_place(
    item: object, where: str, problem: str
) -> None:
    """Where, what and what to do; all of a file at once."""
    with pytest.raises(ShapeError) as caught:
        load_shapes([item, "fine_[a-z]+", item], "my.yaml")
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].where == where
    assert problem in caught.value.problems[0].problem
    assert str(caught.value).startswith(f"my.yaml: {where}: ")


@pytest.mark.parametrize(
    "data", [None, 3, "x", {"shape": []}, {"shapes": {}}, {"shapes": [], "x": 1}]
)
def test_something_else_than_a_list_of_shapes_is_refused(data: object) -> None:
    """A file of another form is told, not passed over."""
    with pytest.raises(ShapeError, match="list of shapes"):
        load_shapes(data, "my.yaml")


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"(?i)Corp-[0-9]+", "x CORP-12 corp-3y", "x *** ***y"),
        (r"(?P<id>id)(?:-|_)[[:alpha:]]{2}", "id-ab id_c1", "*** id_c1"),
        (r"a.c", "abc a\nc a\xe9c", "*** a\nc a\xe9c"),
        (r"né+e", "née néée ne", "*** *** ne"),
        (r"[^ab\n]{3}", "ccc\naccb", "***\naccb"),
        (r"q{,2}", "q{,2} qq", "*** qq"),
        (r"x(?:y|z)*?w", "xyzw xw xyz", "*** *** xyz"),
        (r"^key$", "key\nkeys\nkey", "***\nkeys\n***"),
        (r"\x41\t[\]\-x]", "A\t] A\tx A\ty", "*** *** A\ty"),
        (r"\Bend\b", "spend end", "sp*** end"),
        (r"(?i:a)B|c{2}d", "aB AB ab ccd", "*** *** ab ***"),
    ],
)
def test_the_shared_syntax_means_what_it_means_elsewhere(
    pattern: str, text: str, expected: str
) -> None:
    """A pattern of the user, byte by byte and whole."""
    rules = MaskRules({}, (Shape("own", pattern),))
    assert rules.mask_text(text) == expected
    masker = Masker(rules)
    out = b"".join(masker.feed(bytes([byte])) + masker.flush() for byte in text.encode())
    assert (out + masker.close()).decode() == expected


def test_a_beginning_stands_for_every_unfinished_match() -> None:
    """Each text that goes on to a match is one, and so is each beginning of it."""
    begun = patterns.beginning(pattern_syntax.parse(r"ab(?:c|de){2}f?g\b"))
    assert begun
    expression = patterns.expression(begun)
    unfinished = re.compile(expression)
    for whole in ("abccg", "abcdefg", "abdedeg"):
        for size in range(1, len(whole) + 1):
            assert unfinished.fullmatch(whole[:size].encode()), whole[:size]
    assert not unfinished.fullmatch(b"abx")
