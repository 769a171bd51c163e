"""kill -9 at every point of a job that is shared out to several threads, and of one with an outcome: no mail is lost or
repeated, no side effect happens twice, and all threads end as they should."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from job import Event, Job, check_log, check_pairs, essence
from mortal import Mortal

TOOLSET = {"type": "agent_toolset_20260401"}
LOOKUP = {"type": "custom", "name": "lookup", "description": "Look up.", "input_schema": {"type": "object"}}


class TeamJob(Job):
    """A coordinator and two children: one works in the sandbox, the other asks the client first."""

    def __init__(self, server: Mortal) -> None:
        self.server = server
        helper = self._create("agents", {"name": "helper", "model": "scripted", "tools": [TOOLSET, LOOKUP]})
        team = {"type": "coordinator", "agents": [helper]}
        super().__init__(server, "team", {"tools": [TOOLSET], "multiagent": team})

    def confirm(self, idle: Event) -> None:
        for event_id in idle["stop_reason"]["event_ids"]:
            content = [{"type": "text", "text": "42"}]
            self.send({"type": "user.custom_tool_result", "custom_tool_use_id": event_id, "content": content})

    def threads(self) -> list[Event]:
        found: list[Event] = self.server.client.get(f"/v1/sessions/{self.id}/threads").json()["data"]
        return found

    def of_thread(self, thread_id: str) -> list[Event]:
        path = f"/v1/sessions/{self.id}/threads/{thread_id}/events"
        found: list[Event] = self.server.client.get(path).json()["data"]
        return found

    def tally(self) -> str:
        """What the commands have written, in order."""
        with self.following() as stream:
            assert stream is not None
            self.say("tally")
            self.until(stream, "session.status_idle")
        said = [event for event in self.listed() if event["type"] == "agent.message"][-1]
        return str(said["content"][0]["text"]).strip()


TEAM_POINTS = [
    "committed:user.message",
    "mid:stream",
    "end:stream",
    "before:append:session.thread_created",
    "committed:session.thread_created",
    "after:append:session.thread_created",
    "before:append:session.thread_created 2",
    "after:append:session.thread_created 2",
    "before:append:agent.thread_message_received",
    "committed:agent.thread_message_received",
    "after:append:agent.thread_message_received 2",
    "before:stream 2",
    "before:stream 3",
    "before:stream 4",
    "end:stream 2",
    "end:stream 3",
    "before:append:agent.custom_tool_use",
    "committed:agent.custom_tool_use",
    "after:append:agent.custom_tool_use",
    "after:append:hostler.tool_dispatched",
    "before:tool",
    "during:tool",
    "after:tool",
    "before:append:agent.tool_result",
    "committed:agent.tool_result",
    "after:append:agent.tool_result 2",
    "before:append:session.thread_status_idle",
    "committed:session.thread_status_idle",
    "after:append:session.thread_status_idle 2",
    "before:append:agent.thread_message_sent 3",
    "committed:agent.thread_message_sent 3",
    "after:append:agent.thread_message_sent 3",
    "before:append:agent.thread_message_received 3",
    "committed:agent.thread_message_received 3",
    "committed:user.custom_tool_result",
    "committed:session.status_idle",
    "before:append:session.status_idle 2",
    "after:append:session.status_idle 2",
]


@pytest.mark.parametrize("point", TEAM_POINTS)
def test_a_team_survives_a_kill_at(sqlite_server: Mortal, point: str) -> None:
    play_team(sqlite_server, point)


@pytest.mark.parametrize("point", [point for point in TEAM_POINTS if "append" in point or "committed" in point])
def test_a_team_on_postgresql_survives_a_kill_at(postgres_server: Mortal, point: str) -> None:
    play_team(postgres_server, point)


@pytest.mark.parametrize(
    "points",
    [
        ("during:tool", "after:append:agent.thread_message_sent", "before:stream"),
        ("committed:session.thread_created", "mid:stream", "committed:agent.thread_message_received 2"),
    ],
)
def test_a_team_survives_several_kills(sqlite_server: Mortal, points: tuple[str, ...]) -> None:
    play_team(sqlite_server, *points)


def play_team(server: Mortal, *points: str) -> None:
    job = TeamJob(server)
    server.order(job.id, *points)
    events = job.run()
    check_log(job, events)
    threads = job.threads()
    assert [thread["agent"]["name"] for thread in threads] == ["a", "helper", "helper"]
    assert [thread["status"] for thread in threads] == ["idle"] * 3
    assert all(thread["usage"]["output_tokens"] > 0 for thread in threads)
    children = [thread["id"] for thread in threads[1:]]
    sent = [event for event in events if event["type"] == "agent.thread_message_sent"]
    assert Counter(event["to_session_thread_id"] for event in sent) == Counter(children)
    heard = [event for event in events if event["type"] == "agent.thread_message_received"]
    reports = {event["from_session_thread_id"]: event["content"][0]["text"] for event in heard}
    assert len(heard) == 2
    assert set(reports) == set(children)
    assert sorted(reports.values()) == ["Dug.", "Known."]
    for child in children:
        own = job.of_thread(child)
        check_pairs([{**event, "session_thread_id": child} if "status" in event["type"] else event for event in own
                     if not event["type"].startswith("session.status")])  # fmt: skip
        kinds = Counter(event["type"] for event in own)
        assert kinds["agent.thread_message_received"] == kinds["agent.thread_message_sent"] == 1
        assert kinds["agent.tool_use"] == kinds["agent.tool_result"]
    with_kill = [seconds for seconds in job.progress if seconds > 2.0]
    assert with_kill == []
    assert job.tally() == "abc"


class OutcomeJob(TeamJob):
    """One agent that works towards an outcome, is evaluated, revises, and is evaluated again."""

    begins_with = "user.define_outcome"

    def __init__(self, server: Mortal) -> None:
        Job.__init__(self, server, "outcome", {"tools": [TOOLSET]})

    def say(self, text: str) -> None:
        if text != "outcome":
            return super().say(text)
        rubric = {"type": "text", "content": "It is done twice."}
        self.send({"type": "user.define_outcome", "description": "a poem", "rubric": rubric})
        return None


OUTCOME_POINTS = [
    "committed:user.define_outcome",
    "before:append:span.model_request_start",
    "during:tool",
    "before:append:span.outcome_evaluation_start",
    "committed:span.outcome_evaluation_start",
    "before:evaluation",
    "end:evaluation",
    "before:append:span.outcome_evaluation_ongoing",
    "committed:span.outcome_evaluation_ongoing",
    "before:evaluation 2",
    "end:evaluation 2",
    "before:append:span.outcome_evaluation_end",
    "committed:span.outcome_evaluation_end",
    "after:append:span.outcome_evaluation_end",
    "before:append:agent.tool_result 2",
    "before:append:span.outcome_evaluation_start 2",
    "end:evaluation 3",
    "committed:span.outcome_evaluation_end 2",
    "before:append:session.status_idle",
    "committed:session.status_idle",
]


@pytest.fixture(scope="module")
def undisturbed(long_lived: Mortal) -> list[Any]:
    long_lived.ensure()
    return outcome_essence(OutcomeJob(long_lived).run())


@pytest.mark.parametrize("point", OUTCOME_POINTS)
def test_an_outcome_survives_a_kill_at(sqlite_server: Mortal, undisturbed: list[Any], point: str) -> None:
    play_outcome(sqlite_server, undisturbed, point)


@pytest.mark.parametrize("point", [point for point in OUTCOME_POINTS if "append" in point or "committed" in point])
def test_an_outcome_on_postgresql_survives_a_kill_at(
    postgres_server: Mortal, undisturbed: list[Any], point: str
) -> None:
    play_outcome(postgres_server, undisturbed, point)


def play_outcome(server: Mortal, undisturbed: list[Any], point: str) -> None:
    job = OutcomeJob(server)
    server.order(job.id, point)
    events = job.run()
    check_log(job, events)
    assert outcome_essence(events) == undisturbed
    starts = [event["id"] for event in events if event["type"] == "span.outcome_evaluation_start"]
    ends = [event for event in events if event["type"] == "span.outcome_evaluation_end"]
    assert [end["outcome_evaluation_start_id"] for end in ends] == starts
    assert [end["result"] for end in ends] == ["needs_revision", "satisfied"]
    (shown,) = job.retrieve()["outcome_evaluations"]
    assert (shown["result"], shown["iteration"]) == ("satisfied", 1)
    assert job.tally() == "ab"


def outcome_essence(events: list[Event]) -> list[Any]:
    """Without what an evaluation that was begun again may have twice."""
    twice = ("span.outcome_evaluation_ongoing", "session.usage")
    return [item for item in essence(events) if item[0] not in twice]
