"""A real server for each module, on either database, and a fleet of workers for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("contract.world", "workers.fleet")

from contract.world import CONFIG, World, sync_world  # noqa: E402
from databases import Databases  # noqa: E402
from running import Server  # noqa: E402
from workers.fleet import SCRIPT, Fleet, fleet_of  # noqa: E402


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A module that waits for leases to run out says how long they are, in `LEASE_SECONDS`."""
    lease = f"\n[work]\nlease_seconds = {getattr(request.module, 'LEASE_SECONDS', 300)}\n"
    folder = tmp_path_factory.mktemp("workers")
    database = None
    if request.param == "postgresql":
        database = Databases(folder, request.getfixturevalue("postgres_url")).url(f"workers_{folder.name[-1]}")
    with (
        Server(folder / "data", config=CONFIG + lease, scripted=SCRIPT, database=database) as server,
        sync_world(server) as world,
    ):
        yield world


@pytest.fixture
def fleet(world: World, tmp_path: Path) -> Iterator[Fleet]:
    with fleet_of(world, tmp_path) as fleet:
        yield fleet
