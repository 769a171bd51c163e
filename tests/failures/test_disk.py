"""A disk that is full while the server runs: requests are refused with 503, nothing acknowledged is lost, sessions wait
and go on by themselves when there is room again.

The disk is filled by a limit on the size of the server's files, which an ordinary user may set and lift.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from failures.client import Api, message, ok, refused, said
from running import Server

KIB = 1024


def limit_files(server: Server, soft: int) -> None:
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))


def fill(api: Api, session: str) -> tuple[list[str], httpx2.Response]:
    """Send until the disk is full; the texts that were acknowledged, and the first refusal."""
    sent: list[str] = []
    for number in range(2000):
        text = f"{number} " + "x" * 4 * KIB
        response = api.http.post(f"/v1/sessions/{session}/events", json={"events": [message(f"say: {text}")]})
        if response.status_code != 200:
            return sent, response
        sent.append(text)
    raise AssertionError("the disk is never full")


def texts(api: Api, session: str) -> list[str]:
    return [
        event["content"][0]["text"].removeprefix("say: ")
        for event in api.events(session)
        if event["type"] == "user.message"
    ]


def test_a_full_disk(start: Callable[..., Server]) -> None:
    server = start()
    with Api(server) as api:
        session = api.session()
        api.turn(session, "say: before")
        limit_files(server, size(server) + 400 * KIB)
        sent, refusal = fill(api, session)
        assert "space" in refused(refusal, 503, "api_error")
        assert sent
        # Reading still works, and a file is refused as cleanly as an event.
        assert texts(api, session)[1:] == sent
        large = {"file": ("x", b"x" * 4096 * KIB)}
        assert "space" in refused(api.http.post("/v1/files", files=large), 503, "api_error")
        assert api.http.get("/healthz").status_code == 200

        limit_files(server, resource.RLIM_INFINITY)
        api.settle(session)
        assert said(api.turn(session, "say: after")) == ["after"]
        assert texts(api, session) == ["before", *sent, "after"]
        ok(api.http.post("/v1/files", files=large))
        assert server.stop() == 0
        server.start()
    with Api(server) as api:
        assert texts(api, session) == ["before", *sent, "after"]


def test_a_disk_that_fills_up_during_a_turn(start: Callable[..., Server]) -> None:
    """The agent's own events can't be written: the turn goes on where it stood once they can."""
    server = start()
    with Api(server) as api:
        session, other = api.session(), api.session()

        def fill_up(event: dict[str, Any]) -> bool:
            if event["type"] != "agent.tool_use":
                return False
            limit_files(server, size(server) + 40 * KIB)
            fill(api, other)
            return True

        api.turn(session, "run: sleep 0.5; echo done", until=fill_up)
        for _ in range(20):  # until the writer is proven stuck for the running session too
            if "waits" in server.log():
                break
            response = api.http.get(f"/v1/sessions/{session}")
            assert response.status_code == 200
        limit_files(server, resource.RLIM_INFINITY)
        api.settle(session)
        results = [event for event in api.events(session) if event["type"] == "agent.tool_result"]
        assert [result["content"][0]["text"].strip() for result in results] == ["done"]
        api.settle(other)


def size(server: Server) -> int:
    """The largest file that the server writes to."""
    return max(path.stat().st_size for path in Path(server.data_dir).glob("hostler.db*"))
