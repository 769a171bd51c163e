"""Replaces a conversation that nears the model's window by a summary of it. The log keeps everything.

The summary is asked of the same model over the same cached prompt. It must not be shown: clients get
`agent.thread_context_compacted`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.harness import context
from hostler.harness.ask import build_request
from hostler.harness.deps import Deps
from hostler.harness.drafts import session_error, span_end
from hostler.harness.failure import attempt_failed, give_up
from hostler.harness.listening import listen
from hostler.harness.offering import with_offers
from hostler.harness.run import Interrupted, Run
from hostler.harness.state import SUMMARY
from hostler.harness.tooltable import ToolTable
from hostler.log.entries import Draft, Item
from hostler.models.protocol import ModelFailure, ModelRequest, ModelResponse

MAX_SUMMARIES = 2
STUCK = (
    "The context was compacted repeatedly with no progress: a single message or result may exceed the model's window."
)
CHARS_PER_TOKEN = 3


def due(run: Run, deps: Deps) -> bool:
    """Whether the conversation must be summarised before the next request."""
    return run.must_summarise or run.thread.context_tokens >= deps.context_limit(run.agent.model.id)


async def summarise(run: Run, deps: Deps, tools: ToolTable) -> None:
    """One model request for the summary, from the span's start to its end."""
    try:
        tools, problems = await with_offers(run, deps, tools)
    except Interrupted:
        return
    start = Draft(type="span.model_request_start")
    if run.thread.summaries >= MAX_SUMMARIES:
        await give_up(run, [session_error("compaction_limit_reached_error", STUCK, "exhausted")])
        return
    await run.append([*problems, start], strict=True, opening=True)
    try:
        request = await build_request(run, deps, tools)
        response = await run.unless_interrupted(listen(deps.model, _for_summary(request, run, deps)))
    except ModelFailure as failure:
        await attempt_failed(run, deps, start.id, failure)
    except Interrupted:
        await run.append([span_end(start.id, is_error=True)])
    else:
        await _record(run, deps, start.id, response)


def _for_summary(request: ModelRequest, run: Run, deps: Deps) -> ModelRequest:
    ask = {"role": "user", "content": [{"type": "text", "text": context.SUMMARIZE}]}
    messages = request.messages
    if run.must_summarise:
        limit = deps.context_limit(run.agent.model.id) * CHARS_PER_TOKEN
        messages = context.shortened(messages, limit)
    if messages and messages[-1]["role"] == "user":
        last = messages[-1]
        messages = [*messages[:-1], {"role": "user", "content": [*last["content"], *ask["content"]]}]
    else:
        messages = [*messages, ask]
    return msgspec.structs.replace(request, messages=messages)


async def _record(run: Run, deps: Deps, start_id: str, response: ModelResponse) -> None:
    run.spend(response.usage, deps.cost(run.agent.model, response.usage))
    run.must_summarise = False
    items: list[Item] = [
        Draft(type=SUMMARY, fields={"text": _text(response)}),
        span_end(start_id, response.usage),
        Draft(type="agent.thread_context_compacted"),
    ]
    await run.append(items)


def _text(response: ModelResponse) -> str:
    texts: list[Any] = [block["text"] for block in response.content if block["type"] == "text"]
    return "\n".join(texts) or "(The model gave no summary.)"
