"""One scenario for each event type that a session here can have: it plays, checks what is particular, and returns the
session and what was streamed. What holds for all of them is checked by those who play them.

What is not here can't occur yet: workflow runs. Threads and outcomes are in `teams`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contract.teams import TEAMS
from contract.world import (
    BUILTINS,
    IDLE,
    INTERRUPT,
    WEATHER,
    World,
    cents,
    message,
    only,
    result,
    text,
    unknown_fields,
    verdict,
)

JUDGED = {**BUILTINS, "default_config": {"permission_policy": {"type": "auto"}}}
ASKING = {**BUILTINS, "default_config": {"permission_policy": {"type": "always_ask"}}}
MODEL_ERRORS = {
    "overloaded": "model_overloaded_error",
    "rate limited": "model_rate_limited_error",
    "failed": "model_request_failed_error",
    "unknown": "unknown_error",
}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def messages_of_all_kinds(world: World) -> list[Any]:
    """user.message with every block that may be sent, agent.thinking, agent.message, the spans and statuses."""
    session_id = world.session()
    file_id = world.beta.files.upload(file=("note.txt", b"A note.", "text/plain")).id
    document = {"type": "document", "title": "T", "context": "C"}
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {**document, "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {**document, "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
        {**document, "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {**document, "source": {"type": "file", "file_id": file_id}},
        text("think: I see."),
    ]
    events = world.turn(session_id, {"type": "user.message", "content": blocks})
    (heard,) = [event for event in only(events, "user.message") if event.processed_at]
    assert [block.type for block in heard.content] == [block["type"] for block in blocks]
    assert [block.source.type for block in heard.content[:-1]] == ["base64", "url", "text", "base64", "url", "file"]
    (said,) = only(events, "agent.message")
    assert [block.text for block in said.content] == ["I see."]
    (thought,) = only(events, "agent.thinking")
    assert set(thought.to_dict()) == {"id", "type", "processed_at"}, "the thinking itself is never shown"
    return [session_id, events]


def interrupts(world: World) -> list[Any]:
    session_id = world.session()
    with world.stream(session_id) as stream:
        world.send(session_id, message("nothing more than silence"))
        stream.until("span.model_request_start")
        world.send(session_id, INTERRUPT)
        stream.until(IDLE)
    (end,) = only(stream.seen, "span.model_request_end")
    assert end.is_error is True
    return [session_id, stream.seen]


def confirmations(world: World) -> list[Any]:
    """user.tool_confirmation, agent.tool_use and agent.tool_result, allowed and denied."""
    session_id = world.session(ASKING)
    events = world.turn(session_id, "run: echo one")
    (use,) = only(events, "agent.tool_use")
    assert (use.name, use.input, use.evaluated_permission) == ("bash", {"command": "echo one"}, "ask")
    events += world.turn(session_id, verdict(use.id, "allow"))
    events += world.turn(session_id, "run: echo two")
    denied = only(events, "agent.tool_use")[-1]
    events += world.turn(session_id, verdict(denied.id, "deny", deny_message="No."))
    one, two = only(events, "agent.tool_result")
    assert (one.tool_use_id, one.is_error, one.content[0].text.strip()) == (use.id, False, "one")
    assert (two.tool_use_id, two.is_error) == (denied.id, True)
    return [session_id, events]


def judgements(world: World) -> list[Any]:
    """agent.tool_use under the policy `auto`: allowed, denied, and left to the client."""
    session_id = world.session(JUDGED)
    assert world.beta.sessions.retrieve(session_id).agent.tools[0].default_config.permission_policy.type == "auto"
    events = world.turn(session_id, "run: echo fine")
    events += world.turn(session_id, "run: echo forbidden")
    assert events[-1].stop_reason.type == "end_turn"
    unclear = world.session(JUDGED)
    asked = world.turn(unclear, "run: echo unclear")
    uses = [*only(events, "agent.tool_use"), *only(asked, "agent.tool_use")]
    assert [use.evaluated_permission for use in uses] == ["allow", "deny", "ask"]
    assert [use.evaluation.type for use in uses] == ["auto"] * 3
    assert [use.evaluation.evaluated_permission.to_dict() for use in uses] == [
        {"type": "allow"},
        {"type": "deny", "reason_code": "high_risk"},
        {"type": "ask", "reason_code": "indeterminate"},
    ]
    assert asked[-1].stop_reason.event_ids == [uses[2].id]
    (result,) = only(world.turn(unclear, verdict(uses[2].id, "allow")), "agent.tool_result")
    assert result.is_error is False
    fine, denied = only(events, "agent.tool_result")
    assert (fine.is_error, denied.is_error) == (False, True)
    assert denied.content[0].text == "Permission to use bash has been denied."
    return [session_id, events]


def custom_tools(world: World) -> list[Any]:
    """agent.custom_tool_use, user.custom_tool_result with every block, system.message."""
    session_id = world.session(WEATHER)
    events = world.turn(session_id, "weather in Oslo")
    (use,) = only(events, "agent.custom_tool_use")
    blocks = [
        text("sunny"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {
            "type": "search_result",
            "source": "https://example.com",
            "title": "T",
            "content": [text("found")],
            "citations": {"enabled": False},
        },
    ]
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": blocks, "is_error": False}
    events += world.turn(session_id, answer, {"type": "system.message", "content": [text("Be brief.")]})
    (answered,) = only(events, "user.custom_tool_result")
    assert [block.type for block in answered.content] == [block["type"] for block in blocks]
    told = only(events, "system.message")
    assert [event.processed_at is None for event in told] == [True, False]
    return [session_id, events]


def on_mcp(world: World, url: str) -> str:
    """A session whose agent has one MCP server, and asks before each call."""
    toolset = {"type": "mcp_toolset", "mcp_server_name": "real"}
    return world.session(agent=world.agent(toolset, mcp_servers=[{"type": "url", "name": "real", "url": url}]).id)


def mcp_tools(world: World) -> list[Any]:
    """agent.mcp_tool_use and agent.mcp_tool_result, allowed and denied."""
    session_id = on_mcp(world, "stdio:real")
    events = world.turn(session_id, "add with mcp")
    (use,) = only(events, "agent.mcp_tool_use")
    assert (use.name, use.mcp_server_name, use.input) == ("add", "real", {"a": 1, "b": 2})
    assert (use.evaluated_permission, use.evaluation.type) == ("ask", "always_ask")
    events += world.turn(session_id, verdict(use.id, "allow"))
    events += world.turn(session_id, "add with mcp")
    denied = only(events, "agent.mcp_tool_use")[-1]
    events += world.turn(session_id, verdict(denied.id, "deny", deny_message="No."))
    one, two = only(events, "agent.mcp_tool_result")
    assert (one.mcp_tool_use_id, one.is_error, one.content[0].text) == (use.id, False, "3")
    assert (two.mcp_tool_use_id, two.is_error) == (denied.id, True)
    return [session_id, events]


def unusable(kind: str, retry: str) -> Callable[[World], list[Any]]:
    """session.error for an MCP server; the session goes on."""

    def play(world: World) -> list[Any]:
        # Nobody listens on the one; the other is this server, which wants an API key.
        closed = "http://127.0.0.1:9/mcp"
        session_id = on_mcp(world, closed if "connection" in kind else f"{world.server.base_url}/v1/agents")
        events = world.turn(session_id, "say: On.")
        (problem,) = only(events, "session.error")
        assert (problem.error.type, problem.error.retry_status.type) == (kind, retry)
        assert problem.error.mcp_server_name == "real"
        assert world.last_text(session_id) == "On."
        return [session_id, events]

    return play


def compaction(world: World) -> list[Any]:
    session_id = world.session(WEATHER, model="test-small")
    events = world.turn(session_id, "fill the window")
    (use,) = only(events, "agent.custom_tool_use")
    events += world.turn(session_id, result(use.id, "warm"))
    (compacted,) = only(events, "agent.thread_context_compacted")
    assert set(compacted.to_dict()) == {"id", "type", "processed_at"}
    assert world.last_text(session_id) == "I go on from the summary."
    return [session_id, events]


def retried(kind: str) -> Callable[[World], list[Any]]:
    """session.error retrying, session.status_rescheduled, and the turn that goes on."""

    def play(world: World) -> list[Any]:
        session_id = world.session()
        events = world.turn(session_id, f"{kind} once")
        (problem,) = only(events, "session.error")
        assert (problem.error.type, problem.error.retry_status.type) == (MODEL_ERRORS[kind], "retrying")
        assert events[-1].stop_reason.type == "end_turn"
        kinds = [event.type for event in events]
        assert kinds[kinds.index("session.status_rescheduled") :].count("session.status_running") == 1
        return [session_id, events]

    return play


def exhausted(kind: str) -> Callable[[World], list[Any]]:
    """session.error exhausted, idle with retries_exhausted, and a session that can still be used."""

    def play(world: World) -> list[Any]:
        session_id = world.session()
        events = world.turn(session_id, f"{kind} always")
        last = only(events, "session.error")[-1]
        assert (last.error.type, last.error.retry_status.type) == (MODEL_ERRORS[kind], "exhausted")
        assert events[-1].stop_reason.type == "retries_exhausted"
        ends = only(events, "span.model_request_end")
        assert [end.is_error for end in ends] == [True] * len(only(events, "span.model_request_start"))
        events += world.turn(session_id, "say: Better.")
        assert world.last_text(session_id) == "Better."
        return [session_id, events]

    return play


def billing(world: World) -> list[Any]:
    session_id = world.session()
    events = world.turn(session_id, "no credit")
    (problem,) = only(events, "session.error")
    assert (problem.error.type, problem.error.retry_status.type) == ("billing_error", "exhausted")
    assert problem.error.message == "Your credit balance is too low."
    return [session_id, events]


def a_stream_cut_off(world: World) -> list[Any]:
    session_id = world.session()
    events = world.turn(session_id, "cut off once")
    assert [event.content[0].text for event in only(events, "agent.message")] == ["At last."], "no half message stays"
    return [session_id, events]


def refusal(world: World) -> list[Any]:
    session_id = world.session()
    events = world.turn(session_id, "refuse")
    idle = events[-1]
    assert idle.stop_reason.type == "refusal"
    assert (idle.stop_details.type, idle.stop_details.category) == ("refusal", "cyber")
    assert only(events, "session.thread_status_idle")[0].stop_details == idle.stop_details
    return [session_id, events]


def updates(world: World) -> list[Any]:
    """session.updated carries only what changed."""
    session_id = world.session(WEATHER)
    with world.stream(session_id) as stream:
        world.beta.sessions.update(session_id, title="New", metadata={"a": "b"})
        (first,) = stream.until("session.updated")
        world.beta.sessions.update(session_id, title="New")
        world.beta.sessions.update(session_id, title=None)
        (second,) = stream.until("session.updated")
        world.beta.sessions.update(session_id, agent={"tools": [BUILTINS]})
        (third,) = stream.until("session.updated")
    common = {"id", "type", "processed_at"}
    assert (set(first.to_dict()) - common, first.title, first.metadata) == ({"title", "metadata"}, "New", {"a": "b"})
    assert (set(second.to_dict()) - common, second.title) == ({"title"}, None)
    assert set(third.to_dict()) - common == {"agent"}
    assert [tool.type for tool in third.agent.tools] == ["agent_toolset_20260401"]
    return [session_id, stream.seen]


def usage(world: World) -> list[Any]:
    session_id = world.session()
    events = world.turn(session_id, "count tokens")
    (end,) = only(events, "span.model_request_end")
    assert set(end.to_dict()) == {"id", "type", "processed_at", "is_error", "model_request_start_id", "model_usage"}
    assert end.model_request_start_id == only(events, "span.model_request_start")[0].id
    assert end.model_usage.to_dict() == {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 42,
        "speed": None,
    }
    (used,) = only(events, "session.usage")
    counted = used.usage.to_dict()
    assert counted.pop("active_seconds") > 0
    assert counted == {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cache_read_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 2},
        "list_cost": {"amount": "1", "currency": "USD"},
        "server_tool_use": {"web_fetch_requests": 0, "web_search_requests": 0},
    }
    return [session_id, events]


def budgets(world: World) -> list[Any]:
    """session.status_idle with budget_reached, and session.updated and session.usage with a budget."""
    session_id = world.session(BUILTINS, model="test-priced", budget=cents(100))
    events = world.turn(session_id, "spend a dollar, then another")
    assert [event.type for event in events[-3:]] == ["session.thread_status_idle", "session.usage", IDLE]
    thread, used, idle = events[-3:]
    assert (thread.stop_reason.type, idle.stop_reason.type) == ("budget_reached", "budget_reached")
    assert used.budget.to_dict() == cents(100)
    assert used.usage.list_cost.amount == "100"
    assert len(only(events, "agent.tool_result")) == len(only(events, "span.model_request_start")) == 1
    with world.stream(session_id) as stream:
        raised = world.beta.sessions.update(session_id, budget=cents(150))
        events += stream.until(IDLE)
    assert (raised.status, raised.budget.to_dict()) == ("running", cents(150))
    assert events[-1].stop_reason.type == "end_turn"
    assert world.last_text(session_id).startswith("Spent: first")
    with world.stream(session_id) as stream:
        removed = world.beta.sessions.update(session_id, budget=None)
        events += stream.until("session.updated")
    assert removed.budget is None
    shown = [event.to_dict() for event in only(events, "session.updated")]
    assert [event["budget"] for event in shown] == [cents(150), None]
    events += world.turn(session_id, "say: free")
    assert only(events, "session.usage")[-1].to_dict()["budget"] is None
    return session_id, events


def web_fetch(world: World) -> list[Any]:
    """agent.tool_result with a document, and with an error code; the server's own /healthz is the page."""
    session_id = world.session(BUILTINS)
    events = world.turn(session_id, f"fetch {world.server.base_url}/healthz")
    events += world.turn(session_id, "make up an address")
    page, refused = only(events, "agent.tool_result")
    (block,) = page.content
    assert (block.type, block.source.media_type, page.is_error) == ("document", "text/plain", False)
    assert refused.is_error
    assert refused.content[0].text.startswith("url_not_in_prior_context: ")
    return [session_id, events]


