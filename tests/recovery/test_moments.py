"""kill -9 at the moments that the main job does not have: input in mid-turn, interrupts, back-off, compaction,
hibernation, lost sandboxes, several deaths."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from job import Died, Event, Job, check_log, essence
from mortal import Mortal

CUSTOM: Event = {
    "tools": [
        {"type": "agent_toolset_20260401"},
        {"type": "custom", "name": "lookup", "description": "Look up.", "input_schema": {"type": "object"}},
    ]
}


def said(events: list[Event]) -> str:
    """The words of the agent's last message."""
    return " ".join(of_type(events, "agent.message")[-1]["content"][0]["text"].split())


def of_type(events: list[Event], event_type: str) -> list[Event]:
    return [event for event in events if event["type"] == event_type]


def checked(job: Job) -> list[Event]:
    events = job.finish()
    check_log(job, events)
    for seconds in job.progress:
        assert seconds <= 2.0
    return events


@pytest.mark.parametrize("text", ["job", "five"])
@pytest.mark.parametrize(
    "points",
    [
        ("mid:stream", "mid:stream"),
        ("after:append:hostler.tool_dispatched", "before:attach"),
        ("during:tool", "after:attach"),
        ("during:tool", "after:attach", "before:append:agent.tool_result", "mid:stream"),
        ("after:append:agent.tool_result", "after:append:span.model_request_start", "before:outputs"),
    ],
)
def test_several_kills_in_a_row(sqlite_server: Mortal, text: str, points: tuple[str, ...]) -> None:
    job = Job(sqlite_server, text)
    sqlite_server.order(job.id, *points)
    job.run()
    events = checked(job)
    assert said(events) == {"job": "Counted: a b c d", "five": "Five: a b c d e"}[text]


@pytest.mark.parametrize("point", ["during:tool", "before:tool 4", "after:tool 2", "before:append:agent.tool_result 4"])
def test_five_calls_at_once(sqlite_server: Mortal, point: str) -> None:
    job = Job(sqlite_server, "five")
    sqlite_server.order(job.id, point)
    job.run()
    events = checked(job)
    assert said(events) == "Five: a b c d e"
    assert len(of_type(events, "agent.tool_result")) == 6


def test_a_message_accepted_in_mid_turn(sqlite_server: Mortal) -> None:
    job = Job(sqlite_server, "slow")
    with job.following() as stream:
        assert stream is not None
        job.say("slow")
        job.until(stream, "agent.tool_use")
        job.say("more")
        sqlite_server.kill()
    job.lost = True
    events = checked(job)
    assert said(events) == "More: a"
    assert [event["content"][0]["text"] for event in of_type(events, "user.message")] == ["slow", "more"]
    assert len(of_type(events, "agent.message")) == 1


def test_a_message_taken_up_in_mid_turn_is_still_known(sqlite_server: Mortal) -> None:
    """Its place in the list is not its order of receipt, which is what a reader from scratch must cope with."""
    job = Job(sqlite_server, "slow")
    sqlite_server.order(job.id, "before:stream 2")
    with job.following() as stream:
        assert stream is not None
        job.say("slow")
        job.until(stream, "agent.tool_use")
        job.say("more")
        with pytest.raises(Died):
            job.until(stream, "agent.message")
    events = checked(job)
    assert said(events) == "More: a"


@pytest.mark.parametrize(
    "point",
    [
        "committed:user.interrupt",
        "before:cancel",
        "after:cancel",
        "before:append:user.interrupt",
        "committed:user.interrupt 2",
        "after:append:user.interrupt",
    ],
)
def test_an_interrupt(sqlite_server: Mortal, point: str) -> None:
    job = Job(sqlite_server, "endless")
    sqlite_server.order(job.id, "during:tool", point)
    job.run_to_first_death()
    job.revive()
    with contextlib.suppress(Died):
        job.send({"type": "user.interrupt"})
    events = checked(job)
    (result,) = of_type(events, "agent.tool_result")
    assert result["is_error"]
    assert "interrupted" in result["content"][0]["text"]
    assert len(of_type(events, "user.interrupt")) == 1
    assert look(job) == "1 0"


def look(job: Job) -> str:
    """Lines of `count`, and how many `sleep` still run."""
    with job.following() as stream:
        assert stream is not None
        job.say("look")
        job.until(stream, "session.status_idle")
    return said(job.listed()).removeprefix("Look: ")


@pytest.mark.parametrize(
    "point",
    [
        "before:append:hostler.model_attempt_failed",
        "after:append:hostler.model_attempt_failed",
        "committed:session.status_rescheduled 2",
    ],
)
def test_a_back_off(sqlite_server: Mortal, point: str) -> None:
    job = Job(sqlite_server, "busy")
    sqlite_server.order(job.id, point)
    job.run()
    events = checked(job)
    assert said(events) == "At last."
    assert len(of_type(events, "session.error")) in (2, 3, 4)  # the script counts its failures in memory
    assert {event["error"]["retry_status"]["type"] for event in of_type(events, "session.error")} == {"retrying"}


