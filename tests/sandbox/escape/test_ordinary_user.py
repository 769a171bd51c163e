"""The probes of this folder again, by a user without any privilege: root's run says nothing about such a one.

There the kernel knows the agent and the server as one user, and nothing but namespaces and the filter stands between.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from sandbox import ordinary

_PROGRAM = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"


@pytest.mark.skipif(os.geteuid() != 0, reason="this run is already one of an ordinary user")
def test_the_probes_hold_for_an_ordinary_user(child_environment: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="hostler-user-") as path:
        Path(path).chmod(0o755)
        home = Path(path) / "home"
        home.mkdir()
        os.chown(home, ordinary.USER, ordinary.USER)
        options = [
            "-q",
            "--tb=native",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            f"--basetemp={home}/pytest",
            "--rootdir",
            str(ordinary.ROOT),
        ]
        done = ordinary.run(
            _PROGRAM,
            *options,
            str(Path(__file__).parent),
            staging=Path(path),
            env=child_environment | {"HOME": str(home), "USER": "ordinary", "TMPDIR": str(home)},
            cwd=str(ordinary.ROOT),
            timeout=300,
        )
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
