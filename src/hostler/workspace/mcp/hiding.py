"""Keeps what looks like a secret in a configuration from agents: what they read stands in prompts and logs.

It must not decide who may read a configuration at all.
"""

from __future__ import annotations

from typing import Any

from hostler.runbooks.registry.connections import without_secrets
from hostler.workspace.mcp.callers import Caller

_WHERE = ("config", "defaultConfig", "context")


def hidden(caller: Caller, said: Any) -> Any:
    """The same for people; for an agent with asterisks in place of secrets."""
    return said if caller.agent_id is None else _hidden(said)


def _hidden(said: Any) -> Any:
    if isinstance(said, list):
        return [_hidden(each) for each in said]
    if not isinstance(said, dict):
        return said
    return {name: without_secrets(value, "", {}) if name in _WHERE else _hidden(value) for name, value in said.items()}
