"""Starts, kills and restarts the server that the recovery tests look at, on one data folder, database and port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import msgspec

from hostler.sandbox import launcher

KEY = "sk-test-recovery"
KILLABLE = Path(__file__).with_name("killable.py")
SOURCE = Path(launcher.__file__).parents[2]
START_SECONDS = 20.0
HEADERS = {
    "authorization": f"Bearer {KEY}",
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "managed-agents-2026-04-01",
}


class Mortal:
    """A server process that may die and come back. `spawned` and `ready` are wall times of its last start."""

    def __init__(self, folder: Path, config: str, database: str | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "config.toml"
        self.config.write_text(config)
        self.database = database
        self.port = _free_port()
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", headers=HEADERS, timeout=20)
        self.spawned = self.ready = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["serve", "--port", str(self.port), "--data-dir", str(self.data), "--config", str(self.config)]
        if self.database:
            arguments += ["--database", self.database]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("HOSTLER_", "ANTHROPIC_"))}
        environ |= {"HOSTLER_API_KEY": KEY, "HOSTLER_TEST_ORDERS": str(self.folder), "PYTHONPATH": str(SOURCE)}
        self.spawned = time.time()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(KILLABLE), *arguments],
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_ready()
        self.ready = time.time()

    def ensure(self) -> None:
        """Run, with no orders, whatever the test before has left."""
        (self.folder / "kill").unlink(missing_ok=True)
        if self.process is None or self.process.poll() is not None:
            self.start()

    def order(self, session_id: str, *points: str) -> None:
        """Let the server die when it passes these points of a session, one death each."""
        lines = [point if point.rpartition(" ")[2].isdigit() else f"{point} 1" for point in points]
        half = self.folder / "kill.new"
        half.write_text("\n".join([session_id, *lines]))
        half.replace(self.folder / "kill")

    def outstanding(self) -> list[str]:
        """The points that were ordered and not passed."""
        try:
            return (self.folder / "kill").read_text().splitlines()[1:]
        except FileNotFoundError:
            return []

    def wait_killed(self, seconds: float = 15) -> None:
        assert self.process is not None
        code = self.process.wait(seconds)
        assert code == -signal.SIGKILL, f"ended with {code}:\n{self.log()}"

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> float:
        """End in order; return how long it took."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.terminate()
        assert self.process.wait(12) == 0, self.log()
        return time.monotonic() - begun

    def end_sandbox(self, session_id: str) -> None:
        """Kill a session's sandbox from outside."""
        state = msgspec.json.decode((self.data / "sandboxes" / session_id / "state.json").read_bytes())
        launcher.end(msgspec.convert(state["init"], launcher.Running))

    def close(self) -> None:
        """End the process and every sandbox it made."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for state in self.data.glob("sandboxes/*/state.json"):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                self.end_sandbox(state.parent.name)
        self.client.close()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-6000:]

    def _wait_ready(self) -> None:
        """Poll for readiness: a process that starts can't tell another way."""
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            try:
                if self.client.get("/healthz").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.02)
        raise AssertionError(f"not ready after {START_SECONDS} s:\n{self.log()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def config(script: Path, harness: Sequence[str] = ()) -> str:
    """A config file's content: every model is the script."""
    route = f'[[models.route]]\npattern = "*"\nprovider = "script"\noptions = {{ file = "{script}" }}\n'
    return "\n".join(["[harness]", *harness, "", route])
