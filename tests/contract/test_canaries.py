"""Secrets are planted wherever the API takes one, and used; then everything that the server keeps or says is searched
for them. None may be found.

To extend it: plant with a function of `PLANTERS`, which gives the secrets it planted, or put another place that may
leak into `everything`. A secret that others make, like the tokens of `TokenServer`, is found if it contains `MARK`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import httpx2
import pytest

from contract.world import BUILTINS, CONFIG, IDLE, SCRIPT, World, sync_world
from credentials import auth_of
from databases import Databases
from hostler.ids import new_id
from hostler.vault.sealing import Key
from running import Server
from tokens import McpServer, Said, TokenServer

MARK = "s3cret"
# Written so that the command itself, which is in the log, is no find.
SEARCH = (
    "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
    "grep -rsl 's3cre[t]' /workspace /mnt /tmp /home /etc /run /var 2>/dev/null; echo done"
)


class House(NamedTuple):
    """A server with a world, the local servers that it talks to, and all that it answered."""

    server: Server
    world: World
    mcp: McpServer
    tokens: TokenServer
    answers: list[bytes]


class Planted(NamedTuple):
    """What a planter planted, and the vaults that sessions are to be given because of it."""

    secrets: list[str]
    vault_ids: list[str]


# -- planting ------------------------------------------------------------------------------------------------------


def credentials_of_each_type(house: House) -> Planted:
    post = poster(house)
    vault = post("/v1/vaults", {"display_name": "canaries"})["id"]
    place = f"/v1/vaults/{vault}/credentials"
    secrets = [f"{MARK}-{name}-7Qz/+ &w" for name in ("bearer", "client", "value", "access", "refresh")]
    bearer, client, value, access, refresh = secrets
    client_auth = {"type": "client_secret_basic", "client_secret": client}
    settings = {"client_id": "c", "refresh_token": refresh, "token_endpoint": f"{house.tokens.url}/token"}
    house.tokens.good = refresh
    refreshing = {**settings, "token_endpoint_auth": client_auth}
    oauth = auth_of("mcp_oauth", mcp_server_url=house.mcp.url, access_token=access, refresh=refreshing)
    made = post(place, {"auth": oauth})["id"]
    post(place, {"auth": auth_of("static_bearer", token=bearer)})
    post(place, {"auth": auth_of("environment_variable", secret_value=value)})
    # Refreshed: the new tokens are secrets too. Then refused, by servers that repeat what they were sent.
    house.mcp.good = [f"{MARK}-access-1"]
    assert post(f"{place}/{made}/mcp_oauth_validate")["status"] == "valid"
    house.mcp.good = []
    house.tokens.script = [Said(400, {"error": "invalid_grant", "error_description": f"what about {MARK}-refresh-1"})]
    assert post(f"{place}/{made}/mcp_oauth_validate")["refresh"]["status"] == "failed"
    return Planted(secrets, [vault])


def credentials_that_are_refused(house: House) -> Planted:
    """What is wrong with a request must be said without repeating it."""
    post = poster(house)
    vault = post("/v1/vaults", {"display_name": "refused"})["id"]
    place = f"/v1/vaults/{vault}/credentials"
    secret = f"{MARK}-refused"
    wrong = [
        auth_of("static_bearer", token=f"{secret}\n"),
        auth_of("static_bearer", token={"token": secret}),
        auth_of("static_bearer", token=secret * 2000),
        auth_of("mcp_oauth", access_token=[secret]),
        auth_of("mcp_oauth", refresh=secret),
        auth_of("environment_variable", secret_value=secret, injection_location={}),
        auth_of("environment_variable", secret_value=secret, networking=secret),
        secret,
    ]
    for auth in wrong:
        assert "error" in post(place, {"auth": auth}, status=400)
    post(place, {"auth": auth_of("static_bearer", token=secret)})
    post(place, {"auth": auth_of("static_bearer", token=secret)}, status=409)
    return Planted([secret], [vault])


def credentials_that_were_changed(house: House) -> Planted:
    """Secrets that were replaced, purged or deleted are gone, not merely forgotten."""
    post = poster(house)
    vault = post("/v1/vaults", {"display_name": "changed"})["id"]
    place = f"/v1/vaults/{vault}/credentials"
    secrets = [f"{MARK}-{name}" for name in ("before", "after", "archived")]
    one = post(place, {"auth": auth_of("static_bearer", token=secrets[0])})["id"]
    post(f"{place}/{one}", {"auth": {"type": "static_bearer", "token": secrets[1]}})
    two = post(place, {"auth": auth_of("environment_variable", secret_value=secrets[2])})["id"]
    post(f"{place}/{two}/archive")
    return Planted(secrets, [vault])


PLANTERS: list[Callable[[House], Planted]] = [
    credentials_of_each_type,
    credentials_that_are_refused,
    credentials_that_were_changed,
]


def poster(house: House) -> Callable[..., Any]:
    def post(path: str, body: Any = None, status: int = 200) -> Any:
        answer = house.world.http.post(path, json=body)
        assert answer.status_code == status, path
        return answer.json()

    return post


# -- searching -----------------------------------------------------------------------------------------------------


def everything(house: House) -> Iterator[tuple[str, bytes]]:
    """Each place that could leak, and what is in it."""
    for file in house.server.data_dir.rglob("*"):
        if file.is_file() and not file.is_symlink():
            yield str(file.relative_to(house.server.data_dir)), file.read_bytes()
    yield "the log", house.server.log_file.read_bytes()
    if house.server.database:
        yield from asyncio.run(tables(house.server.database))
    for number, answer in enumerate(house.answers):
        yield f"answer {number}", answer


async def tables(url: str) -> list[tuple[str, bytes]]:
    """All rows of all tables of a PostgreSQL database, dead ones not included."""
    import asyncpg

    connection = await asyncpg.connect(url)
    names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    found = []
    for (name,) in names:
        rows = [list(row.values()) for row in await connection.fetch(f'SELECT * FROM "{name}"')]
        values = [value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row]
        found.append((name, b"\n".join(values)))
    await connection.close()
    return found


def spellings(secret: str) -> set[bytes]:
    """The forms in which a secret would be seen, half-hidden ones included."""
    raw = secret.encode()
    packed = {base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)}
    return {raw, quote(secret, safe="").encode(), quote_plus(secret).encode(), raw.hex().encode(), *packed}


def finds(house: House, secrets: list[str]) -> list[str]:
    wanted = {MARK.encode(), *(spelling for secret in secrets for spelling in spellings(secret))}
    return [f"{place}: {one!r}" for place, content in everything(house) for one in wanted if one in content]


# -- the test ------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path, databases: Databases, key: Key) -> Iterator[House]:
    answers: list[bytes] = []

    def keep(response: httpx2.Response) -> None:
        answers.append(str(response.headers).encode() + response.read())

    database = databases.url(new_id("t").lower())
    server = Server(
        tmp_path / "data", config=CONFIG, scripted=SCRIPT, database=database, environ={"HOSTLER_SECRET_KEY": key.text}
    )
    with TokenServer("") as tokens, McpServer() as mcp, server, sync_world(server) as world:
        world.http.event_hooks["response"].append(keep)
        yield House(server, world, mcp, tokens, answers)


@pytest.fixture
def key() -> Key:
    return Key.new()


def test_no_secret_is_found_anywhere(house: House, key: Key) -> None:
    world, secrets, vault_ids = house.world, [key.text, house.server.key], []
    for planter in PLANTERS:
        planted = planter(house)
        secrets += planted.secrets
        vault_ids += planted.vault_ids
    session_id = world.session(BUILTINS, vault_ids=vault_ids)
    events = world.turn(session_id, f"run: {SEARCH} | tee /mnt/session/outputs/found.txt")
    assert events[-1].type == IDLE
    assert "done" in world.last_text(session_id), "the search in the sandbox did run"
    for path in (f"/v1/sessions/{session_id}", "/v1/sessions", f"/v1/sessions/{session_id}/events", "/v1/vaults"):
        assert world.http.get(path).status_code == 200
    for vault_id in vault_ids:
        assert world.http.get(f"/v1/vaults/{vault_id}/credentials", params={"include_archived": True}).json()["data"]
    (output,) = world.beta.files.list(scope_id=session_id)
    house.answers.append(world.beta.files.download(output.id).read())
    assert finds(house, secrets) == [], "while the server runs"
    world.http.post(f"/v1/vaults/{vault_ids[0]}/archive")
    world.http.delete(f"/v1/vaults/{vault_ids[1]}")
    house.server.kill()
    assert finds(house, secrets) == [], "after it was killed"
    house.server.start()
    house.server.stop()
    assert finds(house, secrets) == [], "after it ended in order"


def test_the_search_finds_what_is_there(house: House) -> None:
    """Or the test above would prove nothing."""
    hidden = f"{MARK}-hidden"
    for number, spelling in enumerate(sorted(spellings(hidden))):
        (house.server.data_dir / f"leak-{number}").write_bytes(b"..." + spelling + b"...")
    name = house.world.beta.vaults.create(display_name=f"{MARK}-shown").display_name
    places = {find.partition(":")[0] for find in finds(house, [hidden])}
    assert {f"leak-{number}" for number in range(len(spellings(hidden)))} <= places
    house.world.http.get("/v1/vaults")
    kinds = {find.partition(":")[0].split(" ")[0] for find in finds(house, [hidden])}
    assert "answer" in kinds
    assert kinds & {"hostler.db", "hostler.db-wal", "vaults"}
    assert name
