"""The package layers of a session: built in the background, waited for before the sandbox starts, and done without when
they cannot be had.

A layer that fails must not fail the session: the client is told once, and the agent goes on with the others.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from hostler.harness import environment_packages, skill_packages
from hostler.harness.drafts import session_error
from hostler.harness.state import PACKAGES
from hostler.harness.told import Told
from hostler.harness.wanted import Wanted
from hostler.log.entries import Draft
from hostler.sandbox.contract import Backend, Layer
from hostler.sandbox.layers import packagelists
from hostler.sandbox.layers.packages import Layers, LayerUnavailable

if TYPE_CHECKING:
    from hostler.harness.run import Run
    from hostler.harness.wake import Wake

NOTE_SECONDS = 3.0  # between two entries that say how far a build is
MOST_NOTES = 200  # of one wait


class SessionLayers:
    """One instance serves all sessions of a process. The two times are how long a first tool call waits."""

    def __init__(
        self, layers: Layers, sandboxes: Backend, *, skill_seconds: float = 120.0, environment_seconds: float = 600.0
    ) -> None:
        self._layers = layers
        self._sandboxes = sandboxes
        self._skill_seconds = skill_seconds
        self._environment_seconds = environment_seconds
        self._told = Told()

    def created(self, config: bytes) -> None:
        """A session was made in an environment of this config: start to build what it lacks."""
        for packages in environment_packages.sets_of(config):
            self._layers.begin(packages)

    def begin(self, wake: Wake) -> None:
        """Start to build what is missing; nobody waits for it yet."""
        for want in self._wanted(wake):
            self._layers.begin(want.packages)

    async def ready(self, run: Run) -> None:
        """Before a tool call: wait for the layers that a start of the sandbox would have, a bounded while, and tell the
        client of those that are missing. Raises Interrupted."""
        wants = self._wanted(run.wake)
        if not wants or run.wake.sandbox is not None or await self._sandboxes.find(run.session_id) is not None:
            return  # a live sandbox keeps what it has
        problems = await run.unless_interrupted(self._wait(run, wants))
        news = [
            problem
            for want, problem in zip(wants, problems, strict=True)
            if problem and self._told.new(run.session_id, want.id)
        ]
        if news:
            await run.append([session_error("unknown_error", problem, "retrying") for problem in news])

    async def built(self, wake: Wake) -> list[Layer]:
        """The layers that there are now."""
        found = []
        for want in self._wanted(wake):
            try:
                layer = await packagelists.find(self._layers, want.packages)
            except LayerUnavailable:
                continue
            found += [layer] if layer and layer not in found else []
        return found

    def _wanted(self, wake: Wake) -> list[Wanted]:
        """The environment's packages go before those of skills."""
        environment = environment_packages.wanted(wake.row, self._environment_seconds)
        return [*environment, *skill_packages.wanted(wake, self._skill_seconds)]

    async def _wait(self, run: Run, wants: list[Wanted]) -> list[str | None]:
        """For each what is wrong, if anything is."""
        return await asyncio.gather(*(self._problem(run, want) for want in wants))

    async def _problem(self, run: Run, want: Wanted) -> str | None:
        noting = asyncio.create_task(self._note(run, want))
        try:
            async with asyncio.timeout(want.wait_seconds):
                await packagelists.ensure(self._layers, want.packages)
        except TimeoutError:
            return want.slow
        except LayerUnavailable as reason:
            return want.problem(reason)
        finally:
            noting.cancel()
            await asyncio.wait({noting})
        return None

    async def _note(self, run: Run, want: Wanted) -> None:
        """Keep in the log, for the operator, what the build says while this session waits for it."""
        started, position, last = time.monotonic(), 0, ""
        for _ in range(MOST_NOTES):
            await asyncio.sleep(NOTE_SECONDS)
            try:
                progress = await packagelists.progress(self._layers, want.packages, position)
            except LayerUnavailable:  # not yet: what it is built upon may bring what it needs
                continue
            if progress is None:
                continue
            position = progress.position
            if progress.lines and progress.lines[-1] != last:
                last = progress.lines[-1]
                fields = {"for": want.id, "seconds": round(time.monotonic() - started, 1), "line": last}
                await run.append([Draft(type=PACKAGES, fields=fields)])
