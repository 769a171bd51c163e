"""Plays a script instead of asking a model: deterministic, offline, and a first-class provider that users test with.

It must not remember a conversation: which turn comes next follows from the request's messages, so a script goes on
where it was after a restart. The only state is how often a turn with `error.times` was tried.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from hostler.models.conversation import Conversation
from hostler.models.failures import refused
from hostler.models.protocol import (
    BlockStarted,
    FailureKind,
    ModelEvent,
    ModelFailure,
    ModelRequest,
    ModelResponse,
    ModelUsage,
    TextDelta,
)
from hostler.models.provider import ProviderSettings, read_options
from hostler.models.script_file import (
    PLACEHOLDER,
    Failure,
    Pace,
    Rule,
    Script,
    Turn,
    When,
    check_script,
    decode_script,
    load_script,
)

_MAX_ATTEMPT_COUNTS = 10_000


@cache
def default_script() -> Script:
    """The built-in script: an honest offline agent for demonstrations (`scripts/default.json`)."""
    return load_script(Path(__file__).parent / "scripts" / "default.json")


class _Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of a route with `provider = "script"`."""

    file: str = ""


def build(settings: ProviderSettings) -> ScriptedModel:
    """A scripted model for a route; `options.file` names the script, else it is the built-in one."""
    options = read_options(settings, _Options)
    return ScriptedModel(load_script(Path(options.file)) if options.file else default_script())


class ScriptedModel:
    """A `Model` that plays a script. Pass a `Script`, its dict form, or a path; nothing means the built-in script."""

    def __init__(self, script: Script | dict[str, Any] | Path | str | None = None) -> None:
        if script is None:
            script = default_script()
        elif isinstance(script, dict):
            script = decode_script(msgspec.json.encode(script))
        elif isinstance(script, Path | str):
            script = load_script(Path(script))
        else:
            check_script(script)
        self.script = script
        self._attempts: OrderedDict[tuple[str, int, str], int] = OrderedDict()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        talk = Conversation(request)
        turn, captured = self._find_turn(talk)
        content = _content(turn, talk, captured)
        pace = turn.pace or self.script.pace
        if pace.first_token_ms:
            await asyncio.sleep(pace.first_token_ms / 1000)
        failure = self._due_failure(turn, request)
        if failure is not None and failure.after_chars is None:
            raise _failure(failure)
        left = failure.after_chars if failure is not None else None
        for index, block in enumerate(content):
            yield BlockStarted(index, block["type"])
            if block["type"] == "text":
                async for piece in _pieces(block["text"], pace, left):
                    yield TextDelta(index, piece)
                if left is not None and (left := left - len(block["text"])) <= 0:
                    break
        if failure is not None:
            raise _failure(failure)
        yield _response(turn, content, request)

    async def warm_up(self) -> None:
        """Nothing to load."""

    async def aclose(self) -> None:
        """Nothing to close."""

    def _find_turn(self, talk: Conversation) -> tuple[Turn, dict[str, str]]:
        for rule in self.script.rules:
            captured = _match(rule.when, talk)
            if captured is not None and (turn := _at(rule.turns, _position(rule, talk))) is not None:
                return turn, captured
        turn = _at(self.script.turns, talk.turn_from_start) or self.script.otherwise
        if turn is None:
            raise refused(
                f"the script {self.script.name!r} has no turn for this conversation"
                f" (assistant message {talk.turn_from_start + 1}): add a rule, a turn or `otherwise`"
            )
        return turn, {}

    def _due_failure(self, turn: Turn, request: ModelRequest) -> Failure | None:
        """The failure this attempt meets, counting the attempts of one request of one session."""
        failure = turn.error
        if failure is None or not failure.times:
            return failure
        key = (request.session_id, len(request.messages), request.model)
        tried = self._attempts.pop(key, 0) + 1
        if tried > failure.times:
            return None
        self._attempts[key] = tried
        if len(self._attempts) > _MAX_ATTEMPT_COUNTS:
            self._attempts.popitem(last=False)
        return failure


def _position(rule: Rule, talk: Conversation) -> int:
    if rule.when.turn is not None or rule.counts_from == "never":
        return 0
    return talk.turn if rule.counts_from == "last_user_text" else talk.turn_from_start


def _at(turns: list[Turn], position: int) -> Turn | None:
    """The turn at a position, a turn with `repeat` standing at that many positions."""
    for turn in turns:
        if position < turn.repeat:
            return turn
        position -= turn.repeat
    return None


def _match(when: When, talk: Conversation) -> dict[str, str] | None:
    """What the patterns captured, or None when a condition doesn't hold. Cheap conditions come first."""
    request = talk.request
    if when.turn is not None and when.turn != talk.turn:
        return None
    if when.model is not None and not fnmatch.fnmatchcase(request.model, when.model):
        return None
    if when.tool_offered is not None and not talk.offers(when.tool_offered):
        return None
    if when.tool_result_is_error is not None and when.tool_result_is_error != talk.last_tool_failed:
        return None
    if not _texts_hold(when, talk):
        return None
    captured: dict[str, str] = {}
    for pattern, text in (
        (when.user_text_matches, "last_user_text"),
        (when.tool_result_matches, "last_tool_result"),
    ):
        if pattern is None:
            continue
        found = _compiled(pattern).search(getattr(talk, text))
        if found is None:
            return None
        groups = dict(enumerate((found.group(), *found.groups()))) | found.groupdict()
        captured |= {str(name): value or "" for name, value in groups.items()}
    return captured


