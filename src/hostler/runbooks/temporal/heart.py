"""Tells Temporal that an attempt is alive, and shows there what it does. It must not keep anything that is needed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity

from hostler.runbooks.invoking import rows

USUAL_SECONDS = 10.0  # where the activity has no heartbeat timeout: so that it hears of a cancellation


class Heart:
    """A call's notes for the time of one attempt. Use it with `async with`."""

    def __init__(self, timeout: timedelta | None) -> None:
        self.session_id: str | None = None
        self.waiting: list[str] = []
        self._last = ""
        self._interval = timeout.total_seconds() / 4 if timeout else USUAL_SECONDS
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Heart:
        self._beating = asyncio.create_task(self._beat(), name="heartbeats")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._beating is not None
        self._beating.cancel()
        await asyncio.wait({self._beating})

    async def _beat(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(self._interval)

    def _tell(self) -> None:
        said: dict[str, Any] = {"session_id": self.session_id, "last": self._last}
        if self.session_id is None:
            activity.heartbeat()
        else:
            activity.heartbeat({**said, "waits_for": self.waiting} if self.waiting else said)

    def waits_for(self, tools: list[str]) -> None:
        self.waiting = tools
        if tools:
            activity.logger.warning("session %s waits for a person: %s", self.session_id, ", ".join(tools))
        self._tell()

    # -- Notes --

    async def begun(self, _: rows.AgentRun, session_id: str) -> None:
        self.session_id = session_id
        activity.logger.info("session %s", session_id)
        self._tell()

    async def told(self, _: rows.AgentRun, __: str, told: list[rows.Told]) -> None:
        self._last = f"{told[-1].kind}: {told[-1].text}"[:200].rstrip(": ")

    async def replies(self, _: rows.AgentRun) -> dict[str, rows.Reply]:
        """People answer in the session itself."""
        return {}
