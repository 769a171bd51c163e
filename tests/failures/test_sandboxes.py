"""Without a usable sandbox nothing runs unconfined: tools refuse with the reason, and the rest of the server works."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from failures.client import IDLE, SECONDS, Api, Json, errors, message, results, said
from running import SOURCE, Server

BROKEN = """
from pathlib import Path
from hostler.sandbox import backends, machine

def open_backend(folder, config, environ):
    machine.bubblewrap = lambda: Path(environ["TEST_BWRAP"])
    return backends.open_bubblewrap(folder, config, environ)
"""


def text(result: Json) -> str:
    return str(result["content"][0]["text"])


def check_refused(api: Api, why: str) -> None:
    session = api.session()
    events = api.turn(session, "run: id > /tmp/hostler-escaped")
    assert events[-1]["stop_reason"] == {"type": "end_turn"}
    assert errors(events) == [("unknown_error", "retrying")]
    message = next(event["error"]["message"] for event in events if event["type"] == "session.error")
    assert why in message
    assert "did not run" in text(results(events)[0])
    assert results(events)[0]["is_error"]
    assert not Path("/tmp/hostler-escaped").exists()
    assert said(api.turn(session, "say: alive")) == ["alive"]


def test_no_sandbox_at_all(start: Callable[..., Server]) -> None:
    with Api(start(config='[sandbox]\nbackend = "none"\n')) as api:
        check_refused(api, 'sandbox.backend = "none"')


@pytest.mark.parametrize("backend", ["no.such.module:open", "hostler.clock:nothing", "gibberish"])
def test_a_backend_that_can_not_be_loaded(start: Callable[..., Server], backend: str) -> None:
    with Api(start(config=f'[sandbox]\nbackend = "{backend}"\n')) as api:
        check_refused(api, backend)


def test_a_bubblewrap_that_does_not_work(start: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "broken_sandbox.py").write_text(BROKEN)
    program = tmp_path / "broken" / "bin" / "bwrap"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    program.chmod(0o755)
    environ = {"TEST_BWRAP": str(program), "PYTHONPATH": f"{SOURCE}{os.pathsep}{tmp_path}"}
    with Api(start(config='[sandbox]\nbackend = "broken_sandbox:open_backend"\n', environ=environ)) as api:
        check_refused(api, "no such luck")


def test_a_sandbox_killed_during_a_command(start: Callable[..., Server]) -> None:
    server = start()
    with Api(server) as api:
        session = api.session()
        api.turn(session, "run: echo kept > file")
        events = []
        for event in api.stream(session, lambda: api.send(session, message("run: touch begun; sleep 600"))):
            events.append(event)
            if event["type"] == "agent.tool_use":
                kill_sandbox(server.data_dir, "begun")
            if event["type"] == IDLE:
                break
        assert events[-1]["stop_reason"] == {"type": "end_turn"}
        (result,) = results(events)
        assert result["is_error"]
        assert errors(events) == [("unknown_error", "retrying")]
        # A new sandbox on the same files.
        assert text(results(api.turn(session, "run: cat file"))[0]).strip() == "kept"


def kill_sandbox(data_dir: Path, begun: str) -> None:
    """Kill the init of the one sandbox, once its command has made this file."""
    until = time.monotonic() + SECONDS
    while not list(data_dir.glob(f"sandboxes/**/{begun}")):
        assert time.monotonic() < until, "the command did not begin"
        time.sleep(0.01)
    (state,) = data_dir.glob("sandboxes/**/state.json")
    os.kill(json.loads(state.read_text())["init"]["pid"], signal.SIGKILL)
