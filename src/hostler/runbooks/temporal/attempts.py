"""One attempt of a Temporal activity to run an agent: it makes the session, or goes on with that of an earlier attempt.

The session bears a mark made of the workflow's and the activity's ids, by which it is found again whatever became of
the worker. It must not write anything down but documents: all else that there is to know, the agent's server knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec
from temporalio import activity
from temporalio.exceptions import ApplicationError

from hostler import clock
from hostler.runbooks.invoking import rows
from hostler.runbooks.invoking.conversation import Call, Conversation
from hostler.runbooks.invoking.environment import Environment
from hostler.runbooks.invoking.passback import Destination, Passback
from hostler.runbooks.invoking.remote import Down, Http, Refused, Remote
from hostler.runbooks.temporal.calling import ACTIVITY
from hostler.runbooks.temporal.documents import TenantDocuments
from hostler.runbooks.temporal.heart import Heart
from hostler.runbooks.temporal.surroundings import NotSet, Surroundings, find_agent

log = logging.getLogger(__name__)

MARKS = uuid.UUID("0c8c1f5e-7c0e-4e0d-9f0b-6f7c64f1a9d3")
_REMEMBERED = 10_000
_counts: OrderedDict[bytes, int] = OrderedDict()  # how many calls each attempt of an activity has made


@activity.defn(name=ACTIVITY)  # type: ignore[untyped-decorator]
async def hostler_invoke(call: dict[str, Any]) -> dict[str, Any]:
    """What a workflow's `invoke` runs. Any worker may have it among its activities."""
    return await attempt(call)


async def attempt(asked: dict[str, Any]) -> dict[str, Any]:
    """The fields of an `AgentResult`. Raises ApplicationError where another attempt is of no use, Down where it may
    be."""
    info = activity.info()
    number = _number(info.task_token)
    http = Http()
    try:
        async with Heart(info.heartbeat_timeout) as heart:
            return await _attempt(http, heart, info, number, msgspec.convert(asked, Call))
    except (NotSet, Refused, msgspec.ValidationError) as problem:
        raise ApplicationError(str(problem), type=type(problem).__name__, non_retryable=True) from problem
    finally:
        await http.aclose()


def _number(task_token: bytes) -> int:
    """Which call of its activity this is: one activity may call several agents."""
    number = _counts.pop(task_token, 0) + 1
    _counts[task_token] = number
    while len(_counts) > _REMEMBERED:
        _counts.popitem(last=False)
    return number


async def _attempt(http: Http, heart: Heart, info: activity.Info, number: int, call: Call) -> dict[str, Any]:
    around = Surroundings.of_environment()
    tenant = around.tenant_of(call.tenant_slug)
    target = await find_agent(http, around, call.agent_id)
    run = _run(info, number, call, around.base_url)
    remote = Remote(http, around.base_url, around.api_key)
    conversation = Conversation(heart, remote, Environment(), run, target, call)
    passback = Passback(TenantDocuments(), Path(tempfile.gettempdir()) / "hostler-temporal", around.max_bytes)
    to = Destination(tenant, call.entity_slug or "", None, call.task_id or run.task_id.partition(":")[0])
    fresh = info.attempt == 1 and not info.heartbeat_details  # an attempt may be number 1 again after a reset
    try:
        async with asyncio.timeout(None) as patience:

            async def asks(questions: list[rows.Question]) -> None:
                heart.waits_for([question.name for question in questions])
                patience.reschedule(asyncio.get_running_loop().time() + _left(run, call) if questions else None)

            draft = await conversation.to_the_end(passback, to, asks, fresh=fresh)
            return {name: value for name, value in draft.body.items() if name != "name"}
    except TimeoutError:
        await _give_up(conversation)
        return _unanswered(heart, call)
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details is not None and details.cancel_requested:  # else another attempt goes on with the session
            await _give_up(conversation)
        raise


def _run(info: activity.Info, number: int, call: Call, base_url: str) -> rows.AgentRun:
    """A workflow that is run again has another run id, and gets another session."""
    here = "/".join([info.namespace, str(info.workflow_id), str(info.workflow_run_id), info.activity_id, str(number)])
    return rows.AgentRun(
        task_id=info.workflow_id or info.activity_id,
        key=f"{info.activity_id}/{number}",
        agent_id=call.agent_id,
        session_id=None,
        base_url=base_url,
        started_at=int(info.scheduled_time.timestamp() * 1e6),
        ended_at=None,
        mark=uuid.uuid5(MARKS, here).hex,
        questions=[],
        replies=[],
    )


def _left(run: rows.AgentRun, call: Call) -> float:
    return max(0.0, run.started_at / 1e6 + call.seconds - clock.now() / 1e6)


async def _give_up(conversation: Conversation) -> None:
    """Interrupt and archive; a server that is not there now has a session too many."""
    with contextlib.suppress(Refused, Down, TimeoutError):
        await conversation.give_up()


def _unanswered(heart: Heart, call: Call) -> dict[str, Any]:
    asked = ", ".join(heart.waiting) or "a person"
    return {
        "agent_id": call.agent_id,
        "session_id": heart.session_id or "",
        "status": "failed",
        "output_text": None,
        "output_files": [],
        "error": f"The agent waited for an answer to {asked}, and had none after {call.seconds:g} seconds.",
    }
