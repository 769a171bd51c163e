"""A server that can be ordered to die at a point of a session, and that comes back on the same data folder and port."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from hostler.sandbox import launcher
from running import NotStarted, Server

KILLABLE = Path(__file__).with_name("killable.py")
SCRIPT = Path(__file__).with_name("script.json")
HARNESS = "retry_base = 0.2\nretry_limit = 0.5"
STARTS = 5
PRICE = '[models.price."scripted"]\ninput = 0\noutput = 1000\n'


class Mortal(Server):
    """See `running.Server`. `spawned` and `ready` are wall times of its last start."""

    def __init__(
        self,
        folder: Path,
        *,
        harness: str = "",
        config: str = "",
        scripted: Path | dict[str, Any] = SCRIPT,
        database: str | None = None,
        preload: bool = True,
    ) -> None:
        environ = {"HOSTLER_TEST_ORDERS": str(folder)}
        super().__init__(
            folder / "data",
            config=f"[harness]\n{harness}\n{PRICE}{config}",
            scripted=scripted,
            database=database,
            environ=environ,
            preload=preload,
        )
        self.folder = folder
        self.spawned = self.ready = 0.0
        self.client = httpx2.Client(timeout=20)

    def start(self) -> Mortal:
        """Start. A server that was ordered to die before it is ready does, and is started again."""
        for _ in range(STARTS):
            before = self.orders()
            self.spawned = time.time()
            try:
                super().start()
                break
            except NotStarted:
                if self.orders() == before:
                    raise
                self.forget()
        self.ready = time.time()
        self.client.base_url = self.base_url
        self.client.headers.update(self.headers)
        return self

    def ensure(self) -> None:
        """Run, with no orders, whatever the test before has left."""
        (self.folder / "kill").unlink(missing_ok=True)
        if self.process is not None and self.process.poll() is not None:
            self.forget()
        if self.process is None:
            self.start()

    def order(self, session_id: str, *points: str) -> None:
        """Let the server die when it passes these points of a session, one death each: `point` or `point COUNT`."""
        lines = [point if point.rpartition(" ")[2].isdigit() else f"{point} 1" for point in points]
        half = self.folder / "kill.new"
        half.write_text("\n".join([session_id, *lines]))
        half.replace(self.folder / "kill")

    def orders(self) -> list[str]:
        """The points that were ordered and not passed."""
        try:
            return (self.folder / "kill").read_text().splitlines()[1:]
        except FileNotFoundError:
            return []

    def wait_killed(self, seconds: float = 15) -> None:
        """Wait until it has died by an order, or a `kill`."""
        if self.process is not None:
            code = self.process.wait(seconds)
            assert code == -signal.SIGKILL, f"ended with {code}:\n{self.log()}"
            self.forget()

    def forget(self) -> None:
        """Let go of a process that has ended."""
        if self.process is not None:
            self._gone(self.process, 10)

    def end_sandbox(self, session_id: str) -> None:
        """Kill a session's sandbox from outside."""
        state: Any = msgspec.json.decode((self.data_dir / "sandboxes" / session_id / "state.json").read_bytes())
        launcher.end(msgspec.convert(state["init"], launcher.Running))

    def close(self) -> None:
        self.client.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            super().close()

    def _command(self) -> list[str]:
        return [sys.executable, str(KILLABLE), *super()._command()[3:]]
