"""What no client of good will sends: the Workspace API refuses it in its own envelope, and nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sample_bundles
from workspace_world import World

from running import Server


def connected(server: Server) -> httpx.Client:
    headers = {"authorization": f"Bearer {server.key}"}
    return httpx.Client(base_url=f"{server.base_url}/v1", headers=headers, timeout=30)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with connected(server) as client:
        yield client


TENANT = {"name": "H", "slug": "hostile", "dataPlatform": "managed-postgres"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "name: Field required"),
        (b"{}", "name: Field required"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b'{"name": "a\\u0000", "slug": "a", "dataPlatform": "managed-postgres"}', "U+0000"),
        (b'{"name": "a", "slug": "A B", "dataPlatform": "managed-postgres"}', "slug: lower-case letters"),
        (b'{"name": "a", "slug": "a", "dataPlatform": "oracle"}', "dataPlatform: Invalid enum value 'oracle'"),
        (b'{"name": "a", "slug": "a", "dataPlatform": "managed-postgres", "x": 1}', "x: Extra inputs"),
        (b'{"name": "", "slug": "a", "dataPlatform": "managed-postgres"}', "name:"),
        (b'{"config":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ],
)
def test_bodies(http: httpx.Client, body: bytes, message: str) -> None:
    before = http.get("/workspace/tenants").json()
    refused = http.post("/workspace/tenants", content=body)
    assert (refused.status_code, refused.json()["statusCode"], refused.json()["error"]) == (400, 400, "Bad Request")
    assert message in refused.json()["message"]
    assert http.get("/workspace/tenants").json() == before


def test_too_much(http: httpx.Client, world: World) -> None:
    large = http.post("/workspace/tenants", content=b'{"name": "' + b"a" * (33 * 1024 * 1024) + b'"}')
    assert (large.status_code, large.json()["statusCode"]) == (413, 413)
    config = {"config": {"a": "b" * 300_000}}
    refused = http.patch(f"/workspace/tenants/{world.tenant.id}", json=config)
    assert (refused.status_code, "config:" in refused.json()["message"]) == (400, True)
    zipped = http.post("/workspace/tenants", json=TENANT, headers={"content-encoding": "gzip"})
    assert zipped.status_code == 400


def test_places_and_methods(http: httpx.Client, server: Server) -> None:
    assert http.get("/workspace/nothing").json() == {
        "statusCode": 404, "message": "Cannot GET /v1/workspace/nothing", "error": "Not Found",
    }  # fmt: skip
    wrong = http.delete("/me")
    assert (wrong.status_code, wrong.json()["message"]) == (405, "Method DELETE is not allowed here; use GET.")
    assert http.get("/workspace/tenants/").status_code == 200  # no redirect, which the clients would not follow
    for path in ("/workspace/tenants/..%2f..%2fme", "/workspace/tenants/%00", "/workspace/tenants/" + "a" * 5000):
        assert http.get(path).status_code == 404
    for headers in ({}, {"authorization": "Basic abc"}, {"authorization": "Bearer"}, {"authorization": "Bearer \xff"}):
        refused = httpx.get(f"{server.base_url}/v1/me", headers={k: v.encode("latin-1") for k, v in headers.items()})
        assert (refused.status_code, refused.json()["statusCode"]) == (401, 401)


def test_queries(http: httpx.Client) -> None:
    assert "status: 'DONE' is none" in http.get("/workspace/tasks?status=DONE").json()["message"]
    assert "status:" in http.get("/workspace/tenants?status=x").json()["message"]
    assert "Extra inputs" in http.get("/workspace/tasks?state=READY").json()["message"]
    assert http.get("/workspace/schedule?workflowId=none").status_code == 404
    assert http.get("/workspace/tasks").status_code == 200


def test_a_slug_that_looks_like_anothers_id(http: httpx.Client, world: World) -> None:
    """Whoever may choose a slug must not be taken for somebody else."""
    made = http.post("/workspace/tenants", json={**TENANT, "slug": world.tenant.id})
    assert made.status_code == 201
    assert http.get(f"/workspace/tenants/{world.tenant.id}").json()["slug"] == world.tenant.slug
    assert http.get(f"/workspace/tenants/{made.json()['id']}").json()["slug"] == world.tenant.id


def test_a_name_that_several_have(http: httpx.Client, world: World) -> None:
    for number in range(2):
        http.post("/workspace/tenants", json={**TENANT, "name": "Double", "slug": f"double{number}"})
    refused = http.get("/workspace/tenants/Double")
    assert (refused.status_code, "give the id" in refused.json()["message"]) == (400, True)


def test_what_comes_at_once_is_made_once(server: Server, world: World) -> None:
    world.client.runbooks.deploy_sync("quick", **sample_bundles.deployment("quick", world.tenant.slug))
    workflow = world.client.workflows.create_sync(runbookSlug="quick", entityId=world.entity.id)
    place = f"{server.base_url}/v1/workspace"
    posts: list[tuple[str, dict[str, Any]]] = [
        (f"{place}/tenants", {**TENANT, "slug": "at-once"}),
        (f"{place}/tenants/{world.tenant.slug}/entities", {"name": "E", "slug": "at-once"}),
        (f"{place}/registry/workflows", {"runbookSlug": "quick", "entityId": world.entity.id, "name": "at once"}),
        (f"{place}/tasks", {"tenantId": world.tenant.slug, "workflowId": workflow.id, "context": {"period": "p"}}),
        (f"{place}/data", {"name": "at once", "provider": "SNOWFLAKE"}),
    ]

    async def send() -> list[set[str]]:
        headers = {"authorization": f"Bearer {server.key}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:
            made = []
            for url, body in posts:
                found = await asyncio.gather(*(client.post(url, json=body) for _ in range(8)))
                made.append({each.json()["id"] for each in found})
            return made

    assert [len(ids) for ids in asyncio.run(send())] == [1] * len(posts)


def test_a_client_that_goes_in_the_middle_of_its_request(server: Server, http: httpx.Client) -> None:
    async def hang_up() -> None:
        host, port = server.base_url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/workspace/tenants HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.key}\r\n"
        writer.write(f"{head}content-length: 1000\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    asyncio.run(hang_up())
    assert http.get("/me").status_code == 200
    assert "failed (" not in server.log()
