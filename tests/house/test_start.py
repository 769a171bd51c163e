"""The command line answers at once, and the server is not kept waiting by what it may never need."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = (
    "anthropic",
    "asyncpg",
    "httpx2",
    "mcp",
    "openai",
    "pydantic",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvloop",
    "yaml",
)
REPORT = "import sys; from click.testing import CliRunner; from hostler.cli import main; {run}; print(*sys.modules)"


def loaded(run: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `run`."""
    done = subprocess.run([sys.executable, "-c", REPORT.format(run=run)], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    modules = loaded(f"assert CliRunner().invoke(main, {arguments!r}).exit_code == 0")
    assert modules & set(HEAVY) == set()
    rooms = {name.split(".")[1] for name in modules if name.startswith("hostler.")}
    known = {"applying", "cli", "client", "commands", "errors", "settings"}
    assert rooms <= known


def test_serving_loads_no_vendor_library() -> None:
    assert loaded("import hostler.serving") & {"anthropic", "mcp", "openai", "pydantic"} == set()


def test_help_is_instant() -> None:
    """Computing time, the best of five: the machine may be busy with other tests. 0.3 s is the budget."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "hostler.cli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < 0.3
