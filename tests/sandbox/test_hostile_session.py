"""A hostile agent in a real server: its turns end, its session stays usable, and no secret of the server is anywhere.

Canaries stand for the secrets; what the server wrote, sent and gave to the agent is searched for them.
"""

from __future__ import annotations

import json
import secrets
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from running import Server

CANARIES = {
    "HOSTLER_API_KEY": f"canary-api-{secrets.token_hex(8)}",
    "HOSTLER_MODEL_API_KEY": f"canary-model-{secrets.token_hex(8)}",
    "OPENAI_API_KEY": f"canary-openai-{secrets.token_hex(8)}",
    "ANTHROPIC_API_KEY": f"canary-anthropic-{secrets.token_hex(8)}",
    "SOME_PASSWORD": f"canary-password-{secrets.token_hex(8)}",
}
KEY = CANARIES["HOSTLER_API_KEY"]


class Session:
    """A session of a scripted agent; `say` takes one turn and returns its events."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seen = 0
        agent = self.call("agents", {"name": "a", "model": "scripted", "tools": [{"type": "agent_toolset_20260401"}]})
        environment = self.call("environments", {"name": f"e{secrets.token_hex(4)}"})
        self.id = self.call("sessions", {"agent": agent["id"], "environment_id": environment["id"]})["id"]

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._server.headers, "content-type": "application/json"}
        request = urllib.request.Request(f"{self._server.base_url}/v1/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def events(self) -> list[dict[str, Any]]:
        return self.call(f"sessions/{self.id}/events?limit=1000")["data"]

    def say(self, text: str) -> list[dict[str, Any]]:
        message = {"type": "user.message", "content": [{"type": "text", "text": text}]}
        self.call(f"sessions/{self.id}/events", {"events": [message]})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            new = self.events()[self._seen :]
            if any(event["type"] == "session.status_idle" for event in new):
                self._seen += len(new)
                return new
            time.sleep(0.05)
        raise AssertionError(f"the turn did not end: {self.events()[self._seen :]}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # The routes of the model are the script's; the keys are there all the same.
    with Server(tmp_path / "data", scripted=_SCRIPT, key=KEY, preload=False, environ=CANARIES) as server:
        yield server


_RULES = [
    {
        "when": {"user_text_matches": "(?s)^run:\\s*(.*\\S)"},
        "turns": [
            {"tools": [{"name": "bash", "input": {"command": "{{1}}"}}]},
            {"text": "It said: {{last_tool_result}}"},
        ],
    }
]
_SCRIPT = {"rules": _RULES, "otherwise": {"text": "ok"}}
_PLANT = (
    "cd /mnt/session/outputs; ln -s /etc/passwd link; mkfifo pipe; touch $'new\\nline'; python3 -c "
    '\'import os; [open(n, "w").write("hi") for n in (b"\\xff\\xfe", b"x" * 255)]\'; '
    "echo no > locked; chmod 0 locked; truncate -s 4G sparse; echo fine > fine; "
    "(while :; do rm -f gone; echo x > gone; done) & sleep 0.2; echo planted"
)


def test_hostile_outputs_do_not_spoil_a_turn(server: Server) -> None:
    session = Session(server)
    for script in (_PLANT, "echo second"):
        events = session.say(f"run: {script}")
        errors = [event["error"]["message"] for event in events if event["type"] == "session.error"]
        too_large = "Not collected from /mnt/session/outputs: sparse has 4.29 GB; a file may have 524 MB at most."
        assert errors == [too_large], server.log()
        assert events[-1]["stop_reason"]["type"] == "end_turn"
    names = {file["filename"] for file in session.call(f"files?scope_id={session.id}&limit=100")["data"]}
    assert {"fine", "new_line", "x" * 255, "_xff_xfe"} <= names
    assert not {"link", "pipe", "sparse"} & names
    assert "Traceback" not in server.log()


def test_no_secret_is_written_told_or_given(server: Server, tmp_path: Path) -> None:
    session = Session(server)
    look = (
        "env; set; cat /proc/*/environ /proc/*/cmdline /proc/*/mountinfo 2>/dev/null | tr '\\0' '\\n'; "
        "grep -rhas canary- / --exclude-dir=proc --exclude-dir=usr --exclude-dir=dev 2>/dev/null | head -c 10000"
    )
    told = session.say(f"run: {look}")
    session.say("run: echo $ANTHROPIC_API_KEY $HOSTLER_API_KEY; kill -9 $$")
    for path in ("sessions/nope", "agents", f"sessions/{session.id}/events?limit=x"):
        try:
            told.append(session.call(path))
        except urllib.error.HTTPError as error:
            told.append({"error": error.read().decode()})
    everything = json.dumps([told, session.events()]).encode() + server.log().encode()
    server.stop()
    for file in tmp_path.rglob("*"):
        if file.is_file() and not file.is_symlink():
            everything += file.read_bytes()
    found = [name for name, value in CANARIES.items() if value.encode() in everything]
    assert found == []


def test_the_data_folder_is_for_nobody_else(server: Server) -> None:
    """Also where the operator made the folder, open to others, beforehand."""
    Session(server).say("run: echo x > /mnt/session/outputs/x")
    open_to_others = []
    for path in server.data_dir.iterdir():
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            open_to_others.append(path.name)
    assert open_to_others == []


class _Refusing(BaseHTTPRequestHandler):
    """A model provider that answers with an error, and repeats the key it was given, as some do."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        given = self.headers.get("x-api-key") or self.headers.get("authorization", "")
        body = json.dumps(
            {"type": "error", "error": {"type": "authentication_error", "message": f"invalid key {given}"}}
        ).encode()
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_providers_error_does_not_tell_the_key(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        base_url = f"http://127.0.0.1:{provider.server_address[1]}"
        environ = CANARIES | {"HOSTLER_MODEL_BASE_URL": base_url}
        with Server(tmp_path / "data", key=KEY, preload=False, environ=environ) as server:
            session = Session(server)
            events = session.say("hello")
            assert "session.error" in [event["type"] for event in events]
            everything = json.dumps(events) + server.log()
            server.stop()
            everything += (tmp_path / "data" / "hostler.db").read_bytes().decode("latin-1")
        provider.shutdown()
    assert CANARIES["HOSTLER_MODEL_API_KEY"] not in everything


def test_files_of_a_session_that_is_gone_go_at_the_next_start(server: Server) -> None:
    session = Session(server)
    session.say("run: echo kept > kept")
    server.stop()
    left = server.data_dir / "sandboxes" / f"sesn_{secrets.token_hex(8)}" / "files" / "workspace"
    left.mkdir(parents=True)
    (left / "private").write_text("of a deleted session")
    server.start()
    deadline = time.monotonic() + 20
    while left.parents[1].exists():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.02)
    said = session.say("run: cat kept")
    assert "kept" in json.dumps([event for event in said if event["type"] == "agent.tool_result"])
