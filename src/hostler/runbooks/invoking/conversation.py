"""One call of an agent: its session, which is made once and adopted after a crash, from the message to the last event.

It must not know the runbook that called, nor where tasks are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from hostler import clock
from hostler.runbooks.entries import Draft
from hostler.runbooks.invoking import rows
from hostler.runbooks.invoking.environment import Environment
from hostler.runbooks.invoking.notes import Notes
from hostler.runbooks.invoking.passback import Destination, Passback, PassedBack
from hostler.runbooks.invoking.remote import Down, Refused, Remote, patiently
from hostler.runbooks.invoking.watching import Watch

MARK = "hostler_run"  # in a session's metadata
INTERRUPT_SECONDS = 15.0
GRACE_SECONDS = 30.0
STOP_SECONDS = 30.0
_DAY = 86_400_000_000
_INTERRUPT = {"events": [{"type": "user.interrupt"}]}


class Call(msgspec.Struct, frozen=True):
    """What a runbook asks: the arguments of `invoke`. `seconds` counts without the time in which a person is asked."""

    agent_id: str
    message: str
    tenant_slug: str | None = None
    entity_slug: str | None = None
    task_id: str | None = None
    seconds: float = 1800.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A registered agent: where it lives, and what its sessions get. Without `base_url` it lives here."""

    agent_id: str
    tenant_id: str
    name: str
    native_id: str
    base_url: str | None = None
    api_key: str = ""
    version: int | None = None
    environment_id: str | None = None
    vault_ids: list[str] = []
    budget: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Target({self.agent_id!r})"


class _Late(Exception):
    """The call's time is up."""


Asks = Callable[[list[rows.Question]], Awaitable[None]]


