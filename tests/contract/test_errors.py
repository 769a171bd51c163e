"""Errors as the official SDK sees them: classes, types, messages, request ids, retries; and the order of checks."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from contract.world import DEADLINE, World
from running import Server

AGENTS = "/v1/agents"
VERSION = {"anthropic-version": "2026-10-21"}
BETA = {"anthropic-beta": "managed-agents-2026-04-01"}


def envelope(answer: httpx2.Response, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["request_id"] == answer.headers["request-id"]
    assert answer.headers["content-type"] == "application/json"
    message: str = body["error"]["message"]
    return message


def test_the_order_of_checks(server: Server) -> None:
    bearer = {"authorization": f"Bearer {server.key}"}
    with httpx2.Client(base_url=server.base_url, timeout=DEADLINE) as http:
        unknown, wrong = envelope(http.get("/v1/nothing"), 404, "not_found_error"), {"authorization": "Bearer sk-wrong"}
        assert unknown == "Not found"
        for headers in ({}, wrong, {"x-api-key": "sk-wrong"}, {**BETA, **VERSION}):
            assert envelope(http.get(AGENTS, headers=headers), 401, "authentication_error") == "Authentication failed"
        assert envelope(http.get(AGENTS, headers=bearer), 404, "not_found_error") == "not found"
        assert envelope(http.get(AGENTS, headers={**bearer, **VERSION}), 404, "not_found_error") == "not found"
        assert (
            envelope(http.get(AGENTS, headers={**bearer, **BETA}), 400, "invalid_request_error")
            == "anthropic-version: header is required"
        )
        assert http.get(AGENTS, headers={**bearer, **BETA, **VERSION}).status_code == 200


def test_both_headers_carry_a_key_and_both_versions_are_served(server: Server) -> None:
    for credential in ({"authorization": f"Bearer {server.key}"}, {"x-api-key": server.key}):
        for version in ("2023-06-01", "2026-10-21"):
            headers = {**credential, **BETA, "anthropic-version": version}
            assert httpx2.get(f"{server.base_url}{AGENTS}", headers=headers).status_code == 200
    for named in ({"api_key": server.key}, {"auth_token": server.key}):
        with Anthropic(base_url=server.base_url, **named) as sdk:  # type: ignore[arg-type]
            sdk.beta.agents.list(limit=1)


def test_a_list_of_betas_and_the_query_of_old_clients(world: World) -> None:
    assert world.beta.agents.list(limit=1, betas=["files-api-2025-04-14", "something-new"]).data is not None
    assert world.http.get(f"{AGENTS}?beta=true").status_code == 200


def test_errors_become_the_sdk_s_exceptions(either: World) -> None:
    cases: list[tuple[Any, type[anthropic.APIStatusError], str]] = [
        (lambda: either.beta.agents.retrieve("agent_none"), anthropic.NotFoundError, "not_found_error"),
        (lambda: either.beta.sessions.retrieve("sesn_none"), anthropic.NotFoundError, "not_found_error"),
        (lambda: either.beta.sessions.events.list("sesn_none"), anthropic.NotFoundError, "not_found_error"),
        (lambda: either.beta.sessions.events.stream("sesn_none"), anthropic.NotFoundError, "not_found_error"),
        (lambda: either.beta.files.retrieve_metadata("file_none"), anthropic.NotFoundError, "not_found_error"),
        (lambda: either.beta.agents.create(name="", model="m"), anthropic.BadRequestError, "invalid_request_error"),
        (lambda: either.beta.agents.list(limit=0), anthropic.BadRequestError, "invalid_request_error"),
        (lambda: either.beta.agents.list(limit=101), anthropic.BadRequestError, "invalid_request_error"),
        (lambda: either.beta.agents.list(page="x"), anthropic.BadRequestError, "invalid_request_error"),
    ]
    for call, kind, wire_type in cases:
        with pytest.raises(kind) as caught:
            call()
        error = caught.value
        assert error.type == wire_type
        assert error.request_id.startswith("req_")
        assert error.body["request_id"] == error.request_id


def test_a_wrong_key(server: Server) -> None:
    with (
        Anthropic(base_url=server.base_url, api_key="sk-wrong", max_retries=0) as sdk,
        pytest.raises(anthropic.AuthenticationError, match="Authentication failed") as caught,
    ):
        sdk.beta.agents.list()
    assert caught.value.type == "authentication_error"


def test_a_stale_version_is_a_conflict_that_is_not_retried(server: Server) -> None:
    sent: list[httpx2.Request] = []
    http = httpx2.Client(event_hooks={"request": [sent.append]})
    with Anthropic(base_url=server.base_url, api_key=server.key, http_client=http) as sdk:
        agent = sdk.beta.agents.create(name="a", model="claude-opus-5-5")
        before = len(sent)
        with pytest.raises(anthropic.ConflictError) as caught:
            sdk.beta.agents.update(agent.id, version=7, name="b")
    assert caught.value.type == "conflict_error"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(sent) - before == 1, "a retry would only waste time"


def test_request_ids_come_with_every_response(either: World) -> None:
    agent = either.agent()
    raw = either.beta.agents.with_raw_response.retrieve(agent.id)
    assert raw.headers["request-id"].startswith("req_")
    assert agent._request_id.startswith("req_")
    assert agent._request_id != either.beta.agents.retrieve(agent.id)._request_id
    stream = either.beta.sessions.events.stream(either.session())
    assert stream.response.headers["request-id"].startswith("req_")
    stream.close()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "object"),
        (b"", 400, "empty"),
        (b'{"name": 1, "model": "m"}', 400, "name"),
        (b'{"name": "a\\u0000", "model": "m"}', 400, "U\\+0000"),
        (b'{"name": "a\xff", "model": "m"}', 400, ""),
        (b'{"model": "m"}', 400, "name"),
        (b"[" * 100_000, 400, ""),
        (b'{"name": "' + b"a" * (33 * 1024 * 1024) + b'"}', 413, "maximum"),
    ],
)
def test_bad_bodies(world: World, content: bytes, status: int, said: str) -> None:
    answer = world.http.post(AGENTS, content=content, headers={"content-type": "application/json"})
    kind = "request_too_large" if status == 413 else "invalid_request_error"
    assert said.replace("\\", "") in envelope(answer, status, kind)


@pytest.mark.parametrize(
    "path",
    ["/v1/agents/a%2Fb", "/v1/agents/..%2F..%2Fetc", "/v1/agents/%00", "/v1/agents/" + "x" * 3000, "/v1/sessions/💥"],
)
def test_hostile_ids_are_not_found(world: World, path: str) -> None:
    envelope(world.http.get(path), 404, "not_found_error")


@pytest.mark.parametrize(
    "path",
    ["/v1/memory_stores", "/v1/deployments", "/v1/dreams", "/v1/messages", "/v1/tunnels"],
)
def test_what_is_not_built_is_not_found(world: World, path: str) -> None:
    envelope(world.http.get(path), 404, "not_found_error")


def test_empty_bodies_of_verbs_without_parameters(world: World) -> None:
    for content in (b"", b"{}"):
        agent = world.agent().id
        headers = {"content-type": "application/json"}
        assert world.http.post(f"{AGENTS}/{agent}/archive", content=content, headers=headers).status_code == 200


def test_both_spellings_of_array_parameters(world: World) -> None:
    agent = world.agent().id
    session_id = world.session(agent=agent)
    for query in ("statuses[]=idle&statuses[]=running", "statuses=idle&statuses=running", "statuses%5B%5D=idle"):
        found = world.http.get(f"/v1/sessions?agent_id={agent}&{query}").json()["data"]
        assert [session["id"] for session in found] == [session_id]


def test_times_in_every_form(world: World) -> None:
    agent = world.agent().id
    session_id = world.session(agent=agent)
    for moment in (
        "2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00%2B00:00",
        "2020-01-01T00:00:00",
        "2020-01-01T00:00:00.123456Z",
    ):
        found = world.http.get(f"/v1/sessions?agent_id={agent}&created_at%5Bgte%5D={moment}").json()["data"]
        assert [session["id"] for session in found] == [session_id]
    envelope(world.http.get("/v1/sessions?created_at[gte]=yesterday"), 400, "invalid_request_error")


def test_healthz_needs_no_key(server: Server) -> None:
    assert httpx2.get(f"{server.base_url}/healthz").status_code == 200
