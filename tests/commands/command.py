"""Runs `hostler` commands as processes, in an environment without anything that a developer's shell may hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import preloaded
from running import SOURCE

SECONDS = 240.0  # a machine may be busy with much else


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "HOSTLER_"))}
    return {**kept, "PYTHONPATH": str(SOURCE), **(more or {})}


def spawn(*arguments: object, environ: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hostler.cli", *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment(environ), text=True, **{**pipes, **options})


def hostler(
    *arguments: object, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    argv = ["-m", "hostler.cli", *map(str, arguments)]
    with tempfile.TemporaryFile() as errors:
        process = preloaded.start(
            argv, environ=environment(environ), stderr=errors, modules=preloaded.COMMANDS, cwd=cwd
        )
        late = threading.Timer(SECONDS, process.kill)
        late.start()
        try:
            with process.stdout:
                out = process.stdout.read().decode()
            process.wait(SECONDS)
        finally:
            late.cancel()
            process.kill()
        errors.seek(0)
        return subprocess.CompletedProcess(argv, process.wait(), out, errors.read().decode())


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that refused, as every command of ours refuses."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert lines, "no word of why"
    assert lines[-1].startswith("hostler: "), done.stderr
    return lines[-1].removeprefix("hostler: ")


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
