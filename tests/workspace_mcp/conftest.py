"""One real server for a module of these tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("workspace_mcp.mcp_world")

from running import Server  # noqa: E402
from workspace_mcp.mcp_world import SCRIPT, Caller, Firm, Office  # noqa: E402

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("mcp") / "data", scripted=SCRIPT) as started:
        yield started


@pytest.fixture(scope="module")
def firm(server: Server) -> Iterator[Firm]:
    made = Firm(server)
    yield made
    made.http.close()


@pytest.fixture
def office(firm: Firm) -> Office:
    return Office(firm, f"t{next(_numbers)}")


@pytest.fixture
def other(firm: Firm) -> Office:
    """Another tenant."""
    return Office(firm, f"t{next(_numbers)}")


@pytest.fixture
def boss(server: Server) -> Caller:
    """The client with a key of the server."""
    return Caller(server.base_url, server.key)
