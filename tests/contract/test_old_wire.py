"""What clients of the 0.97 era and curl examples send, byte by byte: served like anything else."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from contract.world import DEADLINE, message
from running import Server

BETA = "managed-agents-2026-04-01"


@pytest.fixture
def old(server: Server) -> Iterator[httpx2.Client]:
    headers = {
        "x-api-key": server.key,
        "anthropic-version": "2023-06-01",
        "anthropic-beta": BETA,
        "x-stainless-timeout": "NOT_GIVEN",
        "x-stainless-retry-count": "0",
    }
    with httpx2.Client(base_url=server.base_url, headers=headers, params={"beta": "true"}, timeout=DEADLINE) as client:
        yield client


def ok(answer: httpx2.Response) -> dict:
    assert answer.status_code == 200, answer.text
    body: dict = answer.json()
    return body


def test_a_session_from_end_to_end(old: httpx2.Client) -> None:
    agent = ok(old.post("/v1/agents", json={"name": "old", "model": "claude-opus-5-5"}))
    environment = ok(
        old.post("/v1/environments", json={"name": "old", "config": {"type": "anthropic_cloud", "packages": None}})
    )
    session = ok(old.post("/v1/sessions", json={"agent": agent["id"], "environment_id": environment["id"]}))
    path = f"/v1/sessions/{session['id']}"
    with old.stream("GET", f"{path}/events/stream") as stream:
        (echo,) = ok(old.post(f"{path}/events", json={"events": [message("say: Hello.")]}))["data"]
        assert echo["processed_at"] is None
        names = []
        for line in stream.iter_lines():
            if line.startswith("event: "):
                names.append(line[7:])
            if line == "" and names[-1] == "session.status_idle":
                break
    listed = ok(old.get(f"{path}/events"))
    assert listed["data"][-1]["type"] == "session.status_idle"
    assert names.count("user.message") == 2
    assert ok(old.post(f"{path}/archive"))["status"] == "terminated"
    assert ok(old.delete(path))["type"] == "session_deleted"
    assert ok(old.post(f"/v1/agents/{agent['id']}/archive"))["archived_at"]
    assert ok(old.delete(f"/v1/environments/{environment['id']}"))["type"] == "environment_deleted"


def test_files_page_by_id(old: httpx2.Client) -> None:
    old.headers["anthropic-beta"] = f"files-api-2025-04-14,{BETA}"
    made = [
        ok(old.post("/v1/files", files={"file": (f"{number}.txt", b"x", "text/plain")}))["id"] for number in range(3)
    ]
    page = ok(old.get("/v1/files", params={"limit": 2}))
    assert [found["id"] for found in page["data"]] == made[:0:-1]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, made[2], made[1])
    after = ok(old.get("/v1/files", params={"limit": 1, "after_id": page["last_id"]}))
    assert [found["id"] for found in after["data"]] == [made[0]]
    before = ok(old.get("/v1/files", params={"limit": 5, "before_id": made[0]}))
    assert [found["id"] for found in before["data"]] == made[:0:-1]
    for wrong in ({"after_id": "file_none"}, {"after_id": made[0], "before_id": made[1]}):
        assert old.get("/v1/files", params=wrong).status_code in (400, 404)


def test_files_without_any_beta_header(old: httpx2.Client) -> None:
    del old.headers["anthropic-beta"]
    made = ok(old.post("/v1/files", files={"file": ("x.txt", b"x", "text/plain")}))
    assert ok(old.get(f"/v1/files/{made['id']}"))["filename"] == "x.txt"
    assert ok(old.get("/v1/models", params={"limit": 1}))["has_more"] is True
    assert old.get("/v1/agents").status_code == 404
