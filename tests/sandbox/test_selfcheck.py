"""The embedded backend passes the conformance suite, run by root and by a user without any privilege."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import Check
from hostler.sandbox.lab import Trial
from hostler.sandbox.selfcheck import TRIALS, attempt
from sandbox import ordinary

_AS_USER = """
import asyncio, sys
from pathlib import Path
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.selfcheck import selfcheck

async def main():
    backend = BubblewrapBackend(Path(sys.argv[1]))
    failed = [check async for check in selfcheck(backend) if not check.ok]
    await backend.aclose(stop=True)
    for check in failed:
        print(check.name, check.detail)
    return bool(failed)

sys.exit(asyncio.run(main()))
"""


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name.replace(" ", "-"))
def test_backend_keeps_the_contract(trial: Trial, folder: Path) -> None:
    async def check() -> Check:
        backend = BubblewrapBackend(folder)
        try:
            return await attempt(backend, trial)
        finally:
            await backend.aclose(stop=True)

    result = asyncio.run(check())
    assert result.ok, result.detail


def test_suite_passes_for_an_ordinary_user(child_environment: dict[str, str]) -> None:
    """Root's run says nothing about a user without privileges; for an ordinary user this repeats the above."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="hostler-user-") as path:
        Path(path).chmod(0o755)
        home = Path(path) / "home"
        home.mkdir()
        if root:
            os.chown(home, ordinary.USER, ordinary.USER)
        done = ordinary.run(
            _AS_USER,
            str(home / "sandboxes"),
            staging=Path(path),
            env=child_environment | {"HOME": str(home)},
            cwd="/",
            timeout=170,
        )
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
