"""A self-hosted environment of a real server, and the workers that serve it: processes with the official SDK in them.

It must not reach into the server: everything goes over HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

import preloaded
from contract.world import BUILTINS, DEADLINE, World, message

WORKER = Path(__file__).with_name("worker.py")
MODULES = ("anthropic", "anthropic.lib.environments", "httpcore2")  # the SDK computes a second when it is imported
SCRIPT = Path(__file__).with_name("script.json")
REQUIRES_ACTION = "requires_action"


class Worker:
    """One process of `worker.py`."""

    def __init__(self, fleet: Fleet, verb: str, folder: Path, **environ: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._log = (folder.parent / f"{folder.name}.log").open("ab")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "HOSTLER_"))}
        base = {"ANTHROPIC_BASE_URL": fleet.world.server.base_url, "ANTHROPIC_ENVIRONMENT_ID": fleet.environment_id}
        arguments = [] if verb == "claim" else [str(folder)]
        self.process = preloaded.start(
            [str(WORKER), verb, *arguments], environ={**kept, **base, **environ}, stderr=self._log, modules=MODULES
        )

    def line(self) -> str:
        """The next line that it prints."""
        return self.process.stdout.readline().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        self.process.stdout.close()
        self._log.close()


class Fleet:
    """One environment, its key, and the workers that a test starts."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.environment_id = world.beta.environments.create(name="fleet", config={"type": "self_hosted"}).id
        world._environment = self.environment_id
        self.key_id, self.key = self.new_key()
        self.stack = contextlib.ExitStack()
        self._count = 0

    @property
    def work(self) -> Any:
        return self.world.beta.environments.work

    def new_key(self) -> tuple[str, str]:
        made = self.world.http.post(f"/v1/environments/{self.environment_id}/keys", json={"name": "fleet"})
        assert made.status_code == 200, made.text
        return made.json()["id"], made.json()["key"]

    def start(self, verb: str = "run", **environ: str) -> Worker:
        """Start a worker in a folder of its own."""
        self._count += 1
        worker = Worker(
            self, verb, self.folder / f"w{self._count}", **{"ANTHROPIC_ENVIRONMENT_KEY": self.key, **environ}
        )
        self.stack.callback(worker.close)
        if verb == "run":
            assert worker.line() == "ready\n", worker.log()
        return worker

    def bearer(self, token: str) -> httpx2.Client:
        """A client with a worker's credential instead of the API key."""
        server = self.world.server
        headers = {**server.headers, "authorization": f"Bearer {token}"}
        return self.stack.enter_context(httpx2.Client(base_url=server.base_url, headers=headers, timeout=DEADLINE))

    def session(self, *texts: str, **fields: Any) -> str:
        """A session of an agent with the toolset, with these messages to begin with."""
        first = {"initial_events": [message(text) for text in texts]} if texts else {}
        return self.world.session(fields.pop("tools", BUILTINS), **first, **fields)

    def finished(self, session_id: str, seconds: float = DEADLINE) -> list[dict[str, Any]]:
        """The session's events, once it has ended its turn."""
        return self.until(session_id, lambda events: ended(events), seconds)

    def until(self, session_id: str, holds: Any, seconds: float = DEADLINE) -> list[dict[str, Any]]:
        """The session's events, once they are as they should be."""
        deadline = time.monotonic() + seconds
        while True:
            events = self.world.raw(session_id)
            if holds(events):
                return events
            assert time.monotonic() < deadline, json.dumps(events, indent=1)[-6000:]
            time.sleep(0.05)

    def items(self) -> list[Any]:
        return list(self.work.list(self.environment_id))

    def state(self, state: str, seconds: float = DEADLINE) -> Any:
        """The newest item, once it is in this state."""
        deadline = time.monotonic() + seconds
        while True:
            items = self.items()
            if items and items[0].state == state:
                return items[0]
            assert time.monotonic() < deadline, items
            time.sleep(0.05)

    def close(self) -> None:
        self.stack.close()


def ended(events: list[dict[str, Any]]) -> bool:
    return bool(events) and events[-1]["type"] == "session.status_idle" and not waiting(events)


def waiting(events: list[dict[str, Any]]) -> list[str]:
    """The ids that an idle session waits for."""
    last = events[-1] if events else {"type": ""}
    if last["type"] != "session.status_idle" or last["stop_reason"]["type"] != REQUIRES_ACTION:
        return []
    ids: list[str] = last["stop_reason"]["event_ids"]
    return ids


def texts(events: list[dict[str, Any]], kind: str) -> list[str]:
    """The texts of the events of one type."""
    return ["".join(block["text"] for block in event["content"]) for event in events if event["type"] == kind]


@contextlib.contextmanager
def fleet_of(world: World, folder: Path) -> Iterator[Fleet]:
    fleet = Fleet(world, folder)
    try:
        yield fleet
    finally:
        fleet.close()
