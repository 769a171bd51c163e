"""Vaults and credentials: their life, what may be changed, what is refused where, and that no secret comes back."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from credentials import BEARER, OAUTH, REFRESH, URL, VARIABLE, Json, auth_of
from databases import Databases
from hostler.ids import new_id
from serving import ok, refused

EACH = pytest.mark.parametrize("auth", [BEARER, OAUTH, VARIABLE], ids=lambda auth: str(auth["type"]))


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


@pytest.fixture
def vault(http: httpx2.Client) -> Json:
    return ok(http.post("/v1/vaults", json={"display_name": "v"}))


@pytest.fixture
def place(vault: Json) -> str:
    return f"/v1/vaults/{vault['id']}/credentials"


def test_the_life_of_a_vault(http: httpx2.Client) -> None:
    made = ok(http.post("/v1/vaults", json={"display_name": "one", "metadata": {"a": "1"}}))
    assert made["id"].startswith("vlt_")
    assert (made["type"], made["display_name"], made["metadata"], made["archived_at"]) == (
        "vault", "one", {"a": "1"}, None,
    )  # fmt: skip
    place = f"/v1/vaults/{made['id']}"
    assert ok(http.get(place)) == made
    assert ok(http.post(place, json={"display_name": None, "metadata": None})) == made
    changed = ok(http.post(place, json={"display_name": "two", "metadata": {"a": None, "b": "2"}}))
    assert (changed["display_name"], changed["metadata"]) == ("two", {"b": "2"})
    assert changed["updated_at"] > made["updated_at"]
    archived = ok(http.post(f"{place}/archive"))
    assert archived["archived_at"] == archived["updated_at"]
    assert ok(http.post(f"{place}/archive")) == archived
    assert "archived" in refused(http.post(place, json={"display_name": "three"}))
    assert "archived" in refused(http.post(f"{place}/credentials", json={"auth": BEARER}))
    assert ok(http.delete(place)) == {"type": "vault_deleted", "id": made["id"]}
    for answer in (
        http.get(place),
        http.delete(place),
        http.post(f"{place}/archive"),
        http.get(f"{place}/credentials"),
    ):
        refused(answer, 404)


def test_lists_are_newest_first(http: httpx2.Client, place: str) -> None:
    vaults = [ok(http.post("/v1/vaults", json={"display_name": str(n)}))["id"] for n in range(3)][::-1]
    some = [ok(http.post(place, json={"auth": auth_of("environment_variable", secret_name=f"N{n}")})) for n in range(3)]
    ids = [credential["id"] for credential in some][::-1]
    for url, expected in (("/v1/vaults", vaults), (place, ids)):
        one = ok(http.get(url, params={"limit": 2}))
        two = ok(http.get(url, params={"limit": 2, "page": one["next_page"]}))
        found = [item["id"] for page in (one, two) for item in page["data"]]
        assert found[:3] == expected
        ok(http.post(f"{url}/{expected[1]}/archive"))
        left = [item["id"] for item in ok(http.get(url))["data"]]
        assert left[:2] == [expected[0], expected[2]]
        assert len(ok(http.get(url, params={"include_archived": "true"}))["data"]) == len(left) + 1
        assert "limit" in refused(http.get(url, params={"limit": 101}))
        assert "page" in refused(http.get(url, params={"page": "x"}))


@EACH
def test_a_credential_is_shown_without_its_secrets(http: httpx2.Client, place: str, vault: Json, auth: Json) -> None:
    answer = http.post(place, json={"auth": auth, "display_name": "c", "metadata": {"k": "v"}})
    made = ok(answer)
    assert made["id"].startswith("vcrd_")
    assert (made["type"], made["vault_id"], made["display_name"], made["metadata"], made["archived_at"]) == (
        "vault_credential", vault["id"], "c", {"k": "v"}, None,
    )  # fmt: skip
    one = f"{place}/{made['id']}"
    answers = [
        answer,
        http.get(one),
        http.post(one, json={"display_name": "d"}),
        http.get(place),
        http.post(f"{one}/archive"),
    ]
    assert all("s3cret" not in said.text for said in answers)
    assert answers[1].json() == made
    assert answers[4].json()["auth"] == made["auth"]
    assert ok(http.delete(one)) == {"type": "vault_credential_deleted", "id": made["id"]}
    refused(http.get(one), 404)


def test_what_is_shown_of_each_type(http: httpx2.Client, place: str) -> None:
    def shown(auth: Json) -> Json:
        made = ok(http.post(place, json={"auth": auth}))
        assert "display_name" not in made
        ok(http.post(f"{place}/{made['id']}/archive"))
        found: Json = made["auth"]
        return found

    assert shown(BEARER) == {"type": "static_bearer", "mcp_server_url": URL}
    kept = {name: value for name, value in REFRESH.items() if name != "refresh_token"}
    assert shown(OAUTH) == {
        "type": "mcp_oauth",
        "mcp_server_url": URL,
        "expires_at": "2099-01-02T03:04:05.000000Z",
        "refresh": {**kept, "token_endpoint_auth": {"type": "client_secret_basic"}},
    }
    assert shown(auth_of("mcp_oauth", refresh=None, expires_at=...)) == {"type": "mcp_oauth", "mcp_server_url": URL}
    bare = auth_of("mcp_oauth", refresh={**REFRESH, "scope": None, "resource": None,
                                         "token_endpoint_auth": {"type": "none"}})  # fmt: skip
    assert shown(bare)["refresh"] == {
        "client_id": "client",
        "token_endpoint": "https://auth.example.com/token",
        "token_endpoint_auth": {"type": "none"},
    }
    both = {"header": True, "body": True}
    assert shown(VARIABLE) == {
        "type": "environment_variable",
        "secret_name": "API_KEY",
        "networking": VARIABLE["networking"],
        "injection_location": both,
    }
    for sent, said in (({"header": True}, {"header": True, "body": False}), ({"body": True, "header": None},
                       {"header": False, "body": True}), (both, both), (None, both)):  # fmt: skip
        auth = auth_of("environment_variable", injection_location=sent, networking={"type": "unrestricted"})
        assert shown(auth)["injection_location"] == said


def test_neither_location_enabled_comes_with_advice(http: httpx2.Client, place: str) -> None:
    said = refused(http.post(place, json={"auth": auth_of("environment_variable", injection_location={})}))
    assert "leave the field out" in said


@pytest.mark.parametrize(
    "again",
    [
        "https://mcp.example.com/mcp",
        "HTTPS://MCP.Example.com:443/mcp/",
        "https://mcp.example.com/mcp#there",
    ],
)
def test_one_active_credential_for_a_url(http: httpx2.Client, place: str, again: str) -> None:
    first = ok(http.post(place, json={"auth": BEARER}))
    second = {"auth": auth_of("mcp_oauth", mcp_server_url=again)}
    answer = http.post(place, json=second)
    assert "mcp_server_url" in refused(answer, 409)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-should-retry"] == "false"
    other = ok(http.post("/v1/vaults", json={"display_name": "w"}))
    ok(http.post(f"/v1/vaults/{other['id']}/credentials", json=second))
    ok(http.post(f"{place}/{first['id']}/archive"))
    ok(http.post(place, json=second))


@pytest.mark.parametrize("other", ["https://mcp.example.com/MCP", "https://mcp.example.com", "https://mcp.example.com:8443/mcp",
                                   "https://mcp.example.com/mcp?a=b"])  # fmt: skip
def test_other_urls_are_others(http: httpx2.Client, place: str, other: str) -> None:
    ok(http.post(place, json={"auth": BEARER}))
    ok(http.post(place, json={"auth": auth_of("static_bearer", mcp_server_url=other)}))


def test_one_active_credential_for_a_name(http: httpx2.Client, place: str) -> None:
    first = ok(http.post(place, json={"auth": VARIABLE}))
    assert "secret_name" in refused(http.post(place, json={"auth": VARIABLE}), 409)
    ok(http.delete(f"{place}/{first['id']}"))
    ok(http.post(place, json={"auth": VARIABLE}))
    ok(http.post(place, json={"auth": auth_of("environment_variable", secret_name="api_key")}))


def test_http_is_for_this_machine(http: httpx2.Client, place: str) -> None:
    for url in ("http://localhost:1/mcp", "http://127.0.0.1:1", "http://[::1]:1/", "http://a.localhost"):
        refresh = {**REFRESH, "token_endpoint": url}
        ok(http.post(place, json={"auth": auth_of("mcp_oauth", mcp_server_url=url, refresh=refresh)}))


def test_a_vault_holds_twenty(http: httpx2.Client, place: str) -> None:
    def add(number: int) -> httpx2.Response:
        return http.post(place, json={"auth": auth_of("environment_variable", secret_name=f"N{number}")})

    made = [ok(add(number)) for number in range(20)]
    assert "20" in refused(add(20))
    ok(http.post(f"{place}/{made[0]['id']}/archive"))
    ok(add(20))


def test_an_update_merges(http: httpx2.Client, place: str) -> None:
    made = ok(http.post(place, json={"auth": OAUTH, "display_name": "c", "metadata": {"a": "1"}}))
    one = f"{place}/{made['id']}"
    assert ok(http.post(one, json={"auth": None, "display_name": None, "metadata": None})) == made
    same = {"type": "mcp_oauth", "access_token": None, "expires_at": None, "refresh": None, "mcp_server_url": URL}
    assert ok(http.post(one, json={"auth": same})) == made
    changed = ok(
        http.post(one, json={"auth": {"type": "mcp_oauth", "access_token": "s3cret-2"}, "metadata": {"b": "2"}})
    )
    assert changed["auth"] == made["auth"], "a new token keeps the old expiry"
    assert changed["metadata"] == {"a": "1", "b": "2"}
    assert changed["updated_at"] > made["updated_at"]
    refresh = {
        "refresh_token": "s3cret-3",
        "scope": "",
        "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "s3cret-4"},
    }
    update = {"type": "mcp_oauth", "expires_at": "2098-01-01T00:00:00Z", "refresh": refresh}
    shown = ok(http.post(one, json={"auth": update}))["auth"]
    assert shown["expires_at"] == "2098-01-01T00:00:00.000000Z"
    assert "scope" not in shown["refresh"]
    assert shown["refresh"]["token_endpoint_auth"] == {"type": "client_secret_basic"}, "it keeps its type"
    variable = ok(http.post(place, json={"auth": VARIABLE}))
    update = {
        "type": "environment_variable",
        "injection_location": {"header": False},
        "networking": {"type": "unrestricted"},
    }
    shown = ok(http.post(f"{place}/{variable['id']}", json={"auth": update}))["auth"]
    assert shown["injection_location"] == {"header": False, "body": True}
    assert shown["networking"] == {"type": "unrestricted"}
    update = {"type": "environment_variable", "injection_location": {"body": False}}
    assert "injection_location" in refused(http.post(f"{place}/{variable['id']}", json={"auth": update}))


@EACH
def test_archiving_purges_the_secrets(http: httpx2.Client, server: Any, place: str, vault: Json, auth: Json) -> None:
    from hostler.vault import records

    made = ok(http.post(place, json={"auth": auth}))
    other = ok(http.post(place, json={"auth": auth_of("environment_variable", secret_name="OTHER")}))
    one = f"{place}/{made['id']}"
    archived = ok(http.post(f"{one}/archive"))
    assert archived["archived_at"]
    assert ok(http.post(f"{one}/archive")) == archived
    assert "archived" in refused(http.post(one, json={"display_name": "x"}))
    ok(http.post(f"/v1/vaults/{vault['id']}/archive"))
    for credential in (made, other):
        record = server.call(server.log.store.read(lambda id=credential["id"]: records.find_tx(id)))
        assert (record.sealed, record.target) == (None, None)
        assert record.archived_at is not None
    listed = ok(http.get(place, params={"include_archived": "true"}))["data"]
    assert all(credential["archived_at"] for credential in listed)
    assert ok(http.get(place))["data"] == []
    ok(http.delete(f"/v1/vaults/{vault['id']}"))
    assert server.call(server.log.store.read(lambda: records.find_tx(made["id"]))) is None


def test_a_credential_is_found_in_its_vault_only(http: httpx2.Client, place: str) -> None:
    made = ok(http.post(place, json={"auth": BEARER}))
    other = ok(http.post("/v1/vaults", json={"display_name": "w"}))["id"]
    one = f"/v1/vaults/{other}/credentials/{made['id']}"
    for answer in (
        http.get(one),
        http.post(one, json={}),
        http.delete(one),
        http.post(f"{one}/archive"),
        http.post(f"{one}/mcp_oauth_validate"),
    ):
        refused(answer, 404)
    assert ok(http.get(f"{place}/{made['id']}")) == made


def test_vaults_of_a_session(http: httpx2.Client, agent: Json, environment: Json, vault: Json) -> None:
    second = ok(http.post("/v1/vaults", json={"display_name": "w"}))["id"]

    def create(*vault_ids: str) -> httpx2.Response:
        body = {"agent": agent["id"], "environment_id": environment["id"], "vault_ids": vault_ids}
        return http.post("/v1/sessions", json=body)

    session = ok(create(second, vault["id"]))
    assert session["vault_ids"] == [second, vault["id"]], "their order counts"
    assert ok(http.get(f"/v1/sessions/{session['id']}"))["vault_ids"] == session["vault_ids"]
    assert ok(http.get("/v1/sessions"))["data"][0]["vault_ids"] == session["vault_ids"]
    assert "vault_ids" in refused(http.post(f"/v1/sessions/{session['id']}", json={"vault_ids": [second]}))
    assert refused(create(second, "vlt_none"), 404).startswith("vault_ids.1")
    assert "vault_ids" in refused(create(*[second] * 51))
    ok(http.post(f"/v1/vaults/{second}/archive"))
    assert refused(create(vault["id"], second)).startswith("vault_ids.1")
    ok(http.delete(f"/v1/vaults/{second}"))
    assert ok(http.get(f"/v1/sessions/{session['id']}"))["vault_ids"] == session["vault_ids"]
    assert ok(create())["vault_ids"] == []
