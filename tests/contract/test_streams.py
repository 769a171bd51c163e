"""Streams: what arrives when, previews and their guarantees, pings, and the ends of a stream."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import anthropic
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event

from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, World, message, only, result

BOTH: Any = ["agent.message", "agent.thinking"]


def test_the_head_comes_at_once_and_a_ping_within_ten_seconds_of_silence(world: World) -> None:
    """A plain socket: no client library may wait for a body here."""
    session_id = world.session()
    with socket.create_connection(("127.0.0.1", world.server.port), timeout=12) as wire:
        lines = [f"GET /v1/sessions/{session_id}/events/stream HTTP/1.1", "host: x"]
        lines += [f"{name}: {value}" for name, value in world.server.headers.items()]
        wire.sendall("\r\n".join([*lines, "", ""]).encode())
        began = time.monotonic()
        head = wire.recv(4096)
        assert time.monotonic() - began < 2
        assert head.startswith(b"HTTP/1.1 200")
        assert b"content-type: text/event-stream" in head.lower()
        assert b"request-id: req_" in head.lower()
        received = head
        while b"event: ping\n" not in received:
            received += wire.recv(4096)
        assert time.monotonic() - began < 10


def test_every_frame_has_an_event_line_that_is_the_type(world: World) -> None:
    session_id = world.session()
    with world.frames(f"/v1/sessions/{session_id}/events/stream", **{"event_deltas[]": BOTH}) as stream:
        world.send(session_id, message("think: Hello."))
        frames = stream.until(IDLE)
    assert [name for name, _ in frames] == [data["type"] for _, data in frames]


def test_send_first_and_open_the_stream_later(either: World) -> None:
    """Many clients do. A stream never replays, and an idle that is still to come is never lost."""
    for _ in range(5):
        session_id = either.session()
        either.send(session_id, message("spell: some words that take their time"))
        with either.stream(session_id) as stream:
            if either.beta.sessions.retrieve(session_id).status != "idle":
                stream.until(IDLE)
        assert either.types(session_id)[-1] == IDLE


def test_the_status_is_idle_right_after_the_idle_event(either: World) -> None:
    """Helpers archive right after it."""
    for _ in range(5):
        session_id = either.session()
        either.turn(session_id, "say: Hi.")
        assert either.beta.sessions.retrieve(session_id).status == "idle"
        assert either.beta.sessions.archive(session_id).status == "terminated"


def test_the_status_is_running_from_the_moment_of_acceptance(world: World) -> None:
    session_id = world.session()
    world.send(session_id, message("nothing more than silence"))
    assert world.beta.sessions.retrieve(session_id).status == "running"
    assert session_id in [found.id for found in world.beta.sessions.list(statuses=["running"], limit=100)]
    world.turn(session_id, INTERRUPT)


def test_streams_of_one_session_see_the_same(either: World) -> None:
    session_id = either.session()
    (thread,) = either.beta.sessions.threads.list(session_id)
    with either.stream(session_id) as one, either.stream(session_id) as two:
        opened = either.beta.sessions.threads.events.stream(thread.id, session_id=session_id)
        from contract.world import following

        with following(opened) as three:
            either.send(session_id, message("think: Hello."))
            assert one.until(IDLE) == two.until(IDLE) == three.until(IDLE)


def test_a_stream_survives_an_idle(either: World) -> None:
    session_id = either.session()
    with either.stream(session_id) as stream:
        for number in range(3):
            either.send(session_id, message(f"say: {number}"))
            assert stream.until(IDLE)[-1].stop_reason.type == "end_turn"


def test_a_stream_brings_only_what_comes_after_it(either: World) -> None:
    session_id = either.session()
    before = either.turn(session_id, "say: one")
    with either.stream(session_id) as stream:
        either.send(session_id, message("say: two"))
        after = stream.until(IDLE)
    assert not {event.id for event in before} & {event.id for event in after}


def test_a_stream_of_a_terminated_session_ends(either: World) -> None:
    session_id = either.session()
    either.beta.sessions.archive(session_id)
    with either.stream(session_id) as stream:
        assert stream.rest() == []


# -- previews


def test_previews_build_up_to_the_message(either: World) -> None:
    session_id = either.session()
    said = "A message that is spelt out, letter by letter."
    with either.stream(session_id, event_deltas=BOTH) as stream:
        either.send(session_id, message(f"spell: {said}"))
        events = stream.until(IDLE)
    starts = {event.event.id: event.event.type for event in only(events, "event_start")}
    thought, spoken = only(events, "agent.thinking")[0], only(events, "agent.message")[0]
    assert starts == {thought.id: "agent.thinking", spoken.id: "agent.message"}
    deltas = only(events, "event_delta")
    assert {event.event_id for event in deltas} == {spoken.id}, "thinking gives only a start"
    assert len(deltas) > 3
    assert said.startswith("".join(event.delta.content.text for event in deltas))
    kinds = [event.type for event in events]
    assert kinds.index("event_start") > kinds.index("span.model_request_start")
    last_preview = max(at for at, kind in enumerate(kinds) if kind.startswith("event_"))
    assert last_preview < kinds.index("agent.message"), "the message is the last that bears its id"
    assert not {"event_start", "event_delta"} & set(either.types(session_id)), "previews are never stored"


def test_the_sdk_s_helper_accumulates_previews(either: World) -> None:
    session_id = either.session()
    snapshots: list[Any] = []
    snapshot: Any = None
    with either.stream(session_id, event_deltas=["agent.message"]) as stream:
        either.send(session_id, message("two blocks"))
        for event in stream.until(IDLE):
            snapshot = accumulate_managed_agents_event(snapshot, event)
            snapshots.append(snapshot)
    (final,) = only(stream.seen, "agent.message")
    assert snapshot == final
    assert [block.text for block in final.content] == ["First block.", "Second block."]
    previews = [shot for shot in snapshots if shot is not None and shot.processed_at.year == 1970]
    assert previews
    for shot in previews:
        assert shot.id == final.id
        for partial, whole in zip(shot.content, final.content, strict=False):
            assert whole.text.startswith(partial.text)


def test_previews_are_asked_for_per_connection(either: World) -> None:
    session_id = either.session()
    with (
        either.stream(session_id) as plain,
        either.stream(session_id, event_deltas=["agent.thinking"]) as thoughts,
    ):
        either.send(session_id, message("spell: words"))
        assert not {"event_start", "event_delta"} & {event.type for event in plain.until(IDLE)}
        starts = [event for event in thoughts.until(IDLE) if event.type.startswith("event_")]
    assert [event.event.type for event in starts] == ["agent.thinking"]


def test_an_interrupted_message_leaves_previews_without_their_event(world: World) -> None:
    session_id = world.session()
    with world.stream(session_id, event_deltas=["agent.message"]) as stream:
        world.send(session_id, message("babble"))
        stream.until("event_delta")
        world.send(session_id, INTERRUPT)
        stream.until(IDLE, seconds=5)
    kinds = [event.type for event in stream.seen]
    assert "agent.message" not in kinds
    assert kinds.index("span.model_request_end") > kinds.index("event_delta")
    assert "agent.message" not in world.types(session_id)


def test_unknown_previews_are_refused(either: World) -> None:
    with pytest.raises(anthropic.BadRequestError, match="event_deltas"):
        either.beta.sessions.events.stream(either.session(), event_deltas=["agent.tool_use"])


def test_both_spellings_of_array_parameters(world: World) -> None:
    session_id = world.session()
    for name in ("event_deltas[]", "event_deltas"):
        with world.frames(f"/v1/sessions/{session_id}/events/stream", **{name: "agent.message"}) as stream:
            world.send(session_id, message("spell: words"))
            assert "event_delta" in [kind for kind, _ in stream.until(IDLE)]


def test_a_long_turn_arrives_whole_and_in_order(world: World) -> None:
    """More events than a reader's buffer holds, with a reader that starts late."""
    session_id = world.session(WEATHER, BUILTINS)
    path = f"/v1/sessions/{session_id}/events/stream"
    with world.http.stream("GET", path) as response:
        for number in range(60):
            world.turn(session_id, f"say: {number}")
        listed = world.raw(session_id, limit=1000)
        data: list[dict[str, Any]] = []
        for line in response.iter_lines():
            if line.startswith("data: "):
                data.append(json.loads(line[6:]))
            if data and data[-1].get("id") == listed[-1]["id"]:
                break
    assert len(listed) == 60 * 9
    assert [event for event in data if event.get("processed_at")] == listed


