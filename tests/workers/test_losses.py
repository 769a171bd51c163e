"""Workers that die, freeze, or lose their lease: another takes over, and everybody is told why."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from contract.world import DEADLINE, only
from workers.fleet import Fleet, texts

LEASE_SECONDS = 4
# Begins in the first worker's folder and never ends there; the second finds a file and ends at once.
COMMAND = "Run: if [ -e go ]; then echo taken over; else touch begun; sleep 60; fi"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def successor(fleet: Fleet) -> None:
    """Start another worker, whose folder has what the first one's had not."""
    folder = fleet.folder / "w2"
    folder.mkdir()
    (folder / "go").touch()
    fleet.start()


def test_another_takes_over_from_a_killed_worker(fleet: Fleet) -> None:
    first = fleet.start()
    session_id = fleet.session(COMMAND)
    wait_for(first.folder / "begun")
    successor(fleet)
    first.kill()
    events = fleet.finished(session_id)
    assert texts(events, "agent.message")[0].startswith("It said: taken over")
    assert len(only(events, "user.tool_result")) == 1
    (item,) = fleet.items()
    assert "was lost: it sent no heartbeat" in item.metadata["hostler.lost"]
    (error,) = only(events, "session.error")
    assert error["error"]["retry_status"]["type"] == "retrying"
    assert "was lost" in error["error"]["message"]
    assert f"session {session_id}: The worker" in fleet.world.server.log()


def test_a_worker_that_loses_its_lease_leaves_the_item_alone(fleet: Fleet) -> None:
    """Frozen for longer than its lease, it comes back when another has the item."""
    first = fleet.start()
    session_id = fleet.session(COMMAND)
    wait_for(first.folder / "begun")
    os.kill(first.process.pid, signal.SIGSTOP)
    fleet.state("queued")
    successor(fleet)
    events = fleet.finished(session_id)
    os.kill(first.process.pid, signal.SIGCONT)
    deadline = time.monotonic() + DEADLINE
    while "lease lost" not in first.log():
        assert time.monotonic() < deadline, first.log()
        time.sleep(0.05)
    assert texts(events, "agent.message")[0].startswith("It said: taken over")
    assert len(only(fleet.world.raw(session_id), "user.tool_result")) == 1


def test_a_spawn_script_that_ends_early(fleet: Fleet) -> None:
    """Claimed and acknowledged, but what was to serve it never began: it is offered again, and says so."""
    session_id = fleet.session("Run: echo later")
    claimed = fleet.start("claim")
    assert claimed.line()
    claimed.wait()
    item = fleet.state("queued")
    assert "did not begin" in item.metadata["hostler.lost"]
    fleet.start()
    events = fleet.finished(session_id)
    assert texts(events, "agent.message")[0].startswith("It said: later")
    assert "did not begin" in only(events, "session.error")[0]["error"]["message"]


def test_an_operator_takes_an_item_from_a_worker(fleet: Fleet) -> None:
    """Stopped by force, it is over at once; the worker hears so at its next heartbeat, and the agent waits on."""
    worker = fleet.start()
    session_id = fleet.session(COMMAND)
    wait_for(worker.folder / "begun")
    (item,) = fleet.items()
    stopped = fleet.work.stop(item.id, environment_id=fleet.environment_id, force=True)
    assert stopped.state == "stopped"
    events = fleet.until(session_id, lambda events: only(events, "session.error") != [])
    assert only(events, "session.error")[0]["error"]["retry_status"]["type"] == "exhausted"
    deadline = time.monotonic() + DEADLINE
    while "state=stopped" not in worker.log():
        assert time.monotonic() < deadline, worker.log()
        time.sleep(0.05)
    assert len(fleet.items()) == 1
