"""The pages of the real server process: they are there, and an open one doesn't keep it from stopping."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
from streams import frames

from running import Server


def test_pages_are_served_and_let_the_server_stop(tmp_path: Path) -> None:
    with Server(tmp_path / "data", scripted={"turns": [{"text": "Hello."}]}) as server:
        api = httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=20)
        headers = {"accept": "text/html", "sec-fetch-site": "same-origin"}
        with api, httpx2.Client(base_url=server.base_url, headers=headers, timeout=20) as user:
            agent = api.post("/v1/agents", json={"name": "a", "model": "claude-opus-5-5"}).json()
            environment = api.post("/v1/environments", json={"name": "e"}).json()
            begin = [{"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}]
            body = {"agent": agent["id"], "environment_id": environment["id"], "initial_events": begin}
            session = api.post("/v1/sessions", json=body).json()["id"]
            link = api.post("/console/links", json={"path": f"/console/sessions/{session}"}).json()["url"]
            assert link.startswith(f"{server.base_url}/console/sessions/{session}?ticket=")
            assert user.get(link).status_code == 303
            stream = frames(user, f"/console/sessions/{session}/stream")
            idle = next(each for each in stream if each.name == "row" and "session.status_idle" in each.data["html"])
            assert idle.place is not None
            page = user.get(f"/console/sessions/{session}")
            assert (page.status_code, "Hello." in page.text) == (200, True)
            assert user.get("/console/static/console.css").headers["content-type"].startswith("text/css")
            assert user.get("/console/tasks/none").status_code == 404
            before = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - before < 15
            stream.close()
        assert "Traceback" not in server.log()
