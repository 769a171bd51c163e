"""Registered agents: what is refused, keys that are shown once, and whether one is there to be called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from workspace_world import World

from running import Server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=f"{server.base_url}/v1/workspace/registry/agents", headers=headers) as client:
        yield client


def asked(world: World, **more: Any) -> dict[str, Any]:
    usual = {
        "tenantId": world.tenant.slug, "kind": "claude_managed", "name": "audit-handover",
        "externalRef": "anthropic://agents/agent_1",
    }  # fmt: skip
    return {**usual, **more}


def key_opens(server: Server, key: str) -> bool:
    """An agent's key is known where it opens nothing else: there it is forbidden, and not unknown."""
    found = httpx.get(f"{server.base_url}/v1/me", headers={"authorization": f"Bearer {key}"})
    assert found.status_code in (401, 403)
    return found.status_code == 403


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "openai_assistant"}, "kind: OpenAI assistants can't be called"),
        ({"kind": "robot"}, "kind: Invalid enum value"),
        ({"externalRef": "openai://assistants/a"}, "externalRef: the scheme openai:// is unknown"),
        ({"externalRef": "anthropic://skills/a"}, "names no agent"),
        ({"externalRef": "anthropic://agents/"}, "has no agent's id"),
        ({"externalRef": "anthropic://agents/a/b"}, "has no agent's id"),
        ({"externalRef": "anthropic://agents/a?version=2"}, "can't have a query"),
        ({"externalRef": "anthropic://agents/a b"}, "has no agent's id"),
        ({"baseUrl": "https://x.example"}, "serverKey: Field required"),
        ({"serverKey": "k"}, "give its baseUrl"),
        ({"baseUrl": "http://x.example", "serverKey": "k"}, "baseUrl: must be https"),
        ({"baseUrl": "https://u:p@x.example", "serverKey": "k"}, "user name or password"),
        ({"baseUrl": "https://x.example?a=1", "serverKey": "k"}, "can't have a query"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": "0", "currency": "USD"}}}, "budget.max_list_cost"),
        ({"agentVersion": 0}, "agentVersion"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"name": ""}, "name:"),
    ],
)
def test_what_is_refused(http: httpx.Client, world: World, change: dict[str, Any], message: str) -> None:
    refused = http.post("", json=asked(world, **change))
    assert (refused.status_code, refused.json()["statusCode"]) == (400, 400)
    assert message in refused.json()["message"]
    assert http.get("", params={"tenantId": world.tenant.slug}).json() == []


def test_an_unknown_tenant(http: httpx.Client, world: World) -> None:
    assert http.post("", json=asked(world, tenantId="nobody")).status_code == 404
    assert http.get("", params={"tenantId": "nobody"}).status_code == 404
    assert http.get("", params={"tenant": world.tenant.slug}).status_code == 400


def test_the_key_is_shown_once(server: Server, http: httpx.Client, world: World) -> None:
    made = http.post("", json=asked(world)).json()
    key = made["apiKey"]
    assert key.startswith("sk-hostler-agent-")
    assert (made["apiKeyHint"], made["externalRef"]) == (key[-4:], "anthropic://agents/agent_1")
    assert key_opens(server, key)
    for shown in (http.get(f"/{made['id']}").json(), http.get("").json()):
        assert key not in str(shown)
    again = http.post("", json=asked(world)).json()  # its answer got lost: nobody has the first key
    assert again["id"] == made["id"]
    assert (key_opens(server, key), key_opens(server, again["apiKey"])) == (False, True)
    other = http.post("", json=asked(world, externalRef="agent_2"))
    assert (other.status_code, other.json()["error"]) == (409, "Conflict")
    rotated = http.post(f"/{made['id']}/rotate-key").json()
    assert (key_opens(server, again["apiKey"]), key_opens(server, rotated["apiKey"])) == (False, True)
    assert http.delete(f"/{made['id']}").status_code == 204
    assert not key_opens(server, rotated["apiKey"])
    assert http.delete(f"/{made['id']}").status_code == 404
    for file in server.data_dir.rglob("*"):
        assert not file.is_file() or rotated["apiKey"].encode() not in file.read_bytes(), file


def test_keys_end_with_their_tenant(server: Server, http: httpx.Client, world: World) -> None:
    made = http.post("", json=asked(world)).json()
    world.client.tenants.deprovision_sync(world.tenant.slug)
    assert not key_opens(server, made["apiKey"])


def test_changes(server: Server, http: httpx.Client, world: World) -> None:
    budget = {"type": "limit", "max_list_cost": {"amount": "250", "currency": "USD"}}
    more = {
        "baseUrl": "https://other.example/v1/", "serverKey": "sesame-88", "environmentId": "env_1",
        "vaultIds": ["vlt_1"], "agentVersion": 3, "budget": budget, "description": "d", "credentialsRef": "c",
    }  # fmt: skip
    made = http.post("", json=asked(world, **more)).json()
    assert {name: made[name] for name in more if name not in ("serverKey", "baseUrl")} == {
        name: value for name, value in more.items() if name not in ("serverKey", "baseUrl")
    }
    assert made["baseUrl"] == "https://other.example"
    place = f"/{made['id']}"
    assert http.patch(place, json={"name": "renamed", "budget": None, "agentVersion": None}).json()["name"] == "renamed"
    assert http.get("/renamed").json()["id"] == made["id"]
    moved = http.patch(place, json={"baseUrl": "https://third.example"})
    assert moved.status_code == 400  # the key of one server must not go to another
    assert http.patch(place, json={"baseUrl": "https://third.example", "serverKey": "other"}).status_code == 200
    home = http.patch(place, json={"baseUrl": None, "vaultIds": None, "environmentId": None}).json()
    assert {"baseUrl", "vaultIds", "environmentId", "budget"} & set(home) == set()
    for file in server.data_dir.rglob("*"):
        assert not file.is_file() or b"sesame-88" not in file.read_bytes(), file
    assert "sesame-88" not in server.log()


def test_whether_it_is_there(server: Server, http: httpx.Client, world: World) -> None:
    headers = server.headers
    agent = httpx.post(
        f"{server.base_url}/v1/agents", headers=headers, json={"name": "real", "model": "claude-sonnet-4-6"}
    ).json()
    made = http.post("", json=asked(world, externalRef=f"anthropic://agents/{agent['id']}")).json()
    tested = http.post(f"/{made['id']}/test").json()
    assert (tested["success"], tested["model"], tested["version"]) == (True, "claude-sonnet-4-6", 1)
    httpx.post(f"{server.base_url}/v1/agents/{agent['id']}/archive", headers=headers)
    archived = http.post(f"/{made['id']}/test").json()
    assert (archived["success"], "archived" in archived["message"]) == (False, True)
    missing = http.post("", json=asked(world, name="missing", externalRef="agent_none")).json()
    tested = http.post(f"/{missing['id']}/test").json()
    assert (tested["success"], "agent_none at this server" in tested["message"]) == (False, True)
    nowhere = asked(world, name="nowhere", baseUrl="http://127.0.0.1:9", serverKey="sesame-99")
    tested = http.post(f"/{http.post('', json=nowhere).json()['id']}/test").json()
    assert tested["success"] is False
    assert "sesame-99" not in str(tested)
