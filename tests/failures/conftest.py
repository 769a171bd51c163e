"""One server for all tests that leave it whole, and a way to start others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from failures.client import Api
from running import Server

CONFIG = "[server]\nfile_mb = 80\n[harness]\nretry_base = 0.02\nretry_limit = 0.1\nmodel_attempts = 3\n"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("failures") / "data", config=CONFIG, preload=False) as server:
        yield server


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    with Api(server) as api:
        yield api


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server of the test's own, with the arguments of `Server`; it ends with the test."""
    started: list[Server] = []

    def start(name: str = "data", **options: Any) -> Server:
        server = Server(tmp_path / name, **{"config": CONFIG, **options})
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.close()
