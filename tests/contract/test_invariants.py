"""Clients that act at random moments: whatever they do, the log keeps its laws, and the session stays usable."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, Follower, World, message, only, result, verdict

TEXTS = (
    "say: one",
    "spell: a few words",
    "think: two",
    "weather in Oslo",
    "weather in two cities",
    "run: echo hi",
    "run: sleep 0.1",
    "run two",
    "run and ask",
    "overloaded once",
    "overloaded always",
    "refuse",
    "nothing more than silence",
)
ASK_SOME = {**BUILTINS, "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}]}
USES = ("agent.tool_use", "agent.custom_tool_use")


class Chaos:
    """One session and one client that throws dice."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.session_id = world.session(self.dice.choice([BUILTINS, ASK_SOME]), WEATHER)

    def play(self, steps: int) -> list[Any]:
        """Act `steps` times, then bring the session to rest; return what the stream brought."""
        with self.world.stream(self.session_id, event_deltas=["agent.message"]) as stream:
            for _ in range(steps):
                self._act()
                self._look(stream)
            self._rest(stream)
        return [event for event in stream.seen if not event.type.startswith("event_")]

    def _act(self) -> None:
        kind = self.dice.random()
        events: list[dict[str, Any]] = []
        if kind < 0.5:
            events = [message(self.dice.choice(TEXTS))]
        elif kind < 0.75:
            events = self._answers()
        elif kind < 0.9:
            events = [INTERRUPT]
        else:
            events = [INTERRUPT, message(self.dice.choice(TEXTS))]
        if events:
            try:
                self.world.send(self.session_id, *events)
            except anthropic.BadRequestError as refused:
                assert "waiting on responses" in str(refused) or "does not wait" in str(refused)  # noqa: PT017

    def _answers(self) -> list[dict[str, Any]]:
        answers = []
        for use in only(self.world.raw(self.session_id, order="desc", limit=20), self.dice.choice(USES))[:2]:
            if use["type"] == "agent.custom_tool_use":
                answers.append(result(use["id"], "an answer"))
            elif use["evaluated_permission"] == "ask":
                answers.append(verdict(use["id"], self.dice.choice(["allow", "deny"])))
        return answers

    def _look(self, stream: Follower) -> None:
        """Let it work on: not at all, or until its next step, for which a silent model may keep us waiting."""
        if self.dice.random() < 0.5:
            with contextlib.suppress(AssertionError):
                stream.until("span.model_request_start", "span.model_request_end", IDLE, seconds=0.1)

    def _rest(self, stream: Follower) -> None:
        """Interrupt until it is at rest: messages that wait are taken up after an interrupt, and may meet silence, or
        make the agent call a client's tool, so that it is idle but waits."""
        while True:
            (last,) = self.world.send(self.session_id, INTERRUPT)
            stream.until("user.interrupt", where=lambda event, id=last.id: event.id == id and event.processed_at)
            if self.world.beta.sessions.retrieve(self.session_id).status != "idle":
                stream.until("span.model_request_start", IDLE)
            elif not self._waits():
                break
        done = self.world.send(self.session_id, message("say: The end."))[0]
        stream.until("user.message", where=lambda event: event.id == done.id and event.processed_at)
        stream.until(IDLE)

    def _waits(self) -> bool:
        """Whether a session that is idle waits for an answer."""
        last = only(self.world.raw(self.session_id, order="desc", limit=20), IDLE)[:1]
        return any(event["stop_reason"]["type"] == "requires_action" for event in last)


def check_laws(events: list[dict[str, Any]]) -> None:
    moments = [event["processed_at"] for event in events]
    assert moments == sorted(set(moments)), "every event has its own place"
    ids = [event["id"] for event in events]
    assert len(set(ids)) == len(ids)
    _check_spans(events)
    _check_pairs(events)
    _check_answers(events)


def _check_spans(events: list[dict[str, Any]]) -> None:
    """One request at a time, each with its end."""
    opened = None
    for event in events:
        if event["type"] == "span.model_request_start":
            assert opened is None
            opened = event["id"]
        elif event["type"] == "span.model_request_end":
            assert event["model_request_start_id"] == opened
            opened = None
        elif event["type"] in ("agent.message", *USES):
            assert opened is not None, "the agent speaks within a request"
    assert opened is None


def _check_pairs(events: list[dict[str, Any]]) -> None:
    """Idle and running alternate, and the thread's events stand beside the session's."""
    kinds = [event["type"] for event in events]
    running = False
    for at, kind in enumerate(kinds):
        if kind == "session.status_running":
            rescheduled = "session.status_rescheduled" in kinds[:at][-8:]
            assert not running or rescheduled
            assert kinds[at + 1] == "session.thread_status_running"
            running = True
        elif kind == IDLE:
            assert kinds[at - 2 : at] == ["session.thread_status_idle", "session.usage"]
            assert events[at]["stop_reason"] == events[at - 2]["stop_reason"]
            running = False
        elif kind == "span.model_request_start":
            assert running
    assert not running


def _check_answers(events: list[dict[str, Any]]) -> None:
    """Each tool use has one answer, after it and before the next request."""
    waiting: set[str] = set()
    answered: list[str] = []
    for event in events:
        if event["type"] in USES:
            waiting.add(event["id"])
        elif event["type"] in ("agent.tool_result", "user.custom_tool_result"):
            answered.append(event.get("tool_use_id") or event["custom_tool_use_id"])
            waiting.remove(answered[-1])
        elif event["type"] == "span.model_request_start":
            assert not waiting
        elif event["type"] == IDLE and event["stop_reason"]["type"] == "requires_action":
            assert set(event["stop_reason"]["event_ids"]) == waiting
        elif event["type"] == IDLE:
            assert not waiting
    assert len(set(answered)) == len(answered)


@pytest.mark.parametrize("seed", range(6))
def test_the_laws_hold_whatever_clients_do(world: World, seed: int) -> None:
    """Four sessions at a time; the same dice each time, though not the same moments."""
    with ThreadPoolExecutor(4) as pool:
        played = list(pool.map(lambda number: _one(world, seed * 100 + number), range(4)))
    for session_id, streamed in played:
        events = world.raw(session_id)
        check_laws(events)
        seen = [event.id for event in streamed if event.processed_at]
        assert seen == [event["id"] for event in events], "the stream brought all, once, in order"
        assert "The end." in world.last_text(session_id)


def _one(world: World, seed: int) -> tuple[str, list[Any]]:
    chaos = Chaos(world, seed)
    return chaos.session_id, chaos.play(12)
