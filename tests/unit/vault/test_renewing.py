"""OAuth tokens are refreshed once, stored before use, and not lost; what can't be refreshed is not asked for again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from credentials import Json, auth_of
from databases import Databases
from hostler import clock
from hostler.errors import Unavailable
from hostler.store.postgres import PostgresStore
from hostler.vault import oauth, records, renewing
from hostler.vault.oauth import Tokens
from hostler.vault.sealing import Key, Sealer
from hostler.wire.base import UNSET, timestamp
from hostler.wire.vaults import CredentialCreate
from tokens import Said, TokenServer
from unit.vault.place import Place

URL = "https://mcp.example.com"
SOON = 3_000_000  # within the time by which a token counts as expired already
Body = Callable[[Place, TokenServer], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(renewing, "KEEP_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(renewing, "POLL_SECONDS", 0.01)


def oauth_at(server: TokenServer, *, expired: bool = False, client: Json | None = None, **refresh: Any) -> Json:
    client = client or {"type": "none"}
    settings = {
        "client_id": "cli:ent",
        "refresh_token": "s3cret-refresh-0",
        "token_endpoint": f"{server.url}/token",
        "token_endpoint_auth": client,
        **refresh,
    }
    expires = timestamp(clock.now() + SOON) if expired else "2099-01-01T00:00:00Z"
    return auth_of(
        "mcp_oauth", mcp_server_url=URL, access_token="s3cret-access-0", expires_at=expires, refresh=settings
    )


def play(databases: Databases, body: Body, **options: Any) -> None:
    async def run(server: TokenServer) -> None:
        store = await databases.open()
        place = Place(store, Sealer([Key.new()]))
        try:
            await asyncio.wait_for(body(place, server), 60)
        finally:
            await place.vault.aclose()
            await store.close()

    with TokenServer("s3cret-refresh-0", **options) as server:
        asyncio.run(run(server))


async def rejected(place: Place, vault_id: str) -> Any:
    """What comes of it when a server refuses the token that is stored now."""
    bearer = await place.resolver.authorization([vault_id], URL)
    assert bearer is not None
    return await place.resolver.refreshed(bearer, bearer.token)


def test_an_expired_token_is_refreshed_before_use(databases: Databases) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server, expired=True))
        bearer = await place.resolver.authorization([vault_id], URL)
        assert bearer is not None
        assert (bearer.token, bearer.credential_id, bearer.vault_id) == ("s3cret-access-1", credential_id, vault_id)
        kept = await place.secrets(credential_id)
        assert (kept.access_token, kept.refresh_token) == ("s3cret-access-1", "s3cret-refresh-1")
        shown = (await place.record(credential_id)).credential()
        assert timestamp(clock.now() + 3500_000_000) < shown.auth.expires_at < timestamp(clock.now() + 3601_000_000)
        assert await place.resolver.authorization([vault_id], URL) == bearer
        assert len(server.asked) == 1

    play(databases, body)


def test_a_token_that_is_good_is_left_alone(databases: Databases) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        await place.add(vault_id, oauth_at(server))
        bearer = await place.resolver.authorization([vault_id], URL)
        assert bearer is not None
        assert (bearer.token, server.asked) == ("s3cret-access-0", [])
        assert (await rejected(place, vault_id)).token == "s3cret-access-1", "a refusal counts more than the expiry"
        assert len(server.asked) == 1
        assert (await place.resolver.refreshed(bearer, "s3cret-access-0")) is not None
        assert len(server.asked) == 1, "it was newer already"

    play(databases, body)


@pytest.mark.parametrize(
    ("client", "in_form"),
    [
        ({"type": "none"}, {"client_id": "cli:ent"}),
        ({"type": "client_secret_post", "client_secret": "s3cret+/%"},
         {"client_id": "cli:ent", "client_secret": "s3cret+/%"}),
        ({"type": "client_secret_basic", "client_secret": "s3cret+/%"}, {}),
    ],
)  # fmt: skip
def test_how_the_client_proves_itself(databases: Databases, client: Json, in_form: Json) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        await place.add(vault_id, oauth_at(server, client=client, scope="a b", resource=f"{URL}/mcp"))
        assert await rejected(place, vault_id)
        (asked,) = server.asked
        grant = {"grant_type": "refresh_token", "refresh_token": "s3cret-refresh-0", "scope": "a b"}
        assert asked.form == {**grant, "resource": f"{URL}/mcp", **in_form}
        if in_form:
            assert "authorization" not in asked.headers
        else:
            assert asked.basic == ("cli:ent", "s3cret+/%")

    play(databases, body)


def test_a_refresh_token_that_is_not_replaced_stays(databases: Databases) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server))
        assert (await rejected(place, vault_id)).token == "s3cret-access-1"
        assert (await rejected(place, vault_id)).token == "s3cret-access-2"
        assert (await place.secrets(credential_id)).refresh_token == "s3cret-refresh-0"
        shown = (await place.record(credential_id)).credential()
        assert shown.auth.expires_at is UNSET, "it was not said"

    play(databases, body, rotates=False, expires_in=None)


def test_many_at_once_ask_once(databases: Databases) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        await place.add(vault_id, oauth_at(server, expired=True))
        beside = Place(place.store, place.sealer)
        server.gate.clear()
        waiting = [asyncio.create_task(one.resolver.authorization([vault_id], URL)) for one in [place, beside] * 10]
        await asyncio.to_thread(server.reached.wait, 20)
        server.gate.set()
        found = await asyncio.gather(*waiting)
        assert {bearer.token for bearer in found if bearer} == {"s3cret-access-1"}
        assert len(server.asked) == 1
        await beside.vault.aclose()

    play(databases, body)


def test_two_processes_on_postgresql_ask_once(databases: Databases, tmp_path: Any) -> None:
    if databases.kind == "sqlite":
        return  # has one process
    url = databases.url("two")
    assert url is not None

    async def run(server: TokenServer) -> None:
        sealer = Sealer([Key.new()])
        stores = [await PostgresStore.open(url, now=1, owner=False) for _ in range(2)]
        one, two = (Place(store, sealer) for store in stores)
        vault_id = await one.add_vault()
        await one.add(vault_id, oauth_at(server))
        stale = await one.resolver.authorization([vault_id], URL)
        assert stale is not None
        for number in range(1, 6):
            found = await asyncio.gather(*(
                place.resolver.refreshed(stale, stale.token) for place in (one, two, one, two)
            ))  # fmt: skip
            assert {bearer.token for bearer in found if bearer} == {f"s3cret-access-{number}"}
            assert len(server.asked) == number
            stale = found[0]
            assert stale is not None
        for place in (one, two):
            await place.vault.aclose()
            await place.store.close()

    with TokenServer("s3cret-refresh-0") as server:
        asyncio.run(asyncio.wait_for(run(server), 60))


@pytest.mark.parametrize("status", [400, 401, 200])
@pytest.mark.parametrize("code", ["invalid_grant", "invalid_client"])
def test_a_final_refusal_is_remembered_until_the_credential_changes(
    databases: Databases, caplog: pytest.LogCaptureFixture, status: int, code: str
) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server, expired=True))
        server.script = [Said(status, {"error": code, "error_description": "s3cret-refresh-0 is used up"})]
        with caplog.at_level(logging.DEBUG):
            bearer = await place.resolver.authorization([vault_id], URL)
        assert bearer is not None
        assert bearer.token == "s3cret-access-0", "the server's refusal then says what is wrong"
        assert (await place.record(credential_id)).failure == code
        beside = Place(place.store, place.sealer)
        for one in (place, beside):
            assert await one.resolver.refreshed(bearer, bearer.token) is None
        assert len(server.asked) == 1, "it is not asked again"
        assert credential_id in caplog.text
        assert code in caplog.text
        assert "s3cret" not in caplog.text
        await place.update(
            vault_id, credential_id, {"type": "mcp_oauth", "refresh": {"refresh_token": "s3cret-refresh-0"}}
        )
        await place.update(vault_id, credential_id, {"type": "mcp_oauth", "refresh": {"scope": "new"}})
        assert (await place.record(credential_id)).failure is None
        renewed = await place.resolver.refreshed(bearer, bearer.token)
        assert renewed is not None
        assert renewed.token == "s3cret-access-1"
        await beside.vault.aclose()

    play(databases, body)


@pytest.mark.parametrize(
    "said",
    [
        Said(503, "busy"),
        Said(500, {"error": "invalid_grant"}),
        Said(429, {"error": "slow_down"}),
    ],
)
def test_a_passing_failure_is_tried_a_few_times(databases: Databases, said: Said) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server))
        server.script = [said, said]
        assert (await rejected(place, vault_id)).token == "s3cret-access-1"
        assert len(server.asked) == 3
        server.script = [said] * 10
        assert await rejected(place, vault_id) is None
        assert await rejected(place, vault_id) is None, "nor is it asked again right away"
        assert len(server.asked) == 6
        assert (await place.record(credential_id)).failure is None

    play(databases, body)


@pytest.mark.parametrize(
    "said",
    [
        Said(302, "", {"location": "/elsewhere"}),
        Said(404, "<html>"),
        Said(400, {"error": "something_else"}),
        Said(200, "not json"),
        Said(200, []),
        Said(200, {"access_token": ""}),
        Said(200, {"access_token": 7}),
        Said(200, {"access_token": "two\nlines"}),
        Said(200, b'{"access_token": "' + b"x" * 100_000 + b'"}'),
        Said(200, b"[" * 50_000),
        Said(200, b"\xff\xfe"),
    ],
)
def test_other_answers_are_no_token_and_not_tried_again(databases: Databases, said: Said) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server))
        server.script = [said]
        assert await rejected(place, vault_id) is None
        assert len(server.asked) == 1
        assert (await place.secrets(credential_id)).access_token == "s3cret-access-0"
        assert (await place.record(credential_id)).failure is None

    play(databases, body)


def test_an_endpoint_that_is_not_there(databases: Databases) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        await place.add(vault_id, oauth_at(server, token_endpoint="http://127.0.0.1:1/token"))
        assert await rejected(place, vault_id) is None

    play(databases, body)


def test_an_endpoint_that_never_answers(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "ATTEMPT_SECONDS", 0.1)

    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        await place.add(vault_id, oauth_at(server))
        server.gate.clear()
        try:
            assert await rejected(place, vault_id) is None
        finally:
            server.gate.set()

    play(databases, body)


def test_whoever_waits_may_go_and_the_tokens_are_kept(databases: Databases) -> None:
    """An interrupted turn cancels its wait between the endpoint's answer and the commit."""

    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server, expired=True))
        server.gate.clear()
        waiting = asyncio.create_task(place.resolver.authorization([vault_id], URL))
        await asyncio.to_thread(server.reached.wait, 20)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        server.gate.set()
        await place.vault.renewer.aclose()
        kept = await place.secrets(credential_id)
        assert (kept.access_token, kept.refresh_token) == ("s3cret-access-1", "s3cret-refresh-1")

    play(databases, body)


