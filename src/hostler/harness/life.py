"""The life of sandboxes beyond a turn: checkpoints, hibernation, restoring, and the end of their retention.

Whatever it does to one session happens under that session's lock, and it gives way to a session that is woken. What a
row says is committed after the file it names is whole, and before anything is deleted. It must not start a sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec

from hostler import clock
from hostler.errors import InvalidRequest, NotFound, Unavailable
from hostler.harness import checkpoints as rows
from hostler.harness.checkpoints import EXPIRED, HERE, NONE, SNAPSHOT, Checkpoint, State
from hostler.harness.drafts import session_error
from hostler.harness.state import SANDBOX_RESET
from hostler.ids import new_id
from hostler.log.append import Appended, StaleLease, append_tx
from hostler.log.entries import Draft
from hostler.log.log import Log
from hostler.sandbox.contract import Backend, SandboxUnavailable, Snapshot, SnapshotDamaged
from hostler.store.rounds import survived
from hostler.store.sql import Tx

if TYPE_CHECKING:
    from hostler.harness.deps import HarnessConfig
    from hostler.harness.wake import Wake

log = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0
SWEPT_AT_ONCE = 100
AGAIN_SECONDS = 3600.0  # until one with which nothing could be done is tried again
ROOM = 4  # times `checkpoint_mb` that must be free for a checkpoint that nobody has asked for
DAY_US = 86_400 * 1_000_000
SUFFIX = ".tar.zst"
GONE = (
    "The sandbox of this session was older than its retention time, so its files are gone and a fresh one was started. "
    "Inputs, repositories and skills are mounted again; the conversation is complete."
)
DAMAGED = (
    "The snapshot of this session's sandbox is damaged ({reason}), so its files are lost and a fresh one was started. "
    "Inputs, repositories and skills are mounted again; the conversation is complete."
)
BUSY = "Session {id} is running. Wait until it is idle, or send a user.interrupt."


class Life:
    """One instance a process. `folder` holds a folder of snapshots for each session that has any."""

    def __init__(self, journal: Log, backend: Backend, folder: Path, config: HarnessConfig) -> None:
        self._journal = journal
        self._store = journal.store
        self._backend = backend
        self._folder = folder
        self._config = config
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._yielding: dict[str, asyncio.Future[Snapshot | None]] = {}  # what gives way to a session that is woken
        self._counted = False
        self._later: dict[str, float] = {}  # sessions with which nothing could be done, and when to try again

    def path(self, session_id: str, checkpoint_id: str) -> Path:
        return self._folder / session_id / f"{checkpoint_id}{SUFFIX}"

    @contextlib.asynccontextmanager
    async def alone(self, session_id: str) -> AsyncIterator[None]:
        """Nothing else is done to this session's sandbox or snapshots meanwhile."""
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        async with lock:
            yield

    # -- before a tool call --

    async def ready(self, wake: Wake) -> None:
        """Make sure that what the backend provisions next is this session's sandbox as it was left: restore it, or make
        room for a fresh one. Raises SandboxUnavailable and StaleLease."""
        session_id = wake.session_id
        if (task := self._yielding.get(session_id)) is not None:
            task.cancel()
        async with self.alone(session_id):
            state = await self._store.read(lambda: rows.state_tx(session_id))
            now = clock.now()
            if state is None:
                raise StaleLease(session_id)
            if state.sandbox == EXPIRED or state.expired(now, self._retention_us):
                await self._fresh(wake, GONE, reset=state.sandbox != EXPIRED)
            elif state.sandbox == NONE:
                await self._backend.destroy(session_id)
                await self._begin(wake, now)
            elif state.sandbox == SNAPSHOT:
                await self._restore(wake, state)

    async def _restore(self, wake: Wake, state: State) -> None:
        wanted = state.checkpoint_id or ""
        found = await self._store.read(lambda: rows.one_tx(wake.session_id, wanted))
        try:
            if found is None:
                raise SnapshotDamaged("nothing is known of it any more")
            snapshot = Snapshot(bytes=found.size_bytes, sha256=found.sha256)
            await self._backend.restore(wake.session_id, self.path(wake.session_id, wanted), snapshot)
        except SnapshotDamaged as problem:
            log.error("session %s: snapshot %s is damaged: %s", wake.session_id, wanted, problem)
            await self._fresh(wake, DAMAGED.format(reason=problem), reset=True)
        else:
            await self._begin(wake, state.sandbox_at or clock.now())

    async def _fresh(self, wake: Wake, told: str, *, reset: bool) -> None:
        """Begin anew, and say so, once: what is told and what holds from now on are one commit."""
        await self._backend.destroy(wake.session_id)
        await self._forget_files(wake.session_id)
        await self._store.write(lambda: rows.delete_all_tx(wake.session_id))
        told_of = [Draft(type=SANDBOX_RESET)] if reset else []
        items = [*told_of, session_error("unknown_error", told, "retrying")]
        patch = {"sandbox": HERE, "sandbox_at": clock.now(), "checkpoint_id": None}
        await wake.primary.append(items, patch=patch)

    async def _begin(self, wake: Wake, at: int) -> None:
        if not await self._store.write(lambda: rows.begin_tx(wake.session_id, wake.lease.token, at)):
            raise StaleLease(wake.session_id)

    # -- at rest --

    async def hibernate(self, session_id: str, *, yielding: bool = False) -> Checkpoint | None:
        """Turn the sandbox's directory into a snapshot; None when the session has no sandbox. One that is a snapshot
        already stays it. `yielding` gives way to a session that is woken. Raises NotFound, InvalidRequest for one
        that runs, and SandboxUnavailable."""
        return await self._keep(session_id, yielding=yielding, hibernates=True)

    async def checkpoint(self, session_id: str, also: Path | None = None) -> Checkpoint | None:
        """Write the sandbox down and leave it as it is; the rest as for `hibernate`. `also` becomes another name of the
        snapshot, which stays when a newer one takes its place; raises OSError where it can't."""
        return await self._keep(session_id, yielding=False, hibernates=False, also=also)

    async def _keep(
        self, session_id: str, *, yielding: bool, hibernates: bool, also: Path | None = None
    ) -> Checkpoint | None:
        async with self.alone(session_id):
            made = await self._kept(session_id, yielding=yielding, hibernates=hibernates)
            if made is not None and also is not None:
                await asyncio.to_thread(os.link, self.path(session_id, made.id), also)
            return made

    async def _kept(self, session_id: str, *, yielding: bool, hibernates: bool) -> Checkpoint | None:
        state = await self._resting(session_id)
        if state.sandbox == SNAPSHOT:
            wanted = state.checkpoint_id or ""
            return await self._store.read(lambda: rows.one_tx(session_id, wanted))
        if state.sandbox != HERE:
            return None
        return await self._write(session_id, state, hibernates=hibernates, yielding=yielding)

    async def _resting(self, session_id: str) -> State:
        state = await self._store.read(lambda: rows.state_tx(session_id))
        if state is None:
            raise NotFound(f"Session {session_id} was not found.")
        if state.archived_at is not None:
            raise InvalidRequest(f"Session {session_id} is archived, and its sandbox is gone.")
        if not state.resting:
            raise InvalidRequest(BUSY.format(id=session_id))
        return state

    async def _write(self, session_id: str, state: State, *, hibernates: bool, yielding: bool) -> Checkpoint | None:
        if hibernates:
            await self._backend.hibernate(session_id)
        position, event_id = await self._store.read(lambda: rows.last_idle_tx(session_id))
        checkpoint_id = new_id("ckpt")
        target = self.path(session_id, checkpoint_id)
        limit = self._checkpoint_bytes if yielding and not hibernates else None
        await asyncio.to_thread(target.parent.mkdir, 0o700, parents=True, exist_ok=True)
        written = await self._snapshot(session_id, target, limit, yielding=yielding)
        if written is None:
            await self._store.write(lambda: rows.vanished_tx(session_id, state))
            return None
        made = Checkpoint(checkpoint_id, session_id, position, event_id, written.bytes, written.sha256, clock.now())
        # Cut off here, nobody knows whether it was committed: then the file stays, and the next start looks.
        if not await self._store.write(lambda: rows.keep_tx(made, state, hibernated=hibernates)):
            target.unlink(missing_ok=True)
            await self._resting(session_id)  # which raises for one that was deleted or archived meanwhile
            raise InvalidRequest(BUSY.format(id=session_id))
        if hibernates:
            await self._backend.destroy(session_id)
        await self._prune(session_id)
        return made

    async def _snapshot(self, session_id: str, target: Path, limit: int | None, *, yielding: bool) -> Snapshot | None:
        work = self._backend.snapshot(session_id, target, limit_bytes=limit)
        if not yielding:
            return await work
        task = self._yielding[session_id] = asyncio.ensure_future(work)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            if (ours := asyncio.current_task()) is not None and ours.cancelling():
                raise
            raise InvalidRequest(BUSY.format(id=session_id)) from None  # it was woken
        finally:
            del self._yielding[session_id]

    async def _prune(self, session_id: str) -> None:
        """Keep the newest checkpoints, one for each point of the log; the newest stays whatever its size."""
        found = await self._store.read(lambda: rows.all_tx(session_id))
        kept, room = set[int](), self._checkpoint_bytes
        surplus = []
        for number, each in enumerate(found):
            room -= each.size_bytes
            if number and (each.position in kept or len(kept) >= self._config.checkpoints or room < 0):
                surplus.append(each.id)
                room += each.size_bytes
            kept.add(each.position)
        if surplus:
            await self._store.write(lambda: rows.delete_tx(surplus))
            for checkpoint_id in surplus:
                self.path(session_id, checkpoint_id).unlink(missing_ok=True)

    async def lend(self, checkpoint: Checkpoint, session_id: str, position: int, event_id: str | None) -> Checkpoint:
        """Give another session the file of a checkpoint, as one of its own, which has no row yet. The caller holds the
        locks of both. Raises SandboxUnavailable."""
        made = msgspec.structs.replace(
            checkpoint,
            id=new_id("ckpt"),
            session_id=session_id,
            position=position,
            event_id=event_id,
            created_at=clock.now(),
        )
        await asyncio.to_thread(_link, self.path(checkpoint.session_id, checkpoint.id), self.path(session_id, made.id))
        return made

    def take_back(self, lent: Checkpoint) -> None:
        """What was lent is not needed after all."""
        self.path(lent.session_id, lent.id).unlink(missing_ok=True)

    # -- the end --

    async def forget(self, session_id: str) -> None:
        """A session was archived or deleted: nothing of its sandbox stays."""
        if (task := self._yielding.get(session_id)) is not None:
            task.cancel()
        async with self.alone(session_id):
            await self._backend.destroy(session_id)
            await self._store.write(lambda: rows.end_tx(session_id))
            await self._forget_files(session_id)

    async def expire(self, session_id: str) -> None:
        """The retention of a sandbox is over: it goes with its snapshots, unless the session is at work."""
        async with self.alone(session_id):
            state = await self._store.read(lambda: rows.state_tx(session_id))
            if state is None or not state.resting or not state.expired(clock.now(), self._retention_us):
                return

            def tx() -> Tx[Appended | None]:
                """Fenced, like all that is not what a client sent: the note must not stand in a running turn."""
                current = yield from rows.state_tx(session_id)
                if current != state:
                    return None
                thread_id = yield from rows.thread_tx(session_id)
                patch = {"sandbox": EXPIRED, "sandbox_at": None, "checkpoint_id": None}
                note = Draft(type=SANDBOX_RESET)
                now, fence = clock.now(), state.fence
                appended = yield from append_tx(session_id, thread_id, [note], now=now, token=fence, patch=patch)
                yield from rows.delete_all_tx(session_id)
                return appended

            publish = self._journal.publisher(session_id)
            if await self._store.write(tx, lambda done: publish(done) if done is not None else None) is not None:
                await self._backend.destroy(session_id)
                await self._forget_files(session_id)

    async def _forget_files(self, session_id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / session_id, ignore_errors=True)

    @property
    def _checkpoint_bytes(self) -> int:
        return self._config.checkpoint_mb * 1024 * 1024

    @property
    def _retention_us(self) -> int:
        return int(self._config.retention_days * DAY_US)

    # -- sweeping --

    async def run(self) -> None:
        """Hibernate what has rested and end what has expired, until cancelled."""
        pause = min(SWEEP_SECONDS, max(0.2, self._config.hibernate_seconds / 2 or SWEEP_SECONDS))
        pause = min(pause, max(0.2, self._config.retention_days * 86_400 / 4))
        while True:
            await survived(self.sweep(), log, "sandboxes that are due could not be looked for")
            await asyncio.sleep(pause)

    async def sweep(self) -> None:
        """Do what is due now; what fails with one session is only that one's."""
        now, loop = clock.now(), asyncio.get_running_loop()
        if not self._counted:
            await self._store.write(lambda: rows.count_from_tx(now))
            self._counted = True
        rest = self._config.hibernate_seconds
        rested_before = now - int(rest * 1_000_000) if rest else None
        self._later = {session_id: again for session_id, again in self._later.items() if again > loop.time()}
        most = SWEPT_AT_ONCE + len(self._later)  # those must not stand in the others' way
        due = await self._store.read(lambda: rows.due_tx(now - self._retention_us, rested_before, most))
        works: list[tuple[str, Callable[[str], Awaitable[object]]]] = [
            (session_id, self.expire) for session_id in due[0]
        ]
        works += [(session_id, partial(self.hibernate, yielding=True)) for session_id in due[1]]
        for session_id, work in works:
            if session_id not in self._later and not await self._attempt(session_id, work):
                self._later[session_id] = loop.time() + AGAIN_SECONDS

    async def save(self, session_id: str) -> None:
        """Write down a session that nobody has asked it of, where the disk has room for the copy: it gives way to a
        session that is woken, and is not written beyond `checkpoint_mb`."""

        async def work(session_id: str) -> None:
            if shutil.disk_usage(self._folder.parent).free >= ROOM * self._checkpoint_bytes:
                await self._keep(session_id, yielding=True, hibernates=False)

        await self._attempt(session_id, work)

    async def _attempt(self, session_id: str, work: Callable[[str], Awaitable[object]]) -> bool:
        """Do what nobody has asked for; False when it can't be done, which is no other session's matter."""

        async def careful() -> None:
            with contextlib.suppress(NotFound, InvalidRequest):  # it runs, or is gone
                try:
                    await work(session_id)
                except SandboxUnavailable as problem:
                    raise Unavailable(str(problem)) from problem

        return await survived(careful(), log, f"session {session_id}: its sandbox could not be put away")

    async def clear(self, sandboxes: Iterable[str]) -> None:
        """At start: remove what a killed process has left: directories of sandboxes that are snapshots by now, or have
        expired, and files that no row names."""
        names = [name for name in sandboxes if name.startswith("sesn_")]
        for at in range(0, len(names), 500):
            some = names[at : at + 500]
            for session_id in set(some) - await self._store.read(lambda some=some: rows.here_tx(some)):  # type: ignore[misc]
                await self._attempt(session_id, self._clear_directory)
        folders = await asyncio.to_thread(lambda: [path.name for path in self._folder.glob("*")])
        for session_id in folders:
            await self._attempt(session_id, self._clear_files)

    async def _clear_directory(self, session_id: str) -> None:
        async with self.alone(session_id):
            state = await self._store.read(lambda: rows.state_tx(session_id))
            if state is None or state.sandbox != HERE:
                await self._backend.destroy(session_id)

    async def _clear_files(self, session_id: str) -> None:
        async with self.alone(session_id):
            known = {each.id for each in await self._store.read(lambda: rows.all_tx(session_id))}
            folder = self._folder / session_id
            for path in await asyncio.to_thread(lambda: list(folder.iterdir()) if folder.is_dir() else []):
                if path.name.removesuffix(SUFFIX) not in known:
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _link(source: Path, target: Path) -> None:
    """Another name of a snapshot, which is never changed once it is written."""
    try:
        target.parent.mkdir(0o700, parents=True, exist_ok=True)
        os.link(source, target)
    except OSError as error:
        raise SandboxUnavailable(f"a snapshot could not be taken over: {error.strerror}") from error
