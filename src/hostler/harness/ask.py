"""Asks the model for one message: consumes what waits, streams previews, records the answer or the failure.

All that a response leads to is committed at once, when it is complete: a crash in mid-stream leaves an open request in
the log, which is closed as an error and asked again, and no half message.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hostler.harness import context, self_hosted
from hostler.harness.act import refusal
from hostler.harness.checkout import found, lines
from hostler.harness.deps import Deps
from hostler.harness.drafts import error_result, span_end
from hostler.harness.failure import attempt_failed
from hostler.harness.judge import judge
from hostler.harness.listening import listen
from hostler.harness.offering import with_offers
from hostler.harness.outcomes import column
from hostler.harness.parts import Call
from hostler.harness.run import Interrupted, Run
from hostler.harness.skills import announced
from hostler.harness.state import MODEL_MESSAGE
from hostler.harness.tooltable import Judgement, ToolTable
from hostler.ids import new_id
from hostler.log.entries import Draft, Item
from hostler.log.hub import Hub
from hostler.models.catalogue import prompt_tokens
from hostler.models.protocol import BlockStarted, ModelFailure, ModelRequest, ModelResponse, TextDelta
from hostler.wire.events import EventStart, Preview


async def ask(run: Run, deps: Deps, tools: ToolTable) -> None:
    """One model request, from the span's start to its end. Calls still open were refused: they are answered first.

    Raises NewInput when something came in just before it.
    """
    try:
        tools, problems = await with_offers(run, deps, tools)
    except Interrupted:
        return
    refused = [error_result(call, refusal(call)) for call in run.thread.open_calls]
    start = Draft(type="span.model_request_start")
    outcome = run.thread.outcome
    begun = column(run.thread.outcomes.values(), outcome, result="running") if outcome and outcome.unseen else {}
    await run.append([*refused, *run.taken(), *problems, start], strict=True, opening=True, patch=begun)
    try:
        request = await build_request(run, deps, tools)
        speaker = Speaker(deps.log.hub, run.session_id, run.id, primary=run.primary)
        response = await run.unless_interrupted(listen(deps.model, request, speaker.show))
    except ModelFailure as failure:
        await attempt_failed(run, deps, start.id, failure)
    except Interrupted:
        await run.append([span_end(start.id, is_error=True)])
    else:
        await _record(run, deps, tools, start.id, response, speaker)


async def build_request(run: Run, deps: Deps, tools: ToolTable) -> ModelRequest:
    """The request that the log as folded so far calls for."""
    model = run.agent.model
    parts = run.thread.parts
    definitions = tools.definitions()
    inputs = [mount.target for mount in run.row.inputs]
    known, elsewhere = [*announced(run.row.skills, run.agent.skills), *found(run)], None
    if self_hosted.is_self_hosted(run.row):
        known, elsewhere = self_hosted.skills(run.row, run.agent.skills), self_hosted.SURROUNDINGS
    system = context.system_prompt(
        run.agent.system, tools.sandboxed, inputs, known, lines(run), child=not run.primary, elsewhere=elsewhere
    )
    sources = await deps.contents.sources(context.file_ids(parts))
    return ModelRequest(
        model=model.id,
        messages=context.with_breakpoints(context.messages(parts, sources)),
        max_tokens=deps.output_limit(model.id),
        system=context.marked_last(system),
        tools=context.marked_last(definitions),
        effort=model.effort.type if model.effort else None,
        speed=model.speed,
        inference_geo=model.inference_geo,
        session_id=run.session_id if run.primary else run.id,
    )


class Speaker:
    """Shows a message while it is made: previews, and the event ids that the finished blocks will have."""

    def __init__(self, hub: Hub, session_id: str, thread_id: str, *, primary: bool) -> None:
        self._hub = hub
        self._session_id = session_id
        self._streams = (thread_id, None) if primary else (thread_id,)
        self.message_id: str | None = None
        self.thinking_ids: list[str] = []
        self._indexes: dict[int, int] = {}  # of text blocks: the model's -> the message event's

    def show(self, event: BlockStarted | TextDelta) -> None:
        if isinstance(event, TextDelta):
            self._text(event)
        else:
            self._started(event)

    def _started(self, block: BlockStarted) -> None:
        if block.kind == "text":
            self._indexes[block.index] = len(self._indexes)
            if self.message_id is None:
                self.message_id = new_id("sevt")
                self._start("agent.message", self.message_id)
        elif block.kind in ("thinking", "redacted_thinking"):
            self.thinking_ids.append(new_id("sevt"))
            self._start("agent.thinking", self.thinking_ids[-1])

    def _text(self, delta: TextDelta) -> None:
        if self.message_id is None or not self._hub.watched(self._session_id, "agent.message"):
            return
        content = {"type": "text", "text": delta.text}
        change = {"type": "content_delta", "index": self._indexes[delta.index], "content": content}
        frame = {"type": "event_delta", "event_id": self.message_id, "delta": change}
        self._hub.preview(self._session_id, self.message_id, msgspec.json.encode(frame))

    def _start(self, event_type: Literal["agent.message", "agent.thinking"], event_id: str) -> None:
        if self._hub.watched(self._session_id, event_type):
            event = Preview(type=event_type, id=event_id)
            frame = msgspec.json.encode(EventStart(event=event))
            self._hub.start_preview(self._session_id, self._streams, event, frame)


async def _record(
    run: Run, deps: Deps, tools: ToolTable, start_id: str, response: ModelResponse, speaker: Speaker
) -> None:
    """Commit the message: its events, the end of its span, and privately its blocks as they must be sent back."""
    run.spend(response.usage, deps.cost(run.agent.model, response.usage))
    calls, uses = _tool_uses(response, tools, await judge(run, deps, tools, response))
    note = {
        "content": response.content,
        "stop_reason": response.stop_reason,
        "stop_details": response.stop_details,
        "context_tokens": prompt_tokens(response.usage) + response.usage.output_tokens,
        "calls": [msgspec.to_builtins(call) for call in calls],
    }
    items: list[Item] = [Draft(type=MODEL_MESSAGE, fields=note), *_spoken(response, speaker), *uses]
    items.append(span_end(start_id, response.usage))
    await run.append(items)


def _spoken(response: ModelResponse, speaker: Speaker) -> list[Draft]:
    """`agent.thinking` for each thinking block, and one `agent.message` with all the text."""
    thoughts = sum(1 for block in response.content if block["type"] in ("thinking", "redacted_thinking"))
    ids = [*speaker.thinking_ids, *(new_id("sevt") for _ in range(thoughts))][:thoughts]
    drafts = [Draft(type="agent.thinking", id=event_id) for event_id in ids]
    texts = [{"type": "text", "text": block["text"]} for block in response.content if block["type"] == "text"]
    if any(block["text"] for block in texts):
        drafts.append(Draft(type="agent.message", id=speaker.message_id or new_id("sevt"), fields={"content": texts}))
    return drafts


def _tool_uses(
    response: ModelResponse, tools: ToolTable, judged: dict[str, Judgement]
) -> tuple[list[Call], list[Draft]]:
    calls, drafts = [], []
    for block in response.content:
        if block["type"] != "tool_use":
            continue
        tool = tools.find(block["name"])
        permission, evaluation = judged.get(block["id"]) or tools.judge(block["name"])
        kind, invalid = tool.kind if tool else "builtin", response.invalid_inputs.get(block["id"])
        if kind == "worker" and invalid is not None:
            permission, evaluation = "deny", None  # else a worker would begin as soon as it sees it
        call = Call(
            id=new_id("sevt"),
            model_id=block["id"],
            name=block["name"],
            kind=kind,
            input=block["input"],
            permission=permission,
            server=tool.server if tool else None,
            tool=tool.tool if tool else None,
            hidden=bool(tool and tool.hidden),
            invalid=invalid,
        )
        calls.append(call)
        if not call.hidden:
            drafts.append(_use(call, evaluation))
    return calls, drafts


def _use(call: Call, evaluation: dict[str, Any] | None) -> Draft:
    """The event that shows a tool use."""
    fields: dict[str, Any] = {"name": call.shown_name, "input": call.input}
    if call.kind == "custom":
        return Draft(type="agent.custom_tool_use", id=call.id, fields=fields)
    fields["evaluated_permission"] = call.permission
    fields |= {"evaluation": evaluation} if evaluation else {}
    if call.kind == "mcp":
        return Draft(type="agent.mcp_tool_use", id=call.id, fields={"mcp_server_name": call.server, **fields})
    return Draft(type="agent.tool_use", id=call.id, fields=fields)