def _texts_hold(when: When, talk: Conversation) -> bool:
    if when.user_text_contains is not None and when.user_text_contains not in talk.last_user_text:
        return False
    if when.user_text_equals is not None and when.user_text_equals != talk.last_user_text:
        return False
    if when.first_user_text_equals is not None and when.first_user_text_equals != talk.first_user_text:
        return False
    if when.tool_result_contains is not None and when.tool_result_contains not in talk.last_tool_result:
        return False
    return when.system_contains is None or when.system_contains in talk.system


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _content(turn: Turn, talk: Conversation, captured: dict[str, str]) -> list[dict[str, Any]]:
    """The message's blocks, placeholders filled in and ids given to tool calls that have none."""
    if turn.content:
        content = [dict(block) for block in turn.content]
    else:
        content = [{"type": "thinking", "thinking": turn.thinking, "signature": ""}] if turn.thinking else []
        content += [{"type": "text", "text": turn.text}] if turn.text else []
        content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input} for call in turn.tools]
    if turn.template:
        content = [_filled(block, talk, captured) for block in content]
    for call, block in zip(turn.tools, content[len(content) - len(turn.tools) :], strict=True):
        if call.input_files:
            block["input"] = {**block["input"], **call.input_files}
    for index, block in enumerate(content):
        if block["type"] == "tool_use" and not block.get("id"):
            block["id"] = _call_id(talk.request, index)
    return content


def _filled(value: Any, talk: Conversation, captured: dict[str, str]) -> Any:
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda m: _value(m.group(1), talk, captured), value) if "{{" in value else value
    if isinstance(value, dict):
        return {key: _filled(item, talk, captured) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, talk, captured) for item in value]
    return value


def _value(name: str, talk: Conversation, captured: dict[str, str]) -> str:
    match name:
        case "last_user_text":
            return talk.whole_user_text
        case "last_tool_result":
            return talk.last_tool_result
        case "turn":
            return str(talk.turn)
        case "model":
            return talk.request.model
    return captured[name]


def _call_id(request: ModelRequest, index: int) -> str:
    """The same id for the same request, so that a request repeated after a crash gives the same calls."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(f"{request.session_id}/{request.model}/{len(request.messages)}/{index}/".encode())
    digest.update(msgspec.json.encode(request.messages[-1:])[:4096])
    digest.update(msgspec.json.encode(request.system[:1])[:1024])
    return f"toolu_{digest.hexdigest()}"


async def _pieces(text: str, pace: Pace, limit: int | None) -> AsyncIterator[str]:
    """The text at the script's cadence, cut after `limit` characters."""
    text = text if limit is None else text[: max(limit, 0)]
    size = pace.chunk_chars or len(text)
    for start in range(0, len(text), size or 1):
        if pace.chunk_ms:
            await asyncio.sleep(pace.chunk_ms / 1000)
        yield text[start : start + size]


def _failure(failure: Failure) -> ModelFailure:
    kind: FailureKind = "request_failed" if failure.kind == "truncated" else failure.kind
    usual = failure.kind in ("overloaded", "rate_limited", "truncated", "request_failed", "unknown")
    retryable = failure.retryable if failure.retryable is not None else usual
    message = failure.message or f"the script says so: {failure.kind}"
    return ModelFailure(kind, message, retryable=retryable, retry_after=failure.retry_after)


def _response(turn: Turn, content: list[dict[str, Any]], request: ModelRequest) -> ModelResponse:
    calls = any(block["type"] == "tool_use" for block in content)
    return ModelResponse(
        content=content,
        stop_reason=turn.stop_reason or ("tool_use" if calls else "end_turn"),
        stop_details=turn.stop_details,
        usage=turn.usage or _estimated_usage(content, request),
        model=request.model,
        invalid_inputs=_invalid_inputs(turn, content),
    )


def _invalid_inputs(turn: Turn, content: list[dict[str, Any]]) -> dict[str, str]:
    """The script names such calls by their block's position; the harness by id."""
    return {content[at]["id"]: reason for at, reason in turn.invalid_inputs.items()}


def _estimated_usage(content: list[dict[str, Any]], request: ModelRequest) -> ModelUsage:
    """Four characters a token: numbers that grow with the conversation, for turns that name none."""
    told = sum(_size(message.get("content")) for message in request.messages) + _size(request.system)
    return ModelUsage(input_tokens=told // 4 + 1, output_tokens=_size(content) // 4 + 1)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_size, value))
    return sum(map(_size, value.values())) if isinstance(value, dict) else 1
