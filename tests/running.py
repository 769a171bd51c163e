"""Runs the real server as a process of its own, for the tiers that judge it from outside: contract, recovery, bench.

It must not reach inside: everything it knows, it knows from the command line, the log file and HTTP.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import preloaded

KEY = "sk-hostler-test-key"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
SOURCE = Path(__file__).resolve().parent.parent / "src"
_ANNOUNCED = re.compile(rb"listens on (http://\S+)")
Process = subprocess.Popen[bytes] | preloaded.Child
# What a developer's shell may hold and a test must not see.
_HIDDEN = ("ANTHROPIC_", "HOSTLER_")


class NotStarted(Exception):
    """The server ended, or stayed silent, before it was ready; the message holds its log."""


class Server:
    """One `hostler serve` on one data folder. It may be started again after it was stopped or killed, and then has
    the same address.

    `config` is the text of a config file. `scripted` is a shorthand for one: every model id plays this script.
    Output of all starts is kept in `log_file`, below the data folder's parent, so that a kill loses nothing of it.
    With `preload` the process is forked from one that has imported what a start imports (see `preloaded.py`); without
    it a new interpreter is executed, as it is for another `python`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        config: str = "",
        scripted: Path | dict[str, Any] | None = None,
        database: str | None = None,
        key: str = KEY,
        environ: Mapping[str, str] | None = None,
        python: str = sys.executable,
        preload: bool = True,
    ) -> None:
        self.data_dir = data_dir
        self.key = key
        self.database = database
        self.log_file = data_dir.parent / f"{data_dir.name}.log"
        self.process: Process | None = None
        self.port = 0
        self.base_url = ""
        self._environ = dict(environ or {})
        self._python = python
        self._preloaded = preload and python == sys.executable
        self._config = data_dir.parent / f"{data_dir.name}.toml"
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._config.write_text(config + _routes(scripted, data_dir))

    def start(self) -> Server:
        """Start, and return once requests are answered. Raises NotStarted."""
        assert self.process is None, "the server runs already"
        self.process = self._spawn()
        silence = threading.Timer(START_SECONDS, self.process.kill)
        silence.start()
        try:
            self._wait_until_announced(self.process)
            with urllib.request.urlopen(f"{self.base_url}/healthz", timeout=START_SECONDS) as answer:
                assert answer.status == 200
        except (urllib.error.URLError, ConnectionError) as error:
            raise NotStarted(f"{error}\n{self.log()}") from error
        finally:
            silence.cancel()
        return self

    def stop(self) -> int:
        """SIGTERM, as an init system does it; return the exit status. Raises TimeoutExpired when it does not end."""
        process = self._running()
        process.terminate()
        return self._gone(process, STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL: no handler runs. Sandboxes live on, and the next start attaches to them."""
        process = self._running()
        process.kill()
        self._gone(process, STOP_SECONDS)

    def restart(self) -> Server:
        """Stop in order and start again."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Leave nothing behind: neither the server nor its sandboxes. For the end of a test, in whatever state."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self._gone(self.process, STOP_SECONDS)
        end_sandboxes(self.data_dir)

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def headers(self) -> dict[str, str]:
        """What every request to a managed-agents endpoint needs."""
        return {
            "authorization": f"Bearer {self.key}",
            "anthropic-version": "2026-10-21",
            "anthropic-beta": "managed-agents-2026-04-01",
        }

    def log(self) -> str:
        """All that the server has written to stderr so far, over all starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def __enter__(self) -> Server:
        return self.start() if self.process is None else self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def _spawn(self) -> Process:
        command, environ = self._command(), self._environment()
        with self.log_file.open("ab") as log:
            if self._preloaded:
                return preloaded.start(command[1:], environ=environ, stderr=log)
            pipe = subprocess.PIPE
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=log, env=environ)

    def _running(self) -> Process:
        assert self.process is not None, "the server does not run"
        return self.process

    def _gone(self, process: Process, seconds: float) -> int:
        status = process.wait(seconds)
        if process.stdout is not None:
            process.stdout.close()
        self.process = None
        return status

    def _command(self) -> list[str]:
        command = [self._python, "-m", "hostler.cli", "serve", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--config", str(self._config)]
        return [*command, "--database", self.database] if self.database else command

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        return {
            **kept,
            "PYTHONPATH": str(SOURCE),
            "HOSTLER_API_KEY": self.key,
            "HOSTLER_SCRIPTED": "1",
            **self._environ,
        }

    def _wait_until_announced(self, process: Process) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if found := _ANNOUNCED.search(line):
                self.base_url = found.group(1).decode()
                self.port = int(self.base_url.rpartition(":")[2])
                return
        status = self._gone(process, STOP_SECONDS)
        raise NotStarted(f"the server ended with {status} before it was ready:\n{self.log()}")


def end_sandboxes(data_dir: Path) -> None:
    """End what outlives a server on purpose."""
    from hostler.sandbox.backends import SandboxConfig, open_backend

    async def end() -> None:
        for folder in (data_dir / "sandboxes", data_dir / "layers" / "building"):
            if folder.is_dir():
                backend = open_backend(folder, SandboxConfig(), os.environ)
                await backend.reap(set())
                await backend.aclose(stop=True)

    asyncio.run(end())


def _routes(scripted: Path | dict[str, Any] | None, data_dir: Path) -> str:
    if scripted is None:
        return ""
    if isinstance(scripted, dict):
        file = data_dir.parent / f"{data_dir.name}.script.json"
        file.write_text(json.dumps(scripted))
        scripted = file
    options = f"{{ file = {json.dumps(str(scripted))} }}"
    return f'\n[[models.route]]\npattern = "*"\nprovider = "script"\noptions = {options}\n'
