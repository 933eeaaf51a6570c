"""The forms of a secret: every text by which a step's output may give it away.

A needle is one such text as bytes, looked for in any position. A secret is
trimmed of white space at its ends, then taken as it is, with its line breaks
as whatever they may have become, by each of its lines of `LINE_LENGTH`
characters or more, and in the encodings that programs put values into.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from html.entities import codepoint2name
from itertools import product
from typing import Final

from tailrace.core.chains import Chain, chain_of

SHORTEST: Final = 4  # characters of a secret; a shorter one would mask half the log
LINE_LENGTH: Final = 8  # characters from which a line of a secret is one of its own

_LINE_BREAK: Final = re.compile(r"\r\n|\n|\r")
_WRAPS: Final = (76, 64)  # columns where base64(1) and openssl(1) break their lines

# What stays as it is: Python's quote with and without '/', JavaScript's encodeURIComponent and
# encodeURI, and Java's URLEncoder.
_URL_SAFE: Final = ("_.-~/", "_.-~", "_.-~!'()*", "_.-~!'()*;,/?:@&=+$#", "_.-*")
# The same within whole URLs, always in upper case: a fragment, a query, a path and userinfo as the
# URL standard has them (new URL(), fetch), and what requests leaves.
_WHOLE_URL_SAFE: Final = (
    "_.-~!$%&'()*+,/:;=?@[\\]^{|}#", "_.-~!$%&()*+,/:;=?@[\\]^`{|}", "_.-~!$%&'()*+,/:;=@[\\]|",
    "_.-~!$%&'()*+,", "_.-~!#$%&'()*+,/:;=?@[]",
)  # fmt: skip

_SHELL_SPECIAL: Final = " \t\n'\"\\|&;()<>!{}*[]?^$`,"
_C_ESCAPES: Final = {
    "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
}  # fmt: skip
_REPR: Final = str.maketrans(_C_ESCAPES)
_XML_QUOTES: Final = (
    ('"', "'"), ("&quot;", "'"), ("&quot;", "&#39;"), ("&quot;", "&#x27;"), ("&quot;", "&apos;"),
)  # fmt: skip
_XML_BREAKS: Final = (  # of attributes: libxml2 and Python's quoteattr, ElementTree, .NET
    {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"},
    {"\n": "&#10;", "\r": "&#13;", "\t": "&#09;"},
    {"\n": "&#xA;", "\r": "&#xD;", "\t": "&#x9;"},
)
_BASH_ESCAPES: Final = {**_C_ESCAPES, "\a": "\\a", "\v": "\\v", "\x1b": "\\E"}
# What shells write as octal numbers: in UTF-8, where some print it and some don't, and in C.
_OCTAL: Final = tuple(
    re.compile(f"[{chars}]+")
    for chars in (r"\x00-\x1f\x7f", r"\x00-\x1f\x7f-\x9f\u2028\u2029", r"^\x20-\x7e")
)


def needles_of(secret: str) -> frozenset[bytes]:
    """Return every form of a secret; `trimmed` is what makes it one.

    Forms shorter than four bytes aren't used: they'd be found by chance. No
    secret of four characters has one, base64 included (four characters in
    each alignment depend on four bytes alone).
    """
    secret = trimmed(secret)
    texts: set[str] = set()
    encoded: set[bytes] = set()
    for whole in _wholes(secret):
        texts.update(_spellings(whole))
        data = _bytes(whole)
        encoded.update((data.hex().encode(), data.hex().upper().encode()))
        encoded.update(_base64_forms(data))
    texts.update(_broken(secret))
    texts.update(line for line in _lines(secret) if len(line) >= LINE_LENGTH)
    encoded.update(map(_bytes, texts))
    return frozenset(needle for needle in encoded if len(needle) >= SHORTEST)


def chains_of(secret: str) -> set[Chain]:
    """Return what finds a secret of several lines whole, whatever its line breaks became.

    As it is, and as JSON and XML write what stands in its lines.
    """
    secret = trimmed(secret)
    if not _LINE_BREAK.search(secret):
        return set()
    lines = _LINE_BREAK.split(secret)
    spells = (
        *(partial(_json_char, ascii_only, False, False, "") for ascii_only in (False, True)),
        *(partial(_entity, _marked(*quotes), "") for quotes in _XML_QUOTES),
    )
    spelled = {"\n".join(_respelled(line, spell) for line in lines) for spell in spells}
    chains = {chain_of(_bytes(text)) for text in (secret, *spelled)}
    return {chain for chain in chains if chain}


def trimmed(secret: str) -> str:
    """Return what of a secret is masked: all but white space at its ends."""
    return secret.strip()


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # a value from a file need not be UTF-8
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _lines(secret: str) -> list[str]:
    return [line.strip() for line in _LINE_BREAK.split(secret)]


def _wholes(secret: str) -> set[str]:
    """Return the values that encodings are made of: the secret, by the breaks of two systems."""
    lines = _LINE_BREAK.split(secret)
    return {secret, "\n".join(lines), "\r\n".join(lines)}


def _broken(secret: str) -> Iterator[str]:
    """Yield the whole secret as unquoted variables come out."""
    yield " ".join(secret.split())
    yield " ".join(re.split(r"[ \t\n]+", secret))  # an unquoted variable: a shell leaves CR alone


def _spellings(text: str) -> Iterator[str]:
    yield text
    yield from _json_forms(text)
    yield from _percent_forms(text)
    yield from _entity_forms(text)
    yield from _shell_forms(text)


def _respelled(text: str, spell: Callable[[str], str]) -> str:
    """Return *text* with each character but ASCII letters and digits as *spell* writes it."""
    marks = _marks(text)
    return text.translate({ord(c): spell(c) for c in marks}) if marks else text


@lru_cache(maxsize=4)  # of the secret at hand: it is respelled some two hundred times
def _marks(text: str) -> tuple[str, ...]:
    return tuple(c for c in set(text) if not (c.isalnum() and c < "\x7f"))


def _json_forms(text: str) -> Iterator[str]:
    """JSON as Python, jq, Go (escapes `<>&`), PHP (quotes and `/` too) and .NET (`+` too) do."""
    for ascii_only, upper, slash, marked in product(
        (False, True), (False, True), (False, True),
        ("", "\x7f", "<>&\u2028\u2029", "<>&'", "<>&'\"", "<>&'\"+`"),
    ):  # fmt: skip
        yield _respelled(text, partial(_json_char, ascii_only, upper, slash, marked))
    yield from _repr_forms(text)
    yield text.translate(_REPR)
    yield text.translate({**_REPR, ord("'"): "\\'"})


def _repr_forms(text: str) -> Iterator[str]:
    """Python's own spelling, also of bytes; which quotes it escapes hangs on what is around."""
    for written in (repr(f"\"{text}'"), ascii(f"\"{text}'"), repr(_bytes(f"\"{text}'"))[1:]):
        inner = written[2:-3]
        yield inner
        yield inner.replace("\\'", "'")


