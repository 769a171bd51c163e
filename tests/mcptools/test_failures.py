"""MCP servers that are down, slow, closed or killed: the session goes on, and no call is made twice."""

from __future__ import annotations

from typing import Any

import pytest

from contract.world import World, message, only
from mcptools.conftest import Serve, Start
from mcptools.processes import calls
from mcptools.test_turns import SCRIPT, session

T = calls(("t", "mcp__real__t", {}), ("t again", "mcp__real__t", {}))


def problem(events: list[Any], kind: str, retry: str) -> Any:
    """The one `session.error` of a turn, which ended well all the same."""
    (event,) = only(events, "session.error")
    assert (event.error.type, event.error.retry_status.type) == (kind, retry)
    assert event.error.mcp_server_name == "real"
    assert events[-1].stop_reason.type == "end_turn"
    return event.error


def test_a_server_that_is_down_is_tried_again_at_the_next_wake(serve: Serve, start: Start) -> None:
    world, real = serve(scripted=SCRIPT), start()
    session_id = session(world, real.url)
    real.kill()
    for _ in range(2):
        error = problem(world.turn(session_id, "say: Hello."), "mcp_connection_failed_error", "retrying")
        assert error.message == "The MCP server real can't be used: no connection could be made."
        assert world.last_text(session_id) == "Hello."
    real.start()
    events = world.turn(session_id, "add")
    assert only(events, "session.error") == []
    assert world.last_text(session_id) == "3"


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_a_server_that_was_restarted_between_turns(serve: Serve, start: Start, transport: str) -> None:
    world, real = serve(scripted=SCRIPT), start(transport)
    session_id = session(world, real.url)
    world.turn(session_id, "add")
    real.kill()
    real.start()
    events = world.turn(session_id, "add")
    assert (world.last_text(session_id), only(events, "session.error")) == ("3", [])
    assert real.noted() == ["add 1 2"] * 2


def test_a_server_that_wants_a_credential(serve: Serve, start: Start) -> None:
    world, real = serve(scripted=SCRIPT), start("http", "--token", "s3cret")
    session_id = session(world, real.url)
    events = world.turn(session_id, "say: On.")
    error = problem(events, "mcp_authentication_failed_error", "exhausted")
    assert "HTTP 401" in error.message
    assert world.last_text(session_id) == "On."


def test_a_server_that_forbids(serve: Serve, start: Start) -> None:
    world = serve(scripted=T)
    problem(turn(world, start, "forbidden", "say: x"), "mcp_authentication_failed_error", "exhausted")
    events = turn(world, start, "forbidden later", "t")
    problem(events, "mcp_authentication_failed_error", "exhausted")
    assert "did not run" in only(events, "agent.mcp_tool_result")[0].content[0].text


def turn(world: World, start: Start, how: str, text: str) -> list[Any]:
    return world.turn(session(world, start(how, script="hostile_server.py").url), text)


def test_a_silent_server_is_given_up_in_time(serve: Serve, start: Start) -> None:
    world = serve(scripted=T, config="[mcp]\nsetup_seconds = 1.0\n")
    silent = start("silent", script="hostile_server.py")
    session_id = session(world, silent.url)
    with world.stream(session_id) as stream:
        world.send(session_id, message("say: Well."))
        stream.until("session.status_running")
        events = stream.until("session.status_idle")
    error = problem(events, "mcp_connection_failed_error", "retrying")
    assert "did not answer within 1 seconds" in error.message
    assert world.last_text(session_id) == "Well."


def test_an_interrupt_does_not_wait_for_a_silent_server(serve: Serve, start: Start) -> None:
    world = serve(scripted=T)
    session_id = session(world, start("silent", script="hostile_server.py").url)
    with world.stream(session_id) as stream:
        world.send(session_id, message("t"))
        stream.until("session.status_running")
        world.send(session_id, {"type": "user.interrupt"})
        events = stream.until("session.status_idle", seconds=5)
    assert only(events, "session.error") == []


