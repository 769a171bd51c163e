"""kill -9 at every point of a session's main job: with the real server, it comes to the same end as without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from job import Job, check_log, essence
from mortal import HARNESS, Mortal

from databases import Databases
from hostler.ids import new_id

PROGRESS_SECONDS = 2.0

POINTS = [
    "committed:user.message",  # accepted, but the client never heard
    "before:append:span.model_request_start",
    "committed:span.model_request_start",
    "after:append:span.model_request_start",
    "before:stream",
    "mid:stream",
    "mid:stream 3",
    "end:stream",
    "before:append:agent.tool_use",
    "committed:agent.tool_use",
    "after:append:agent.tool_use",
    "before:provision",
    "before:start",
    "spawned",
    "after:start",
    "before:meet",
    "after:meet",
    "after:provision",
    "before:append:hostler.tool_dispatched",
    "after:append:hostler.tool_dispatched",
    "before:tool",
    "during:tool",
    "after:tool",
    "before:append:agent.tool_result",
    "committed:agent.tool_result",
    "before:acknowledge",
    "after:acknowledge",
    "before:append:span.model_request_start 2",
    "after:append:span.model_request_start 2",
    "after:append:hostler.tool_dispatched 2",  # three calls at once
    "before:tool 3",
    "before:append:agent.tool_result 3",
    "after:append:agent.tool_result 3",
    "before:append:session.status_idle",  # waits for a confirmation
    "committed:session.status_idle",
    "after:append:session.status_idle",
    "committed:user.tool_confirmation",
    "after:append:hostler.tool_dispatched 3",
    "before:outputs 2",
    "during:output",
    "stored:output",
    "during:output 2",
    "stored:output 2",
    "after:outputs 2",
    "before:append:session.status_idle 2",
    "committed:session.status_idle 2",
    "after:append:session.status_idle 2",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_job_survives_a_kill_at(
    sqlite_server: Mortal, reference: dict[str, Any], point: str, record_property: Any
) -> None:
    check(sqlite_server, reference, [point], record_property)


# Where the database matters: around each commit. What happens in the sandbox does not depend on it.
COMMITS = [point for point in POINTS if "append" in point or "committed" in point or "output" in point]


@pytest.mark.parametrize("point", COMMITS)
def test_a_job_on_postgresql_survives_a_kill_at(
    postgres_server: Mortal, reference: dict[str, Any], point: str, record_property: Any
) -> None:
    check(postgres_server, reference, [point], record_property)


def test_a_job_survives_kills_of_servers_that_were_executed(
    tmp_path: Path, databases: Databases, reference: dict[str, Any], record_property: Any
) -> None:
    """Each start is a new interpreter, as an init system starts it; elsewhere starts are forked to save time."""
    server = Mortal(tmp_path / "own", harness=HARNESS, database=databases.url(new_id("t").lower()), preload=False)
    try:
        server.start()
        check(server, reference, ["mid:stream", "committed:agent.tool_result", "stored:output"], record_property)
    finally:
        server.close()


def check(server: Mortal, reference: dict[str, Any], points: list[str], record_property: Any) -> None:
    job = Job(server, "job")
    server.order(job.id, *points)
    events = job.run()
    check_log(job, events)
    assert essence(events) == reference["essence"]
    assert job.outputs() == reference["outputs"]
    assert job.retrieve()["status"] == "idle"
    record_property("progress_seconds", job.progress)
    for seconds in job.progress:
        assert seconds <= PROGRESS_SECONDS
