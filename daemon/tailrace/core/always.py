"""What is masked whatever `configs/masking.yaml` says: userinfo, `Authorization`, private keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tailrace.core.shapes import CONTROL, Shape

_SCHEMES: Final = (
    "basic|bearer|digest|token|negotiate|ntlm|apikey|api-key|oauth|jwt|dpop|hawk|mac|hoba|"
    "mutual|vapid|gssapi|kerberos|signature|sso-key|ssws|snowflake|aws4-hmac-sha256|"
    "aws4-ecdsa-p256-sha256|aws|sharedkey|sharedkeylite|key|privatetoken|genie(?:key)?|zoho-oauthtoken"
)
_USUAL: Final = (  # the others would take each process 10 ms more to compile
    "basic|bearer|digest|token|negotiate|ntlm|api-?key|oauth|jwt|dpop|hawk|signature|"
    "aws4-hmac-sha256|sharedkey"
)
_SCHEME: Final = rf"(?i)(?:(?:{_SCHEMES})\\?[ \t]{{1,16}})?"
# Around names and signs the terminal's own sequences alone: every spelling of them in each of these
# places takes each process 50 ms more to compile.
_COLOUR: Final = r"\x1b\[[0-?]*[@-~]"
_BLANKS: Final = rf"(?:[ \t]*{_COLOUR})*[ \t]*"
_SIGN: Final = rf"{_BLANKS}(?::|=>?)"
_NAME: Final = rf"authorization(?:{_COLOUR})*"
_QUOTED: Final = rf"[\"']{_NAME}\\*[\"']"
# No other word's end, but of an escape: \n in JSON, %0A, a colour, curl's -H
_BEGINS: Final = (
    rf"(?:^|[^A-Za-z\"']|\\[nrt]|%[0-9A-Fa-f]{{2}}|[\[0-9;][mK]|{CONTROL}|(?:^|[^\"'])-H)"
)
# ("Authorization", "Bearer …"), and {"name": "Authorization", "value": "…"} of a HAR file
_COMMA: Final = rf"{_QUOTED}{_BLANKS},{_BLANKS}"
_VALUE_KEY: Final = rf"{_QUOTED}[ \t]*,(?:[^{{}}\[\]]*,)?[ \t]*\\*[\"']value\\*[\"']{_SIGN}"

_FIRST: Final = r"[^\s\"'\\:{\x1b]"  # a brace begins an object, which is no value
_WORD: Final = "[A-Za-z0-9+/=_.~-]"
# What stands behind a comma is a name as well as a value (["authorization", "x-request-id"]):
# 16 characters with a digit among them, or without what words are joined by, are a value.
_OPAQUE: Final = "|".join(
    ("[A-Za-z0-9+/=~]{16}", *(f"{_WORD}{{{n}}}[0-9]{_WORD}{{{15 - n}}}" for n in range(16)))
)


def _authorization() -> Iterator[Shape]:
    """RFC 9110, section 11.6.2. The value runs to the quote that opened it, or the line's end."""
    name = "authorization"
    before = (
        rf"(?i)(?:{_QUOTED}|{_BEGINS}{_NAME}\\*[\"']?)"
        rf"{_BLANKS}(?::(?:\\ )?|=>?)(?:[ \t]*{CONTROL})*[ \t]*"  # ':\ ' as printf %q writes it
    )
    yield Shape(name, rf"{_FIRST}[^\r]*", before=before, skip=_SCHEME)
    yield Shape(name, r"\x1b[^\[()\r][^\r]*", before=before)  # no colour, so maybe the value's
    for quote in "\"'":
        opened = rf"\\*{quote}"
        before = (
            # "Authorization: Bearer …", and then "authorization": "Bearer …"
            rf"(?i)(?:{quote}(?:-H[ \t]*)?{_NAME}{_SIGN}"
            rf"|(?:{_NAME}\\*[\"']?{_SIGN}|{_VALUE_KEY}){_BLANKS}{opened}"
            rf"|{_COMMA}b?{opened}(?:{_USUAL})\\?[ \t]){_BLANKS}"
        )
        yield Shape(name, rf"{_FIRST}[^\r]*", before=before, skip=_SCHEME, quote=quote)
        before = rf"(?i){_COMMA}b?{opened}{_BLANKS}"
        yield Shape(name, rf"(?:{_OPAQUE})[^\r]*", before=before, quote=quote)


def _userinfo() -> Iterator[Shape]:
    """RFC 3986, section 3.2.1; up to the last '@', because passwords are pasted in unencoded."""
    # As it is, and in JSON of PHP: by itself, quoted by others, quoted by PHP.
    for slash in ("/", r"\\/", r"\\\\/", r"\\\\\\/"):
        width = 1 + 2 * len(slash.replace(r"\\", "."))
        yield Shape("url-userinfo", rf":{slash * 2}[^\s/?#\"<>`]+@", keep=(width, 1))
    yield Shape("url-userinfo", r":\\u002[Ff]\\u002[Ff][^\s/?#\"<>`]+@", keep=(13, 1))


_LABEL: Final = r"[A-Za-z0-9. ]*(?:-[A-Za-z0-9. ]+)*PRIVATE KEY"  # RFC 7468, section 3

ALWAYS: Final = (
    *_userinfo(),
    *_authorization(),
    # RFC 7468, OpenSSH, PGP; SSH2 writes four dashes
    Shape(
        "private-key",
        rf"-----BEGIN {_LABEL}(?: BLOCK)?-----|---- BEGIN {_LABEL} ----",
        until=rf"-----END {_LABEL}(?: BLOCK)?-----|---- END {_LABEL} ----",
    ),
)
