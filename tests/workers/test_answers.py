"""How the calls of a self-hosted session are answered: by whom, when, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_agent_toolset_20260401

from contract.world import BUILTINS, INTERRUPT, WEATHER, message, only, result, text, verdict
from workers.fleet import Fleet, texts, waiting

ASK = {**BUILTINS, "default_config": {"permission_policy": {"type": "always_ask"}}}


def tool_result(event_id: str, content: str = "from here", **more: Any) -> dict[str, Any]:
    return {"type": "user.tool_result", "tool_use_id": event_id, "content": [text(content)], **more}


def asked(fleet: Fleet, *tools: dict[str, Any], words: str = "Run: echo hi") -> tuple[str, list[dict[str, Any]]]:
    """A session that waits, and its tool uses."""
    session_id = fleet.world.session(*(tools or (BUILTINS,)), initial_events=[message(words)])
    events = fleet.until(session_id, lambda events: waiting(events) != [])
    uses = [event for event in events if event["type"] in ("agent.tool_use", "agent.custom_tool_use")]
    assert waiting(events) == [use["id"] for use in uses]
    return session_id, uses


def refused(fleet: Fleet, session_id: str, *events: dict[str, Any]) -> str:
    with pytest.raises(anthropic.BadRequestError) as caught:
        fleet.world.send(session_id, *events)
    return str(caught.value)


def test_a_result_answers_once(fleet: Fleet) -> None:
    session_id, (use,) = asked(fleet)
    assert (use["evaluated_permission"], use["evaluation"]["type"]) == ("allow", "always_allow")
    (echo,) = fleet.world.send(session_id, tool_result(use["id"], "first"))
    assert (echo.type, echo.tool_use_id, echo.content[0].text) == ("user.tool_result", use["id"], "first")
    assert echo.processed_at is not None
    (again,) = fleet.world.send(session_id, tool_result(use["id"], "second"))
    assert (again.id, again.content[0].text) == (echo.id, "first")
    events = fleet.finished(session_id)
    assert texts(events, "agent.message") == ["It said: first"]
    assert len(only(events, "user.tool_result")) == 1


def test_only_known_calls_of_a_worker(fleet: Fleet) -> None:
    session_id, (use,) = asked(fleet)
    assert "sevt_unknown" in refused(fleet, session_id, tool_result("sevt_unknown"))
    message_id = next(event["id"] for event in fleet.world.raw(session_id) if event["type"] == "user.message")
    assert "that a worker runs" in refused(fleet, session_id, tool_result(message_id))
    assert "custom_tool_use" in refused(fleet, session_id, result(use["id"], "x"))
    assert "does not wait" in refused(fleet, session_id, verdict(use["id"], "allow"))
    assert "waiting on responses" in refused(fleet, session_id, message("hello?"))
    fleet.world.send(session_id, tool_result(use["id"]))
    fleet.finished(session_id)


def test_a_cloud_session_takes_none(fleet: Fleet) -> None:
    world = fleet.world
    cloud = world.beta.environments.create(name="cloud").id
    session_id = world.session(ASK, environment_id=cloud, initial_events=[message("Run: echo hi")])
    events = fleet.until(session_id, lambda events: waiting(events) != [])
    assert "self_hosted" in refused(fleet, session_id, tool_result(waiting(events)[0]))


def test_ask_waits_for_a_confirmation_first(fleet: Fleet) -> None:
    session_id, (use,) = asked(fleet, ASK)
    assert use["evaluated_permission"] == "ask"
    assert "user.tool_confirmation" in refused(fleet, session_id, tool_result(use["id"]))
    fleet.world.send(session_id, verdict(use["id"], "allow"))
    session = fleet.world.beta.sessions.retrieve(session_id)
    assert session.status == "idle", "the server has nothing to do until the result comes"
    fleet.world.send(session_id, tool_result(use["id"], "confirmed"))
    assert texts(fleet.finished(session_id), "agent.message") == ["It said: confirmed"]


def test_a_confirmation_and_its_result_in_one_request(fleet: Fleet) -> None:
    session_id, (use,) = asked(fleet, ASK)
    fleet.world.send(session_id, verdict(use["id"], "allow"), tool_result(use["id"], "both"))
    assert texts(fleet.finished(session_id), "agent.message") == ["It said: both"]


def test_deny_is_answered_by_the_server(fleet: Fleet) -> None:
    session_id, (use,) = asked(fleet, ASK)
    fleet.world.send(session_id, verdict(use["id"], "deny", deny_message="Not today."))
    events = fleet.finished(session_id)
    (answer,) = only(events, "agent.tool_result")
    assert answer["tool_use_id"] == use["id"]
    assert "Not today." in answer["content"][0]["text"]
    fleet.world.send(session_id, tool_result(use["id"], "too late"))
    assert only(fleet.world.raw(session_id), "user.tool_result") == []


def test_an_interrupt_answers_what_is_open(fleet: Fleet) -> None:
    session_id, (use,) = asked(fleet)
    fleet.world.send(session_id, INTERRUPT)
    events = fleet.finished(session_id)
    (answer,) = only(events, "user.tool_result")
    assert (answer["tool_use_id"], answer["is_error"]) == (use["id"], True)
    (late,) = fleet.world.send(session_id, tool_result(use["id"], "too late"))
    assert late.id == answer["id"]
    assert only(fleet.world.raw(session_id), "user.tool_result") == [answer]
    fleet.world.send(session_id, message("And now?"))
    assert texts(fleet.finished(session_id), "agent.message") == ["You said: And now?"]


def test_a_worker_does_not_run_what_was_interrupted(fleet: Fleet) -> None:
    """Workers go by the `user.tool_result`s of the log; what is open there they run, whenever they come."""
    session_id, _ = asked(fleet, words="Run: touch never")
    fleet.world.send(session_id, INTERRUPT)
    fleet.finished(session_id)
    worker = fleet.start()
    fleet.state("stopped")
    assert "executing tool" not in worker.log()
    assert not (worker.folder / "never").exists()


def test_an_ask_before_a_worker_runs_it(fleet: Fleet) -> None:
    """The official worker holds it until the confirmation is on the stream."""
    session_id, (use,) = asked(fleet, ASK, words="Run: echo confirmed")
    fleet.start()
    fleet.state("active")
    fleet.world.send(session_id, verdict(use["id"], "allow"))
    assert texts(fleet.finished(session_id), "agent.message")[0].startswith("It said: confirmed")


def test_two_clients_answer_their_own(fleet: Fleet) -> None:
    """A worker with the toolset, and the application's own tool runner with the custom tool."""
    world = fleet.world
    session_id, (_, custom) = asked(fleet, BUILTINS, WEATHER, words="Both clients.")
    fleet.start()
    fleet.until(session_id, lambda events: only(events, "user.tool_result") != [])
    world.send(session_id, result(custom["id"], "sunny"))
    events = fleet.finished(session_id)
    assert texts(events, "agent.message") == ["All here."]
    assert len(only(events, "user.tool_result")) == len(only(events, "user.custom_tool_result")) == 1


