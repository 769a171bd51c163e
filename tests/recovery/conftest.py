"""Servers that may die, one for each test module, and what the main job comes to when nothing happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from job import Job, check_log, essence
from mortal import HARNESS, Mortal

from databases import Databases


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
def long_lived_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Mortal]:
    folder = tmp_path_factory.mktemp("recovery-postgres")
    server = Mortal(folder, harness=HARNESS, database=Databases(folder, postgres_url).url("recovery"))
    yield server
    server.close()


@pytest.fixture
def postgres_server(long_lived_postgres: Mortal) -> Mortal:
    """The same on PostgreSQL."""
    long_lived_postgres.ensure()
    return long_lived_postgres


@pytest.fixture(scope="session")
def reference(long_lived: Mortal) -> dict[str, Any]:
    """The main job without a kill."""
    long_lived.ensure()
    job = Job(long_lived, "job")
    events = job.run()
    check_log(job, events)
    return {"essence": essence(events), "outputs": job.outputs()}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How soon sessions went on by themselves after a kill, from the restarted server's readiness on."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    values = [
        seconds
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, figures in report.user_properties
        if name == "progress_seconds"
        for seconds in figures
    ]
    if values:
        values.sort()
        median, worst = values[len(values) // 2], values[-1]
        terminalreporter.write_line(
            f"restart -> next progress: median {median:+.3f} s, worst {worst:+.3f} s of {len(values)} deaths"
            " (negative: before the first request was answered)"
        )