def _json_char(ascii_only: bool, upper: bool, slash: bool, marked: str, char: str) -> str:
    if char in marked or (char not in _C_ESCAPES and (char < " " or (ascii_only and char > "~"))):
        units = char.encode("utf-16-be", "surrogatepass").hex()
        digits = units.upper() if upper else units
        return "".join(f"\\u{digits[i : i + 4]}" for i in range(0, len(digits), 4))
    if char == '"':
        return '\\"'
    if char == "/":
        return "\\/" if slash else "/"
    return _C_ESCAPES.get(char, char)


def _percent_forms(text: str) -> Iterator[str]:
    for safe, form in product(_URL_SAFE, ("%{:02X}", "%{:02x}")):
        coded = _respelled(text, partial(_percent_char, safe, form))
        yield coded
        yield coded.replace("%20", "+")
    for safe in _WHOLE_URL_SAFE:
        yield _respelled(text, partial(_percent_char, safe, "%{:02X}"))


def _percent_char(safe: str, form: str, char: str) -> str:
    return char if char in safe else "".join(map(form.format, _bytes(char)))


def _entity_forms(text: str) -> Iterator[str]:
    """XML and HTML: named where there are names, numbers for the rest, or numbers for all."""
    for double, single, other in product(
        ('"', "&quot;", "&#34;", "&#x22;"), ("'", "&#39;", "&#x27;", "&apos;"),
        ("", "&#{:d};", "&#x{:x};", "&#x{:X};", "name"),
    ):  # fmt: skip
        yield _respelled(text, partial(_entity, _marked(double, single), other))
    if any(char in text for char in "\n\r\t"):
        for quotes, breaks, other in product(_XML_QUOTES, _XML_BREAKS, ("", "&#{:d};", "&#x{:X};")):
            yield _respelled(text, partial(_entity, _marked(*quotes) | breaks, other))
    for number in ("&#{:d};", "&#x{:x};", "&#x{:X};", "&#{:03d};"):
        marked = {char: number.format(ord(char)) for char in "&<>\"'"}
        yield _respelled(text, partial(_entity, marked, number))
        yield _respelled(text, partial(_entity, marked, ""))
        yield _respelled(text, partial(_entity, {}, number))  # Python's xmlcharrefreplace alone
        yield _respelled(text, partial(_numbered, number))
        yield "".join(number.format(ord(c)) for c in text)


