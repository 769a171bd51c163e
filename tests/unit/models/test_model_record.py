"""A recording of a conversation is a script that replays it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from model_servers import answer, ask, failure

from hostler.models.protocol import ModelRequest, ModelResponse
from hostler.models.record import Recorder
from hostler.models.script import ScriptedModel
from hostler.models.script_file import load_script

ORIGINAL = {
    "rules": [
        {"when": {"user_text_contains": "other"}, "turns": [{"text": "another {{last_user_text}}"}]},
        {
            "turns": [
                {
                    "thinking": "hm",
                    "text": "a {{last_user_text}}",
                    "tools": [{"name": "bash", "input": {"c": "{{x}}"}}],
                },
                {"text": "b", "error": {"kind": "overloaded", "times": 2, "retry_after": 1.5}},
                {"stop_reason": "refusal", "stop_details": {"category": "cyber"}},
            ],
            "counts_from": "start",
        },
    ]
}
ORIGINAL["rules"][1]["turns"][0]["tools"][0]["input"] = {"c": "{{turn}}"}  # type: ignore[index]


async def talk(model: Any, session: str, first: str, turns: int) -> list[Any]:
    """Play a conversation to its end; failures are kept as their kinds and tried again."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": first}]
    heard: list[Any] = []
    while len(heard) < turns:
        request: ModelRequest = ask(messages=list(messages), session_id=session)
        try:
            response = await answer(model, request)
        except Exception as error:
            heard.append(getattr(error, "kind", error))
            continue
        heard.append(_essence(response))
        messages += [{"role": "assistant", "content": response.content}, {"role": "user", "content": "go on"}]
    return heard


def _essence(response: ModelResponse) -> tuple[Any, ...]:
    blocks = [{k: v for k, v in block.items() if k != "id"} for block in response.content]
    return blocks, response.stop_reason, response.stop_details, response.usage


def test_a_recorded_conversation_plays_again(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "session.json"
        recorder = Recorder(ScriptedModel(ORIGINAL), path)
        heard = await talk(recorder, "sesn_1", "hello {{braces}}", 5)
        assert heard[1:3] == ["overloaded", "overloaded"]
        script = load_script(path)
        assert not script.rules
        assert await talk(ScriptedModel(script), "sesn_9", "something else", 5) == heard
        await recorder.aclose()

    asyncio.run(main())


def test_two_conversations_become_two_rules(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "session.json"
        recorder = Recorder(ScriptedModel(ORIGINAL), path)
        one = await talk(recorder, "sesn_1", "hello", 2)
        two = await talk(recorder, "sesn_2", "other", 1)
        replay = ScriptedModel(path)
        assert await talk(replay, "sesn_3", "other", 1) == two
        assert await talk(replay, "sesn_4", "hello", 2) == one

    asyncio.run(main())


def test_a_failure_without_an_answer_is_always_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "session.json"
        source = {"turns": [{"error": {"kind": "billing", "message": "pay first"}}]}
        await failure(Recorder(ScriptedModel(source), path), ask())
        for _ in range(3):
            failed = await failure(ScriptedModel(path), ask())
            assert (failed.kind, failed.message, failed.retryable) == ("billing", "pay first", False)

    asyncio.run(main())