def variables(world: World) -> list[Any]:
    """agent.tool_result with a placeholder where a secret of a vault would be, and a session.error of a credential
    that the environment's network leaves without use."""
    vault_id = world.beta.vaults.create(display_name="v").id
    networking = {"type": "limited", "allowed_hosts": ["*.example.com"]}
    auth = {"type": "environment_variable", "secret_name": "TOKEN", "secret_value": "s3cret-of-the-vault"}
    credential = world.beta.vaults.credentials.create(vault_id, auth={**auth, "networking": networking})
    config = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["example.org"]}}
    elsewhere = world.beta.environments.create(name="elsewhere", config=config).id
    session_id = world.session(BUILTINS, vault_ids=[vault_id], environment_id=elsewhere)
    events = world.turn(session_id, 'run: echo "$TOKEN"; printf %s-of-%s s3cret the-vault')
    events += world.turn(session_id, "run: true")
    (told,) = only(events, "session.error")
    assert (told.error.type, told.error.retry_status.type) == ("credential_host_unreachable_error", "retrying")
    assert (told.error.vault_id, told.error.credential_id) == (vault_id, credential.id)
    first, second = only(events, "agent.tool_result")[0].content[0].text.split("\n")[:2]
    assert first.startswith("secret_placeholder_")
    assert second == first, "what is printed of the secret itself is taken out"
    return [session_id, events]


