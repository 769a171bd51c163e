"""One run of one runbook's class: its calls, each answered from the journal or made and written down, and its signals.

A call's key is made of the step that it is in, what is called with which arguments, and how often that was before; so
code that runs again after a crash finds its answers, whatever order its branches come in. It must not know processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.worker import failures, values
from hostler.runbooks.worker.options import Options, seconds
from hostler.runbooks.worker.port import Port
from hostler.runbooks.worker.quiet import ours
from hostler.runbooks.worker.recall import Recall
from hostler.runbooks.worker.resting import LOOK_SECONDS, Resting, within_step

log = logging.getLogger("hostler.runbook")

step_name: contextvars.ContextVar[str] = contextvars.ContextVar("step", default="")
current: contextvars.ContextVar[Run] = contextvars.ContextVar("run")
MAX_SEEN = 4 * 1024 * 1024  # bytes of what a query shows
_PENDING = "current_pending_action"
_SEEN = ("current_steps", _PENDING, "current_ui_state", "step_snapshots")
_SHOW_SECONDS = 0.02


class Run:
    def __init__(self, task_id: str, instance: Any, entries: list[Entry], port: Port, *, attempt: int = 1) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.instance = instance
        self._port = port
        self._recall = Recall(entries, self._handle)
        self._counts: Counter[str] = Counter()
        self.resting = Resting()
        self._showing: asyncio.TimerHandle | None = None
        self._shown: dict[str, Any] | None = None
        self._held: list[Draft] = []  # to be written with the next entry
        self._changed = asyncio.Event()
        self._handlers: set[asyncio.Task[Any]] = set()

    # -- keys --

    def key(self, what: str, *arguments: Any) -> str:
        """The next key of such a call."""
        mark = f":{values.fingerprint(*arguments)}" if arguments else ""
        base = f"{step_name.get()}/{what}{mark}"
        self._counts[base] += 1
        return f"{base}#{self._counts[base]}"

    # -- writing --

    async def write(self, *drafts: Draft) -> Entry:
        """Make it durable, with all that was held back, and return the last."""
        held, self._held = self._held, []
        if self._showing is not None:  # what is written now is newer
            self._showing.cancel()
            self._showing = None
        entries = await self._port.append([*held, *drafts], self.view(passed=drafts[-1].kind == "waited"))
        self._wrote(entries[-1])
        self._show_soon()
        return entries[-1]

    async def _settle(self) -> None:
        """Before it waits for somebody else: write down what was held back, for they may hear of it, and show what is
        waited for."""
        held, self._held = self._held, []
        if entries := await self._port.append(held, self.view()):
            self._wrote(entries[-1])

    def _wrote(self, entry: Entry) -> None:
        self._recall.position = max(self._recall.position, entry.position)
        self.touch()

    def hold(self, draft: Draft) -> None:
        """To be written with the next entry: lost with a crash before it, when nothing has followed from it either."""
        self._held.append(draft)

    def touch(self) -> None:
        """Something has changed: conditions are looked at anew."""
        self._changed.set()
        self.resting.moved()

    def rest(self, until: float | None) -> None:
        """Offer the process: another one will go on from here, at that time at the latest."""
        if not self._handlers and not self._held:
            self._port.rest(self._recall.position, self._recall.heard, until)

    def _show_soon(self) -> None:
        """Let people see what the code goes on to, once it has gone on."""
        if self._showing is None:
            self._showing = asyncio.get_running_loop().call_later(_SHOW_SECONDS, self._show)

    def _show(self) -> None:
        self._showing = None
        if (view := self.view()) is not None:
            self._port.show(view)

    def view(self, *, passed: bool = False) -> dict[str, Any] | None:
        """What people see of the task; None while it is as it was. When a gate has been `passed`, its runbook has not
        heard of that yet: nobody must take it for an open one."""
        shown = {name: self._seen(name) for name in _SEEN if hasattr(self.instance, name)}
        if passed and _PENDING in shown:
            shown[_PENDING] = None
        if shown == self._shown:
            return None
        self._shown = shown
        return shown

    def _seen(self, name: str) -> Any:
        """What a query says. Too much of it loses what is largest, and says so."""
        try:
            said = getattr(self.instance, name)()
        except Exception:
            log.exception("%s: the query %s failed", self.task_id, name)
            return None
        try:
            return values.whole(said, MAX_SEEN)
        except values.Unkeepable as problem:
            log.warning("%s: %s: %s", self.task_id, name, problem)
            small = {key: value for key, value in dict(said).items() if key != "payload"} if name == _PENDING else {}
            return values.whole(small, MAX_SEEN) | {"too_large": True} if name == _PENDING else small

    # -- signals --

    def signal(self, entry: Entry) -> None:
        """One has come in."""
        self._recall.signal(entry)
        self.touch()

    def _handle(self, entry: Entry) -> None:
        name = str(entry.body.get("name"))
        handler = getattr(self.instance, _method(self.instance, name, "__hostler_signal__"), None)
        if handler is None:
            log.warning("%s: nobody handles the signal %s", self.task_id, name)
            return
        try:
            result = handler(*entry.body.get("args", []))
            if inspect.isawaitable(result):
                task = asyncio.ensure_future(result)
                self._handlers.add(task)
                task.add_done_callback(self._handled)
        except Exception:
            log.exception("%s: the signal %s failed", self.task_id, name)

    def _handled(self, task: asyncio.Task[Any]) -> None:
        self._handlers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: a signal's handler failed", self.task_id, exc_info=error)
        self.touch()

    async def query(self, name: str) -> Any:
        """What a query says, once the code is where it was before a crash or a rest. Raises LookupError, and whatever
        the query raises."""
        await self._recall.live.wait()
        method = _method(self.instance, name, "__hostler_query__")
        found = getattr(type(self.instance), method, None)
        if found is None or not (hasattr(found, "__hostler_query__") or name in _SEEN):
            raise LookupError(f"The runbook has no query {name}.")
        return getattr(self.instance, method)()

    # -- calls --

    async def activity(self, name: str, work: Callable[[int], Awaitable[Any]], arguments: Any, options: Options) -> Any:
        """Call it until it returns, or has failed too often. Raises what it raised last."""
        key = self.key(f"activity:{name}", arguments)
        if (known := await self._recall.answer("activity", key)) is not None:
            return failures.result(known)
        await self._recall.caught_up()
        past = self._recall.attempts(key)
        attempt = len(past) + 1
        begun = past[0].at / 1e6 if past else time.time()
        self._show_soon()
        if past:
            await asyncio.sleep(max(0.0, float(past[-1].body.get("again", 0)) - time.time()))
        while True:
            try:
                with self.resting.works():
                    value = await _limited(work(attempt), options.attempt_seconds, name)
                draft = failures.returned("activity", key, value, name)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                pause = options.retries.pause(attempt)
                late = options.total_seconds is not None and time.time() + pause > begun + options.total_seconds
                if late or not options.retries.allows(attempt, error):
                    await self.write(failures.raised("activity", key, error, name, attempt))
                    raise
                again = time.time() + pause
                await self.write(failures.tried(key, error, name, attempt, again))
                await asyncio.sleep(pause)
                attempt += 1
                continue
            await self.write(draft)
            return value

    async def condition(self, predicate: Callable[[], Any], limit: timedelta | float | None) -> None:
        """Wait until it holds. Raises TimeoutError, by a clock that a restart does not set back."""
        key = self.key("wait")
        if (known := await self._recall.answer("waited", key)) is not None:
            predicate()  # what it does besides looking was done then, too
            if known.body.get("late"):
                raise TimeoutError("the wait's time was up")
            return
        await self._recall.caught_up()
        until = await self._until(key, seconds(limit))
        self._recall.deliver()  # what came while that was written
        with self.resting.waits(until):
            holds = await self._holds(predicate, math.inf if until is None else until)
        await self.write(Draft(kind="waited", key=key, body={} if holds else {"late": True}))
        if not holds:
            raise TimeoutError("the wait's time was up")

    async def _holds(self, predicate: Callable[[], Any], until: float) -> bool:
        """Wait until it does; False when that was not in time."""
        heard = True
        while not predicate():
            self._changed.clear()
            if heard:  # and the gate stays open: a row may have been edited
                self._show_soon()
            if (pause := min(LOOK_SECONDS, until - time.time())) <= 0:
                return False
            await self._change(pause)
            heard = self._recall.deliver()
        return True

    async def _change(self, seconds: float) -> None:
        """Wait for one, so long."""
        token = ours.set(True)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        finally:
            ours.reset(token)

    async def _until(self, key: str, limit: float | None) -> float | None:
        known = self._recall.waiting(key)
        if known is not None:
            return float(known.body["until"])
        if limit is None:
            await self._settle()
            return None
        until = time.time() + limit
        await self.write(Draft(kind="waiting", key=key, body={"until": until}))
        return until

    def now(self) -> datetime:
        """The clock, which says the same when the code runs again."""
        key = self.key("now")
        known = self._recall.at_once("moment", key)
        at = float(known.body["at"]) if known is not None else time.time()
        if known is None:
            self.hold(Draft(kind="moment", key=key, body={"at": at}))
        return datetime.fromtimestamp(at, UTC)

    async def child(self, slug: str, task_id: str, argument: Any) -> asyncio.Task[Any]:
        """Start a task below this one, and return what waits for its end."""
        key = f"child:{task_id}"
        if await self._recall.answer("child", key) is None:
            await self._recall.caught_up()
            await self._settle()
            self._wrote(await self._port.start_child(key, task_id, slug, values.dump(values.portable(argument))))
        return asyncio.ensure_future(self._child_end(key, task_id))

    async def _child_end(self, key: str, task_id: str) -> Any:
        known = await self._recall.answer("child_ended", key)
        if known is None:
            await self._settle()
            with self.resting.waits():
                known = await self._port.ended(task_id)
        self._wrote(known)
        return failures.result(known)

    async def agent(self, call: dict[str, Any]) -> dict[str, Any]:
        """Run an agent. Returns the fields of an `AgentResult`."""
        key = self.key(f"agent:{call.get('agent_id')}", call)
        known = await self._recall.answer("agent", key)
        if known is None:
            await self._recall.caught_up()
            await self._settle()
            with self.resting.waits():
                known = await self._port.agent(key, call)
            self._wrote(known)
        return dict(known.body)

    # -- steps --

    async def step(self, name: str, title: str, body: Callable[[], Awaitable[Any]]) -> Any:
        """Run a step's body, or take what it left: its result, and what it changed on the instance."""
        key = self.key(f"step:{name}")
        known = await self._recall.step(key)
        if known is not None and known.value is not None:
            result, state = values.load(known.value)
            vars(self.instance).update(state)
            self.touch()
            return result
        label = f"{name}{key.rsplit('#', 1)[1]}" if not key.endswith("#1") else name
        with within_step() as inside, self._inside(label):
            before = _pickled(vars(self.instance))
            result = await body()
        if known is None:
            draft = self._stepped(key, name, title, result, before)
            await self.write(draft)
            inside.open = draft.value is None
        return result

    def _stepped(self, key: str, name: str, title: str, result: Any, before: dict[str, bytes | None]) -> Draft:
        """Without a value where something can't be kept: then the body runs again, and its calls find their answers."""
        now = _pickled(vars(self.instance))
        changed = {each for each in now if now[each] is None or now[each] != before.get(each)}
        body = {"name": name, "title": title, "result": values.shown(result), "heard": self._recall.delivered}
        try:
            state = {each: vars(self.instance)[each] for each in changed}
            value = values.dump((result, state))
        except values.Unkeepable as problem:
            log.warning("%s: step %s: %s", self.task_id, name, problem)
            value = None
        return Draft(kind="step", key=key, body=body, value=value)

    @contextlib.contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        token = step_name.set(name)
        try:
            yield
        finally:
            step_name.reset(token)


async def _limited(work: Awaitable[Any], limit: float | None, name: str) -> Any:
    try:
        async with asyncio.timeout(limit) as clock:
            return await work
    except TimeoutError as error:
        if clock.expired():
            raise TimeoutError(f"{name} took longer than {limit:g} seconds") from error
        raise


def _pickled(state: dict[str, Any]) -> dict[str, bytes | None]:
    kept: dict[str, bytes | None] = {}
    for name, value in state.items():
        try:
            kept[name] = values.dump(value)
        except values.Unkeepable:
            kept[name] = None
    return kept


def _method(instance: Any, name: str, mark: str) -> str:
    """The method that goes by this name on the wire."""
    for attribute in dir(type(instance)):
        if getattr(getattr(type(instance), attribute, None), mark, None) == name:
            return attribute
    return name
