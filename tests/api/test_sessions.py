"""Sessions: create in all forms, list with filters and both directions, update, archive, delete."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from hostler.log.entries import Draft
from serving import Server, ok, refused

Json = dict[str, Any]


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def create(http: httpx2.Client, agent: Any, environment: Json, **more: Any) -> httpx2.Response:
    return http.post("/v1/sessions", json={"agent": agent, "environment_id": environment["id"], **more})


def message(text: str = "hi") -> Json:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def test_a_new_session_is_idle_and_complete(session: Json, agent: Json, server: Server) -> None:
    assert (session["status"], session["title"], session["resources"], session["vault_ids"]) == ("idle", None, [], [])
    assert session["agent"]["tools"] == agent["tools"]
    assert "metadata" not in session["agent"]
    assert session["usage"]["cache_creation"] is None
    assert session["budget"] is None
    assert server.woken == []


def test_forms_of_the_agent(http: httpx2.Client, agent: Json, environment: Json) -> None:
    http.post(f"/v1/agents/{agent['id']}", json={"system": "two"})
    assert ok(create(http, agent["id"], environment))["agent"]["version"] == 2
    pinned = {"type": "agent", "id": agent["id"], "version": 1}
    assert ok(create(http, pinned, environment))["agent"]["system"] is None
    over = {"type": "agent_with_overrides", "id": agent["id"], "system": None, "tools": [], "model": "m"}
    made = ok(create(http, over, environment))["agent"]
    assert (made["system"], made["tools"], made["model"]["id"], made["name"]) == (None, [], "m", "a")
    no_model = create(http, {**over, "model": None}, environment)
    assert no_model.json()["error"]["details"]["error_code"] == "agent_model_required"
    assert "agent.tools.0" in refused(create(http, {**over, "tools": [{"type": "mcp_toolset"}]}, environment))
    refused(create(http, {**pinned, "version": 7}, environment), 404)
    refused(create(http, "agent_none", environment), 404)
    refused(create(http, agent["id"], {"id": "env_none"}), 404)
    http.post(f"/v1/agents/{agent['id']}/archive")
    assert "archived" in refused(create(http, agent["id"], environment))


@pytest.mark.parametrize(
    "field",
    [
        {"resources": [{"type": "memory_store", "memory_store_id": "memstore_1"}]},
        {"initial_events": [{"type": "user.interrupt"}]},
        {"initial_events": [{"type": "user.define_outcome", "description": "d", "rubric": {"type": "text"}}]},
        {"metadata": {"k": 1}},
        {"title": 1},
        {"nothing": 1},
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    http: httpx2.Client, agent: Json, environment: Json, field: Json
) -> None:
    assert next(iter(field)) in refused(create(http, agent["id"], environment, **field))
    assert ok(http.get("/v1/sessions"))["data"] == []


def test_initial_events_wake_the_session(server: Server, http: httpx2.Client, agent: Json, environment: Json) -> None:
    made = ok(create(http, agent["id"], environment, initial_events=[message("one"), message("two")]))
    assert made["status"] == "running"
    assert server.woken == [made["id"]]
    events = ok(http.get(f"/v1/sessions/{made['id']}/events"))["data"]
    assert [event["content"][0]["text"] for event in events] == ["one", "two"]
    assert {event["processed_at"] for event in events} == {None}
    assert ok(http.get("/v1/sessions?statuses[]=running"))["data"][0]["id"] == made["id"]
    assert ok(http.get("/v1/sessions?statuses=idle&statuses=terminated"))["data"] == []
    assert refused(http.delete(f"/v1/sessions/{made['id']}")) == (
        "Cannot delete session while it is running. Send an interrupt event or wait for the session to complete."
    )
    assert "cannot be archived while running" in refused(http.post(f"/v1/sessions/{made['id']}/archive"))


def test_list_pages_both_ways(http: httpx2.Client, agent: Json, environment: Json) -> None:
    made = [ok(create(http, agent["id"], environment, title=str(n)))["title"] for n in range(5)]
    first = ok(http.get("/v1/sessions?limit=2"))
    assert first["prev_page"] is None
    second = ok(http.get("/v1/sessions", params={"limit": 2, "page": first["next_page"]}))
    third = ok(http.get("/v1/sessions", params={"limit": 2, "page": second["next_page"]}))
    titles = [[item["title"] for item in page["data"]] for page in (first, second, third)]
    assert titles == [["4", "3"], ["2", "1"], ["0"]]
    assert third["next_page"] is None
    back = ok(http.get("/v1/sessions", params={"limit": 2, "page": third["prev_page"]}))
    assert [item["id"] for item in back["data"]] == [item["id"] for item in second["data"]]
    start = ok(http.get("/v1/sessions", params={"limit": 2, "page": back["prev_page"]}))
    assert [item["title"] for item in start["data"]] == ["4", "3"]
    assert start["prev_page"] is None
    rising = ok(http.get("/v1/sessions?order=asc"))
    assert [item["title"] for item in rising["data"]] == made
    wrong = http.get("/v1/sessions", params={"order": "asc", "page": first["next_page"]})
    assert refused(wrong) == "page token order does not match request"
    assert refused(http.get("/v1/sessions?page=page_x")) == "invalid page cursor"


def test_filters(http: httpx2.Client, agent: Json, environment: Json, session: Json) -> None:
    def found(**query: Any) -> int:
        return len(ok(http.get("/v1/sessions", params=query))["data"])

    assert found(agent_id=agent["id"]) == 1
    assert found(agent_id=agent["id"], agent_version=1) == 1
    assert found(agent_id=agent["id"], agent_version=2) == 0
    assert found(agent_id="agent_none") == found(deployment_id="depl_1") == found(memory_store_id="m") == 0
    assert found(**{"created_at[gte]": session["created_at"]}) == 1
    assert found(**{"created_at[gt]": session["created_at"]}) == 0
    assert found(**{"created_at[lt]": "2020-01-01T00:00:00+02:00"}) == 0
    refused(http.get("/v1/sessions?agent_version=1"))
    refused(http.get("/v1/sessions?statuses[]=busy"))
    refused(http.get("/v1/sessions?created_at[gte]=soon"))


def test_update_emits_only_what_changed(server: Server, http: httpx2.Client, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    changed = ok(http.post(url, json={"title": "t", "metadata": {"k": "v"}, "agent": {"tools": []}}))
    assert (changed["title"], changed["metadata"], changed["agent"]["tools"]) == ("t", {"k": "v"}, [])
    ok(http.post(url, json={"title": "t", "metadata": {"k": "v"}}))
    ok(http.post(url, json={"title": None}))
    events = ok(http.get(f"{url}/events"))["data"]
    assert [event["type"] for event in events] == ["session.updated"] * 2
    assert (events[0]["title"], events[0]["metadata"], events[0]["agent"]["tools"]) == ("t", {"k": "v"}, [])
    assert {"title", "metadata", "agent"} & set(events[1]) == {"title"}
    assert "vault_ids" in refused(http.post(url, json={"vault_ids": []}))
    budget = {"type": "limit", "max_list_cost": {"amount": "1", "currency": "USD"}}
    assert "budget_create_only" in refused(http.post(url, json={"budget": budget}))
    ok(http.post(url, json={"budget": None}))
    server.append(session["id"], Draft(type="session.status_running"), status="running")
    assert "running" in refused(http.post(url, json={"agent": {"tools": []}}))
    ok(http.post(url, json={"title": "while running"}))


def test_archive_terminates(server: Server, http: httpx2.Client, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    archived = ok(http.post(f"{url}/archive"))
    assert (archived["status"], archived["archived_at"] is not None) == ("terminated", True)
    assert ok(http.post(f"{url}/archive"))["archived_at"] == archived["archived_at"]
    assert server.ended[0] == session["id"]
    types = [event["type"] for event in ok(http.get(f"{url}/events"))["data"]]
    assert types == ["session.thread_status_terminated", "session.status_terminated"]
    refused(http.post(f"{url}/events", json={"events": [message()]}))
    refused(http.post(url, json={"title": "x"}))
    assert ok(http.get("/v1/sessions"))["data"] == []
    assert len(ok(http.get("/v1/sessions?include_archived=true&statuses[]=terminated"))["data"]) == 1


def test_delete_removes_everything_of_the_session(server: Server, http: httpx2.Client, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    upload = ok(http.post("/v1/files", files={"file": ("a.txt", b"x", "text/plain")}))
    ok(http.post(f"{url}/resources", json={"type": "file", "file_id": upload["id"]}))
    assert ok(http.delete(url)) == {"type": "session_deleted", "id": session["id"]}
    assert server.ended == [session["id"]]
    for path in ("", "/events", "/events/stream", "/resources", "/threads"):
        refused(http.get(url + path), 404)
    refused(http.delete(url), 404)
    assert [file["id"] for file in ok(http.get("/v1/files"))["data"]] == [upload["id"]]


def test_the_primary_thread(server: Server, http: httpx2.Client, session: Json) -> None:
    url = f"/v1/sessions/{session['id']}/threads"
    (thread,) = ok(http.get(url))["data"]
    assert (thread["parent_thread_id"], thread["status"], thread["stats"]) == (None, "idle", None)
    assert ok(http.get(f"{url}/{thread['id']}")) == thread
    assert ok(http.get(f"{url}?statuses[]=running"))["data"] == []
    server.append(session["id"], Draft(type="session.status_running"))
    assert len(ok(http.get(f"{url}/{thread['id']}/events"))["data"]) == 1
    assert "primary" in refused(http.post(f"{url}/{thread['id']}/archive"))
    for path in ("", "/events", "/stream"):
        refused(http.get(f"{url}/sthr_none{path}"), 404)
