"""The points of a task where the server can be ordered to die. They are ordered for `*`: tasks come one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hostler.runbooks.acting import Acting
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.hosting import Hosting
from hostler.runbooks.invoking.remote import Remote
from hostler.runbooks.runner import Runner
from hostler.runbooks.running import Running
from hostler.runbooks.starting import Starts
from hostler.runbooks.workers import Worker

Passing = Callable[[str, str], None]


def on_tasks(passing: Passing) -> None:
    def around(owner: Any, name: str, points: Callable[..., list[str]]) -> None:
        whole: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            for point in points(*args, **kwargs):
                passing("", f"before:{point}")
            result = await whole(*args, **kwargs)
            for point in points(*args, **kwargs):
                passing("", f"after:{point}")
            return result

        setattr(owner, name, wrapped)

    around(Hosting, "append", lambda _, __, drafts, ___: [f"task:{draft.kind}" for draft in drafts])
    around(Hosting, "agent", lambda *_: ["task:agent"])
    around(Hosting, "start_child", lambda *_: ["task:start_child"])
    around(Running, "_rest", lambda *_: ["task:rest"])
    around(Running, "rest", lambda *_: ["task:at_rest"])
    around(Runner, "_advance", lambda *_: ["task:advance"])
    around(Remote, "post", lambda _, path, __: [f"post:{path.rpartition('/')[2]}"])
    around(DataPlane, "insert_document", lambda *_, **__: ["insert_document"])
    around(Acting, "decide", lambda *_, **__: ["decide"])
    around(Starts, "start", lambda *_, **__: ["start_task"])
    whole = Worker.start.__func__  # type: ignore[attr-defined]

    async def started(cls: type[Worker], environ: Any, **more: Any) -> Worker:
        worker: Worker = await whole(cls, environ, **more)
        passing("", "after:worker")
        return worker

    Worker.start = classmethod(started)  # type: ignore[assignment,method-assign]
