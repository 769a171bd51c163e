"""The runtime behind `ntro.workflow`: what runbooks import does what it always did, and is written down as it happens.

It has the shape that `ntro.workflow.set_runtime` takes, and must be set before a bundle is imported. It must not know
where a journal is kept.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hostler.runbooks.worker import options
from hostler.runbooks.worker.run import Run, current

STEP = "__ntro_ui_step__"  # what `@ui_step` and `@runbook.step` leave on a method
TASK_QUEUE = "hostler"


@dataclass(frozen=True)
class WorkflowInfo:
    workflow_id: str
    task_queue: str = TASK_QUEUE
    run_id: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class ActivityInfo:
    workflow_id: str
    activity_id: str
    attempt: int = 1


_activity: contextvars.ContextVar[ActivityInfo] = contextvars.ContextVar("activity")


class Elsewhere:
    """Stands in `ntro`'s registry for a runbook of another bundle: its tasks run in workers of their own."""

    def __init__(self, slug: str) -> None:
        self.slug = slug


class ChildHandle:
    """A child task that was started; awaiting it gives its result."""

    first_execution_run_id = ""

    def __init__(self, workflow_id: str, end: asyncio.Task[Any]) -> None:
        self.workflow_id = workflow_id
        self._end = end

    def __await__(self) -> Any:
        return asyncio.shield(self._end).__await__()


class DurableRuntime:
    name = "hostler"

    def __init__(self, slugs: Callable[[type], str | None]) -> None:
        """`slugs` says under which name a class of this bundle was deployed."""
        self._slugs = slugs
        self.activities: dict[str, Callable[..., Any]] = {}
        self._workflow_log = logging.getLogger("hostler.runbook")
        self._activity_log = logging.getLogger("hostler.activity")

    # -- decorators --

    def workflow_defn(self, cls: type, /, *_: Any, **__: Any) -> type:
        for each in cls.__mro__:
            for name, method in list(vars(each).items()):
                if hasattr(method, STEP) and not hasattr(method, "__hostler_step__"):
                    setattr(each, name, _durable(method))
        cls.__hostler_defn__ = True  # type: ignore[attr-defined]
        return cls

    def workflow_run(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        fn.__hostler_run__ = True  # type: ignore[attr-defined]
        return fn

    def workflow_signal(self, *args: Any, **kwargs: Any) -> Any:
        return _named("__hostler_signal__", args, kwargs)

    def workflow_query(self, *args: Any, **kwargs: Any) -> Any:
        return _named("__hostler_query__", args, kwargs)

    def activity_defn(self, *args: Any, **kwargs: Any) -> Any:
        def mark(fn: Callable[..., Any]) -> Callable[..., Any]:
            # By this mark `ntro` tells activities from other functions.
            setattr(fn, "__ntro_activity_defn", True)
            self.activities[str(kwargs.get("name") or fn.__name__)] = fn
            return fn

        return mark(args[0]) if args and callable(args[0]) and not kwargs else mark

    # -- calls of a workflow --

    async def execute_activity(self, fn: Callable[..., Any] | str, arg: Any = None, /, **kwargs: Any) -> Any:
        given = list(kwargs["args"]) if kwargs.get("args") is not None else [] if arg is None else [arg]
        work = self.activities.get(fn) if isinstance(fn, str) else fn
        if work is None:
            raise LookupError(f"There is no activity {fn!r} in this bundle.")
        if not given and _wants_one(work):
            given = [None]
        name = fn if isinstance(fn, str) else getattr(fn, "__name__", type(fn).__name__)
        run = _run()

        async def attempt(number: int) -> Any:
            token = _activity.set(ActivityInfo(run.task_id, name, number))
            try:
                return await _call(work, given)
            finally:
                _activity.reset(token)

        return await run.activity(name, attempt, given, options.read(kwargs))

    async def execute_child_workflow(self, cls_or_slug: Any, arg: Any = None, /, **kwargs: Any) -> Any:
        return await (await self.start_child_workflow(cls_or_slug, arg, **kwargs))

    async def start_child_workflow(self, cls_or_slug: Any, arg: Any = None, /, **kwargs: Any) -> ChildHandle:
        run, slug = _run(), self._slug(cls_or_slug)
        key = run.key("child", slug).replace("/", ".").replace("#", ".")  # for an id is a part of URLs
        task_id = str(kwargs.get("id") or f"{run.task_id}:{key}")
        return ChildHandle(task_id, await run.child(slug, task_id, arg))

    def _slug(self, cls_or_slug: Any) -> str:
        if isinstance(cls_or_slug, str):
            return cls_or_slug
        slug = cls_or_slug.slug if isinstance(cls_or_slug, Elsewhere) else self._slugs(cls_or_slug)
        if slug is None:
            raise LookupError(f"{cls_or_slug!r} was deployed under no name; say its slug instead.")
        return str(slug)

    async def wait_condition(self, predicate: Callable[[], Any], /, **kwargs: Any) -> None:
        await _run().condition(predicate, kwargs.get("timeout"))

    def workflow_info(self) -> WorkflowInfo:
        run = current.get(None)
        return WorkflowInfo(run.task_id, attempt=run.attempt) if run else WorkflowInfo("<no-active-workflow>")

    def workflow_now(self) -> datetime:
        return _run().now()

    def workflow_logger(self) -> logging.Logger:
        return self._workflow_log

    # -- calls of an activity --

    def activity_info(self) -> ActivityInfo:
        return _activity.get(ActivityInfo("<no-active-workflow>", "<no-active-activity>"))

    def activity_logger(self) -> logging.Logger:
        return self._activity_log


def _run() -> Run:
    run = current.get(None)
    if run is None:
        raise RuntimeError("This can only be called within a task.")
    return run


def _durable(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A step that, once it has returned, is not run again."""
    said: dict[str, Any] = getattr(method, STEP)

    @functools.wraps(method)
    async def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = current.get(None)
        if run is None or run.instance is not self:
            return await method(self, *args, **kwargs)
        return await run.step(str(said["name"]), str(said["title"]), lambda: method(self, *args, **kwargs))

    step.__hostler_step__ = True  # type: ignore[attr-defined]
    return step


def _named(mark: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def named(fn: Callable[..., Any]) -> Callable[..., Any]:
        setattr(fn, mark, str(kwargs.get("name") or fn.__name__))
        return fn

    return named(args[0]) if args and callable(args[0]) and not kwargs else named


def _wants_one(work: Callable[..., Any]) -> bool:
    """Whether it can't be called without an argument: then a None that was given is meant."""
    try:
        inspect.signature(work).bind()
    except TypeError:
        return True
    except ValueError:
        return False
    return False


async def _call(work: Callable[..., Any], given: list[Any]) -> Any:
    if inspect.iscoroutinefunction(work):
        return await work(*given)
    result = await asyncio.to_thread(work, *given)
    return await result if inspect.isawaitable(result) else result
