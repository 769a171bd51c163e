"""Records what a real model says as a script that replays it. It changes nothing on the way and must not keep prompts.

Only the model's own words are saved (and, with several conversations, the first user text that tells them apart); what
users and tools said is not, but a model may quote it: look at a recording before you share it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import msgspec

from hostler.models.conversation import Conversation
from hostler.models.protocol import Model, ModelEvent, ModelFailure, ModelRequest, ModelResponse
from hostler.models.script_file import Failure, Rule, Script, Turn, When, check_script

_UNSEEN = "this turn was not recorded"


class _Recorded:
    """What was seen at one place of a conversation: failures, then perhaps an answer."""

    def __init__(self) -> None:
        self.failures = 0
        self.last_failure: ModelFailure | None = None
        self.answer: Turn | None = None

    def turn(self) -> Turn:
        failed = self.last_failure
        if failed is None:
            return self.answer or Turn(error=Failure(kind="request_failed", message=_UNSEEN, retryable=False))
        error = Failure(
            kind=failed.kind,
            message=failed.message,
            retryable=failed.retryable,
            retry_after=failed.retry_after,
            times=self.failures if self.answer else 0,
        )
        return msgspec.structs.replace(self.answer or Turn(template=False), error=error)


class Recorder:
    """A `Model` that passes everything through and keeps the answers; the file is rewritten after each of them.

    A conversation is one session and one first user text. A failed request is recorded too: the replay fails as often
    before it answers.
    """

    def __init__(self, inner: Model, path: Path, *, name: str = "recording") -> None:
        self._inner = inner
        self._path = path
        self._name = name
        self._turns: dict[tuple[str, str], dict[int, _Recorded]] = {}

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        try:
            async with aclosing(cast(Any, self._inner.stream(request))) as events:
                async for event in events:
                    if isinstance(event, ModelResponse):
                        self._keep_response(request, event)
                    yield event
        except ModelFailure as failure:
            self._keep_failure(request, failure)
            raise

    async def warm_up(self) -> None:
        if (warm_up := getattr(self._inner, "warm_up", None)) is not None:
            await warm_up()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def script(self) -> Script:
        """The script so far: plain `turns` for one conversation, a rule for each when there are several."""
        talks = {
            key: [turns.get(position, _Recorded()).turn() for position in range(max(turns) + 1)]
            for key, turns in self._turns.items()
        }
        if len(talks) == 1:
            return Script(name=self._name, turns=next(iter(talks.values())))
        rules = [
            Rule(when=When(first_user_text_equals=first), turns=turns, counts_from="start")
            for (_, first), turns in talks.items()
        ]
        return Script(name=self._name, rules=rules)

    def save(self) -> None:
        """Write the script in one step, so that a reader never meets half of it."""
        script = self.script()
        check_script(script, self._path.name)
        whole = msgspec.to_builtins(script)
        raw = msgspec.json.format(msgspec.json.encode(_without_defaults(whole, msgspec.to_builtins(Turn()))), indent=2)
        with tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=self._path.name, delete=False) as file:
            file.write(raw)
        os.replace(file.name, self._path)

    def _keep_response(self, request: ModelRequest, response: ModelResponse) -> None:
        positions = {block["id"]: at for at, block in enumerate(response.content) if block.get("type") == "tool_use"}
        self._place(request).answer = Turn(
            content=[_without_id(block) for block in response.content],
            stop_reason=response.stop_reason,
            stop_details=response.stop_details,
            usage=response.usage,
            invalid_inputs={positions[call]: reason for call, reason in response.invalid_inputs.items()},
            template=False,
        )
        self.save()

    def _keep_failure(self, request: ModelRequest, failure: ModelFailure) -> None:
        recorded = self._place(request)
        recorded.failures += 1
        recorded.last_failure = failure
        self.save()

    def _place(self, request: ModelRequest) -> _Recorded:
        talk = Conversation(request)
        turns = self._turns.setdefault((request.session_id, talk.first_user_text), {})
        return turns.setdefault(talk.turn_from_start, _Recorded())


def _without_id(block: dict[str, Any]) -> dict[str, Any]:
    """Calls get new ids at each replay: an id stands for one call of one session."""
    return {k: v for k, v in block.items() if k != "id"} if block.get("type") == "tool_use" else block


def _without_defaults(script: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
    """The script without fields that say nothing, so that a person can read and edit it."""
    for turns in (script["turns"], *(rule["turns"] for rule in script["rules"])):
        turns[:] = [{k: v for k, v in turn.items() if v != empty.get(k)} for turn in turns]
    return {k: v for k, v in script.items() if v not in ([], None, "")}
