"""Rosters of agents that delegate: pinned when saved, merged on update, expanded in full when a session starts."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from serving import ok, refused

Json = dict[str, Any]
ON = {"type": "enabled"}
OFF = {"type": "disabled"}
ADVISOR = {"type": "advisor", "model": "claude-opus-5-5"}


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def post(http: httpx2.Client, **fields: Any) -> httpx2.Response:
    return http.post("/v1/agents", json={"name": "a", "model": "claude-opus-5-5", **fields})


def make(http: httpx2.Client, **fields: Any) -> Json:
    return ok(post(http, **fields))


def update(http: httpx2.Client, agent: Json, **fields: Any) -> httpx2.Response:
    return http.post(f"/v1/agents/{agent['id']}", json=fields)


def coordinator(*entries: Any) -> Json:
    return {"type": "coordinator", "agents": list(entries)}


def parts(**members: Any) -> Json:
    return {"type": "multiagent_20261001", **members}


def ref(agent: Json, version: int | None = None) -> Json:
    return {"type": "agent", "id": agent["id"], "version": version or agent["version"]}


@pytest.fixture
def worker(http: httpx2.Client) -> Json:
    return make(http, name="worker")


@pytest.fixture
def second(http: httpx2.Client) -> Json:
    return make(http, name="second")


def test_every_form_of_an_entry_is_pinned_and_the_advisor_stands_last(
    http: httpx2.Client, worker: Json, second: Json
) -> None:
    ok(update(http, second, system="two"))
    entries = [ADVISOR, worker["id"], {"type": "agent", "id": second["id"], "version": 1}, {"type": "self"}]
    made = make(http, multiagent=coordinator(*entries))
    pinned = coordinator(ref(worker), ref(second, 1), ref(made), ADVISOR)
    assert made["multiagent"] == pinned
    assert ok(http.get(f"/v1/agents/{made['id']}"))["multiagent"] == pinned
    unpinned = make(http, multiagent=coordinator({"type": "agent", "id": second["id"], "version": None}))
    assert unpinned["multiagent"] == coordinator(ref(second, 2))
    assert "callable_agents" not in made


def test_members_stay_pinned_until_the_roster_is_sent_again(http: httpx2.Client, worker: Json) -> None:
    made = make(http, multiagent=coordinator(worker["id"]))
    ok(update(http, worker, system="two"))
    renamed = ok(update(http, made, name="b"))
    assert renamed["multiagent"] == made["multiagent"]
    again = ok(update(http, made, multiagent=coordinator(worker["id"])))
    assert (again["version"], again["multiagent"]) == (3, coordinator(ref(worker, 2)))
    assert ok(update(http, made, multiagent=again["multiagent"]))["version"] == 3, "what is shown can be sent back"


def test_self_means_the_version_that_is_saved(http: httpx2.Client) -> None:
    made = make(http, multiagent=coordinator({"type": "self"}))
    assert made["multiagent"] == coordinator(ref(made))
    assert ok(update(http, made, multiagent=coordinator({"type": "self"})))["version"] == 1
    assert ok(update(http, made, multiagent=made["multiagent"]))["version"] == 1
    renamed = ok(update(http, made, name="b"))
    assert (renamed["version"], renamed["multiagent"]) == (2, coordinator(ref(made, 2)))
    assert ok(update(http, made, multiagent=coordinator(made["id"])))["version"] == 2
    assert "named twice" in refused(update(http, made, multiagent=coordinator(made["id"], {"type": "self"})))


def test_callable_agents_is_a_coordinator_s_roster(http: httpx2.Client, worker: Json, second: Json) -> None:
    made = make(http, callable_agents=[{"type": "agent", "id": worker["id"]}, second["id"]])
    assert made["multiagent"] == coordinator(ref(worker), ref(second))
    assert ok(update(http, made, callable_agents=[worker["id"]]))["multiagent"] == coordinator(ref(worker))
    assert ok(update(http, made, name="b"))["multiagent"] == coordinator(ref(worker))
    assert ok(update(http, made, callable_agents=[]))["multiagent"] is None
    assert make(http, callable_agents=[], multiagent=None)["multiagent"] is None
    assert make(http, callable_agents=[], multiagent=coordinator(worker["id"]))["multiagent"] is not None
    assert "one of the two" in refused(post(http, callable_agents=[worker["id"]], multiagent=coordinator(second["id"])))
    assert "callable_agents.0: " in refused(post(http, callable_agents=["agent_none"]))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "multiagent.agents"),
        (["x"] * 21, "multiagent.agents"),
        (["agent_none"], "multiagent.agents.0: Agent agent_none was not found"),
        ([{"type": "self"}, {"type": "self"}], "multiagent.agents.1: agent .* is named twice"),
        ([ADVISOR, ADVISOR], "multiagent.agents.1: at most one advisor"),
        ([{"type": "advisor"}], "multiagent.agents.0.model: Field required"),
        ([{"type": "robot"}], "multiagent.agents.0.type"),
        ([{"type": "agent"}], "multiagent.agents.0.id"),
        ([{"type": "agent", "id": "x", "version": 0}], "multiagent.agents.0.version"),
        ([7], "multiagent.agents.0"),
    ],
)
def test_rosters_that_are_refused(http: httpx2.Client, entries: list[Any], says: str) -> None:
    assert re.search(says, refused(post(http, multiagent=coordinator(*entries))))
    assert ok(http.get("/v1/agents"))["data"] == []


def test_members_that_are_refused(http: httpx2.Client, worker: Json, second: Json) -> None:
    lead = make(http, multiagent=coordinator(worker["id"]))
    assert "only one level" in refused(post(http, multiagent=coordinator(lead["id"])))
    assert "named twice" in refused(post(http, multiagent=coordinator(worker["id"], ref(worker))))
    assert "no such version" in refused(post(http, multiagent=coordinator(ref(worker, 9))))
    ok(http.post(f"/v1/agents/{second['id']}/archive"))
    assert "archived" in refused(post(http, multiagent=coordinator(second["id"])))
    assert "archived" in refused(post(http, multiagent=parts(subagents={**ON, "predefined_agents": [second["id"]]})))
    named = make(http, name="anthropic.advisor")
    assert "the advisor's name" in refused(post(http, multiagent=coordinator(named["id"], ADVISOR)))


def test_inference_runs_in_one_place(http: httpx2.Client, worker: Json, environment: Json) -> None:
    us = {"id": "claude-opus-5-5", "inference_geo": "us"}
    assert "inference_geo" in refused(post(http, model=us, multiagent=coordinator(worker["id"])))
    lead = make(http, multiagent=coordinator(worker["id"], {"type": "self"}))
    assert "inference_geo" in refused(update(http, lead, model=us))
    member = make(http, model=us)
    moved = ok(update(http, lead, model=us, multiagent=coordinator(member["id"], {"type": "self"})))
    assert moved["multiagent"] == coordinator(ref(member), ref(moved))
    over = {"type": "agent_with_overrides", "id": lead["id"], "model": "claude-opus-5-5"}
    said = refused(http.post("/v1/sessions", json={"agent": over, "environment_id": environment["id"]}))
    assert "inference_geo" in said


def test_three_parts_and_what_they_default_to(http: httpx2.Client) -> None:
    plain = {**ON, "inline_agents": ON, "predefined_agents": []}
    assert make(http, multiagent=parts())["multiagent"] == parts(subagents=plain, workflows=OFF, advisor=OFF)
    nulls = parts(subagents=None, workflows=None, advisor=None)
    assert make(http, multiagent=nulls)["multiagent"] == parts(subagents=plain, workflows=OFF, advisor=OFF)
    off = parts(subagents=OFF, workflows=OFF, advisor={**ON, "model": "m"})
    assert make(http, multiagent=off)["multiagent"] == off
    inner = parts(subagents={**ON, "inline_agents": None, "predefined_agents": None})
    assert make(http, multiagent=inner)["multiagent"]["subagents"] == plain


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"workflows": ON}, "multiagent.workflows: workflows are not supported by this server yet"),
        ({"subagents": {**ON, "inline_agents": OFF}}, "multiagent.subagents.predefined_agents: needs at least one"),
        ({"subagents": {**ON, "predefined_agents": ["agent_none"]}}, "multiagent.subagents.predefined_agents.0: "),
        ({"subagents": {**ON, "predefined_agents": ["x"] * 21}}, "multiagent.subagents.predefined_agents"),
        ({"subagents": {**ON, "predefined_agents": [ADVISOR]}}, "multiagent.subagents.predefined_agents.0.type"),
        ({"subagents": {"inline_agents": ON}}, "multiagent.subagents.type"),
        ({"advisor": ON}, "multiagent.advisor.model: Field required"),
        ({"agents": []}, "multiagent.agents: Extra inputs"),
    ],
)
def test_parts_that_are_refused(http: httpx2.Client, members: Json, says: str) -> None:
    assert says in refused(post(http, multiagent=parts(**members)))


def test_parts_are_merged_level_by_level(http: httpx2.Client, worker: Json, second: Json) -> None:
    team = {**ON, "inline_agents": OFF, "predefined_agents": [worker["id"]]}
    made = make(http, multiagent=parts(subagents=team, advisor={**ON, "model": "m"}))
    stored = made["multiagent"]
    assert stored["subagents"] == {**ON, "inline_agents": OFF, "predefined_agents": [ref(worker)]}

    def send(**members: Any) -> Json:
        changed: Json = ok(update(http, made, multiagent=parts(**members)))["multiagent"]
        return changed

    assert send() == stored, "what is left out stays"
    assert send(subagents=ON) == stored
    assert send(advisor=None)["advisor"] == OFF
    replaced = send(subagents={**ON, "predefined_agents": [second["id"], {"type": "self"}]})["subagents"]
    assert replaced["inline_agents"] == OFF
    assert [entry["id"] for entry in replaced["predefined_agents"]] == [second["id"], made["id"]]
    assert "needs at least one" in refused(
        update(http, made, multiagent=parts(subagents={**ON, "predefined_agents": None}))
    )
    assert send(subagents={**ON, "inline_agents": None})["subagents"]["inline_agents"] == ON
    assert send(subagents=OFF)["subagents"] == OFF
    assert send(subagents=ON)["subagents"] == {**ON, "inline_agents": ON, "predefined_agents": []}, "another type"
    other = ok(update(http, made, multiagent=coordinator(worker["id"])))["multiagent"]
    assert other == coordinator(ref(worker))
    fresh = ok(update(http, made, multiagent=parts(advisor={**ON, "model": "m"})))["multiagent"]
    assert fresh["subagents"] == {**ON, "inline_agents": ON, "predefined_agents": []}
    assert ok(update(http, made, multiagent=None))["multiagent"] is None


def test_a_session_holds_its_roster_in_full(http: httpx2.Client, worker: Json, second: Json, environment: Json) -> None:
    lead = make(http, system="lead", multiagent=coordinator(ADVISOR, worker["id"], {"type": "self"}, second["id"]))
    ok(update(http, worker, system="too late"))
    session = ok(http.post("/v1/sessions", json={"agent": lead["id"], "environment_id": environment["id"]}))
    shown = session["agent"]["multiagent"]
    assert shown["type"] == "coordinator"
    first, own, other, advisor = shown["agents"]
    assert (first["id"], first["version"], first["system"], first["name"]) == (worker["id"], 1, None, "worker")
    assert (own["id"], own["system"], other["id"], advisor) == (lead["id"], "lead", second["id"], ADVISOR)
    assert not {"multiagent", "metadata", "created_at"} & first.keys()
    assert ok(http.get(f"/v1/sessions/{session['id']}"))["agent"] == session["agent"]
    (thread,) = ok(http.get(f"/v1/sessions/{session['id']}/threads"))["data"]
    assert thread["agent"] == {key: value for key, value in session["agent"].items() if key != "multiagent"}


def test_the_own_entry_is_what_the_session_runs(http: httpx2.Client, environment: Json) -> None:
    lead = make(http, system="lead", multiagent=parts(subagents={**ON, "predefined_agents": [{"type": "self"}]}))
    over = {"type": "agent_with_overrides", "id": lead["id"], "system": "other"}
    session = ok(http.post("/v1/sessions", json={"agent": over, "environment_id": environment["id"]}))

    def own(session: Json) -> Json:
        (entry,) = session["agent"]["multiagent"]["subagents"]["predefined_agents"]
        return dict(entry)

    assert own(session)["system"] == "other"
    assert session["agent"]["multiagent"]["workflows"] == OFF
    tools = [{"type": "agent_toolset_20260401"}]
    changed = ok(http.post(f"/v1/sessions/{session['id']}", json={"agent": {"tools": tools}}))
    assert own(changed)["tools"] == changed["agent"]["tools"] != []


def test_a_session_of_a_single_agent_has_no_roster(session: Json) -> None:
    assert session["agent"]["multiagent"] is None


def test_an_archived_member_stops_new_sessions(http: httpx2.Client, worker: Json, environment: Json) -> None:
    lead = make(http, multiagent=coordinator(worker["id"]))
    body = {"agent": lead["id"], "environment_id": environment["id"]}
    ok(http.post("/v1/sessions", json=body))
    ok(http.post(f"/v1/agents/{worker['id']}/archive"))
    assert "of its roster is archived" in refused(http.post("/v1/sessions", json=body))
    assert ok(update(http, lead, name="b"))["version"] == 2, "what was pinned may stay while other things change"
    ok(update(http, lead, multiagent=None))
    ok(http.post("/v1/sessions", json=body))


def test_a_roster_in_full_has_to_fit(http: httpx2.Client, environment: Json) -> None:
    tool = {"type": "custom", "name": "t", "description": "d" * 17_000_000, "input_schema": {"type": "object"}}
    member = make(http, tools=[tool])
    lead = make(http, tools=[tool], multiagent=coordinator(member["id"]))
    body = {"agent": lead["id"], "environment_id": environment["id"]}
    assert "larger than 32 MiB" in refused(http.post("/v1/sessions", json=body))
