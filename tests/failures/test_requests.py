"""Bad requests: each is refused with its reason in the envelope, and the server is as it was."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from failures.client import Api, Json, message, ok, refused

LIMIT = 32 * 1024 * 1024


@pytest.fixture(scope="module")
def session(api: Api) -> str:
    return api.session()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"name": "a", "model": "m"} x', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"name": "\xff"}', ""),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"NaN", "not valid JSON"),
        (b'{"metadata":' + b"[" * 100_000, ""),
        (b'{"metadata":' * 50_000, ""),
        (b'{"name": "a\\u0000b", "model": "m"}', "U+0000"),
        (b'{"name": "a\x00b", "model": "m"}', ""),
        (b'{"name": 3, "model": "m"}', "name"),
        (b'{"name": "a"}', "model"),
        (b'{"name": "a", "model": "m", "tools": {}}', "tools"),
        (b'{"name": "a", "model": "m", "tools": [{"type": "agent_toolset_19990101"}]}', "agent_toolset_19990101"),
        (b'{"name": "a", "model": "m", "tools": [{}]}', "type"),
    ],
)
def test_a_body_that_is_wrong(api: Api, body: bytes, why: str) -> None:
    before = len(api.get("/v1/agents", limit=100)["data"])
    response = api.http.post("/v1/agents", content=body, headers={"content-type": "application/json"})
    assert why in refused(response, 400)
    assert len(api.get("/v1/agents", limit=100)["data"]) == before


def test_an_unknown_event_refuses_the_whole_request(api: Api, session: str) -> None:
    before = api.events(session)
    for bad in ({"type": "user.shout"}, {"type": "agent.message", "content": []}, {"content": []}, 3, None):
        response = api.http.post(f"/v1/sessions/{session}/events", json={"events": [message("say: x"), bad]})
        assert "events" in refused(response, 400)
    assert api.events(session) == before


def test_bodies_over_32_megabytes(api: Api, session: str) -> None:
    path = f"/v1/sessions/{session}/events"
    large = json.dumps({"events": [message("x" * LIMIT)]}).encode()
    assert str(LIMIT) in refused(api.http.post(path, content=large), 413, "request_too_large")

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(large), 1 << 20):
            yield large[start : start + (1 << 20)]

    # Of unknown length: it can't be refused before it is read.
    refused(api.http.post(path, content=chunks()), 413, "request_too_large")
    assert "say" not in str(api.events(session))


def test_ids_that_do_not_exist(api: Api, session: str) -> None:
    for kind in ("agents", "environments", "sessions", "files"):
        for bad in ("x", "sesn_01AAAAAAAAAAAAAAAAAAAAAAAA", "%2e%2e", "a%2fb", "é", "x" * 5000):
            refused(api.http.get(f"/v1/{kind}/{bad}"), 404, "not_found_error")
    for path in ("events", "events/stream", "threads", "threads/sthr_x/events", "resources"):
        refused(api.http.get(f"/v1/sessions/sesn_x/{path}"), 404, "not_found_error")
    refused(api.http.post("/v1/sessions/sesn_x/events", json={"events": [message("x")]}), 404, "not_found_error")
    refused(api.http.get(f"/v1/sessions/{session}/threads/sthr_x"), 404, "not_found_error")
    agent, environment = api.agent()["id"], api.post("/v1/environments", {"name": "e"})["id"]
    for body in ({"agent": "agent_x", "environment_id": environment}, {"agent": agent, "environment_id": "env_x"}):
        assert "_x" in refused(api.http.post("/v1/sessions", json=body), 404, "not_found_error")
    unknown = {"type": "file", "file_id": "file_x"}
    refused(
        api.http.post(
            "/v1/sessions", json={"agent": agent, "environment_id": environment, "resources": [unknown]}
        ),
        404,
        "not_found_error",
    )  # fmt: skip


def test_stale_versions(api: Api) -> None:
    agent = api.agent()
    api.post(f"/v1/agents/{agent['id']}", {"version": 1, "name": "b"})
    response = api.http.post(f"/v1/agents/{agent['id']}", json={"version": 1, "name": "c"})
    refused(response, 409, "conflict_error")
    assert response.headers["x-should-retry"] == "false"
    assert api.get(f"/v1/agents/{agent['id']}")["name"] == "b"


def test_archived_parents(api: Api) -> None:
    agent, environment = api.agent(), api.post("/v1/environments", {"name": "e"})
    living = api.session(agent)
    for path in (f"agents/{agent['id']}", f"environments/{environment['id']}"):
        api.post(f"/v1/{path}/archive")
    other = api.post("/v1/environments", {"name": "o"})["id"]
    for body in (
        {"agent": agent["id"], "environment_id": other},
        {"agent": api.agent()["id"], "environment_id": environment["id"]},
    ):
        assert "archived" in refused(api.http.post("/v1/sessions", json=body), 400)
    assert "archived" in refused(api.http.post(f"/v1/agents/{agent['id']}", json={"version": 1, "name": "x"}), 400)
    # What was begun with them goes on.
    assert api.turn(living, "say: still here")[-1]["stop_reason"] == {"type": "end_turn"}
    api.post(f"/v1/sessions/{living}/archive")
    refused(api.http.post(f"/v1/sessions/{living}/events", json={"events": [message("x")]}), 400)


@pytest.mark.parametrize(
    "mount_path",
    [
        "../x", "a/../../x", "/mnt/session/uploads/../../../etc/passwd", "/uploads/../../x", "/workspace/../etc/passwd",
        "/mnt/session/outputs/x", "/mnt/session/uploads", "a/", "", "a\nb", "\x7f", "a" * 300, "/mnt/../etc/x",
    ],
)  # fmt: skip
def test_mount_paths_that_lead_out(api: Api, session: str, mount_path: str) -> None:
    file = ok(api.http.post("/v1/files", files={"file": ("a.txt", b"a")}))
    resource = {"type": "file", "file_id": file["id"], "mount_path": mount_path}
    assert "mount_path" in refused(api.http.post(f"/v1/sessions/{session}/resources", json=resource), 400)
    assert api.get(f"/v1/sessions/{session}/resources")["data"] == []


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/shadow", "shadow"),
        ("..", "unnamed.txt"),
        ("a\x00b", None),
        ("a\x1b[2J", None),
        ("a" * 256, None),
    ],
)
def test_file_names(api: Api, sent: str, kept: str | None) -> None:
    body = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{sent.replace(chr(92), chr(92) * 2)}"\r\n'
    body += "Content-Type: text/plain\r\n\r\nhello\r\n--B--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=B"}
    response = api.http.post("/v1/files", content=body.encode(), headers=headers)
    if kept is None:
        refused(response, 400)
    else:
        assert ok(response)["filename"] == kept


# -- mutations -----------------------------------------------------------------------------------------------------

PIECES = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"null", b"-1", b"1e400", b"\x00", b"\xff", b"\\u0000"]
PIECES += [b"\\ud800", "\u2028\U0001f600".encode(), b"true", b'"type"', b"9" * 400]


def mutated(dice: random.Random, body: bytes) -> bytes:
    """A valid body with a few of its bytes deleted, doubled or replaced."""
    for _ in range(dice.randint(1, 3)):
        start = dice.randrange(len(body) + 1)
        end = min(len(body), start + dice.choice((0, 1, 2, 8, 40)))
        body = body[:start] + dice.choice([b"", body[start:end] * 2, *PIECES]) + body[end:]
    return body


def test_no_bytes_make_the_server_fail(api: Api, session: str) -> None:
    """Seeded, and bounded by count and time."""
    dice, until = random.Random(11), time.monotonic() + 8
    file = ok(api.http.post("/v1/files", files={"file": ("a", b"a")}))["id"]
    agent, environment = api.agent(), api.post("/v1/environments", {"name": "e"})["id"]
    custom = {"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object"}}
    answer: Json = {"type": "user.tool_confirmation", "tool_use_id": "sevt_x", "result": "deny", "deny_message": "m"}
    resource = {"type": "file", "file_id": file, "mount_path": "a/b"}
    bodies: list[tuple[str, Any]] = [
        ("/v1/agents", {"name": "a", "model": {"id": "m"}, "tools": [custom], "metadata": {"k": "v"}}),
        (f"/v1/agents/{agent['id']}", {"version": 1, "name": "b", "system": "s"}),
        (f"/v1/agents/{agent['id']}/archive", {}),
        ("/v1/environments", {"name": "e", "config": {"type": "cloud", "networking": {"type": "unrestricted"}}}),
        (f"/v1/environments/{environment}", {"name": "f", "metadata": {"k": None}}),
        ("/v1/sessions", {"agent": agent["id"], "environment_id": environment, "resources": [resource]}),
        (f"/v1/sessions/{session}", {"title": "t", "metadata": {"k": "v"}}),
        (f"/v1/sessions/{session}/resources", resource),
        (f"/v1/sessions/{session}/events", {"events": [answer, {"type": "user.interrupt"}]}),
        ("/v1/files", None),
    ]
    form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello\r\n--B--\r\n'
    count = 0
    while count < 600 and time.monotonic() < until:
        path, body = bodies[count % len(bodies)]
        headers = {"content-type": "multipart/form-data; boundary=B" if body is None else "application/json"}
        sent = mutated(dice, form if body is None else json.dumps(body).encode())
        response = api.http.post(path, content=sent, headers=headers)
        assert response.status_code in (200, 400, 404, 409, 413, 429), (path, sent, response.text)
        assert response.status_code == 200 or response.json()["type"] == "error", (path, sent)
        count += 1
    assert count >= 50
    assert httpx2.get(f"{api.server.base_url}/healthz").json() == {"status": "ok"}
