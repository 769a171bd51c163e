"""A preloaded process is a process of its own, as fresh as one that was executed, and ends with the tests."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import preloaded
from running import SOURCE, Server

REPORT = """
import asyncio, gc, json, logging, os, random, signal, sys, tempfile, threading
names = sorted(name for name in sys.modules if name.partition(".")[0] == "hostler")
print(json.dumps({
    "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(), "environ": dict(os.environ), "name": __name__,
    "threads": threading.active_count(), "tasks": len(os.listdir("/proc/self/task")), "umask": os.umask(0),
    "fds": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in (0, 1)), "open": open(os.devnull).fileno(),
    "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
    "mask": str(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "handlers": len(logging.root.handlers),
    "level": logging.root.level, "gc": gc.isenabled(), "encoding": sys.stdout.encoding, "flags": str(sys.flags),
    "session": os.getsid(0), "group": os.getpgrp(), "buffered": not sys.stdout.line_buffering,
}))
print(json.dumps([random.random(), os.urandom(4).hex(), next(tempfile._get_candidate_names()), os.getpid(), names]))
sys.exit(7)
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "HOSTLER_"))}
    return {**kept, "PYTHONPATH": str(SOURCE), "HOSTLER_CANARY": "ü"}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    program = tmp_path / "report.py"
    program.write_text(REPORT)
    return program


def forked(program: Path, environ: Mapping[str, str], *arguments: str) -> tuple[dict[str, Any], list[Any], int]:
    with (program.parent / "log").open("wb") as log:
        child = preloaded.start([str(program), *arguments], environ=environ, stderr=log)
    with child.stdout:
        told = [json.loads(line) for line in child.stdout]
    assert child.wait(30) == child.poll() == 7, (program.parent / "log").read_text()
    assert told[1][3] == child.pid
    return told[0], told[1], child.pid


def test_a_child_is_as_an_executed_one(report: Path) -> None:
    environ = environment()
    done = subprocess.run(
        [sys.executable, str(report), "a", "b c"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 7
    assert forked(report, environ, "a", "b c")[0] == json.loads(done.stdout.splitlines()[0])


def test_children_share_no_chance(report: Path) -> None:
    one, other = (forked(report, environment())[1] for _ in range(2))
    assert [first == second for first, second in zip(one[:4], other[:4], strict=True)] == [False] * 4


def test_nothing_is_preloaded_that_a_start_does_not_load(report: Path, tmp_path: Path) -> None:
    """Else a module that the server forgets to import would be there in tests alone."""
    program = tmp_path / "loaded.py"
    program.write_text(
        "import json, sys\nfrom hostler import cli\nannounce = cli._announce\n"
        "def told(*words):\n"
        "    open(sys.argv.pop(1), 'w').write(json.dumps([name for name in sys.modules if name[:7] == 'hostler']))\n"
        "    announce(*words)\n"
        "cli._announce = told\nseen = sys.argv[1]\ncli.main(sys.argv[2:])\n"
    )

    class Telling(Server):
        def _command(self) -> list[str]:
            return [sys.executable, str(program), str(tmp_path / "modules"), *super()._command()[3:]]

    with Telling(tmp_path / "data", scripted={"otherwise": {"text": "ok"}}, preload=False):
        loaded = set(json.loads((tmp_path / "modules").read_text()))
    here = forked(report, environment())[1][4]
    assert "hostler.serving" in here
    assert set(here) - loaded == set()


def test_it_ends_as_it_is_told(tmp_path: Path) -> None:
    program = tmp_path / "waits.py"
    program.write_text("import signal\nprint('ready', flush=True)\nsignal.pause()\n")
    ends = (signal.SIGTERM, signal.SIGKILL)  # not SIGINT, which whoever runs the tests may have had ignored
    with (tmp_path / "log").open("wb") as log:
        children = [preloaded.start([str(program)], environ=environment(), stderr=log) for _ in ends]
    for child, number in zip(children, ends, strict=True):
        assert child.stdout.readline() == b"ready\n"
        assert child.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.01)
        child.send_signal(number)
        assert child.wait(30) == -number
        child.kill()  # the dead are left alone
        child.stdout.close()


def test_children_end_with_tests_that_are_killed(tmp_path: Path) -> None:
    program = tmp_path / "tests.py"
    program.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom running import Server\n"
        "server = Server(Path(sys.argv[1]), scripted={'otherwise': {'text': 'ok'}}).start()\n"
        "print(server.pid, flush=True)\ntime.sleep(600)\n"
    )
    path = os.pathsep.join([str(SOURCE), str(SOURCE.parent / "tests")])
    command = [sys.executable, str(program), str(tmp_path / "data")]
    with subprocess.Popen(command, env={**environment(), "PYTHONPATH": path}, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        pidfd = os.pidfd_open(pid)
        tests.kill()
    try:
        assert select.select([pidfd], [], [], 30)[0]
    finally:
        os.close(pidfd)
