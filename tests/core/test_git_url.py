"""Git addresses, refs and commits from outside."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.git_url import (
    GitInputError,
    GitRefError,
    GitUrl,
    GitUrlError,
    check_commit,
    check_ref,
    parse_git_url,
)

ACCEPTED = [
    # text, scheme, host, port, path, what git is given
    ("https://GitHub.com/o/r.git", "https", "github.com", None, "/o/r.git",
     "https://github.com/o/r.git"),
    ("https://u:p%40ss@host.test:8443/o/r", "https", "host.test", 8443, "/o/r",
     "https://host.test:8443/o/r"),
    ("http://[2001:DB8::1]:80/r", "http", "2001:db8::1", 80, "/r", "http://[2001:db8::1]:80/r"),
    ("http://192.0.2.1/r", "http", "192.0.2.1", None, "/r", "http://192.0.2.1/r"),
    ("ssh://git@host.test:2222/o/r", "ssh", "host.test", 2222, "/o/r",
     "ssh://git@host.test:2222/o/r"),
    ("git+ssh://git:pw@host.test/~o/r", "ssh", "host.test", None, "/~o/r",
     "ssh://git@host.test/~o/r"),
    ("git@host.test:o/r.git", "ssh", "host.test", None, "o/r.git", "git@host.test:o/r.git"),
    ("host.test:r", "ssh", "host.test", None, "r", "host.test:r"),
    ("git@[::1]:r", "ssh", "::1", None, "r", "git@[::1]:r"),
    ("git://host.test./r", "git", "host.test", None, "/r", "git://host.test/r"),
    ("file:///srv/a%20b", "file", "", None, "/srv/a b", "file:///srv/a%20b"),
    ("/srv/a b#1", "file", "", None, "/srv/a b#1", "file:///srv/a%20b%231"),
    ("./r", "file", "", None, "./r", "./r"),
    (".", "file", "", None, ".", "."),
]  # fmt: skip

REFUSED = [
    ("", "empty"),
    ("-u./payload", "can't begin with '-'"),
    ("https://h/a\n.git", "line breaks"),
    (" https://h/a", "white space"),
    ("https://h/a b", "space"),
    ("https://h/\u202egit.a", "control characters"),
    ("ext::sh -c id", "never run"),
    ("fd::17", "never run"),
    ("EXT::sh", "never run"),
    ("codecommit::eu://r", "never run"),
    ("ftp://h/r", "aren't known"),
    ("javascript://h/r", "aren't known"),
    ("https:///r", "host is empty"),
    ("https://u@/r", "host is empty"),
    ("https://.", "no path"),
    ("https://h", "no path"),
    ("https://h/", "no path"),
    ("git@h:", "no path"),
    ("git@h::r", "no path"),
    ("ssh://-oProxyCommand=id/r", "don't belong"),
    ("ssh://%2DoProxyCommand=id/r", "don't belong"),
    ("ssh://-l@h/r", "don't belong"),
    ("ssh://%2Dl@h/r", "don't belong"),
    ("ssh://$(id)@h/r", "don't belong"),
    ("git@-oProxyCommand=id:r", "don't belong"),
    ("h:-r", "can't begin with '-'"),
    ("https://h/%0ahost=other", "percent-encoded"),
    ("https://u%0d@h/r", "percent-encoded"),
    ("file:///a%00b", "percent-encoded"),
    ("https://good.test\\@evil.test/r", "can't be read"),
    ("https://a@b@c/r", "can't be read"),
    ("https://h/r\\..", "'\\'"),
    ("https://h/r#main", "as ref"),
    ("https://h/acme/../evil/r", "'..'"),
    ("https://h/acme/%2e%2E/evil/r", "'..'"),
    ("https://h/acme/.%2e/evil/r", "'..'"),
    ("https://h/acme%2f..%2fevil/r", "'..'"),
    ("https://h/./r", "'.'"),
    ("ssh://h/acme/../evil/r", "'..'"),
    ("git@h:acme/../evil/r", "'..'"),
    ("git@h:..", "'..'"),
    ("https://h:0/r", "port"),
    ("https://h:/r", "port"),
    ("https://h:65536/r", "port"),
    ("https://h:\u0664/r", "port"),
    ("http://2130706433/r", "four decimal"),
    ("http://0x7f.1/r", "four decimal"),
    ("http://0x7f000001/r", "four decimal"),
    ("http://0177.0.0.1/r", "four decimal"),
    ("http://127.1/r", "four decimal"),
    ("2130706433:r", "four decimal"),
    ("http://[::1%25lo]/r", "IPv6"),
    ("http://[127.0.0.1]/r", "IPv6"),
    ("https://b\u00fccher.test/r", "xn--"),
    ("https://a..b/r", "don't belong"),
    ("file://host/r", "can't name a host"),
    ("github.com/o/r", "neither an address nor a path"),
    ("r", "neither an address nor a path"),
    ("shop", "./folder where you are"),
    ("https://h/" + "a" * 5_000, "longer"),
]


@pytest.mark.parametrize(("text", "scheme", "host", "port", "path", "for_git"), ACCEPTED)
def test_an_address_is_taken_apart_and_put_together_again(
    text: str, scheme: str, host: str, port: int | None, path: str, for_git: str
) -> None:
    """Each part has its place, and git gets the parts rather than the text."""
    url = parse_git_url(text)

    assert (url.scheme, url.host, url.port, url.path) == (scheme, host, port, path)
    assert url.for_git == for_git
    assert url.is_local == (scheme == "file")


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_a_hostile_or_useless_address_is_refused_with_a_hint(text: str, problem: str) -> None:
    """Every refusal says what is wrong and what to do instead."""
    with pytest.raises(GitUrlError) as caught:
        parse_git_url(text)

    assert problem in caught.value.problem + caught.value.hint
    assert caught.value.hint


def test_userinfo_is_decoded_and_shown_nowhere() -> None:
    """The password is in the fields alone: not in texts, not in repr."""
    url = parse_git_url("https://us%20er:p%2Fw@host.test/r")

    assert (url.username, url.password) == ("us er", "p/w")
    for text in (url.without_userinfo, url.for_git, repr(url), str(url)):
        assert "us" not in text.replace("username", "")
        assert "p/w" not in text


def test_an_ssh_user_is_kept_for_git_but_is_userinfo_all_the_same() -> None:
    """Ssh has no other place for the account's name."""
    url = parse_git_url("git@host.test:o/r")

    assert url.for_git == "git@host.test:o/r"
    assert url.without_userinfo == "host.test:o/r"


