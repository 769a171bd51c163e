"""Whatever stands in a field, the answer is a result or a refusal in the envelope: never a 500, never half a change."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from serving import Server, ok

Json = dict[str, Any]

VALUES: list[Any] = [
    None, True, 0, -1, 10**30, 1.5, "", "x" * 5000, "é\u2028\U0001f600", "../../x", "%00", [], [[]], [None], {},
    {"type": "x"}, {"type": None}, {"$ref": "#"}, ["x"] * 1200,
]  # fmt: skip


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def places(body: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path in a body, from the top down."""
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def mutations(body: Json) -> Iterator[Json]:
    for path in places(body):
        for value in VALUES:
            changed = copy.deepcopy(body)
            target: Any = changed
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value
            yield changed


def bodies(agent: Json, environment: Json, file: Json) -> list[tuple[str, Json]]:
    text = {"type": "text", "text": "x"}
    schema = {"type": "object", "properties": {"a": {}}}
    tools = [
        {
            "type": "agent_toolset_20260401",
            "default_config": {"enabled": True},
            "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}],
        },
        {
            "type": "custom",
            "name": "t",
            "description": "d",
            "input_schema": schema,
        },
    ]
    over = {"type": "agent_with_overrides", "id": agent["id"], "version": 1, "model": {"id": "m"}, "tools": tools}
    resource = {"type": "file", "file_id": file["id"], "mount_path": "a/b"}
    network = {"type": "limited", "allowed_hosts": []}
    config = {"type": "cloud", "networking": network, "packages": {"pip": []}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    by_file = {"type": "document", "source": {"type": "file", "file_id": file["id"]}, "title": "t"}
    messages = [
        {"type": "user.interrupt", "session_thread_id": None},
        {"type": "user.message", "content": [text, image, by_file]},
        {"type": "system.message", "content": [text]},
    ]
    answers = [
        {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_x", "content": [text], "is_error": False},
        {"type": "user.tool_confirmation", "tool_use_id": "sevt_x", "result": "deny", "deny_message": "m"},
    ]
    created = {"agent": over, "environment_id": environment["id"], "title": "t", "metadata": {"k": "v"}}
    return [
        (
            "/v1/agents",
            {"name": "a", "model": {"id": "m", "speed": "standard"}, "tools": tools},
        ),
        ("/v1/agents/{agent}", {"name": "b", "model": "m", "system": "s", "metadata": {"k": None}, "version": 1}),
        (
            "/v1/environments",
            {"name": "e", "config": config},
        ),
        ("/v1/sessions", {**created, "resources": [resource], "initial_events": [messages[1]]}),
        ("/v1/sessions/{session}", {"title": "t", "metadata": {"k": "v"}, "agent": {"tools": []}, "budget": None}),
        ("/v1/sessions/{session}/resources", resource),
        ("/v1/sessions/{session}/events", {"events": messages}),
        ("/v1/sessions/{session}/events", {"events": answers}),
    ]


@pytest.mark.parametrize("which", range(8))
def test_no_body_makes_the_server_fail(
    server: Server, http: httpx2.Client, agent: Json, environment: Json, session: Json, which: int
) -> None:
    file = ok(http.post("/v1/files", files={"file": ("a", b"a")}))
    path, body = bodies(agent, environment, file)[which]
    url = path.format(agent=agent["id"], session=session["id"])
    seen: dict[int, int] = {}
    for mutation in mutations(body):
        response = http.post(url, json=mutation)
        assert response.status_code in (200, 400, 404, 409, 429), (mutation, response.text)
        assert response.status_code == 200 or response.json()["type"] == "error"
        seen[response.status_code] = seen.get(response.status_code, 0) + 1
    assert seen[400]


def test_no_query_makes_the_server_fail(http: httpx2.Client, session: Json) -> None:
    texts = [
        "", "x", "-1", "0", "99999999999999999999", "1e5", "page_", "page_W10", "page_WyJkZXNjIiwxLCJ4IixmYWxzZV0", "é",
        "2026-01-01", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00",
    ]  # fmt: skip
    names = [
        "limit", "page", "order", "version", "include_archived", "agent_id", "agent_version", "statuses[]", "types",
        "created_at[gte]", "created_at[lt]", "scope_id", "source", "after_id", "before_id", "ids[]", "event_deltas[]",
    ]  # fmt: skip
    one = f"/v1/sessions/{session['id']}"
    lists = ["/v1/agents", "/v1/environments", "/v1/sessions", "/v1/files", "/v1/models", "/v1/skills", f"{one}/events"]
    for path in [*lists, f"{one}/resources", f"{one}/threads"]:
        for name in names:
            for text in texts:
                response = http.get(path, params={name: text})
                assert response.status_code in (200, 400, 404), (path, name, text, response.text)
