"""Real MCP servers and a real Hostler, each a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.register_assert_rewrite("contract.world")

from contract.world import World, sync_world  # noqa: E402
from mcptools.processes import Process  # noqa: E402
from running import Server  # noqa: E402

Start = Callable[..., Process]
Serve = Callable[..., World]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an MCP server; without arguments the real one, over streamable HTTP."""
    with ExitStack() as stack:
        number = iter(range(100))

        def started(*arguments: str, script: str = "real_server.py") -> Process:
            folder = tmp_path / f"mcp{next(number)}"
            folder.mkdir()
            return stack.enter_context(Process(folder, *(arguments or ("http",)), script=script))

        yield started


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a Hostler and gives the official SDK for it."""
    with ExitStack() as stack:

        def served(**options: object) -> World:
            server = stack.enter_context(Server(tmp_path / "data", **options))  # type: ignore[arg-type]
            return stack.enter_context(sync_world(server))

        yield served
