"""The tasks of a rehearsal: a journal in memory, and answers for what a server, people and agents would do.

It must not judge what comes out.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import pickle
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import hostler
from hostler import clock
from hostler.runbooks import messages as m
from hostler.runbooks.contract import Bundle
from hostler.runbooks.dataplane.asked import Asked
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.records import Document
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.scenarios import AgentAnswer, Review, Scenario
from hostler.runbooks.workers import Stalled, Worker, last_words

STALL_SECONDS = 20.0
MAX_TASKS = 200
MAX_ENTRIES = 100_000
MAX_SAME = 10  # how often one gate is answered, since the same answer would open it for ever
TENANT = "rehearsal"
_PROCESS = "hostler.runbooks.worker.rehearsal"


class Event(NamedTuple):
    """Something that a person would have done or seen; `seconds` since the beginning."""

    seconds: float
    task: str
    kind: str
    detail: str


class OwnData(Asked):
    """An empty data plane that is gone with the rehearsal; whichever tenant is named, it is that one's."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def keep(self, said: dict[str, Any], file: Path) -> dict[str, Any]:
        """Make a file one of its documents."""
        content = await asyncio.to_thread(file.read_bytes)
        document = Document(
            id=said["document_ref"], entity_slug=said["entity_slug"], source=said["source"], filename=file.name,
            content_type=said["content_type"], size=len(content), sha256=hashlib.sha256(content).hexdigest(),
        )  # fmt: skip
        kept = await self._plane.insert_document(TENANT, document, file)
        return {"document_ref": kept.id, "filename": kept.filename}

    async def _whose(self, task_id: str, wanted: str) -> str:
        return TENANT


