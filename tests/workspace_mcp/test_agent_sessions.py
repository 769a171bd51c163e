"""Agents that call this server back from their sessions: each sees the task that has called it, and no other."""

from __future__ import annotations

import json
from typing import Any

from workspace_mcp.mcp_world import Agent, Office


def seen(agent: Agent) -> dict[str, Any]:
    """What ntro_task_get gave in the agent's last session."""
    (result,) = agent.results(agent.sessions()[0]["id"])
    assert not result["is_error"], result
    found: dict[str, Any] = json.loads(result["content"][0]["text"])
    return found


def test_an_agent_gets_the_task_of_its_session_without_naming_it(office: Office) -> None:
    agent = office.agent("clerk")
    task_id = agent.called("look")
    end = office.until(task_id, "done", "error_terminal")
    assert end["action"] == "done", end
    found = seen(agent)
    assert found["id"] == task_id
    assert [step["name"] for step in found["steps"]] == ["ask"]
    assert found["context"]["say"] == "look"
