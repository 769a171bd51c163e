"""Sessions, their resources and threads through the strict official SDK: every endpoint and documented parameter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import pytest

from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, World, message, only

DELETING = "Cannot delete session while it is running. Send an interrupt event or wait for the session to complete."


def test_a_fresh_session(either: World) -> None:
    agent = either.agent(BUILTINS, system="S", description="D", metadata={"not": "in the snapshot"})
    made = either.beta.sessions.create(
        agent=agent.id, environment_id=either.environment, title="T", metadata={"k": "v"}
    )
    assert made.id.startswith("sesn_")
    shown = made.to_dict()
    assert (shown["type"], shown["status"], shown["title"], shown["metadata"]) == ("session", "idle", "T", {"k": "v"})
    assert shown["environment_id"] == either.environment
    assert (shown["resources"], shown["vault_ids"], shown["outcome_evaluations"]) == ([], [], [])
    assert (shown["budget"], shown["archived_at"], made.deployment_id) == (None, None, None)
    assert (made.agent.id, made.agent.version, made.agent.system) == (agent.id, 1, "S")
    assert shown["usage"]["cache_creation"] is None, "null before any run"
    assert (shown["usage"]["input_tokens"], shown["usage"]["output_tokens"]) == (0, 0)
    assert shown["stats"]["active_seconds"] == 0
    assert either.beta.sessions.retrieve(made.id).agent == made.agent


def test_usage_and_time_grow_with_turns(either: World) -> None:
    session_id = either.session()
    either.turn(session_id, "count tokens")
    shown = either.beta.sessions.retrieve(session_id)
    assert shown.usage.input_tokens == 1000
    assert shown.usage.cache_creation.ephemeral_5m_input_tokens == 40
    assert (shown.usage.list_cost.amount, shown.usage.list_cost.currency) == ("1", "USD")
    assert shown.usage.server_tool_use.web_search_requests == 0
    assert 0 < shown.stats.active_seconds < shown.stats.duration_seconds
    either.turn(session_id, "count tokens")
    assert either.beta.sessions.retrieve(session_id).usage.input_tokens == 2000


def test_forms_of_the_agent(either: World) -> None:
    agent = either.agent(WEATHER, system="one")
    either.beta.agents.update(agent.id, system="two")
    made = either.beta.sessions.create

    def create(reference: Any) -> Any:
        return made(agent=reference, environment_id=either.environment).agent

    assert create(agent.id).version == 2
    assert create({"type": "agent", "id": agent.id}).version == 2
    pinned = create({"type": "agent", "id": agent.id, "version": 1})
    assert (pinned.version, pinned.system) == (1, "one")
    changed = create(
        {
            "type": "agent_with_overrides",
            "id": agent.id,
            "version": 1,
            "model": {"id": "claude-sonnet-5-5", "effort": "low"},
            "system": None,
            "tools": [BUILTINS],
        }
    )
    assert (changed.version, changed.system, changed.model.id) == (1, None, "claude-sonnet-5-5")
    assert [tool.type for tool in changed.tools] == ["agent_toolset_20260401"]
    assert either.beta.agents.retrieve(agent.id).version == 2, "overrides are the session's alone"


def test_initial_events_start_the_work(either: World) -> None:
    agent = either.agent()
    made = either.beta.sessions.create(
        agent=agent.id, environment_id=either.environment, initial_events=[message("say: one"), message("say: two")]
    )
    assert made.status == "running"
    with either.stream(made.id) as stream:
        if either.beta.sessions.retrieve(made.id).status != "idle":
            stream.until(IDLE)
    events = either.raw(made.id)
    assert [event["content"][0]["text"] for event in only(events, "user.message")] == ["say: one", "say: two"]
    assert len(only(events, IDLE)) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"agent": "agent_none"}, "agent_none"),
        ({"environment_id": "env_none"}, "env_none"),
        ({"initial_events": [INTERRUPT]}, "initial_events"),
        ({"resources": [{"type": "file", "file_id": "file_none"}]}, "file_none"),
        ({"vault_ids": ["vlt_x"]}, "vault_ids"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "metadata"),
    ],
)
def test_wrong_sessions_are_refused_whole(world: World, wrong: dict[str, Any], said: str) -> None:
    agent = world.agent().id
    with pytest.raises(anthropic.APIStatusError, match=said) as refused:
        world.beta.sessions.create(**{"agent": agent, "environment_id": world.environment, **wrong})
    assert refused.value.status_code in (400, 404)
    assert list(world.beta.sessions.list(agent_id=agent)) == []


def test_updates_merge(either: World) -> None:
    session_id = either.session(title="T", metadata={"keep": "1", "drop": "2"})
    changed = either.beta.sessions.update(session_id, metadata={"drop": None, "add": "3"})
    assert (changed.title, changed.metadata) == ("T", {"keep": "1", "add": "3"})
    assert either.beta.sessions.update(session_id, title="N").title == "N"
    with pytest.raises(anthropic.BadRequestError, match="vault_ids"):
        either.beta.sessions.update(session_id, vault_ids=[])


def test_tools_change_only_while_idle(world: World) -> None:
    session_id = world.session(WEATHER)
    with world.stream(session_id) as stream:
        world.send(session_id, message("nothing more than silence"))
        stream.until("span.model_request_start")
        with pytest.raises(anthropic.BadRequestError, match="running"):
            world.beta.sessions.update(session_id, agent={"tools": []})
        world.send(session_id, INTERRUPT)
        stream.until(IDLE)
    assert world.beta.sessions.update(session_id, agent={"tools": []}).agent.tools == []


def test_a_list_of_sessions(either: World) -> None:
    agent = either.agent()
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = [either.session(agent=agent.id, title=str(number)) for number in range(5)]
    either.beta.agents.update(agent.id, system="two")
    newer = either.session(agent=agent.id)
    either.beta.sessions.archive(made[0])

    def ids(**query: Any) -> list[str]:
        return [session.id for session in either.beta.sessions.list(agent_id=agent.id, **query)]

    assert ids(limit=2) == [newer, *made[:0:-1]], "newest first, across pages"
    assert ids(limit=2, order="asc") == [*made[1:], newer]
    assert ids(include_archived=True, agent_version=1) == made[::-1]
    assert ids(agent_version=2) == [newer]
    assert ids(statuses=["idle"]) == [newer, *made[:0:-1]]
    assert ids(statuses=["running", "rescheduling"]) == []
    assert ids(statuses=["terminated"], include_archived=True) == [made[0]]
    assert ids(created_at_gte=before, created_at_gt=before, created_at_lt=before + timedelta(hours=1)) == ids()
    assert ids(created_at_lte=before) == []
    assert ids(deployment_id="depl_x") == ids(memory_store_id="memstore_x") == []


def test_sessions_page_both_ways(either: World) -> None:
    agent = either.agent()
    made = [either.session(agent=agent.id) for _ in range(5)][::-1]
    one = either.beta.sessions.list(agent_id=agent.id, limit=2)
    two = either.beta.sessions.list(agent_id=agent.id, limit=2, page=one.next_page)
    three = either.beta.sessions.list(agent_id=agent.id, limit=2, page=two.next_page)
    assert [[found.id for found in page.data] for page in (one, two, three)] == [made[:2], made[2:4], made[4:]]
    assert (one.prev_page, three.next_page) == (None, None)
    back = either.beta.sessions.list(agent_id=agent.id, limit=2, page=three.prev_page)
    assert [found.id for found in back.data] == made[2:4]
    first = either.beta.sessions.list(agent_id=agent.id, limit=2, page=back.prev_page)
    assert ([found.id for found in first.data], first.prev_page) == (made[:2], None)


def test_cursors_carry_their_order(world: World) -> None:
    agent = world.agent().id
    for _ in range(3):
        world.session(agent=agent)
    page = world.beta.sessions.list(agent_id=agent, limit=1).next_page
    with pytest.raises(anthropic.BadRequestError, match="page token order does not match request"):
        world.beta.sessions.list(agent_id=agent, limit=1, page=page, order="asc")
    for broken in ("page_nonsense", "x", page[:-4]):
        with pytest.raises(anthropic.BadRequestError, match="invalid page cursor"):
            world.beta.sessions.list(page=broken)
    with pytest.raises(anthropic.BadRequestError):
        world.beta.sessions.list(page=page, created_at_lt="2020-01-01T00:00:00Z")
    assert len(list(world.beta.sessions.list(page=page, limit=2, agent_id=agent))) == 2, "another limit is fine"


def test_running_sessions_are_neither_deleted_nor_archived(world: World) -> None:
    session_id = world.session()
    with world.stream(session_id) as stream:
        world.send(session_id, message("nothing more than silence"))
        stream.until("span.model_request_start")
        with pytest.raises(anthropic.BadRequestError) as refused:
            world.beta.sessions.delete(session_id)
        assert refused.value.body["error"]["message"] == DELETING
        with pytest.raises(anthropic.BadRequestError, match="cannot be archived while running"):
            world.beta.sessions.archive(session_id)
        world.send(session_id, INTERRUPT)
        stream.until(IDLE)
    assert world.beta.sessions.delete(session_id).type == "session_deleted"


def test_an_archived_session_is_read_only(either: World) -> None:
    session_id = either.session()
    either.turn(session_id, "say: x")
    archived = either.beta.sessions.archive(session_id)
    assert (archived.status, archived.archived_at is None) == ("terminated", False)
    assert either.beta.sessions.archive(session_id).archived_at == archived.archived_at
    assert len(either.listed(session_id)) == 11
    with pytest.raises(anthropic.BadRequestError):
        either.send(session_id, message("more"))
    with pytest.raises(anthropic.BadRequestError):
        either.beta.sessions.update(session_id, title="x")
    assert either.beta.sessions.delete(session_id).to_dict() == {"id": session_id, "type": "session_deleted"}
    for gone in (either.beta.sessions.retrieve, either.beta.sessions.delete, either.beta.sessions.events.list):
        with pytest.raises(anthropic.NotFoundError):
            gone(session_id)


# -- threads


def test_the_primary_thread(either: World) -> None:
    session_id = either.session(WEATHER)
    (thread,) = either.beta.sessions.threads.list(session_id, limit=1)
    assert thread.id.startswith("sthr_")
    assert (thread.session_id, thread.parent_thread_id, thread.status) == (session_id, None, "idle")
    assert (thread.agent.type, thread.agent.name) == ("agent", "Judge")
    either.turn(session_id, "say: Hi.")
    events = either.beta.sessions.threads.events
    again = either.beta.sessions.threads.retrieve(thread.id, session_id=session_id)
    assert (again.id, again.status, again.usage.output_tokens > 0) == (thread.id, "idle", True)
    assert list(events.list(thread.id, session_id=session_id, limit=2)) == either.listed(session_id)
    (running,) = only(either.listed(session_id), "session.thread_status_running")
    assert (running.session_thread_id, running.agent_name) == (thread.id, "Judge")
    assert [found.id for found in either.beta.sessions.threads.list(session_id, statuses=["idle"])] == [thread.id]
    assert list(either.beta.sessions.threads.list(session_id, statuses=["running"])) == []
    with pytest.raises(anthropic.BadRequestError):
        either.beta.sessions.threads.archive(thread.id, session_id=session_id)
    with pytest.raises(anthropic.NotFoundError):
        either.beta.sessions.threads.retrieve("sthr_none", session_id=session_id)


# -- events, as a list


def test_lists_of_events(either: World) -> None:
    session_id = either.session()
    either.turn(session_id, "say: one")
    either.turn(session_id, "say: two")
    events = either.listed(session_id)
    assert len(events) == 18
    assert either.listed(session_id, limit=1000) == events
    assert either.listed(session_id, limit=5) == events
    assert either.listed(session_id, limit=5, order="desc") == events[::-1]
    assert either.beta.sessions.events.list(session_id).data[-1] == events[-1], "the first page holds a short session"
    middle = events[8].processed_at
    assert either.listed(session_id, created_at_gt=middle) == events[9:]
    assert either.listed(session_id, created_at_gte=middle) == events[8:]
    assert either.listed(session_id, created_at_lt=middle) == events[:8]
    assert either.listed(session_id, created_at_lte=middle, types=["user.message"]) == events[2:3]
    page = either.beta.sessions.events.list(session_id, limit=5)
    with pytest.raises(anthropic.BadRequestError, match="page token order does not match request"):
        either.beta.sessions.events.list(session_id, limit=5, order="desc", page=page.next_page)
    with pytest.raises(anthropic.BadRequestError, match="invalid page cursor"):
        either.beta.sessions.events.list(session_id, page="page_x")
    with pytest.raises(anthropic.BadRequestError, match="types"):
        either.beta.sessions.events.list(session_id, types=["session.exploded"])


def test_one_wrong_event_refuses_the_whole_request(either: World) -> None:
    session_id = either.session(WEATHER)
    wrong: list[Any] = [
        {"type": "user.shout", "content": []},
        {"type": "user.message", "content": []},
        {"type": "user.message", "content": [{"type": "redacted"}]},
        {"type": "user.tool_confirmation", "tool_use_id": "sevt_none", "result": "allow"},
        {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_none", "content": []},
        {"type": "user.tool_result", "tool_use_id": "sevt_none", "content": []},
        {"type": "user.interrupt", "session_thread_id": "sthr_none"},
    ]
    for event in wrong:
        with pytest.raises(anthropic.BadRequestError) as refused:
            either.send(session_id, message("fine"), event)
        assert "1" in str(refused.value), "the message says which event it was"
    assert either.listed(session_id) == []


def test_system_messages_stand_last_and_after_their_message(either: World) -> None:
    session_id = either.session()
    told = {"type": "system.message", "content": [{"type": "text", "text": "Be brief."}]}
    for events in ([told], [told, message("x")], [message("x"), told, told]):
        with pytest.raises(anthropic.BadRequestError, match=r"system\.message"):
            either.send(session_id, *events)
    either.turn(session_id, message("say: ok"), told)
    old = either.session(model="claude-sonnet-4-6")
    with pytest.raises(anthropic.BadRequestError) as refused:
        either.send(old, message("x"), told)
    assert refused.value.body["error"]["details"]["error_code"] == "model_does_not_support_mid_conversation_system"