def test_a_server_killed_in_mid_call(serve: Serve, start: Start) -> None:
    """The model is told that it can't be known what happened, and the call is not repeated."""
    world, real = serve(scripted=SCRIPT), start()
    session_id = session(world, real.url)
    with world.stream(session_id) as stream:
        world.send(session_id, message("wait"))
        stream.until("agent.mcp_tool_use")
        real.until_noted("wait began")
        real.kill()
        events = stream.until("session.status_idle")
    (result,) = only(events, "agent.mcp_tool_result")
    assert result.is_error is True
    assert "outcome of this call is unknown" in result.content[0].text
    real.start()
    world.turn(session_id, "add")
    assert world.last_text(session_id) == "3"
    assert real.noted() == ["wait began", "add 1 2"]


def test_hostler_killed_in_mid_call(serve: Serve, start: Start) -> None:
    world, real = serve(scripted=SCRIPT), start()
    session_id = session(world, real.url)
    world.send(session_id, message("wait"))
    real.until_noted("wait began")
    world.server.kill()
    world.server.start()
    with world.stream(session_id) as stream:
        if world.beta.sessions.retrieve(session_id).status != "idle":
            stream.until("session.status_idle")
    (result,) = only(world.listed(session_id), "agent.mcp_tool_result")
    assert "outcome is unknown" in result.content[0].text
    assert [line for line in real.noted() if line == "wait began"] == ["wait began"]


def test_a_session_that_the_server_forgot_is_begun_anew(serve: Serve, start: Start) -> None:
    """It has said that it did not take the call, so that one is made again."""
    world = serve(scripted=T)
    events = turn(world, start, "forgetful", "t")
    assert only(events, "session.error") == []
    assert only(events, "agent.mcp_tool_result")[0].content[0].text == "ok"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("failing", "HTTP 502. It may have run"),
        ("flood", "larger than"),
        ("bomb", "compressed"),
        ("nonsense", "not a valid tool result"),
    ],
)
def test_answers_that_are_none(serve: Serve, start: Start, how: str, said: str) -> None:
    world = serve(scripted=T)
    events = turn(world, start, how, "t")
    (result,) = only(events, "agent.mcp_tool_result")
    assert result.is_error is True
    assert said in result.content[0].text
    assert events[-1].stop_reason.type == "end_turn"


def test_what_a_server_says_of_its_data_is_not_believed(serve: Serve, start: Start) -> None:
    world = serve(scripted=T)
    (result,) = only(turn(world, start, "liar", "t"), "agent.mcp_tool_result")
    assert [block.type for block in result.content] == ["text", "text", "text"]
    assert "not an image" in result.content[0].text
    assert "not valid base64" in result.content[1].text
    assert result.content[2].text == "a\ufffdb"


def test_a_pattern_of_the_server_is_not_run(serve: Serve, start: Start) -> None:
    """Its output schema has one that would take for ever on its own output."""
    world = serve(scripted=T)
    (result,) = only(turn(world, start, "regex", "t"), "agent.mcp_tool_result")
    assert result.is_error is False
    assert "aaa!" in result.content[0].text


def test_one_server_down_leaves_the_other(serve: Serve, start: Start) -> None:
    world, real, down = serve(scripted=SCRIPT), start(), start()
    down.kill()
    servers = [{"type": "url", "name": name, "url": at.url} for name, at in (("down", down), ("real", real))]
    allow = {"permission_policy": {"type": "always_allow"}}
    toolsets = [{"type": "mcp_toolset", "mcp_server_name": name, "default_config": allow} for name in ("down", "real")]
    session_id = world.session(agent=world.agent(*toolsets, mcp_servers=servers).id)
    events = world.turn(session_id, "add")
    (event,) = only(events, "session.error")
    assert event.error.mcp_server_name == "down"
    assert world.last_text(session_id) == "3"
