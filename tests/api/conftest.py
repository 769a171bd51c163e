"""Fixtures of the API tests: a running server, a client of it, and one of each resource."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from serving import Server, ok


@pytest.fixture
def database_url() -> str | None:
    """SQLite; modules whose statements matter override it to run on both databases."""
    return None


@pytest.fixture
def server(tmp_path: Path, database_url: str | None) -> Iterator[Server]:
    server = Server(tmp_path, database_url)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def http(server: Server) -> httpx2.Client:
    return server.client


@pytest.fixture
def agent(http: httpx2.Client) -> dict[str, Any]:
    body = {"name": "a", "model": "claude-opus-5-5", "tools": [{"type": "agent_toolset_20260401"}]}
    return ok(http.post("/v1/agents", json=body))


@pytest.fixture
def environment(http: httpx2.Client) -> dict[str, Any]:
    return ok(http.post("/v1/environments", json={"name": "e"}))


@pytest.fixture
def session(http: httpx2.Client, agent: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    return ok(http.post("/v1/sessions", json={"agent": agent["id"], "environment_id": environment["id"]}))