def test_a_refusal_never_quotes_the_password() -> None:
    """The message may be shown to anyone."""
    with pytest.raises(GitUrlError) as caught:
        parse_git_url("https://user:hunter2@ho st/r")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path"), [(".", "/srv/work"), ("../r", "/srv/r"), ("/r", "/r"), ("file:///r", "/r")]
)
def test_a_relative_path_can_be_made_absolute(text: str, path: str) -> None:
    """The caller's folder is put before it; an absolute one stays."""
    assert parse_git_url(text).beneath("/srv/work").path == path


def test_two_addresses_of_one_server_have_one_origin() -> None:
    """A port that is the scheme's own makes no difference."""
    assert parse_git_url("https://H.test/a").origin == parse_git_url("https://h.test:443/b").origin


@given(st.text(alphabet="ab:/@[].-%~#\\ 0x1\n?", max_size=40))
def test_what_git_is_given_reads_as_the_same_parts_again(text: str) -> None:
    """No text makes us and the next reader see different hosts."""
    try:
        url = parse_git_url(text)
    except GitUrlError:
        return
    again: GitUrl = parse_git_url(url.for_git)
    assert again.origin == url.origin
    assert again.path == url.path
    assert not url.for_git.startswith("-")


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Nothing else is ever raised."""
    for read in (parse_git_url, check_ref, check_commit):
        with suppress(GitInputError):
            read(text)


@pytest.mark.parametrize(
    "text", ["main", "release/1.2", "v1.0", "refs/pull/7/head", "HEAD", "a@b", "größe", "x" * 40]
)
def test_a_ref_passes_as_it_is(text: str) -> None:
    """What git would accept as a ref's name is accepted."""
    assert check_ref(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "-b", "--upload-pack=id", "a..b", "a@{1}", "@", "a~1", "a^", "a:b", "a?", "a*", "a[",
     "a\\b", "a b", "a\nb", "a\x7f", "/a", "a/", "a//b", "a.", ".a", "a/.b", "a.lock", "a.lock/b",
     "x" * 1_001],
)  # fmt: skip
def test_what_is_no_ref_is_refused(text: str) -> None:
    """git-check-ref-format's rules, and nothing that reads as an option."""
    with pytest.raises(GitRefError):
        check_ref(text)


def test_a_commit_is_whole_or_abbreviated_hexadecimal() -> None:
    """Lower case comes back; other lengths and letters are refused."""
    assert check_commit("3F2A91C") == "3f2a91c"
    assert check_commit("a" * 64) == "a" * 64
    for text in ("", "3f2a91", "g" * 40, "a" * 41, "-" + "a" * 39, "a" * 40 + "\n"):
        with pytest.raises(GitRefError):
            check_commit(text)
