"""What the model is sent: the same log always gives the same request, with its cache breakpoints."""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.harness import context, skills
from hostler.harness.parts import Call, Heard, Part, Said, Summed, Told

CACHE = {"cache_control": {"type": "ephemeral"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def call(number: int, words: str | None = "r", **more: Any) -> Call:
    result = [text(words)] if words is not None else []
    return Call(
        id=f"sevt_{number}",
        model_id=f"toolu_{number}",
        name="bash",
        kind="builtin",
        input={},
        permission="allow",
        result=result,
        **more,
    )


def use(number: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "bash", "input": {}}


def result(number: int, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": list(content), **more}


PARTS: list[Part] = [
    Heard([text("go"), {"type": "image", "source": {"type": "file", "file_id": "file_1"}}]),
    Said(
        [{"type": "thinking", "thinking": "t", "signature": "s"}, use(1), use(2)], [call(1), call(2, None)], "tool_use"
    ),
    Heard([text("and this")]),
    Told("be brief"),
    Said([text("cut")], [], "max_tokens"),
    Said([use(3)], [call(3, "broke", is_error=True)], "tool_use"),
]
MESSAGES = [
    {
        "role": "user",
        "content": [
            text("go"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        ],
    },
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, use(1), use(2)]},
    {"role": "user", "content": [result(1, text("r")), result(2, text("(no output)")), text("and this")]},
    {"role": "system", "content": "be brief"},
    {"role": "assistant", "content": [text("cut")]},
    {"role": "user", "content": [text(context.CONTINUE)]},
    {"role": "assistant", "content": [use(3)]},
    {"role": "user", "content": [result(3, text("broke"), is_error=True)]},
]
FILES = {"file_1": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


def test_a_conversation_in_messages_form() -> None:
    assert context.file_ids(PARTS) == {"file_1"}
    assert context.messages(PARTS, FILES) == MESSAGES


def test_a_file_that_is_gone_is_said_to_be() -> None:
    first = context.messages(PARTS, {})[0]
    assert first["content"][1] == text("[The file file_1 does not exist any more.]")


def test_the_last_two_user_messages_are_breakpoints_and_the_log_is_not_touched() -> None:
    before = msgspec.json.encode(PARTS)
    marked = context.with_breakpoints(context.messages(PARTS, FILES))
    assert marked[5]["content"] == [text(context.CONTINUE, **CACHE)]
    assert marked[7]["content"] == [result(3, text("broke"), is_error=True, **CACHE)]
    assert marked[:5] == MESSAGES[:5]
    assert marked[6] == MESSAGES[6]
    assert msgspec.json.encode(PARTS) == before


def test_a_longer_log_only_adds_to_the_request() -> None:
    """Else the vendor's cache would miss: nothing that was sent may change later."""
    for length in range(1, len(PARTS)):
        if isinstance(PARTS[length], Heard) and isinstance(PARTS[length - 1], Said):
            continue  # joins the message of the results before it
        shorter = context.messages(PARTS[:length], FILES)
        assert context.messages(PARTS, FILES)[: len(shorter)] == shorter


def test_the_system_prompt_and_its_mark() -> None:
    blocks = context.system_prompt("Be kind.", True, ["/mnt/session/uploads/b", "/mnt/session/uploads/a"])
    assert [block["text"] for block in blocks][1:] == ["Be kind."]
    assert blocks[0]["text"].endswith("- Provided now:\n  - /mnt/session/uploads/a\n  - /mnt/session/uploads/b")
    assert context.marked_last(blocks) == [blocks[0], {**blocks[1], **CACHE}]
    assert context.system_prompt(None, False, []) == context.marked_last([]) == []


def test_skills_are_announced_in_a_section_of_their_own() -> None:
    known = [
        skills.Announced("pdf", "Reads\n PDFs.", "/mnt/skills/pdf/SKILL.md"),
        skills.Announced("build", "Builds it.", "/workspace/repo/.claude/skills/build/SKILL.md"),
    ]
    blocks = context.system_prompt("Be kind.", True, [], known)
    assert [block["text"] for block in blocks][2:] == ["Be kind."]
    intro, *listed = blocks[1]["text"].split("\n")
    assert intro == skills.INTRO
    assert listed == [
        "- pdf (/mnt/skills/pdf/SKILL.md): Reads PDFs.",
        "- build (/workspace/repo/.claude/skills/build/SKILL.md): Builds it.",
    ]
    assert context.system_prompt("Be kind.", True, [], known) == blocks, "else the vendor's cache would miss"
    assert len(context.system_prompt("Be kind.", False, [], known)) == 1, "nobody could read them"


def test_a_summary_stands_for_what_was_before() -> None:
    built = context.messages([Summed("so far"), Heard([text("next")])], {})
    assert built == [{"role": "user", "content": [text(context.SUMMARY_INTRO + "so far"), text("next")]}]


def conversation(turns: int, size: int) -> list[dict[str, Any]]:
    built: list[dict[str, Any]] = [{"role": "user", "content": [text("the task")]}]
    for number in range(turns):
        built.append({"role": "assistant", "content": [use(number)]})
        built.append({"role": "user", "content": [result(number, text("x" * size))]})
    return built


def test_a_shortened_conversation_keeps_the_task_the_end_and_every_pair() -> None:
    for turns in range(1, 12):
        for limit in (1, 500, 5000, 20_000):
            short = context.shortened(conversation(turns, 9000), limit)
            assert short[0]["content"] == [text("the task")]
            assert short[-1]["content"][0]["tool_use_id"] == f"toolu_{turns - 1}"
            assert pairs_hold(short)


def test_what_fits_is_not_shortened() -> None:
    built = conversation(3, 100)
    assert context.shortened(built, 100_000) == built


def test_long_results_lose_their_middle_first() -> None:
    (_, _, answer) = context.shortened(conversation(1, 9000), 5000)
    kept = answer["content"][0]["content"][0]["text"]
    assert len(kept) < 2100
    assert "\n[...]\n" in kept


def pairs_hold(built: list[dict[str, Any]]) -> bool:
    """Every tool result follows the message with its call."""
    for before, message in zip([{"content": []}, *built], built, strict=False):
        answered = {block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"}
        if not answered <= {block.get("id") for block in before["content"]}:
            return False
    return True