class Stage:
    """The tasks of one run, and what answers them."""

    def __init__(
        self,
        bundles: dict[str, Bundle],
        scenario: Scenario,
        environ: dict[str, str],
        data: OwnData,
        tell: Callable[[Event], None],
    ) -> None:
        self.tasks: dict[str, Acted] = {}
        self.events: list[Event] = []
        self.scenario = scenario
        self.data = data
        self._bundles = bundles
        source = str(Path(hostler.__file__).parents[1])
        self._environ = {**environ, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
        self._tell = tell
        self._begun = time.monotonic()
        self._agent_answers = list(scenario.agents)
        self._answered: Counter[tuple[str, str]] = Counter()
        self._group: asyncio.TaskGroup | None = None

    async def play(self, task_id: str, slug: str, given: dict[str, Any]) -> None:
        """Until the task has ended; its children, too, are then at an end."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            acted = self._begin(task_id, slug, given=given)
            await asyncio.wait([acted.ended])
            for each in self.tasks.values():
                if each.work is not None:
                    each.work.cancel()

    def note(self, task_id: str, kind: str, detail: str) -> None:
        event = Event(time.monotonic() - self._begun, task_id, kind, detail)
        self.events.append(event)
        self._tell(event)

    def _begin(self, task_id: str, slug: str, *, given: Any = None, value: bytes | None = None) -> Acted:
        assert self._group is not None
        acted = self.tasks[task_id] = Acted(self, task_id, slug)
        if len(self.tasks) > MAX_TASKS:
            acted.end({"error": {"type": "TooMany", "message": f"more than {MAX_TASKS} tasks were started"}})
            return acted
        acted.work = self._group.create_task(self._work(acted, given, value))
        return acted

    async def _work(self, acted: Acted, given: Any, value: bytes | None) -> None:
        bundle = self._bundles[acted.slug]
        begin = m.Begin(
            task_id=acted.id, folder=str(bundle.folder), slug=acted.slug, workflow_class=bundle.workflow_class,
            modules=bundle.modules, slugs=[*self._bundles, *self.scenario.children, "document-ingest"],
            entries=[acted.add(Draft(kind="started", value=value))], input=given, value=value, tenant=TENANT,
            rest_seconds=math.inf,
        )  # fmt: skip
        acted.worker = await Worker.start(self._environ, _PROCESS)
        try:
            await acted.worker.run(begin, acted.serve, stall_seconds=STALL_SECONDS)
            said = last_words(acted.worker)[-1000:]
            acted.end({"error": {"type": "WorkerCrashed", "message": f"the runbook's process has ended. {said}"}})
        except Stalled as problem:
            acted.end({"error": {"type": "Stalled", "message": str(problem)}})

    # -- what a server does --

    def start_child(self, parent: Acted, asked: m.StartChild) -> Entry:
        if asked.task_id not in self.tasks:
            if asked.slug in self._bundles:
                self._begin(asked.task_id, asked.slug, value=asked.value)
            else:
                self._stand_in(asked)
        return parent.add(Draft(kind="child", key=asked.key, body={"task_id": asked.task_id, "runbook": asked.slug}))

    def _stand_in(self, asked: m.StartChild) -> None:
        """A runbook whose bundle is not here: it is over at once, as the scenario says, or with a made-up document."""
        acted = self.tasks[asked.task_id] = Acted(self, asked.task_id, asked.slug)
        source = asked.task_id.rpartition(":")[2]
        answer = self.scenario.children.get(asked.slug)
        if answer is not None and answer.raises is not None:
            body: dict[str, Any] = {"error": {"type": "Scripted", "message": answer.raises}}
        else:
            body = {"result": answer.returns if answer is not None else self._document(source, source)}
        self.note(asked.task_id, "child", f"{asked.slug} is made up; --child DIR would run it")
        acted.end(body)

    async def child_end(self, parent: Acted, child_id: str) -> Entry:
        child = self.tasks[child_id]
        end = await asyncio.shield(child.ended)
        return parent.add(Draft(kind="child_ended", key=f"child:{child_id}", body=end.body, value=end.value))

    def agent(self, acted: Acted, asked: m.RunAgent) -> Entry:
        answers = self._agent_answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0] if answers else AgentAnswer(text="mocked")
        agent_id = str(asked.call.get("agent_id"))
        source = f"agent_output:{agent_id}"
        files = [
            {
                "document_ref": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{acted.id}/{name}")), "filename": name,
                "content_type": "application/octet-stream", "size_bytes": 0, "source": source,
            }
            for name in answer.files
        ]  # fmt: skip
        body = {
            "agent_id": agent_id, "session_id": "sesn_rehearsal", "output_text": answer.text, "output_files": files,
            "status": "failed" if answer.error else "completed", "error": answer.error,
        }  # fmt: skip
        self.note(acted.id, "agent", f"{agent_id}: {answer.error or answer.text or 'done'}")
        return acted.add(Draft(kind="agent", key=asked.key, body=body))

    # -- what people do --

    def gate(self, acted: Acted, action: dict[str, Any], step: str) -> None:
        """One has opened; it is answered when its worker waits."""
        assert self._group is not None
        self._answered[acted.id, step] += 1
        if self._answered[acted.id, step] <= MAX_SAME:
            self._group.create_task(self._answer(acted, action, step))
        elif self._answered[acted.id, step] == MAX_SAME + 1:
            self.note(acted.id, "waits", f"{step}: asked {MAX_SAME} times and got the same answer")
            reason = action.get("reason") or action.get("kind")
            acted.end({"error": {"type": "AskedAgain", "message": f"{step} asks again and again: {reason}"}})

    async def _answer(self, acted: Acted, action: dict[str, Any], step: str) -> None:
        kind = action.get("kind")
        if kind == "interactive_review":
            review = self.scenario.reviews.get(step) or Review(decision=self.scenario.default)
            for row in review.rows:
                said = {"kind": "row_action", "payload": msgspec.to_builtins(row)}
                await acted.signal("user_action", said)
                self.note(acted.id, "row", f"{step}: {row.action} {row.row_id}")
            said = {"type": review.decision, "comments": review.comments, "corrections": review.corrections}
            await acted.signal("user_action", {key: value for key, value in said.items() if value is not None})
            self.note(acted.id, "review", f"{step}: {review.decision}")
        elif kind == "submit_file":
            await self._upload(acted, action.get("args") or {}, step)
        else:
            self.note(acted.id, "waits", f"{step}: for {kind}, which a scenario can't answer")

    async def _upload(self, acted: Acted, args: dict[str, Any], step: str) -> None:
        source = str(args.get("source") or step)
        wanted = self.tasks.get(str(args.get("signal_task_id") or acted.id), acted)
        if not args.get("signal_name"):
            self.note(acted.id, "waits", f"{step}: for a file, but says no signal_name")
            return
        said = self.scenario.uploads.get(step) or self.scenario.uploads.get(source) or {}
        document = {
            **self._document(source, wanted.id),
            "tenant_slug": args.get("tenant_id_or_slug") or "tenant",
            "entity_slug": args.get("entity_id_or_slug") or "entity",
            **{key: value for key, value in said.items() if key != "file"},
        }
        if "file" in said:
            document |= await self.data.keep(document, Path(said["file"]))
        await wanted.signal(str(args["signal_name"]), document)
        self.note(acted.id, "upload", f"{step}: {document['filename']} as {source}")

    def _document(self, source: str, salt: str) -> dict[str, Any]:
        return {
            "document_ref": str(uuid.uuid5(uuid.NAMESPACE_URL, salt)), "source": source, "filename": f"{source}.bin",
            "content_type": "application/octet-stream",
        }  # fmt: skip


class Acted:
    """A task in a rehearsal."""

    def __init__(self, stage: Stage, task_id: str, slug: str) -> None:
        self.id = task_id
        self.slug = slug
        self.worker: Worker | None = None
        self.work: asyncio.Task[None] | None = None
        self.view: dict[str, Any] = {}
        self.ended: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._stage = stage
        self._positions = 0

    def add(self, draft: Draft) -> Entry:
        self._positions += 1
        fields = {name: getattr(draft, name) for name in Draft.__struct_fields__}
        return Entry(**fields, position=self._positions, at=clock.now())

    def end(self, body: dict[str, Any]) -> None:
        """Where no worker tells it. The result is JSON, which a parent may read as what it is."""
        if not self.ended.done():
            value = pickle.dumps(body["result"]) if "result" in body else None
            self.ended.set_result(self.add(Draft(kind="ended", body=body, value=value)))

    async def signal(self, name: str, *args: Any) -> None:
        if self.worker is not None:
            await self.worker.send(m.Signal(entry=self.add(Draft(kind="signal", body={"name": name, "args": args}))))

    async def serve(self, message: m.OfWorker) -> m.Reply | None:
        match message:
            case m.Append():
                return await self._append(message)
            case m.StartChild():
                if self._positions > MAX_ENTRIES:
                    return m.Reply(id=message.id, refused="the rehearsal has become too long")
                entry = self._stage.start_child(self, message)
            case m.AwaitChild():
                entry = await self._stage.child_end(self, message.task_id)
            case m.RunAgent():
                entry = self._stage.agent(self, message)
            case m.Sql():
                return m.Reply(id=message.id, data=await self._stage.data.answer(self.id, message))
            case m.Show():
                self.view = message.view
                return None
            case _:
                return None
        return m.Reply(id=message.id, entries=[entry])

    async def _append(self, message: m.Append) -> m.Reply:
        self.view = message.view or self.view
        if self._positions > MAX_ENTRIES:
            return m.Reply(id=message.id, refused="the rehearsal has become too long")
        entries = [self.add(draft) for draft in message.drafts]
        for entry in entries:
            if entry.kind == "step":
                self._stage.note(self.id, "step", str(entry.body.get("name")))
            elif entry.kind == "ended" and not self.ended.done():
                self.ended.set_result(entry)
        # A wait begins with an entry that says until when, or with none: that is when people see what is wanted.
        if not entries or entries[-1].kind == "waiting":
            action = self.view.get("current_pending_action")
            state = self.view.get("current_ui_state")
            if isinstance(action, dict) and action.get("kind") not in ("drill_down", "submit_files"):
                step = str((state if isinstance(state, dict) else {}).get("current_step_id") or "")
                self._stage.gate(self, action, step)
        return m.Reply(id=message.id, entries=entries)
