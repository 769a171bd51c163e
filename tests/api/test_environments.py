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


NO_HOSTS = ["", "*", "*.*.com", "a b", "a.com:443", "a.com/b", "ftp://a.com", "1.2.3", "0x7f.1", "ü.de", "a..b"]
NO_PACKAGES = ["", "  ", "--unsafe-perm", "a\nb", "x" * 501]


def limited(**fields: Any) -> Json:
    return {"type": "cloud", "networking": {"type": "limited", **fields}}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"type": "self_hosted", "packages": {"pip": ["numpy"]}}, "config.packages"),
        ({"type": "self_hosted", "networking": {"type": "unrestricted"}}, "config.networking"),
        ({"type": "x"}, "config.type"),
        *((limited(allowed_hosts=["a.b", host]), "config.networking.allowed_hosts.1") for host in NO_HOSTS),
        ({**limited(), "packages": {"pip": ["numpy"]}}, "allow_package_managers"),
        *(({"type": "cloud", "packages": {"npm": ["a", name]}}, "config.packages.npm.1") for name in NO_PACKAGES),
        ({"type": "cloud", "gpu": True}, "config.gpu: Extra"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(http: httpx2.Client, config: Json, says: str) -> None:
    assert says in refused(http.post("/v1/environments", json={"name": "e", "config": config}))


def test_a_limited_network_is_stored_as_sent_and_changed_by_parts(http: httpx2.Client) -> None:
    hosts = ["api.Example.com", "*.example.org", "https://storage.example.net", "192.0.2.7", "localhost", "xn--a.de"]
    packages = {"pip": ["numpy==2.0"], "apt": ["jq"]}
    config = {**limited(allowed_hosts=hosts, allow_package_managers=True), "packages": packages}
    made = ok(http.post("/v1/environments", json={"name": "e", "config": config}))
    url = f"/v1/environments/{made['id']}"
    assert made["config"]["networking"] == {
        "type": "limited", "allowed_hosts": hosts, "allow_mcp_servers": False, "allow_package_managers": True,
    }  # fmt: skip
    refused(http.post(url, json={"config": limited(allow_package_managers=False)}))
    changes = {**limited(allow_mcp_servers=True), "packages": {"pip": [], "npm": ["x"]}}
    after = ok(http.post(url, json={"config": changes}))
    assert after["config"]["networking"] == {
        "type": "limited", "allowed_hosts": hosts, "allow_mcp_servers": True, "allow_package_managers": True,
    }  # fmt: skip
    kept = after["config"]["packages"]
    assert (kept["apt"], kept["pip"], kept["npm"], kept["gem"]) == (["jq"], [], ["x"], [])


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