def worker(world: World) -> list[Any]:
    """A self-hosted environment: clients answer the toolset's calls, and the server those that are denied."""
    environment = world.beta.environments.create(name="mine", config={"type": "self_hosted"})
    assert environment.config.to_dict() == {"type": "self_hosted"}
    session_id = world.session(ASKING, environment_id=environment.id)
    events = world.turn(session_id, "run: echo one")
    (use,) = only(events, "agent.tool_use")
    (item,) = world.beta.environments.work.list(environment.id)
    assert unknown_fields(item) == []
    assert (item.data.id, item.state) == (session_id, "queued")
    with world.stream(session_id) as stream:
        world.send(session_id, verdict(use.id, "allow"))
        events += stream.until("user.tool_confirmation")
    answer = {"type": "user.tool_result", "tool_use_id": use.id, "content": [text("one")], "is_error": False}
    events += world.turn(session_id, answer)
    assert world.last_text(session_id) == "It said: one"
    (answered,) = only(events, "user.tool_result")
    assert (answered.tool_use_id, answered.is_error, answered.content[0].text) == (use.id, False, "one")
    events += world.turn(session_id, "run: echo two")
    events += world.turn(session_id, verdict(only(events, "agent.tool_use")[-1].id, "deny"))
    (denied,) = only(events, "agent.tool_result")
    assert denied.is_error
    return [session_id, events]


