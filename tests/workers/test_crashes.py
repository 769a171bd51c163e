"""kill -9 of the server at every step of a self-hosted job: nothing acknowledged is lost, no call is answered twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anthropic import APIConnectionError
from mortal import Mortal

from contract.world import BUILTINS, message, only, sync_world
from databases import Databases
from workers.fleet import SCRIPT, Fleet, fleet_of, texts

LEASE = "\n[work]\nlease_seconds = 10\n"
STEPS = 4
SECONDS = 60.0

# Of the session, where its own steps are committed; of `*`, around the calls of the worker.
POINTS = [
    "committed:user.message",
    "after:append:session.status_idle",  # the first call waits
    "before:append:agent.tool_use 2",
    "committed:agent.tool_use 2",
    "committed:user.tool_result",  # accepted, but the worker never heard
    "committed:user.tool_result 2",
    "committed:user.tool_result 4",
    "before:append:session.status_idle 3",
    "after:append:session.status_idle 3",
]
CALLS = ["after:work:claim", "before:work:ack", "after:work:ack", "after:work:heartbeat"]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    server = Mortal(tmp_path_factory.mktemp("crashes"), config=LEASE, scripted=SCRIPT)
    yield server
    server.close()


@pytest.fixture(scope="module")
def mortal_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Mortal]:
    folder = tmp_path_factory.mktemp("crashes-postgres")
    url = Databases(folder, postgres_url).url("crashes")
    server = Mortal(folder, config=LEASE, scripted=SCRIPT, database=url)
    yield server
    server.close()


@pytest.mark.parametrize("point", [*POINTS, *CALLS])
def test_a_job_survives_a_kill_at(mortal: Mortal, tmp_path: Path, point: str) -> None:
    check(mortal, tmp_path, point)


@pytest.mark.parametrize("point", ["committed:user.message", "committed:user.tool_result 2", "after:work:ack"])
def test_a_job_on_postgresql_survives_a_kill_at(mortal_postgres: Mortal, tmp_path: Path, point: str) -> None:
    check(mortal_postgres, tmp_path, point)


def check(server: Mortal, folder: Path, point: str) -> None:
    server.ensure()
    with sync_world(server) as world, fleet_of(world, folder) as fleet:
        worker = fleet.start()
        session_id = world.session(BUILTINS)
        server.order("*" if ":work:" in point else session_id, point)
        say(fleet, session_id)
        server.wait_killed()
        server.start()
        assert server.orders() == []
        events = fleet.finished(session_id, SECONDS)
        assert texts(events, "agent.message") == ["Done: one\ntwo\n\n1"], worker.log()
        assert len(only(events, "user.message")) == 1
        answers = [event["tool_use_id"] for event in only(events, "user.tool_result")]
        assert sorted(answers) == sorted({event["id"] for event in only(events, "agent.tool_use")})
        assert len(answers) == STEPS
        assert (worker.folder / "runs.txt").read_text() == "2\n", "each command ran once"


def say(fleet: Fleet, session_id: str) -> None:
    """Send the message. The server may die of it before it answers; it has it all the same."""
    client = fleet.world.sdk.with_options(max_retries=0)
    try:
        client.beta.sessions.events.send(session_id, events=[message("Three steps.")])
    except APIConnectionError:
        return
