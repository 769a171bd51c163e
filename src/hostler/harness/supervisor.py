"""Gives every session that needs work a task, and tells running ones of new input. It must not know what the work is.

A session runs in one task at a time. A wake for a running one pokes it; one that comes while it ends starts it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import NoReturn

from hostler import clock
from hostler.errors import Unavailable
from hostler.harness.deps import Deps
from hostler.harness.drafts import session_error
from hostler.harness.failure import give_up
from hostler.harness.loop import advance
from hostler.harness.recalling import recall_tx
from hostler.harness.state import Session
from hostler.harness.wake import Wake
from hostler.log.append import StaleLease
from hostler.store.dispatch import Dispatcher, Lease
from hostler.store.store import AlreadyOpen, StoreClosed

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
TIDY_SECONDS = 5.0
KEPT_FOLDS = 128
MAX_CRASHES = 3
STORE_DOWN_SECONDS = 2.0
CRASHED = "The server failed while it worked on this session; its log says why. Send a message to try again."


class Supervisor:
    """The running sessions of this process."""

    def __init__(self, deps: Deps, dispatcher: Dispatcher) -> None:
        self._deps = deps
        self._dispatcher = dispatcher
        self._runs: dict[str, Wake | None] = {}
        self._woken: set[str] = set()
        self._folds: OrderedDict[str, tuple[int, Session]] = OrderedDict()
        self._sandbox_used: dict[str, float] = {}
        self._unsaved: dict[str, float] = {}  # sessions whose sandbox was used since it was last written down
        self._crashes: dict[str, int] = {}
        self._unsure: set[str] = set()  # sessions of which the database may still say that we hold them
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._draining = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def run(self) -> NoReturn:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeat(), name="harness-heartbeat")
            group.create_task(self._tidy(), name="harness-tidy")
            group.create_task(self._clear(), name="harness-clear")
            group.create_task(self._save(), name="harness-save")
            group.create_task(self._deps.life.run(), name="harness-life")
            async for session_id in self._dispatcher.wakes():
                if session_id in self._runs:
                    self._woken.add(session_id)
                    if (running := self._runs[session_id]) is not None:
                        running.poke()
                elif not self._draining:
                    self._runs[session_id] = None
                    self._quiet.clear()
                    group.create_task(self._work(session_id), name=f"session-{session_id}")
        raise AssertionError("wakes() never ends")

    async def drain(self, seconds: float) -> None:
        """Take no new session on and wait for the running ones, at most so long. Those that remain are resumed by the
        next process: the log has all it needs, and their sandboxes live on."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            log.info("leaving %d running sessions for the next start", len(self._runs))

    async def rest(self, seconds: float) -> None:
        """Stop the sandboxes that idle sessions have left here, as many as that time allows; the others live on until
        the next start finds them."""
        idle = [session_id for session_id in self._sandbox_used if session_id not in self._runs]
        tasks = [asyncio.create_task(self._hibernate(session_id)) for session_id in idle]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def created(self, config: bytes) -> None:
        """A session was made in an environment of this config: its packages are built from now on."""
        self._deps.layers.created(config)

    def ended(self, session_id: str) -> None:
        """A session was archived or deleted: its sandbox goes."""
        self._folds.pop(session_id, None)
        self._sandbox_used.pop(session_id, None)
        self._unsaved.pop(session_id, None)
        self._ended.put_nowait(session_id)

    def inputs_changed(self, session_id: str) -> None:
        """A session's mounts changed: a running one looks again before its next tool."""
        if (wake := self._runs.get(session_id)) is not None:
            wake.inputs_stale = True

    async def _work(self, session_id: str) -> None:
        self._woken.discard(session_id)
        try:
            lease = await self._dispatcher.claim(session_id, again=session_id in self._unsure)
            self._unsure.discard(session_id)
            if lease is not None:
                await self._advance(lease)
        except StaleLease:
            log.warning("session %s was taken over", session_id)
        except StoreClosed:
            pass
        except AlreadyOpen:
            raise  # nothing can be written any more: end the process before it acts once more
        except Unavailable as error:
            # Nothing is lost, and it is not the session's fault: go on from the log once it can be written again.
            log.warning("session %s: waits: %s", session_id, error)
            self._unsure.add(session_id)
            await asyncio.sleep(STORE_DOWN_SECONDS)
            self._woken.add(session_id)
        except Exception:
            log.exception("session %s: could not be worked on", session_id)
        finally:
            del self._runs[session_id]
            if not self._runs:
                self._quiet.set()
            if session_id in self._woken:
                self._dispatcher.wake(session_id)

    async def _advance(self, lease: Lease) -> None:
        wake = await self._recall(lease)
        self._runs[lease.session_id] = wake
        if lease.session_id in self._woken:
            wake.poke()  # the wake came while the log was read, perhaps after the read
        try:
            await advance(wake, self._deps)
            self._crashes.pop(lease.session_id, None)
            self._keep(lease, wake.session)
        except (StaleLease, Unavailable, AlreadyOpen):
            raise
        except Exception:
            await self._crashed(wake.lease)
            raise
        finally:
            if wake.sandbox is not None:
                now = asyncio.get_running_loop().time()
                self._sandbox_used[lease.session_id] = self._unsaved[lease.session_id] = now

    async def _recall(self, lease: Lease) -> Wake:
        """Fold the log, from where this process left it when nobody has held the session since."""
        token, session = self._folds.pop(lease.session_id, (0, Session()))
        if token != lease.token - 1:
            session = Session()
        row, entries = await self._deps.log.store.read(lambda: recall_tx(lease.session_id, session.next_seq))
        session.absorb(entries)
        return Wake(self._deps.log, lease, row, session)

    def _keep(self, lease: Lease, session: Session) -> None:
        self._folds[lease.session_id] = (lease.token, session)
        while len(self._folds) > KEPT_FOLDS:
            self._folds.popitem(last=False)

    async def _crashed(self, lease: Lease) -> None:
        """Try again a little later; when that keeps failing, end the turn, so that the session stays usable."""
        crashes = self._crashes.get(lease.session_id, 0) + 1
        self._crashes[lease.session_id] = crashes
        if crashes < MAX_CRASHES:
            await self._dispatcher.schedule(lease, clock.now() + crashes * 1_000_000)
            return
        del self._crashes[lease.session_id]
        wake = await self._recall(lease)  # what failed may have left a fold that is not the log's
        # The primary thread last: with it the session turns idle.
        active = sorted((run for run in wake.runs.values() if run.thread.active), key=lambda run: run.primary)
        for run in active or [wake.primary]:
            last = run is (active or [wake.primary])[-1]
            await give_up(run, [session_error("unknown_error", CRASHED, "exhausted")] if last else [], tell=False)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self._dispatcher.heartbeat([wake.lease for wake in self._runs.values() if wake is not None])
            except Unavailable as problem:
                log.warning("the leases could not be kept alive: %s", problem.message)

    async def _tidy(self) -> None:
        """Stop the sandboxes of sessions that have been idle for a while."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            before = loop.time() - self._deps.config.idle_sandbox_seconds
            for session_id, used in list(self._sandbox_used.items()):
                if used < before and session_id not in self._runs:
                    del self._sandbox_used[session_id]
                    await self._hibernate(session_id)

    async def _save(self) -> None:
        """Write down the sandboxes of sessions that have ended a turn, one at a time."""
        config, loop = self._deps.config, asyncio.get_running_loop()
        if not config.checkpoint_seconds or not config.checkpoints:
            return
        while True:
            await asyncio.sleep(min(1.0, config.checkpoint_seconds))
            before = loop.time() - config.checkpoint_seconds
            for session_id, used in list(self._unsaved.items()):
                if used < before and session_id not in self._runs:
                    self._unsaved.pop(session_id, None)
                    await self._deps.life.save(session_id)

    async def _hibernate(self, session_id: str) -> None:
        try:
            await self._deps.sandboxes.hibernate(session_id)
        except Exception:
            log.exception("session %s: its idle sandbox could not be stopped", session_id)

    async def _clear(self) -> None:
        """Remove the sandboxes of sessions that have ended, and their snapshots."""
        while True:
            session_id = await self._ended.get()
            try:
                await self._deps.life.forget(session_id)
            except Exception:
                log.exception("session %s: its sandbox could not be removed", session_id)