@pytest.mark.parametrize(
    "point",
    [
        "before:append:hostler.context_summary",
        "after:append:hostler.context_summary",
        "mid:stream",
        "end:stream 2",
        "before:stream 3",
    ],
)
def test_a_compaction(sqlite_server: Mortal, point: str) -> None:
    reference = Job(sqlite_server, "long")
    wanted = essence(reference.run())
    assert ["agent.thread_context_compacted", [None, None, None, None]] in wanted
    job = Job(sqlite_server, "long")
    sqlite_server.order(job.id, point)
    job.run()
    assert essence(checked(job)) == wanted
    assert said(job.listed()) == "Summed: a b"


@pytest.mark.parametrize("point", ["committed:user.custom_tool_result", "during:tool", "after:tool"])
def test_an_early_answer_of_a_custom_tool(sqlite_server: Mortal, point: str) -> None:
    job = Job(sqlite_server, "ask", CUSTOM)
    with job.following() as stream, contextlib.suppress(Died):
        assert stream is not None
        job.say("ask")
        use = job.until(stream, "agent.custom_tool_use")
        sqlite_server.order(job.id, point)
        content = [{"type": "text", "text": "v"}]
        job.send({"type": "user.custom_tool_result", "custom_tool_use_id": use["id"], "content": content})
        job.until(stream, "session.status_idle")
    events = checked(job)
    assert said(events) == "Asked: v a"
    assert of_type(events, "session.status_idle")[0]["stop_reason"]["type"] == "end_turn"


def test_the_server_and_the_sandbox_at_once(sqlite_server: Mortal) -> None:
    """Nobody knows how far the command came: the model is told so, and it is not repeated."""
    job = Job(sqlite_server, "endless")
    sqlite_server.order(job.id, "during:tool")
    job.run_to_first_death()
    sqlite_server.wait_killed()
    sqlite_server.end_sandbox(job.id)
    events = checked(job)
    (result,) = of_type(events, "agent.tool_result")
    assert result["is_error"]
    assert "outcome is unknown" in result["content"][0]["text"]
    assert look(job) == "1 0"


def test_outputs_of_a_sandbox_that_died_before_they_were_collected(sqlite_server: Mortal) -> None:
    job = Job(sqlite_server, "gift")
    sqlite_server.order(job.id, "mid:stream")
    job.run_to_first_death()
    sqlite_server.wait_killed()
    sqlite_server.end_sandbox(job.id)
    checked(job)
    assert job.outputs() == {"gift.txt": b"gift\n"}


@pytest.mark.parametrize("point", ["before:tool 2", "after:tool 2", "before:tool 3", "after:tool 3"])
def test_a_restart_of_the_shell_with_a_command(sqlite_server: Mortal, point: str) -> None:
    job = Job(sqlite_server, "fresh")
    sqlite_server.order(job.id, point)
    job.run()
    events = checked(job)
    assert said(events) == "Fresh: none a b"


def test_a_shell_keeps_its_state_over_a_kill_while_idle(sqlite_server: Mortal) -> None:
    job = Job(sqlite_server, "put")
    job.run()
    sqlite_server.kill()
    sqlite_server.start()
    assert get(job) == "/tmp kept fun a b"


def get(job: Job) -> str:
    with job.following() as stream, contextlib.suppress(Died):
        assert stream is not None
        job.say("get")
        job.until(stream, "session.status_idle")
    return said(job.finish()).removeprefix("Got: ")


def test_sigterm_while_a_tool_runs(sqlite_server: Mortal) -> None:
    job = Job(sqlite_server, "nine")
    with job.following() as stream:
        assert stream is not None
        job.say("nine")
        job.until(stream, "agent.tool_use")
        begun = time.monotonic()
        assert sqlite_server.stop() == 0
        assert time.monotonic() - begun < 10
    sqlite_server.start()
    events = checked(job)
    assert said(events) == "Nine: a b"


@pytest.fixture(scope="module")
def sleepy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    server = Mortal(tmp_path_factory.mktemp("sleepy"), harness="idle_sandbox_seconds = 0.0")
    yield server
    server.close()


@pytest.fixture
def sleepy_server(sleepy: Mortal) -> Mortal:
    """One that stops idle sandboxes at once."""
    sleepy.ensure()
    return sleepy


@pytest.mark.parametrize(
    "point",
    ["before:hibernate", "before:shell_state", "after:shell_state", "before:end 2", "after:end 2", "after:hibernate"],
)
def test_hibernation(sleepy_server: Mortal, point: str) -> None:
    job = Job(sleepy_server, "put")
    sleepy_server.order(job.id, point)
    job.run()
    assert get(job) == "/tmp kept fun a b"
    check_log(job, job.listed())


@pytest.mark.parametrize("point", ["before:start", "after:start", "before:meet", "after:meet"])
def test_resumption(sleepy_server: Mortal, point: str) -> None:
    job = Job(sleepy_server, "put")
    sleepy_server.order(job.id, "after:hibernate", point)
    job.run_to_first_death()
    job.revive()
    assert get(job) == "/tmp kept fun a b"
    check_log(job, job.listed())