def archival(world: World) -> list[Any]:
    session_id = world.session()
    with world.stream(session_id) as stream:
        world.beta.sessions.archive(session_id)
        events = stream.rest()
    assert [event.type for event in events] == ["session.thread_status_terminated", "session.status_terminated"]
    return [session_id, events]


SCENARIOS: dict[str, tuple[Callable[[World], list[Any]], set[str]]] = {
    "messages": (
        messages_of_all_kinds,
        {"user.message", "agent.message", "agent.thinking", "session.status_running", IDLE, "session.usage"},
    ),
    "interrupts": (interrupts, {"user.interrupt", "span.model_request_start", "span.model_request_end"}),
    "confirmations": (confirmations, {"user.tool_confirmation", "agent.tool_use", "agent.tool_result"}),
    "judgements": (judgements, {"agent.tool_use", "agent.tool_result"}),
    "custom tools": (custom_tools, {"agent.custom_tool_use", "user.custom_tool_result", "system.message"}),
    "mcp tools": (mcp_tools, {"user.tool_confirmation", "agent.mcp_tool_use", "agent.mcp_tool_result"}),
    "mcp server down": (unusable("mcp_connection_failed_error", "retrying"), {"session.error"}),
    "mcp server closed": (unusable("mcp_authentication_failed_error", "exhausted"), {"session.error"}),
    "compaction": (compaction, {"agent.thread_context_compacted"}),
    **{f"{kind}, then fine": (retried(kind), {"session.error", "session.status_rescheduled",
                                             "session.thread_status_rescheduled"}) for kind in MODEL_ERRORS},
    **{f"{kind} for good": (exhausted(kind), {"session.error"}) for kind in MODEL_ERRORS},
    "billing": (billing, {"session.error"}),
    "cut off": (a_stream_cut_off, {"session.error"}),
    "refusal": (refusal, {"session.thread_status_idle", "session.thread_status_running"}),
    "updates": (updates, {"session.updated"}),
    "usage": (usage, {"session.usage"}),
    "budgets": (budgets, {IDLE, "session.updated", "session.usage"}),
    "web": (web_fetch, {"agent.tool_use", "agent.tool_result"}),
    "variables": (variables, {"session.error", "agent.tool_result"}),
    "archival": (archival, {"session.status_terminated", "session.thread_status_terminated"}),
    "a worker": (worker, {"agent.tool_use", "user.tool_result", "agent.tool_result", "user.tool_confirmation"}),
    **TEAMS,
}  # fmt: skip


def judge(world: World, name: str) -> None:
    """Play a scenario; then the stream, the lists and the filters must tell the same."""
    play, promised = SCENARIOS[name]
    session_id, streamed = play(world)
    listed = world.listed(session_id)
    settled = [event.to_dict() for event in streamed if event.processed_at is not None]
    assert settled == [event.to_dict() for event in listed], "a stream and a later list tell the same"
    assert promised <= {event.type for event in listed}
    assert unknown_fields(listed) == unknown_fields(world.beta.sessions.retrieve(session_id)) == []
    for kind in sorted(promised):
        assert world.listed(session_id, types=[kind]) == only(listed, kind)
    thread, *_ = world.beta.sessions.threads.list(session_id)
    assert list(world.beta.sessions.threads.events.list(thread.id, session_id=session_id)) == listed