class Conversation:
    """One call, with its session."""

    def __init__(
        self, notes: Notes, remote: Remote, environment: Environment, run: rows.AgentRun, target: Target, call: Call
    ) -> None:
        self._notes = notes
        self._environment = environment
        self._remote = remote
        self._run = run
        self._target = target
        self._call = call
        self._queue: asyncio.Queue[list[dict[str, Any]] | Exception | None] = asyncio.Queue(64)
        self._watch = Watch()
        self._asked: list[rows.Question] = []
        self._late = False
        self._grace_until = 0.0  # of the loop's clock: an adopted session is looked at once, however late it is

    async def to_the_end(self, passback: Passback, to: Destination, asks: Asks, *, fresh: bool) -> Draft:
        session_id = self._run.session_id
        self._grace_until = 0.0 if fresh else asyncio.get_running_loop().time() + GRACE_SECONDS
        try:
            async with asyncio.timeout(self._left()):
                session_id = session_id or await self._session(fresh=fresh)
                await self._kick(session_id, fresh=fresh)
            failure = await self._follow(session_id, asks)
            session = await patiently(lambda: self._remote.get(f"/v1/sessions/{session_id}"))
            back = await passback.take(self._remote, self._run, session, to, settled=self._target.base_url is None)
            if failure is None and back.problems:
                failure = " ".join(back.problems)
            if self._late:
                await self._put_away(session_id)
            return self._draft(session_id, failure, session, back)
        except TimeoutError:
            if session_id is not None:
                await self._put_away(session_id)
            said = f"After {self._call.seconds:g} seconds {self._remote.base_url} had not begun the session."
            return self._draft(session_id, said, {}, PassedBack([], []))
        except Refused as problem:
            said = f"{self._remote.base_url}: {problem}"
            return self._draft(session_id, said, {}, PassedBack([], []))

    def _left(self) -> float:
        """The seconds that the call may still take, by a clock that a restart does not set back."""
        now = clock.now() / 1e6
        left = self._run.started_at / 1e6 + self._call.seconds + self._watch.waiting(now) - now
        return max(left, self._grace_until - asyncio.get_running_loop().time(), 0.0)

    # -- the session --

    async def _session(self, *, fresh: bool) -> str:
        """The id of this call's session: of a new one, unless an earlier attempt has made it."""
        looked = fresh

        async def get() -> str:
            nonlocal looked
            found = None if looked else await self._find()
            looked = False
            return found or await self._made()

        session_id = await patiently(get)
        await self._notes.begun(self._run, session_id)
        return session_id

    async def _made(self) -> str:
        environment_id = self._target.environment_id or await self._usual()
        try:
            return str((await self._remote.post("/v1/sessions", self._wanted(environment_id)))["id"])
        except Refused:
            self._environment.forget(environment_id)
            if self._target.environment_id or environment_id == await self._usual():
                raise
            return await self._made()

    async def _usual(self) -> str:
        """Every session needs an environment. Here there is always one to be had; elsewhere it has to be named."""
        if self._target.base_url is not None:
            raise Refused(400, f"agent {self._target.name} has no environment: name one with --environment")
        return await self._environment.id(self._remote)

    async def _find(self) -> str | None:
        since = datetime.fromtimestamp((self._run.started_at - _DAY) / 1e6, UTC)
        query: dict[str, str | int] = {"agent_id": self._target.native_id, "limit": 100}
        query["created_at[gte]"] = since.isoformat().replace("+00:00", "Z")
        async for session in self._remote.pages("/v1/sessions", **query):
            if (session.get("metadata") or {}).get(MARK) == self._run.mark:
                return str(session["id"])
        return None

    def _wanted(self, environment_id: str) -> dict[str, Any]:
        target = self._target
        agent: Any = target.native_id
        if target.version is not None:
            agent = {"type": "agent", "id": target.native_id, "version": target.version}
        wanted = {
            "agent": agent,
            "environment_id": environment_id,
            "title": f"{target.name} for task {self._run.task_id}"[:512],
            "metadata": {MARK: self._run.mark, "task_id": self._run.task_id[:512]},
        }
        if target.vault_ids:
            wanted["vault_ids"] = target.vault_ids
        return wanted | ({"budget": target.budget} if target.budget else {})

    async def _kick(self, session_id: str, *, fresh: bool) -> None:
        """Give it the message, once."""
        path = f"/v1/sessions/{session_id}/events"
        event = {"type": "user.message", "content": [{"type": "text", "text": self._call.message}]}
        looked = fresh

        async def send() -> None:
            nonlocal looked
            if not looked and await self._was_kicked(path):
                return
            looked = False
            await self._remote.post(path, {"events": [event]})

        await patiently(send)

    async def _was_kicked(self, path: str) -> bool:
        async with aclosing(self._remote.pages(path, limit=100, order="asc")) as found:
            async for each in found:
                if each.get("type") == "user.message":
                    return True
        return False

    # -- following --

    async def _follow(self, session_id: str, asks: Asks) -> str | None:
        """Until it is done; what went wrong, or None."""
        pump = asyncio.create_task(self._pump(session_id), name=f"agent-{session_id}")
        try:
            await self._take_until_done(session_id, asks)
            return self._watch.failure()
        except _Late:
            self._late = True
            await self._interrupt(session_id)
            return f"The agent was not done after {self._call.seconds:g} seconds, and was interrupted."
        finally:
            pump.cancel()
            await asyncio.wait({pump})

    async def _take_until_done(self, session_id: str, asks: Asks) -> None:
        while not self._watch.done:
            try:
                async with asyncio.timeout(None if self._asked else self._left()):
                    events = await self._queue.get()
            except TimeoutError:
                raise _Late from None
            if isinstance(events, Exception):
                raise events
            await self._took(session_id, events, asks)

    def nudge(self) -> None:
        """Somebody has replied."""
        with suppress(asyncio.QueueFull):  # then there is enough to look at
            self._queue.put_nowait(None)

    async def _took(self, session_id: str, events: list[dict[str, Any]] | None, asks: Asks) -> None:
        for event in events or ():
            self._watch.take(event)
        if told := self._watch.told():
            await self._notes.told(self._run, session_id, told)
        questions = self._watch.questions()
        if questions and events is None:
            questions = await self._send_replies(session_id, questions)
        if questions != self._asked:
            self._asked = questions
            await asks(questions)
            await self._send_replies(session_id, questions)  # one that was given before a crash

    async def _send_replies(self, session_id: str, questions: list[rows.Question]) -> list[rows.Question]:
        """Send what people said, and return what is still to be said."""
        replies = await self._notes.replies(self._run)
        for question in questions:
            if (reply := replies.get(question.event_id)) is not None:
                with suppress(Refused):  # somebody else has answered
                    await patiently(self._sending(session_id, _answer(question, reply)))
        return [question for question in questions if question.event_id not in replies]

    def _sending(self, session_id: str, event: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
        return lambda: self._remote.post(_events(session_id), {"events": [event]})

    async def _pump(self, session_id: str) -> None:
        """All events in order, those that were before in one piece; a broken stream is opened again."""

        async def follow() -> None:
            async with self._remote.events(session_id) as live:
                await self._queue.put([each async for each in self._before(session_id)])
                async for event in live:
                    await self._queue.put([event])
            raise Down("the stream has ended")

        try:
            while True:
                with suppress(Down):
                    await patiently(follow, until=0.0)
                await asyncio.sleep(0.5)
        except Refused as problem:
            gone = problem.status == 404
            await self._queue.put([{"id": "gone", "type": "session.deleted"}] if gone else problem)
        except Exception as problem:
            await self._queue.put(problem)

    def _before(self, session_id: str) -> AsyncGenerator[dict[str, Any]]:
        query: dict[str, str | int] = {"limit": 1000, "order": "asc"}
        if self._watch.last_at is not None:
            query["created_at[gte]"] = self._watch.last_at
        return self._remote.pages(_events(session_id), **query)

    # -- ends --

    async def _interrupt(self, session_id: str) -> None:
        """Stop it, and see what it leaves."""
        with suppress(Refused, Down, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await patiently(lambda: self._remote.post(_events(session_id), _INTERRUPT))
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_SECONDS):
                while not self._watch.done:
                    events = await self._queue.get()
                    if isinstance(events, Exception):
                        return
                    for event in events or ():
                        self._watch.take(event)

    async def give_up(self) -> None:
        """Interrupt and archive the session that there may be. Raises Refused, Down."""
        session_id = self._run.session_id or await self._find()
        if session_id is None:
            return
        async with asyncio.timeout(STOP_SECONDS):
            with suppress(Refused):
                await patiently(lambda: self._remote.post(_events(session_id), _INTERRUPT))
            await self._archive(session_id)

    async def _put_away(self, session_id: str) -> None:
        with suppress(Refused, Down, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._archive(session_id)

    async def _archive(self, session_id: str) -> None:
        """A session that has just been interrupted may still be at work for a moment."""
        for _ in range(20):
            try:
                await patiently(lambda: self._remote.post(f"/v1/sessions/{session_id}/archive", {}))
                return
            except Refused as problem:
                if problem.status != 400:
                    raise
                await asyncio.sleep(0.5)

    def _draft(self, session_id: str | None, failure: str | None, session: dict[str, Any], back: PassedBack) -> Draft:
        """The fields of an `AgentResult`, and the agent's name."""
        status = "completed" if failure is None else "terminated" if self._watch.over == "terminated" else "failed"
        raw: dict[str, Any] = {
            name: session[name] for name in ("id", "status", "usage", "stats", "metadata") if name in session
        }
        raw["stop_reason"] = (self._watch.stop or {}).get("stop_reason")
        body = {
            "name": self._target.name,
            "agent_id": self._run.agent_id,
            "session_id": session_id or "",
            "status": status,
            "output_text": self._watch.text,
            "output_files": back.files,
            "raw": raw,
        }
        return Draft(kind="agent", key=self._run.key, body=body | ({"error": failure} if failure else {}))


def _events(session_id: str) -> str:
    return f"/v1/sessions/{session_id}/events"


def _answer(question: rows.Question, reply: rows.Reply) -> dict[str, Any]:
    if question.asked == "confirmation":
        event = {"type": "user.tool_confirmation", "tool_use_id": question.event_id}
        event["result"] = "allow" if reply.allow else "deny"
        return event | ({"deny_message": reply.text} if reply.text and not reply.allow else {})
    text = reply.text or ("Done." if reply.allow else "A person has refused this.")
    return {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": question.event_id,
        "content": [{"type": "text", "text": text}],
        "is_error": not reply.allow,
    }
