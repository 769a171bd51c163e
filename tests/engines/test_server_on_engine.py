"""Sessions of a real server whose sandboxes are containers: tools, outputs, and a kill in the middle of a call."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import daemons
from running import Server
from sandbox.test_hostile_session import Session

_RULES = [
    {
        "when": {"user_text_matches": "(?s)^run:\\s*(.*\\S)"},
        "turns": [
            {"tools": [{"name": "bash", "input": {"command": "{{1}}"}}]},
            {"text": "It said: {{last_tool_result}}"},
        ],
    }
]


@pytest.fixture
def server(engine: str, tmp_path: Path) -> Iterator[Server]:
    kind = "podman" if "podman" in engine else "docker"
    config = f'[sandbox]\nbackend = "{kind}"\nengine = "{engine}"\nimage = "{daemons.IMAGE}"\nmemory_mb = 1024\n'
    with Server(tmp_path / "data", config=config, scripted={"rules": _RULES, "otherwise": {"text": "ok"}}) as server:
        yield server


def _said(events: list[dict[str, object]]) -> str:
    return json.dumps([event for event in events if event["type"] == "agent.message"])


def test_a_session_works_in_a_container(server: Server) -> None:
    session = Session(server)
    assert "1000 /workspace" in _said(session.say("run: echo $(id -u) $PWD; x=kept"))
    assert "kept" in _said(session.say("run: echo $x; echo made > /mnt/session/outputs/made.txt"))
    names = {file["filename"] for file in session.call(f"files?scope_id={session.id}&limit=100")["data"]}
    assert "made.txt" in names
    assert "Traceback" not in server.log()


def test_a_call_goes_on_while_the_server_is_dead(server: Server) -> None:
    session = Session(server)
    session.say("run: echo ready")
    message = {"type": "user.message", "content": [{"type": "text", "text": "run: sleep 3; echo x >> n; wc -l < n"}]}
    session.call(f"sessions/{session.id}/events", {"events": [message]})
    while sum(event["type"] == "agent.tool_use" for event in session.events()) < 2:
        time.sleep(0.02)
    time.sleep(0.5)  # the call is on its way; should it not have arrived, the outcome is the same but for an error
    server.kill()
    server.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and "It said: 1" not in _said(session.events()):
        time.sleep(0.05)
    assert "It said: 1" in _said(session.events()), session.events()[-4:]
