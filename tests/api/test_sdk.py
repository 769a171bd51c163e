"""The official SDK, with strict response validation, over every endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from hostler.log.entries import Draft
from serving import KEY, Server


@pytest.fixture
def sdk(server: Server) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key=KEY, _strict_response_validation=True, max_retries=0) as client:
        yield client


@pytest.fixture
def made(sdk: Anthropic) -> tuple[Any, Any, Any]:
    """An agent, an environment and a session."""
    ask: Any = {"type": "always_ask"}
    agent = sdk.beta.agents.create(
        name="a",
        model={"id": "claude-opus-5-5", "effort": "high"},
        system="s",
        tools=[
            {
                "type": "agent_toolset_20260401",
                "configs": [{"name": "bash", "permission_policy": ask}],
            },
            {"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object", "properties": {}}},
        ],
        metadata={"k": "v"},
    )
    environment = sdk.beta.environments.create(name="e", config={"type": "cloud"})
    session = sdk.beta.sessions.create(agent=agent.id, environment_id=environment.id, title="t")
    return agent, environment, session


def test_agents(sdk: Anthropic, made: tuple[Any, Any, Any]) -> None:
    agent = made[0]
    assert agent._request_id
    assert sdk.beta.agents.retrieve(agent.id, version=1) == agent
    assert sdk.beta.agents.update(agent.id, description="d", version=1).version == 2
    assert [item.version for item in sdk.beta.agents.versions.list(agent.id, limit=1)] == [2, 1]
    assert [item.id for item in sdk.beta.agents.list()] == [agent.id]
    with pytest.raises(anthropic.ConflictError):
        sdk.beta.agents.update(agent.id, name="x", version=1)
    assert sdk.beta.agents.archive(agent.id).archived_at is not None


def test_environments(sdk: Anthropic, made: tuple[Any, Any, Any]) -> None:
    environment = made[1]
    assert sdk.beta.environments.retrieve(environment.id) == environment
    assert sdk.beta.environments.update(environment.id, description="d").description == "d"
    assert [item.id for item in sdk.beta.environments.list()] == [environment.id]
    limited = sdk.beta.environments.create(name="l", config={"type": "cloud", "networking": {"type": "limited"}})
    assert sdk.beta.environments.archive(limited.id).archived_at
    assert sdk.beta.environments.delete(limited.id).type == "environment_deleted"
    with pytest.raises(anthropic.NotFoundError):
        sdk.beta.environments.retrieve(limited.id)


def test_sessions_and_threads(sdk: Anthropic, made: tuple[Any, Any, Any], server: Server) -> None:
    session = made[2]
    assert sdk.beta.sessions.retrieve(session.id).id == session.id
    assert sdk.beta.sessions.update(session.id, title="new", metadata={"a": "b"}).title == "new"
    for _ in range(3):
        sdk.beta.sessions.create(agent=made[0].id, environment_id=made[1].id)
    assert len(list(sdk.beta.sessions.list(limit=3))) == 4
    (thread,) = sdk.beta.sessions.threads.list(session.id)
    assert sdk.beta.sessions.threads.retrieve(thread.id, session_id=session.id) == thread
    assert [event.type for event in sdk.beta.sessions.threads.events.list(thread.id, session_id=session.id)] == [
        "session.updated"
    ]
    with pytest.raises(anthropic.BadRequestError):
        sdk.beta.sessions.threads.archive(thread.id, session_id=session.id)
    assert sdk.beta.sessions.archive(session.id).status == "terminated"
    with sdk.beta.sessions.threads.events.stream(thread.id, session_id=session.id) as events:
        assert list(events) == []
    assert sdk.beta.sessions.delete(session.id).type == "session_deleted"


def test_events(sdk: Anthropic, made: tuple[Any, Any, Any], server: Server) -> None:
    session = made[2]
    use = Draft(type="agent.custom_tool_use", fields={"name": "t", "input": {}})
    asked = Draft(type="agent.tool_use", fields={"name": "bash", "input": {}, "evaluated_permission": "ask"})
    server.append(session.id, use, asked)
    document: Any = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
    text: Any = {"type": "text", "text": "x"}
    pixel: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    sent = sdk.beta.sessions.events.send(
        session.id,
        events=[
            {
                "type": "user.custom_tool_result",
                "custom_tool_use_id": use.id,
                "content": [{"type": "text", "text": "x"}],
            },
            {"type": "user.tool_confirmation", "tool_use_id": asked.id, "result": "deny", "deny_message": "no"},
            {"type": "user.interrupt"},
            {"type": "user.message", "content": [text, document, pixel]},
            {"type": "system.message", "content": [text]},
        ],
    )
    assert sent.data is not None
    assert [event.processed_at is None for event in sent.data] == [False, False, True, True, True]
    assert len(list(sdk.beta.sessions.events.list(session.id, limit=2))) == 7
    assert len(list(sdk.beta.sessions.events.list(session.id, types=["user.message"], order="desc"))) == 1


def test_files_and_resources(sdk: Anthropic, made: tuple[Any, Any, Any]) -> None:
    session = made[2]
    file = sdk.beta.files.upload(file=("a.csv", b"1,2"), expires_in_seconds=3600)
    assert file.expires_at is not None
    assert sdk.beta.files.upload(file=b"bare").filename.startswith("unnamed")
    assert sdk.files.upload(file=("b.txt", b"x")).filename == "b.txt"
    assert sdk.beta.files.retrieve_metadata(file.id) == file
    assert len(list(sdk.beta.files.list(limit=2))) == 3
    with pytest.raises(anthropic.BadRequestError):
        sdk.beta.files.download(file.id)
    resource = sdk.beta.sessions.resources.add(session.id, type="file", file_id=file.id, mount_path="in/a.csv")
    assert sdk.beta.sessions.resources.retrieve(resource.id, session_id=session.id) == resource
    assert [item.id for item in sdk.beta.sessions.resources.list(session.id)] == [resource.id]  # type: ignore[union-attr]
    with pytest.raises(anthropic.BadRequestError):
        sdk.beta.sessions.resources.update(resource.id, session_id=session.id, authorization_token="t")
    assert [item.id for item in sdk.beta.files.list(scope_id=session.id)] == [resource.file_id]
    assert sdk.beta.sessions.resources.delete(resource.id, session_id=session.id).id == resource.id
    assert sdk.beta.files.delete(file.id).type == "file_deleted"


def test_models(sdk: Anthropic) -> None:
    listed = list(sdk.beta.models.list(limit=3))
    assert len({model.id for model in listed}) == len(listed) > 3
    assert sdk.beta.models.retrieve(listed[0].id) == listed[0]
    assert sdk.models.retrieve(listed[0].id).id == listed[0].id
    with pytest.raises(anthropic.NotFoundError):
        sdk.beta.models.retrieve("no-such-model")
