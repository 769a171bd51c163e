"""Which token a session gets for a server: of the first vault, by the normalised URL, looked up anew each time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from credentials import auth_of
from databases import Databases
from hostler.vault.sealing import Key, Sealer
from hostler.vault.urls import check_secret_url, is_loopback, normalised
from unit.vault.place import Place

URL = "https://mcp.example.com/mcp"


def play(databases: Databases, body: Callable[[Place], Awaitable[None]]) -> None:
    async def run() -> None:
        store = await databases.open()
        place = Place(store, Sealer([Key.new()]))
        try:
            await body(place)
        finally:
            await place.vault.aclose()
            await store.close()

    asyncio.run(run())


async def token(place: Place, vault_ids: list[str], url: str = URL) -> str | None:
    bearer = await place.resolver.authorization(vault_ids, url)
    return bearer.token if bearer else None


def test_the_first_vault_wins(databases: Databases) -> None:
    async def body(place: Place) -> None:
        empty, one, two = [await place.add_vault() for _ in range(3)]
        first = await place.add(one, auth_of("static_bearer", token="s3cret-one"))
        await place.add(two, auth_of("static_bearer", token="s3cret-two"))
        await place.add(empty, auth_of("environment_variable"))
        assert await token(place, [empty, one, two]) == "s3cret-one"
        assert await token(place, [empty, two, one]) == "s3cret-two"
        assert await token(place, [empty]) is None
        assert await token(place, []) is None
        assert await token(place, [one, two], "https://other.example.com") is None
        assert await token(place, [one], "HTTPS://u:p@MCP.example.com:443/mcp/#x") == "s3cret-one"
        assert await token(place, [one], "not a url") is None
        # Changes take hold at the next use.
        await place.update(one, first, {"type": "static_bearer", "token": "s3cret-new"})
        assert await token(place, [one, two]) == "s3cret-new"
        await place.credentials.archive(one, first)
        assert await token(place, [one, two]) == "s3cret-two"
        await place.vaults.archive(two)
        assert await token(place, [one, two]) is None
        await place.vaults.delete(two)
        assert await token(place, [one, two, "vlt_none"]) is None

    play(databases, body)


def test_a_bearer_that_was_refused(databases: Databases) -> None:
    async def body(place: Place) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, auth_of("static_bearer", token="s3cret-one"))
        bearer = await place.resolver.authorization([vault_id], URL)
        assert bearer is not None
        assert "s3cret" not in repr(bearer)
        assert await place.resolver.refreshed(bearer, bearer.token) is None
        await place.update(vault_id, credential_id, {"type": "static_bearer", "token": "s3cret-two"})
        newer = await place.resolver.refreshed(bearer, bearer.token)
        assert newer is not None
        assert newer.token == "s3cret-two"
        await place.credentials.archive(vault_id, credential_id)
        assert await place.resolver.refreshed(newer, newer.token) is None
        await place.credentials.delete(vault_id, credential_id)
        assert await place.resolver.refreshed(newer, newer.token) is None

    play(databases, body)


def test_a_secret_that_does_not_open_is_none(databases: Databases, caplog: pytest.LogCaptureFixture) -> None:
    async def body(place: Place) -> None:
        vault_id = await place.add_vault()
        await place.add(vault_id, auth_of("static_bearer"))
        bearer = await place.resolver.authorization([vault_id], URL)
        assert bearer is not None
        other = Place(place.store, Sealer([Key.new()]))
        assert await other.resolver.authorization([vault_id], URL) is None
        assert await other.resolver.refreshed(bearer, "x") is None
        assert "not known here" in caplog.text
        await other.vault.aclose()

    play(databases, body)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com:443/", "https://example.com"),
        ("http://example.com:80/a/", "http://example.com/a"),
        ("https://example.com:8443/A//", "https://example.com:8443/A"),
        ("https://example.com/a?b=C#d", "https://example.com/a?b=C"),
        ("https://u:p@example.com", "https://example.com"),
        ("https://[::1]:443/x", "https://[::1]/x"),
    ],
)
def test_what_urls_have_in_common(url: str, same: str) -> None:
    assert normalised(url) == normalised(same) == same


@pytest.mark.parametrize(
    "url", ["", "x", "//a", "file:///etc/passwd", "https://", "https://a:b", "https://a\\b", "https://a\tb"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|https|host"):
        normalised(url)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost", True),
        ("http://a.LOCALHOST:1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]", True),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://192.168.0.1", False),
        ("http://169.254.169.254", False),
        ("http://0.0.0.0", False),
    ],
)
def test_secrets_go_in_the_clear_to_this_machine_only(url: str, local: bool) -> None:
    assert is_loopback(url) is local
    if local:
        check_secret_url(url)
    else:
        with pytest.raises(ValueError, match="must be https"):
            check_secret_url(url)
    check_secret_url(url.replace("http:", "https:"))
