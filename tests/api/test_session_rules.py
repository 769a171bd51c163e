"""Documented rules of `initial_events`, updates, archiving, deletion and `usage`, sentence by sentence."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest

from hostler import clock
from hostler.harness.ledger import Ledger
from hostler.log.entries import Draft
from hostler.models.protocol import ModelUsage
from serving import Server, ok, refused

Json = dict[str, Any]
HOUR = 3_600_000_000


def message(text: str = "hi") -> Json:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def outcome(**fields: Any) -> Json:
    return {"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "r"}, **fields}


def document(file_id: str) -> Json:
    return {"type": "document", "source": {"type": "file", "file_id": file_id}}


def create(http: httpx2.Client, agent: Json, environment: Json, *events: Any, **more: Any) -> httpx2.Response:
    body = {"agent": agent["id"], "environment_id": environment["id"], "initial_events": list(events), **more}
    return http.post("/v1/sessions", json=body)


def listed(http: httpx2.Client, session: Json) -> list[Json]:
    data: list[Json] = ok(http.get(f"/v1/sessions/{session['id']}/events"))["data"]
    return data


# -- initial events


def test_fifty_initial_events_are_stored_in_order_and_not_echoed(
    server: Server, http: httpx2.Client, agent: Json, environment: Json
) -> None:
    made = ok(create(http, agent, environment, *(message(str(number)) for number in range(50))))
    assert (made["status"], "initial_events" in made, "events" in made) == ("running", False, False)
    assert [event["content"][0]["text"] for event in listed(http, made)] == [str(number) for number in range(50)]
    assert server.woken == [made["id"]]


def test_without_initial_events_nothing_runs(
    server: Server, http: httpx2.Client, agent: Json, environment: Json
) -> None:
    for more in ({}, {"initial_events": None}):
        assert ok(create(http, agent, environment, **more))["status"] == "idle"
    assert server.woken == []


WRONG: list[tuple[list[Any], str]] = [
    ([message()] * 51, "initial_events"),
    ([{"type": "user.interrupt"}], "initial_events.0.type"),
    ([message(), {"type": "system.message", "content": [{"type": "text", "text": "x"}]}], "initial_events.1.type"),
    ([{"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow"}], "initial_events.0.type"),
    ([{"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_1"}], "initial_events.0.type"),
    ([{"type": "user.tool_result", "tool_use_id": "sevt_1"}], "initial_events.0.type"),
    ([{"type": "agent.message", "content": []}], "initial_events.0.type"),
    ([outcome(), message(), outcome()], "at most one user.define_outcome"),
    ([{"type": "user.define_outcome", "description": "d"}], "initial_events.0.rubric: Field required"),
    ([outcome(rubric=None)], "initial_events.0.rubric"),
    ([outcome(rubric={"type": "text", "content": "x" * 262_145})], "initial_events.0.rubric"),
    ([outcome(max_iterations=21)], "initial_events.0.max_iterations"),
    ([message(), {"type": "user.message", "content": []}], "initial_events.1.content"),
    ([message(), {"type": "user.message", "content": [{"type": "redacted"}]}], "initial_events.1.content.0"),
    ([message(), {"type": "user.message", "content": [document("file_none")]}], "initial_events.1.content.0"),
]


@pytest.mark.parametrize(("events", "says"), WRONG)
def test_a_wrong_initial_event_refuses_the_whole_create(
    server: Server, http: httpx2.Client, agent: Json, environment: Json, events: list[Any], says: str
) -> None:
    upload = ok(http.post("/v1/files", files={"file": ("a.txt", b"x", "text/plain")}))
    mount = {"resources": [{"type": "file", "file_id": upload["id"]}]}
    assert says in refused(create(http, agent, environment, *events, **mount))
    assert ok(http.get("/v1/sessions"))["data"] == []
    assert len(ok(http.get("/v1/files"))["data"]) == 1, "no copy of the mounted file is left behind"
    assert server.woken == []


def test_at_most_a_hundred_documents_by_file(http: httpx2.Client, agent: Json, environment: Json) -> None:
    file_id = ok(http.post("/v1/files", files={"file": ("a.txt", b"x", "text/plain")}))["id"]
    half = {"type": "user.message", "content": [document(file_id)] * 50}
    inline = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    more = {"type": "user.message", "content": [inline] * 50}
    assert ok(create(http, agent, environment, half, half, more))["status"] == "running"
    last = {"type": "user.message", "content": [document(file_id)]}
    assert "at most 100 documents" in refused(create(http, agent, environment, half, half, last))


def test_initial_events_may_not_be_too_large(http: httpx2.Client, agent: Json, environment: Json) -> None:
    refused(create(http, agent, environment, message("x" * (32 * 1024 * 1024))), 413)
    assert ok(http.get("/v1/sessions"))["data"] == []


def test_an_archived_agent_or_environment_starts_nothing(http: httpx2.Client, agent: Json, environment: Json) -> None:
    http.post(f"/v1/environments/{environment['id']}/archive")
    assert "archived" in refused(create(http, agent, environment, message()))


# -- updates


def test_metadata_is_merged_and_null_deletes(http: httpx2.Client, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    ok(http.post(url, json={"metadata": {"a": "1", "b": "2"}}))
    assert ok(http.post(url, json={"metadata": {"a": None, "c": "3"}}))["metadata"] == {"b": "2", "c": "3"}
    assert ok(http.post(url, json={"metadata": {}}))["metadata"] == {"b": "2", "c": "3"}
    assert ok(http.post(url, json={}))["metadata"] == {"b": "2", "c": "3"}
    assert len(listed(http, session)) == 2, "no event without a change"
    assert listed(http, session)[-1]["metadata"] == {"b": "2", "c": "3"}
    refused(http.post(url, json={"metadata": {f"k{number}": "v" for number in range(15)}}))
    assert ok(http.get(url))["metadata"] == {"b": "2", "c": "3"}


@pytest.mark.parametrize("vault_ids", [[], ["vlt_1"], None])
def test_vault_ids_are_always_rejected(http: httpx2.Client, session: Json, vault_ids: Any) -> None:
    url = f"/v1/sessions/{session['id']}"
    assert "vault_ids" in refused(http.post(url, json={"vault_ids": vault_ids, "title": "t"}))
    assert ok(http.get(url))["title"] is None


@pytest.mark.parametrize("field", ["model", "system", "skills", "name", "multiagent"])
def test_of_the_agent_only_tools_and_servers_change(http: httpx2.Client, session: Json, field: str) -> None:
    assert f"agent.{field}" in refused(http.post(f"/v1/sessions/{session['id']}", json={"agent": {field: None}}))


def test_tools_are_replaced_for_this_session_alone(http: httpx2.Client, agent: Json, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    custom = {"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object"}}
    changed = ok(http.post(url, json={"agent": {"tools": [custom]}}))
    assert [tool["type"] for tool in changed["agent"]["tools"]] == ["custom"]
    (updated,) = listed(http, session)
    assert updated["agent"] == changed["agent"], "the full snapshot"
    assert set(updated) == {"id", "type", "processed_at", "agent"}
    ok(http.post(url, json={"agent": {"tools": [custom]}}))
    ok(http.post(url, json={"agent": {}}))
    assert len(listed(http, session)) == 1
    assert ok(http.get(f"/v1/agents/{agent['id']}"))["version"] == 1, "the agent itself is untouched"
    assert ok(http.post(url, json={"agent": {"tools": []}}))["agent"]["tools"] == []


@pytest.mark.parametrize("status", ["running", "rescheduling"])
def test_what_a_running_session_refuses(server: Server, http: httpx2.Client, session: Json, status: str) -> None:
    url = f"/v1/sessions/{session['id']}"
    server.append(session["id"], Draft(type="session.status_running"), status=status)
    assert "running" in refused(http.post(url, json={"agent": {"tools": []}, "title": "t"}))
    assert ok(http.get(url))["title"] is None, "refused whole"
    assert ok(http.post(url, json={"title": "t", "metadata": {"a": "b"}}))["title"] == "t"
    assert "cannot be archived while running" in refused(http.post(f"{url}/archive"))
    assert "Cannot delete session while it is running" in refused(http.delete(url))


# -- usage


def test_usage_before_and_after_a_run(server: Server, http: httpx2.Client, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    assert session["usage"] == {
        "input_tokens": 0,
        "output_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": None,
        "server_tool_use": {"web_fetch_requests": 0, "web_search_requests": 0},
        "active_seconds": 0.0,
        "list_cost": {"amount": "0", "currency": "USD"},
    }
    assert session["stats"]["active_seconds"] == 0
    assert session["stats"]["duration_seconds"] >= 0
    since = {"running_since": clock.now() - HOUR, "status": "running"}
    used = Ledger(input_tokens=3, requests=1, cache_creation_1h=2, web_searches=1)
    server.append(session["id"], Draft(type="session.status_running"), usage=msgspec.json.encode(used), **since)
    first = ok(http.get(url))
    assert first["usage"]["cache_creation"] == {"ephemeral_1h_input_tokens": 2, "ephemeral_5m_input_tokens": 0}
    assert first["usage"]["server_tool_use"] == {"web_fetch_requests": 0, "web_search_requests": 1}
    assert first["usage"]["list_cost"] == {"amount": "8", "currency": "USD"}, "an hour of running time"
    assert 3600 < first["usage"]["active_seconds"] < 3700
    assert first["usage"]["active_seconds"] % 1, "fractional"
    second = ok(http.get(url))
    assert second["usage"]["active_seconds"] > first["usage"]["active_seconds"], "live"
    (thread,) = ok(http.get(f"{url}/threads"))["data"]
    assert thread["stats"]["active_seconds"] >= second["stats"]["active_seconds"]


def test_an_unpriced_model_leaves_the_cost_unknown(server: Server, http: httpx2.Client, session: Json) -> None:
    used = Ledger().add(ModelUsage(input_tokens=3), None)
    server.append(session["id"], Draft(type="session.status_idle"), usage=msgspec.json.encode(used))
    usage = ok(http.get(f"/v1/sessions/{session['id']}"))["usage"]
    assert (usage["input_tokens"], "list_cost" in usage) == (3, False)


def test_the_time_of_an_ended_session_stands_still(http: httpx2.Client, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    ended = ok(http.post(f"{url}/archive"))["stats"]
    assert ok(http.get(url))["stats"] == ended