def test_a_process_that_died_in_between_is_waited_for_and_replaced(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease ends; then the refresh token is tried once more, since nobody knows what became of it."""
    monkeypatch.setattr(renewing, "LEASE_SECONDS", 1)

    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server))
        dead = Place(place.store, place.sealer)
        assert await dead.vault.renewer._lease(await place.record(credential_id))
        before = asyncio.get_running_loop().time()
        assert (await rejected(place, vault_id)).token == "s3cret-access-1"
        assert asyncio.get_running_loop().time() - before > 0.5

    play(databases, body)


def test_tokens_are_not_lost_while_the_database_can_not_be_written(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server))
        take, failures = place.vault.renewer._take, [Unavailable(), Unavailable()]

        def failing(*arguments: Any) -> Any:
            if failures:
                raise failures.pop()
            return take(*arguments)

        monkeypatch.setattr(place.vault.renewer, "_take", failing)
        assert (await rejected(place, vault_id)).token == "s3cret-access-1"
        assert (await place.secrets(credential_id)).refresh_token == "s3cret-refresh-1"

    play(databases, body)


def test_what_was_changed_meanwhile_stays(databases: Databases) -> None:
    async def body(place: Place, server: TokenServer) -> None:
        vault_id = await place.add_vault()
        credential_id = await place.add(vault_id, oauth_at(server))

        async def during(change: Callable[[], Awaitable[object]]) -> Any:
            server.gate.clear()
            server.reached.clear()
            waiting = asyncio.create_task(rejected(place, vault_id))
            await asyncio.to_thread(server.reached.wait, 20)
            await change()
            server.gate.set()
            return await waiting

        update = {"type": "mcp_oauth", "access_token": "s3cret-mine"}
        found = await during(lambda: place.update(vault_id, credential_id, update))
        kept = await place.secrets(credential_id)
        assert (found.token, kept.access_token) == ("s3cret-mine", "s3cret-mine")
        assert kept.refresh_token == "s3cret-refresh-1", "or it would be lost"
        assert await during(lambda: place.credentials.archive(vault_id, credential_id)) is None
        assert (await place.record(credential_id)).sealed is None

    play(databases, body)


@pytest.mark.parametrize("value", [None, 0, -1, "x", [], 1e300, float("inf"), "nan", 10**400])
def test_a_lifetime_that_makes_no_sense_counts_as_unknown(value: Any) -> None:
    assert oauth._seconds(value) is None


def test_nothing_shows_its_secrets() -> None:
    request = msgspec.convert({"auth": auth_of("mcp_oauth")}, CredentialCreate)
    assert repr(request.auth) == "McpOauthParams(...)"
    assert "s3cret" not in repr(request)
    shown = repr([Tokens(access_token="s3cret", refresh_token="s3cret", expires_in=1), records.Secrets(token="s3cret")])
    assert "s3cret" not in shown