def test_the_tool_runner_with_the_applications_own_key(fleet: Fleet) -> None:
    """`sessions.events.tool_runner()` with an API key, and no work item at all."""
    session_id, _ = asked(fleet, words="Three steps.")
    server = fleet.world.server

    async def run() -> list[Any]:
        async with (
            AsyncAnthropic(base_url=server.base_url, auth_token=server.key) as client,
            AgentToolContext(workdir=str(fleet.folder)) as context,
        ):
            tools = beta_agent_toolset_20260401(context)
            runner = client.beta.sessions.events.tool_runner(session_id, tools=tools, max_idle=0.2)
            return [call async for call in runner]

    calls = asyncio.run(run())
    assert [call.posted for call in calls] == [True] * 4
    assert texts(fleet.finished(session_id), "agent.message") == ["Done: one\ntwo\n\n1"]


def test_results_of_any_kind(fleet: Fleet) -> None:
    session_id, (use,) = asked(fleet)
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}}
    assert "base64" in refused(
        fleet,
        session_id,
        {**tool_result(use["id"]), "content": [{**image, "source": {**image["source"], "data": "!"}}]},
    )
    fleet.world.send(session_id, {**tool_result(use["id"], is_error=True), "content": [text("broken"), image]})
    (answer,) = only(fleet.finished(session_id), "user.tool_result")
    assert answer["is_error"] is True
    assert [block["type"] for block in answer["content"]] == ["text", "image"]


def test_the_prompt_says_nothing_of_a_sandbox(fleet: Fleet) -> None:
    session_id = fleet.session("hello")
    assert texts(fleet.finished(session_id), "agent.message") == ["You said: hello"]
    cloud = fleet.world.beta.environments.create(name="cloud").id
    other = fleet.session("hello", environment_id=cloud)
    assert texts(fleet.finished(other), "agent.message") == ["I was told of outputs."]
    sandboxes = fleet.world.server.data_dir / "sandboxes" / session_id
    assert not sandboxes.exists()