def _marked(double: str, single: str) -> dict[str, str]:
    return {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': double, "'": single}


def _numbered(number: str, char: str) -> str:
    return number.format(ord(char))


def _entity(known: Mapping[str, str], form: str, char: str) -> str:
    if char in known:
        return known[char]
    if char.isascii() or not form:
        return char
    if form == "name":
        name = codepoint2name.get(ord(char))
        return f"&{name};" if name else char
    return form.format(ord(char))


def _shell_forms(text: str) -> Iterator[str]:
    """What stands between the outer quotes, or without any."""
    yield text.replace("'", "'\"'\"'")  # shlex.quote
    spliced = re.sub("'+", "'\"\\g<0>\"'", text)  # dash, which opens no quotes behind the last
    yield spliced.removesuffix("'") if text.endswith("'") else spliced
    yield text.replace("'", "'\\''")  # bash -x, ${x@Q}
    yield text.translate({ord(c): f"\\{c}" for c in '"$`\\'})  # between double quotes
    word = text.translate({ord(c): f"\\{c}" for c in _SHELL_SPECIAL})  # printf %q
    word = re.sub("(?<=[:=])~", r"\~", word)
    yield word
    if text[:1] in ("~", "#"):  # escaped where a word begins, and bare behind something else
        yield f"\\{word}"
    for octal in _OCTAL:  # bash's printf %q where $'…' is needed; printf(1) has it between quotes
        yield _respelled(text, partial(_bash_char, octal))
        yield octal.sub(_outside_quotes, text.replace("'", "'\\''"))


def _outside_quotes(found: re.Match[str]) -> str:
    spelled = "".join(_bash_char(_OCTAL[-1], char) for char in found[0])
    spelled = spelled.replace("\\E", "\\033")
    # A quote that follows is outside as well, and nothing is opened for it.
    goes_on = found.string[found.end() : found.end() + 1] not in ("", "'")
    return f"'$'{spelled}''" if goes_on else f"'$'{spelled}"


def _bash_char(octal: re.Pattern[str], char: str) -> str:
    if char == "'":
        return "\\'"
    if char in _BASH_ESCAPES:
        return _BASH_ESCAPES[char]
    if octal.match(char):
        return "".join(f"\\{byte:03o}" for byte in _bytes(char))
    return char


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """Yield the characters that depend on *data* alone, wherever it stands in what is encoded.

    Behind 0, 1 or 2 bytes of something else (modulo 3) the value begins at
    bit 0, 8 or 16; a character holds 6 bits, and those at either end that hold
    other bits too are left out. Where the value ends what is encoded, its last
    character holds zeros besides, and padding may follow.
    """
    for ahead in range(3):
        first = -(-ahead * 8 // 6)
        last = (ahead + len(data)) * 8 // 6
        whole = base64.b64encode(bytes(ahead) + data)[first:]
        for text in {whole[: last - first], whole.rstrip(b"="), whole}:
            yield text
            yield text.translate(bytes.maketrans(b"+/", b"-_"))
            if ahead == 0:
                yield from _wrapped(text)


def _wrapped(core: bytes) -> Iterator[bytes]:
    """Yield the output of base64(1) for a value that stands at its beginning."""
    for columns in _WRAPS:
        lines = [core[i : i + columns] for i in range(0, len(core), columns)]
        if len(lines) > 1:
            yield from _worth_masking(lines)
            yield b"\n".join(lines)
            yield b"\r\n".join(lines)


def _worth_masking(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (line for line in lines if len(line) >= LINE_LENGTH)
