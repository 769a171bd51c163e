"""Order of checks, credentials, bodies, request ids: what holds for every endpoint."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from hostler.api.app import routes
from serving import HEADERS, KEY, Server, ok, refused


def test_order_of_checks_is_the_hosted_one(server: Server) -> None:
    with httpx2.Client(base_url=server.url) as bare:
        assert refused(bare.get("/v1/nothing"), 404) == "Not found"
        assert refused(bare.get("/v1/agents"), 401) == "Authentication failed"
        assert refused(bare.get("/v1/agents", headers={"x-api-key": "wrong"}), 401) == "Authentication failed"
        assert refused(bare.get("/v1/agents", headers={"x-api-key": KEY}), 404) == "not found"
        beta = {"x-api-key": KEY, "anthropic-beta": "managed-agents-2026-04-01"}
        assert refused(bare.get("/v1/agents", headers=beta)) == "anthropic-version: header is required"
        assert ok(bare.get("/v1/agents?beta=true", headers={**beta, "anthropic-version": "2023-06-01"}))["data"] == []


def test_files_and_models_need_no_beta(server: Server) -> None:
    headers = {"authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"}
    with httpx2.Client(base_url=server.url, headers=headers) as plain:
        ok(plain.get("/v1/files"))
        ok(plain.get("/v1/models"))


def test_health_needs_no_key(server: Server) -> None:
    assert httpx2.get(f"{server.url}/healthz").status_code == 200


def test_every_route_asks_for_the_key_and_sends_a_request_id(server: Server) -> None:
    with httpx2.Client(base_url=server.url) as bare:
        for route in routes(server.services):
            response = bare.request(route.method, route.path)
            assert refused(response, 401) == "Authentication failed"


def test_a_wrong_method_is_405_in_the_envelope(http: httpx2.Client) -> None:
    assert "use GET or POST" in refused(http.delete("/v1/agents"), 405)


def test_beta_values_are_a_set_and_unknown_ones_pass(http: httpx2.Client) -> None:
    ok(http.get("/v1/agents", headers={"anthropic-beta": "x-2020-01-01, managed-agents-2026-04-01"}))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b'{"name":"\xff","model":"m"}', "not valid JSON"),
        (b'{"name":NaN}', "not valid JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (rb'{"name":"a\u0000b","model":"m"}', "U+0000"),
        (b'{"name":"a","model":"m","x":1}', "x: Extra inputs are not permitted"),
        (b'{"model":"m"}', "name: Field required"),
        (b'{"name":"' + b"x" * 257 + b'","model":"m"}', "name: Expected `str` of length <= 256"),
    ],
)
def test_bad_bodies(http: httpx2.Client, body: bytes, says: str) -> None:
    assert says in refused(http.post("/v1/agents", content=body))
    assert ok(http.get("/v1/agents"))["data"] == []


def test_deep_nesting_is_refused(http: httpx2.Client) -> None:
    schema = b'{"type":"object","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    tool = b'{"type":"custom","name":"t","description":"d","input_schema":' + schema + b"}"
    refused(http.post("/v1/agents", content=b'{"name":"a","model":"m","tools":[' + tool + b"]}"))


def test_a_body_over_32_mb_is_413(http: httpx2.Client) -> None:
    body = b'{"name":"' + b"x" * (33 * 1024 * 1024) + b'"}'
    assert "maximum size" in refused(http.post("/v1/agents", content=body), 413)

    def chunks() -> Any:
        for _ in range(33):
            yield b" " * (1024 * 1024)

    assert "maximum size" in refused(http.post("/v1/agents", content=chunks()), 413)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=desc", "page=zzz", "include_archived=ja"])
def test_bad_queries(http: httpx2.Client, query: str) -> None:
    refused(http.get(f"/v1/agents?{query}"))


@pytest.mark.parametrize("name", ["a%2Fb", "a%00b", "..%2F..", "%C3%A9", "'%20OR%201=1"])
def test_hostile_ids_are_not_found(http: httpx2.Client, name: str) -> None:
    refused(http.get(f"/v1/agents/{name}"), 404)


def test_compressed_bodies_are_refused_by_name(http: httpx2.Client) -> None:
    response = http.post("/v1/agents", content=b"x", headers={"content-encoding": "gzip"})
    assert response.json()["error"]["details"]["error_code"] == "request_body_encoding_unsupported"


def test_a_revoked_key_stops_working(server: Server) -> None:
    key, secret = server.call(server.services.keys.create("second"))
    with httpx2.Client(base_url=server.url, headers={**HEADERS, "authorization": f"Bearer {secret}"}) as other:
        ok(other.get("/v1/agents"))
        server.call(server.services.keys.revoke(key.id))
        refused(other.get("/v1/agents"), 401)
    assert [key.name for key in server.call(server.services.keys.list())] == ["test", "second"]
