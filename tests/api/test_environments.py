"""Environments: what runs here, what is refused by name, and their life."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from serving import ok, refused

Json = dict[str, Any]


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


@pytest.mark.parametrize(
    "config", [None, {"type": "cloud"}, {"type": "anthropic_cloud"}, {"type": "cloud", "networking": None}]
)
def test_forms_of_the_default(http: httpx2.Client, config: Json | None) -> None:
    made = ok(http.post("/v1/environments", json={"name": "e", "config": config}))
    assert made["config"] == {
        "type": "cloud",
        "networking": {"type": "unrestricted"},
        "packages": {"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []},
    }
    assert (made["state"], made["scope"], made["archived_at"]) == ("active", "organization", None)


def test_no_network(http: httpx2.Client) -> None:
    made = ok(http.post("/v1/environments", json={"name": "e", "config": limited(allowed_hosts=[])}))
    assert made["config"]["networking"] == {
        "type": "limited",
        "allowed_hosts": [],
        "allow_mcp_servers": False,
        "allow_package_managers": False,
    }
    after = ok(http.post(f"/v1/environments/{made['id']}", json={"config": {"type": "cloud"}}))
    assert after["config"] == made["config"]


def limited(**fields: Any) -> Json:
    return {"type": "cloud", "networking": {"type": "limited", **fields}}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"type": "self_hosted"}, "config.type"),
        ({"type": "x"}, "config.type"),
        (limited(allowed_hosts=["example.com"]), "config.networking.allowed_hosts"),
        (limited(allow_mcp_servers=True), "config.networking.allow_mcp_servers"),
        (limited(allow_package_managers=True), "config.networking.allow_package_managers"),
        ({"type": "cloud", "packages": {"pip": ["numpy"]}}, "config.packages.pip"),
        ({"type": "cloud", "gpu": True}, "config.gpu: Extra"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(http: httpx2.Client, config: Json, says: str) -> None:
    assert says in refused(http.post("/v1/environments", json={"name": "e", "config": config}))


def test_update_archive_delete(http: httpx2.Client, environment: Json, agent: Json) -> None:
    url = f"/v1/environments/{environment['id']}"
    changed = ok(http.post(url, json={"description": "", "metadata": {"a": "1", "b": "2"}}))
    assert (changed["description"], changed["metadata"]) == ("", {"a": "1", "b": "2"})
    assert ok(http.post(url, json={"metadata": {"a": "", "b": None}}))["metadata"] == {}
    kept = http.post(url, json={"config": {"type": "self_hosted"}})
    assert kept.json()["error"]["details"]["error_code"] == "invalid_config_type_change"
    session = ok(http.post("/v1/sessions", json={"agent": agent["id"], "environment_id": environment["id"]}))
    refused(http.delete(url))
    archived = ok(http.post(f"{url}/archive"))
    assert (archived["state"], archived["archived_at"]) == ("archived", ok(http.post(f"{url}/archive"))["archived_at"])
    late = http.post(url, json={"name": "x"})
    assert late.json()["error"]["details"]["error_code"] == "environment_archived"
    refused(http.post("/v1/sessions", json={"agent": agent["id"], "environment_id": environment["id"]}))
    assert ok(http.get("/v1/environments"))["data"] == []
    assert len(ok(http.get("/v1/environments?include_archived=true"))["data"]) == 1
    ok(http.delete(f"/v1/sessions/{session['id']}"))
    assert ok(http.delete(url)) == {"type": "environment_deleted", "id": environment["id"]}
    refused(http.get(url), 404)
