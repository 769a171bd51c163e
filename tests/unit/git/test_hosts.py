"""Which hosts may be named, and what becomes of a URL."""

from __future__ import annotations

import pytest

from hostler.git.hosts import BadUrl, Hosts


@pytest.mark.parametrize(
    "entry", ["", "a b", "ssh://x", "x/y", "user@x", "x:", "x:123456", "-x", "http://", "*.x", "[::1]"]
)
def test_entries_that_are_no_hosts(entry: str) -> None:
    with pytest.raises(ValueError, match="`hosts`"):
        Hosts([entry])


def test_a_password_in_an_entry_is_not_shown() -> None:
    with pytest.raises(ValueError, match="is not a host name") as refused:
        Hosts(["https://someone:s3cret@git.example.com"])
    assert "s3cret" not in str(refused.value)


def test_a_url_is_taken_apart() -> None:
    hosts = Hosts(["GitHub.com", "http://127.0.0.1:3000", "git.example.com:8443"])
    remote = hosts.remote("https://GITHUB.com/Owner/Repo.git")
    assert (remote.url, remote.place, remote.name) == (
        "https://github.com/Owner/Repo.git",
        "github.com/Owner/Repo",
        "Repo",
    )
    assert hosts.remote("http://127.0.0.1:3000/r").place == "127.0.0.1:3000/r"
    for url in ("https://127.0.0.1:3000/r", "http://github.com/o/r", "https://git.example.com/o/r"):
        with pytest.raises(BadUrl, match="not allowed"):
            hosts.remote(url)


def test_without_hosts_nothing_is_allowed() -> None:
    with pytest.raises(BadUrl, match="none"):
        Hosts([]).remote("https://github.com/o/r")
