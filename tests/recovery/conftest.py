"""Servers that may die, one for each test module, and what the main job comes to when nothing happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from job import Job, check_log, essence
from mortal import Mortal

HARNESS = "retry_base = 0.2\nretry_limit = 0.5"


@pytest.fixture(scope="session")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    server = Mortal(tmp_path_factory.mktemp("recovery"), harness=HARNESS)
    yield server
    server.close()


@pytest.fixture
def sqlite_server(long_lived: Mortal) -> Mortal:
    """The same data folder for all tests of a process: each adds a session, and deaths, to it."""
    long_lived.ensure()
    return long_lived


@pytest.fixture(scope="session")
def reference(long_lived: Mortal) -> dict[str, Any]:
    """The main job without a kill."""
    long_lived.ensure()
    job = Job(long_lived, "job")
    events = job.run()
    check_log(job, events)
    return {"essence": essence(events), "outputs": job.outputs()}
