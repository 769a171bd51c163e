"""kill -9 while an OAuth token is refreshed: the next start does not wait for the dead, and says what was lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from credentials import auth_of
from databases import Databases
from hostler.ids import new_id
from running import Server
from serving import ok
from tokens import McpServer, TokenServer

SECONDS = 20.0  # far less than the lease of a refresh lasts


def client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=SECONDS)


@pytest.mark.parametrize("rotates", [False, True], ids=["a token that stays good", "a token that is good once"])
def test_killed_between_the_answer_and_the_commit(tmp_path: Path, databases: Databases, rotates: bool) -> None:
    database = databases.url(new_id("t").lower())
    with (
        McpServer() as mcp,
        TokenServer("s3cret-refresh-0", rotates=rotates) as tokens,
        Server(tmp_path / "data", database=database, preload=False) as server,
    ):
        settings = {"client_id": "c", "refresh_token": "s3cret-refresh-0", "token_endpoint": f"{tokens.url}/token"}
        refresh = {**settings, "token_endpoint_auth": {"type": "none"}}
        with client(server) as http:
            vault = f"/v1/vaults/{ok(http.post('/v1/vaults', json={'display_name': 'v'}))['id']}/credentials"
            made = ok(http.post(vault, json={"auth": auth_of("mcp_oauth", mcp_server_url=mcp.url, refresh=refresh)}))
            one = f"{vault}/{made['id']}"
            tokens.gate.clear()
            asking = threading.Thread(target=ask, args=(http, one))
            asking.start()
            assert tokens.reached.wait(SECONDS)
            server.kill()
            asking.join(SECONDS)
        tokens.gate.set()
        server.start()
        mcp.good = ["s3cret-access-2"]
        with client(server) as http:
            found = ok(http.post(f"{one}/mcp_oauth_validate"))
            if rotates:
                assert (found["status"], found["refresh"]["status"]) == ("invalid", "failed")
                update: dict[str, Any] = {"type": "mcp_oauth", "refresh": {"refresh_token": tokens.good}}
                ok(http.post(one, json={"auth": update}))
                found = ok(http.post(f"{one}/mcp_oauth_validate"))
            assert (found["status"], found["refresh"]["status"]) == ("valid", "succeeded")
        server.kill()
        server.start()
        with client(server) as http:
            found = ok(http.post(f"{one}/mcp_oauth_validate"))
            assert (found["status"], found["refresh"]) == ("valid", None), "what was told is stored"


def ask(http: httpx2.Client, credential: str) -> None:
    with pytest.raises(httpx2.TransportError):
        http.post(f"{credential}/mcp_oauth_validate")
