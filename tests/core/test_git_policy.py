"""What git may reach."""

from __future__ import annotations

import pytest

from tailrace.core.git_policy import GitPolicy, address_allowed, check_policy, covers
from tailrace.core.git_url import parse_git_url

DEFAULT = GitPolicy()

PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808",
          "2002:808:808::1", "::ffff:8.8.8.8"]  # fmt: skip
NOT_PUBLIC = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "192.168.1.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "2001::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "100::1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("http://host.test/r", "git.protocols"),
        ("git://host.test/r", "git.protocols"),
        ("/srv/r", "git.local_paths"),
        ("file:///srv/r", "git.local_paths"),
        (".", "git.local_paths"),
        ("https://127.0.0.1/r", "git.private_addresses"),
        ("https://[::1]/r", "git.private_addresses"),
        ("https://[::ffff:10.0.0.1]/r", "git.private_addresses"),
        ("git@10.1.2.3:r", "git.private_addresses"),
        ("https://localhost/r", "git.private_addresses"),
        ("https://x.LOCALHOST./r", "git.private_addresses"),
    ],
)
def test_a_refusal_names_the_setting_that_would_allow_it(text: str, setting: str) -> None:
    """By default only public https and ssh hosts pass; who owns the machine may name all."""
    url = parse_git_url(text)
    refusal = check_policy(url, DEFAULT, trusted=False)

    assert refusal is not None
    assert refusal.setting == setting
    assert setting in str(refusal)
    assert check_policy(url, DEFAULT, trusted=True) is None


@pytest.mark.parametrize(
    "text", ["https://host.test/r", "git@host.test:r", "https://8.8.8.8/r", "https://[2606::1]/r"]
)
def test_public_hosts_over_the_allowed_protocols_pass(text: str) -> None:
    """Names pass too: they are asked about again once they are resolved."""
    assert check_policy(parse_git_url(text), DEFAULT, trusted=False) is None


def test_the_settings_open_what_they_name_and_no_more() -> None:
    """A folder covers what is beneath it, not what begins with the same letters."""
    policy = GitPolicy(
        protocols=("http",), local_paths=("/srv/git/",), private_addresses=("127.0.0.0/8",)
    )

    def passes(text: str) -> bool:
        return check_policy(parse_git_url(text), policy, trusted=False) is None

    assert passes("http://127.0.0.1/r")
    assert passes("http://localhost/r")
    assert not passes("https://127.0.0.1/r")
    assert not passes("http://[::1]/r")
    assert passes("/srv/git")
    assert passes("file:///srv/git/r")
    assert not passes("/srv/git-private/r")
    assert not passes("/srv/git/../private")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_connected_to(address: str) -> None:
    """Also those that stand for a public IPv4 address."""
    assert address_allowed(address, DEFAULT, trusted=False)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_need_trust_or_the_setting(address: str) -> None:
    """Private, loopback, link-local, shared, multicast and what embeds one of them."""
    assert not address_allowed(address, DEFAULT, trusted=False)
    assert address_allowed(address, DEFAULT, trusted=True)


def test_a_network_in_the_settings_covers_mapped_addresses() -> None:
    """``::ffff:10.0.0.1`` is 10.0.0.1 for the setting as well."""
    policy = GitPolicy(private_addresses=("10.0.0.0/8", "fd00::/8"))

    assert address_allowed("::ffff:10.0.0.1", policy, trusted=False)
    assert address_allowed("fd00::1", policy, trusted=False)
    assert not address_allowed("192.168.0.1", policy, trusted=False)


@pytest.mark.parametrize(
    ("scope", "text", "held"),
    [
        ("git.test", "https://git.test/acme/app", True),
        ("GIT.test", "https://git.test:8443/acme/app", True),
        ("git.test:8443", "https://git.test:8443/acme/app", True),
        ("git.test:8443", "https://git.test/acme/app", False),
        ("git.test/acme", "https://git.test/acme/app", True),
        ("git.test/acme/", "git@git.test:acme/app", True),
        ("git.test/acme/app", "https://git.test/acme/app", True),
        ("git.test/acme", "https://git.test/acme-evil/app", False),
        ("git.test/acme", "https://git.test/%61cme/app", False),
        ("test", "https://git.test/acme", False),
        ("::1", "https://[::1]/r", True),
        ("[::1]:8443", "https://[::1]:8443/r", True),
    ],
)
def test_a_credential_goes_to_its_host_and_below_its_path(
    scope: str, text: str, held: bool
) -> None:
    """Whole names of folders are compared, and a host stands for all its ports."""
    assert covers(scope, parse_git_url(text)) is held
