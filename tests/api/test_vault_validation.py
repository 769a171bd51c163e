"""`mcp_oauth_validate` against local servers: what it asks, what it says, and that secrets are taken out of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from credentials import Json, auth_of
from hostler.vault import oauth, probe
from serving import ok, refused
from tokens import Asked, LocalServer, McpServer, Said, TokenServer

Add = Callable[..., str]
KEYS = {"type", "credential_id", "vault_id", "status", "has_refresh_token", "mcp_probe", "refresh", "validated_at"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(probe, "STEP_SECONDS", 5.0)


@pytest.fixture
def add(http: httpx2.Client) -> Add:
    """Stores an mcp_oauth credential for servers, and gives its URL."""

    def adding(mcp_url: str, token_url: str | None = None, access: str = "s3cret-access-0") -> str:
        vault = f"/v1/vaults/{ok(http.post('/v1/vaults', json={'display_name': 'v'}))['id']}/credentials"
        refresh = {
            "client_id": "c",
            "refresh_token": "s3cret-refresh-0",
            "token_endpoint": token_url,
            "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "s3cret-client"},
        }
        auth = auth_of("mcp_oauth", mcp_server_url=mcp_url, access_token=access, refresh=refresh if token_url else None)
        return f"{vault}/{ok(http.post(vault, json={'auth': auth}))['id']}"

    return adding


def validated(http: httpx2.Client, credential: str) -> Json:
    answer = http.post(f"{credential}/mcp_oauth_validate")
    said = ok(answer)
    assert "s3cret" not in answer.text
    assert set(said) == KEYS
    assert said["type"] == "vault_credential_validation"
    assert credential.endswith(said["credential_id"])
    assert said["vault_id"] in credential
    return said


@pytest.mark.parametrize("streams", [False, True], ids=["json", "events"])
def test_a_token_that_is_taken(http: httpx2.Client, add: Add, streams: bool) -> None:
    with McpServer("s3cret-access-0") as mcp:
        mcp.streams = streams
        said = validated(http, add(f"{mcp.url}/mcp"))
        assert (said["status"], said["has_refresh_token"], said["mcp_probe"], said["refresh"]) == (
            "valid",
            False,
            None,
            None,
        )
        assert mcp.methods == ["initialize", "notifications/initialized", "tools/list"]
        assert {asked.path for asked in mcp.asked} == {"/mcp"}
        first, *rest = mcp.asked
        assert "mcp-session-id" not in first.headers
        assert all(asked.headers["mcp-session-id"] == "local-1" for asked in rest)
        assert all(asked.headers["mcp-protocol-version"] == "2025-06-18" for asked in rest)
        assert mcp.deleted == 1, "the session is given back"


def test_a_token_that_is_refused_without_a_refresh_token(http: httpx2.Client, add: Add) -> None:
    with McpServer() as mcp:
        said = validated(http, add(mcp.url))
        assert (said["status"], said["refresh"]) == ("invalid", {"status": "no_refresh_token", "http_response": None})
        assert said["mcp_probe"] == {
            "method": "initialize",
            "http_response": {
                "status_code": 401,
                "content_type": "application/json",
                "body": '{"error": "unauthorized", "sent": "Bearer [redacted]"}',
                "body_truncated": False,
            },
        }


def test_a_token_that_is_refreshed(http: httpx2.Client, add: Add) -> None:
    with McpServer("s3cret-access-1") as mcp, TokenServer("s3cret-refresh-0") as tokens:
        credential = add(mcp.url, f"{tokens.url}/token")
        said = validated(http, credential)
        assert (said["status"], said["has_refresh_token"], said["mcp_probe"], said["refresh"]) == (
            "valid", True, None, {"status": "succeeded", "http_response": None},
        )  # fmt: skip
        assert validated(http, credential)["refresh"] is None, "the new token was stored"
        assert len(tokens.asked) == 1


def test_a_new_token_that_is_refused_too(http: httpx2.Client, add: Add) -> None:
    with McpServer() as mcp, TokenServer("s3cret-refresh-0") as tokens:
        said = validated(http, add(mcp.url, f"{tokens.url}/token"))
        assert (said["status"], said["refresh"]["status"]) == ("invalid", "succeeded")
        assert said["mcp_probe"]["http_response"]["status_code"] == 401


def test_a_refresh_that_is_refused(http: httpx2.Client, add: Add) -> None:
    with McpServer() as mcp, TokenServer("another") as tokens:
        credential = add(mcp.url, f"{tokens.url}/token")
        for _ in range(2):  # asked again, although it is known to be useless
            said = validated(http, credential)
            assert (said["status"], said["refresh"]["status"]) == ("invalid", "failed")
            shown = said["refresh"]["http_response"]
            assert (shown["status_code"], shown["content_type"]) == (400, "application/json")
            assert json.loads(shown["body"]) == {"error": "invalid_grant", "error_description": "not [redacted]"}
        assert len(tokens.asked) == 2
        tokens.good = "s3cret-refresh-0"
        mcp.good = ["s3cret-access-1"]
        assert validated(http, credential)["status"] == "valid", "and may work again"


def test_a_token_endpoint_in_trouble(http: httpx2.Client, add: Add) -> None:
    with McpServer() as mcp, TokenServer("s3cret-refresh-0") as tokens:
        tokens.script = [Said(503, "busy", {"content-type": "text/plain"})] * 3
        said = validated(http, add(mcp.url, f"{tokens.url}/token"))
        assert said["status"] == "unknown"
        assert said["refresh"]["http_response"]["body"] == "busy"
        said = validated(http, add(mcp.url, "http://127.0.0.1:1/token"))
        assert (said["status"], said["refresh"]) == ("unknown", {"status": "connect_error", "http_response": None})


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (Said(403, {"error": "scope"}), "invalid"),
        (Said(500, "boom"), "unknown"),
        (Said(307, "", {"location": "/else"}), "unknown"),
        (Said(200, "no json"), "unknown"),
        (Said(200, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "s3cret-access-0?"}}), "unknown"),
    ],
)
def test_other_answers_of_the_server(http: httpx2.Client, add: Add, said: Said, status: str) -> None:
    with McpServer("s3cret-access-0") as mcp, TokenServer("s3cret-refresh-0") as tokens:
        mcp.script = [said]
        found = validated(http, add(mcp.url, f"{tokens.url}/token"))
        assert (found["status"], found["refresh"], found["mcp_probe"]["method"]) == (status, None, "initialize")
        assert found["mcp_probe"]["http_response"]["status_code"] == said.status
        assert tokens.asked == [], "only a 401 is a reason to refresh"


def test_a_later_step_that_fails(http: httpx2.Client, add: Add) -> None:
    with McpServer("s3cret-access-0") as mcp:
        hello = {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}}
        mcp.script = [Said(200, hello), Said(202, ""), Said(503, "later")]
        found = validated(http, add(mcp.url))
        assert (found["status"], found["mcp_probe"]["method"]) == ("unknown", "tools/list")
        hello["result"] = {"protocolVersion": "2025-06-18", "capabilities": {}}
        mcp.asked.clear()
        mcp.script = [Said(200, hello)]
        assert validated(http, add(mcp.url))["status"] == "valid"
        assert mcp.methods == ["initialize", "notifications/initialized"], "a server without tools has none to list"


def test_a_server_that_is_not_there(http: httpx2.Client, add: Add) -> None:
    found = validated(http, add("http://127.0.0.1:1/mcp"))
    assert (found["status"], found["mcp_probe"]) == ("unknown", {"method": "initialize", "http_response": None})


@pytest.mark.parametrize(
    "url",
    ["https://nowhere.invalid/mcp", f"https://{'a' * 300}.com", "https://a..b", "https://xn--/", "http://localhost:0"],
)
def test_a_name_that_leads_nowhere(http: httpx2.Client, add: Add, url: str) -> None:
    found = validated(http, add(url))
    assert (found["status"], found["mcp_probe"]) == ("unknown", {"method": "initialize", "http_response": None})


def test_a_server_that_never_answers(http: httpx2.Client, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STEP_SECONDS", 0.1)
    with TokenServer("s3cret-refresh-0") as silent:  # its gate holds what it is asked for
        silent.gate.clear()
        silent.good = ""
        try:
            found = validated(http, add(silent.url + "/?x", None))
        finally:
            silent.gate.set()
        assert found["status"] == "unknown"


def test_secrets_are_taken_out_of_what_is_shown(http: httpx2.Client, add: Add) -> None:
    access = 's3cret "quoted\\ +/%'
    body = {
        "raw": access, "token": "s3cret-unknown", "new_refresh_token": "s3cret\\\"more", "Client_Secret": "s3cret-x",
        "url": "https://x/?t=s3cret+%22quoted%5C+%2B%2F%25", "head": "Basic czNjcmV0Og==",
    }  # fmt: skip
    with McpServer() as mcp:
        mcp.script = [Said(403, body)]
        found = validated(http, add(mcp.url, access=access))
        shown = json.loads(found["mcp_probe"]["http_response"]["body"])
        assert shown == {
            "raw": "[redacted]", "token": "[redacted]", "new_refresh_token": "[redacted]",
            "Client_Secret": "[redacted]", "url": "https://x/?t=[redacted]", "head": "Basic [redacted]",
        }  # fmt: skip


def test_long_answers_are_cut_after_the_secrets_are_out(http: httpx2.Client, add: Add) -> None:
    access = "s3cret" * 2000
    with McpServer() as mcp:
        mcp.script = [Said(403, access * 50), Said(403, "x" * 5000), Said(403, b"\xff" * 100)]
        first = validated(http, add(mcp.url, access=access))["mcp_probe"]["http_response"]
        assert set(first["body"].replace("[redacted]", "")) == set()
        assert first["body_truncated"] is True
        second = validated(http, add(mcp.url))["mcp_probe"]["http_response"]
        assert (len(second["body"]), second["body_truncated"]) == (4096, True)
        third = validated(http, add(mcp.url))["mcp_probe"]["http_response"]
        assert third["body"] == "\N{REPLACEMENT CHARACTER}" * 100


def test_credentials_of_other_types_and_archived_ones(http: httpx2.Client, add: Add) -> None:
    with McpServer("s3cret-access-0") as mcp:
        credential = add(mcp.url)
        vault = credential.rpartition("/")[0]
        ok(http.post(f"{credential}/archive"))
        found = validated(http, credential)
        assert (found["status"], found["mcp_probe"], found["has_refresh_token"]) == ("invalid", None, False)
        for auth in (auth_of("static_bearer"), auth_of("environment_variable")):
            made = ok(http.post(vault, json={"auth": auth}))
            assert "mcp_oauth" in refused(http.post(f"{vault}/{made['id']}/mcp_oauth_validate"))
        assert mcp.asked == []


class OlderServer(LocalServer):
    """Speaks the transport with a separate stream of events: no more than a test can say beforehand."""

    def __init__(self, *, place: str = "/messages?session=1", status: int = 202) -> None:
        super().__init__()
        self.place = place
        self.status = status

    def answer(self, asked: Asked) -> Said:
        if asked.headers.get("authorization") != "Bearer s3cret-access-0":
            return Said(401, "")
        if asked.method == "GET":
            replies: list[Any] = [
                {"jsonrpc": "2.0", "id": 1, "result": {"capabilities": {"tools": {}}}},
                {"jsonrpc": "2.0", "method": "notifications/message"},
                {"jsonrpc": "2.0", "id": 2, "result": {"tools": []}},
            ]
            events = [
                f"event: endpoint\ndata: {self.place}\n\n",
                *(f"data: {json.dumps(said)}\n\n" for said in replies),
            ]
            return Said(200, "".join(events), {"content-type": "text/event-stream"})
        return Said(405 if asked.path == "/sse" else self.status, "")


def test_a_server_of_the_older_transport(http: httpx2.Client, add: Add) -> None:
    with OlderServer() as mcp:
        assert validated(http, add(f"{mcp.url}/sse"))["status"] == "valid"
        posted = [json.loads(asked.body)["method"] for asked in mcp.asked if asked.path.startswith("/messages")]
        assert posted == ["initialize", "notifications/initialized", "tools/list"]
        found = validated(http, add(f"{mcp.url}/sse", access="s3cret-other"))
        assert (found["status"], found["mcp_probe"]["http_response"]["status_code"]) == ("invalid", 401)
    with OlderServer(status=403) as mcp:
        found = validated(http, add(f"{mcp.url}/sse"))
        assert (found["status"], found["mcp_probe"]["http_response"]["status_code"]) == ("invalid", 403)


def test_the_token_is_not_sent_where_an_older_server_points(http: httpx2.Client, add: Add) -> None:
    with McpServer("s3cret-access-0") as elsewhere, OlderServer(place=f"{elsewhere.url}/steal") as mcp:
        found = validated(http, add(f"{mcp.url}/sse"))
        assert (found["status"], found["mcp_probe"]["http_response"]["status_code"]) == ("unknown", 405)
        assert elsewhere.asked == []