def test_the_runner_of_the_sdk_answers_custom_tools(world: World, async_world: World) -> None:
    """`client.beta.sessions.events.tool_runner` with tools of one's own."""
    session_id = world.session(WEATHER)

    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: Its name.
        """
        return f"fine in {city}"

    async def run() -> list[Any]:
        calls = []
        runner = async_world.sdk._target.beta.sessions.events.tool_runner(session_id, tools=[get_weather], max_idle=0.2)
        await async_world.sdk._target.beta.sessions.events.send(session_id, events=[message("weather in two cities")])
        async for call in runner:
            calls.append(call)
        return calls

    calls = async_world.sdk._run(run())
    assert [(call.name, call.posted, call.is_error) for call in calls] == [("get_weather", True, False)] * 2
    assert world.last_text(session_id) == "Compared."
    answers = [event["content"][0]["text"] for event in only(world.raw(session_id), "user.custom_tool_result")]
    assert sorted(answers) == ["fine in Oslo", "fine in Rome"]


def test_answers_sent_while_following_reach_the_stream_at_once(either: World) -> None:
    session_id = either.session(WEATHER)
    with either.stream(session_id) as stream:
        either.send(session_id, message("weather in Rome"))
        (use,) = only(stream.until("agent.custom_tool_use"), "agent.custom_tool_use")
        (echo,) = either.send(session_id, result(use.id, "mild"))
        (seen,) = only(stream.until("user.custom_tool_result"), "user.custom_tool_result")
        assert seen == echo
        stream.until(IDLE, where=lambda event: event.stop_reason.type == "end_turn")
