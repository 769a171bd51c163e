"""A host of repositories, and a server that allows it; each test of its own has its own repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from failures.client import Api
from githost import GitHost
from running import Server


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    with GitHost(tmp_path / "host") as host:
        yield host


@pytest.fixture
def server(tmp_path: Path, host: GitHost) -> Iterator[Server]:
    with Server(tmp_path / "data", config=host.config) as server:
        yield server


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with Api(server) as api:
        yield api


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server of the test's own, with the arguments of `Server`; it ends with the test."""
    started: list[Server] = []

    def start(name: str = "own", **options: Any) -> Server:
        server = Server(tmp_path / name, **options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.close()
