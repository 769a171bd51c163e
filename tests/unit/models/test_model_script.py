"""The scripted model: matching, placeholders, cadence, failures, validation, and the built-in script."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from model_servers import answer, ask, collect, failure, said

from hostler.models.protocol import BlockStarted, ModelFailure, ModelRequest, ModelUsage, TextDelta
from hostler.models.provider import ModelConfigError, ProviderSettings
from hostler.models.script import ScriptedModel, build, default_script
from hostler.models.script_file import Pace, ScriptError, decode_script, load_script

BASH = [{"name": "bash", "input_schema": {"type": "object"}}]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def result(text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": content, **more}]}


def assistant(text: str = "ok") -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def reply(script: dict[str, Any] | None, *messages: dict[str, Any], **request: Any) -> Any:
    return asyncio.run(answer(ScriptedModel(script), ask(messages=list(messages), **request)))


def text(response: Any) -> str:
    return "".join(block.get("text", "") for block in response.content)


def test_turns_follow_the_number_of_assistant_messages() -> None:
    script = {"turns": [{"text": "one"}, {"text": "two", "repeat": 2}, {"text": "three"}]}
    talk = [user("a")]
    got = []
    for _ in range(4):
        got.append(text(reply(script, *talk)))
        talk += [assistant(), user("go on")]
    assert got == ["one", "two", "two", "three"]
    failed = asyncio.run(failure(ScriptedModel(script), ask(messages=talk)))
    assert (failed.kind, failed.retryable) == ("request_failed", False)
    assert "no turn for this conversation" in failed.message


def test_rules_are_tried_in_order_and_count_from_the_last_user_text() -> None:
    script = {
        "rules": [
            {
                "when": {"user_text_matches": r"add (?P<a>\d+) and (\d+)"},
                "turns": [
                    {"tools": [{"name": "calc", "input": {"args": ["{{a}}", "{{2}}"], "n": 1}}]},
                    {"text": "It is {{last_tool_result}}, turn {{turn}}."},
                ],
            },
            {"when": {"user_text_contains": "add"}, "turns": [{"text": "never: it comes second"}]},
        ],
        "otherwise": {"text": "you said: {{ last_user_text }}"},
    }
    asked = [user("hello"), assistant(), user("add 2 and 3")]
    call = reply(script, *asked)
    assert call.stop_reason == "tool_use"
    assert call.content[0]["input"] == {"args": ["2", "3"], "n": 1}
    asked += [{"role": "assistant", "content": call.content}, result("5")]
    assert text(reply(script, *asked)) == "It is 5, turn 1."
    page = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "of a page"}}
    fetched = {"type": "tool_result", "tool_use_id": "t", "content": [page]}
    assert text(reply(script, *asked[:-1], {"role": "user", "content": [fetched]})) == "It is of a page, turn 1."
    asked += [assistant("It is 5"), result("?")]
    assert text(reply(script, *asked)) == "you said: add 2 and 3"
    assert text(reply(script, user("hm"))) == "you said: hm"


@pytest.mark.parametrize(
    ("when", "messages", "request_fields"),
    [
        ({"user_text_equals": "a"}, [user("a")], {}),
        ({"first_user_text_equals": "a"}, [user("a"), assistant(), user("b")], {}),
        ({"tool_result_contains": "xy"}, [user("a"), assistant(), result("wxyz")], {}),
        ({"tool_result_matches": "x(y)"}, [user("a"), assistant(), result("wxyz")], {}),
        ({"tool_result_is_error": True}, [user("a"), assistant(), result("no", is_error=True)], {}),
        ({"tool_result_is_error": False}, [user("a"), assistant(), result("yes")], {}),
        ({"turn": 1}, [user("a"), assistant(), result("yes")], {}),
        ({"system_contains": "kind"}, [user("a")], {"system": [{"type": "text", "text": "Be kind."}]}),
        ({"model": "claude-*"}, [user("a")], {}),
        ({"tool_offered": "bash"}, [user("a")], {"tools": BASH}),
    ],
)
def test_every_condition(when: dict[str, Any], messages: list[dict[str, Any]], request_fields: dict[str, Any]) -> None:
    rule = {"when": when, "turns": [{"text": "yes"}], "counts_from": "never"}
    script = {"rules": [rule], "otherwise": {"text": "no"}}
    assert text(reply(script, *messages, **request_fields)) == "yes"
    assert text(reply(script, user("other"), model="gpt")) == "no"


def test_blocks_come_in_order_with_usage_and_chunks() -> None:
    script = {
        "pace": {"chunk_chars": 2},
        "turns": [
            {
                "thinking": "hm",
                "text": "abcde",
                "tools": [{"name": "bash", "input": {"command": "ls"}}, {"name": "read", "id": "mine"}],
                "usage": {"input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": 7},
            }
        ],
    }
    events = asyncio.run(collect(ScriptedModel(script), ask()))
    kinds = [event.kind for event in events if isinstance(event, BlockStarted)]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["ab", "cd", "e"]
    response = events[-1]
    assert response.usage == ModelUsage(input_tokens=5, output_tokens=6, cache_read_input_tokens=7)
    assert response.content[3]["id"] == "mine"


def test_call_ids_are_stable_for_one_request_and_differ_otherwise() -> None:
    script = {"otherwise": {"tools": [{"name": "a"}, {"name": "b"}]}}

    def ids(**fields: Any) -> list[str]:
        return [block["id"] for block in asyncio.run(answer(ScriptedModel(script), ask(**fields))).content]

    assert ids() == ids()
    later = [user("hi"), assistant(), user("hi")]
    assert len({*ids(), *ids(session_id="other"), *ids(messages=later)}) == 6


def test_delays_are_kept() -> None:
    script = {"turns": [{"text": "abcd", "pace": {"first_token_ms": 60, "chunk_chars": 1, "chunk_ms": 10}}]}
    start = time.perf_counter()
    reply(script, user("a"))
    assert time.perf_counter() - start >= 0.095


def test_fails_twice_then_succeeds_per_session() -> None:
    script = {"turns": [{"text": "fine", "error": {"kind": "overloaded", "times": 2}}]}

    async def attempts(model: ScriptedModel, request: ModelRequest) -> list[str]:
        got = []
        for _ in range(3):
            try:
                got.append(text(await answer(model, request)))
            except ModelFailure as error:
                got.append(error.kind)
        return got

    async def main() -> list[list[str]]:
        model = ScriptedModel(script)
        return [await attempts(model, ask()), await attempts(model, ask(session_id="sesn_2"))]

    assert asyncio.run(main()) == [["overloaded", "overloaded", "fine"]] * 2


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"kind": "overloaded"}, "overloaded", True),
        ({"kind": "rate_limited", "retry_after": 3}, "rate_limited", True),
        ({"kind": "request_failed", "retryable": False}, "request_failed", False),
        ({"kind": "truncated", "after_chars": 3}, "request_failed", True),
        ({"kind": "billing"}, "billing", False),
        ({"kind": "context_too_long"}, "context_too_long", False),
        ({"kind": "unknown"}, "unknown", True),
    ],
)
def test_every_failure(error: dict[str, Any], kind: str, retryable: bool) -> None:
    async def main() -> tuple[ModelFailure, str]:
        heard = []
        try:
            async for event in ScriptedModel({"turns": [{"text": "abcdef", "error": error}]}).stream(ask()):
                heard.append(event)
        except ModelFailure as failed:
            return failed, said(heard)
        raise AssertionError

    failed, heard = asyncio.run(main())
    assert (failed.kind, failed.retryable, failed.retry_after) == (kind, retryable, error.get("retry_after"))
    assert heard == "abcdef"[: error.get("after_chars", 0)]


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ({}, "needs `rules`, `turns` or `otherwise`"),
        ({"turns": [{"txt": "a"}]}, "$.turns[0]"),
        ({"turns": [{"text": 1}]}, "$.turns[0].text"),
        ({"turns": [{}]}, "turns[0]"),
        ({"turns": [{"text": "a", "content": [{"type": "text", "text": "b"}]}]}, "turns[0]"),
        ({"turns": [{"content": [{"type": "tool_use", "name": "x"}]}]}, "turns[0].content[0]"),
        ({"turns": [{"text": "{{nope}}"}]}, "{{nope}}"),
        ({"turns": [{"error": {"kind": "tired"}}]}, "$.turns[0].error.kind"),
        ({"turns": [{"error": {"kind": "overloaded", "times": 1}}]}, "turns[0].error.times"),
        (
            {"rules": [{"when": {"user_text_matches": "("}, "turns": [{"text": "a"}]}]},
            "rules[0].when.user_text_matches",
        ),
        ({"rules": [{"when": {"turn": 1}, "turns": [{"text": "a"}, {"text": "b"}]}]}, "rules[0].turns"),
        ({"rules": [{"turns": []}]}, "$.rules[0].turns"),
        ({"turns": [{"content": [{"type": "text", "text": "a"}], "invalid_inputs": {"0": "x"}}]}, "invalid_inputs"),
    ],
)
def test_a_wrong_script_is_refused_with_its_place(script: dict[str, Any], place: str) -> None:
    with pytest.raises(ScriptError) as error:
        decode_script(json.dumps(script).encode(), source="mine.json")
    assert str(error.value).startswith("mine.json: ")
    assert place in str(error.value)


def test_files_in_json_and_toml(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text('name = "t"\n[[turns]]\ntext = "hi"\n')
    plain = tmp_path / "a.json"
    plain.write_text(json.dumps({"name": "t", "turns": [{"text": "hi"}]}))
    assert load_script(toml) == load_script(plain)
    with pytest.raises(ScriptError, match=r"missing\.json"):
        load_script(tmp_path / "missing.json")
    model = build(ProviderSettings(options={"file": str(toml)}))
    assert text(asyncio.run(answer(model, ask()))) == "hi"
    with pytest.raises(ModelConfigError, match="options"):
        build(ProviderSettings(options={"fiel": "x"}, where="models.route[0]"))


def test_the_built_in_script_is_honest_and_runs_commands() -> None:
    assert "scripted model" in text(reply(None, user("hello")))
    assert text(reply(None, user("say: good  morning "))) == "good  morning"
    call = reply(None, user("run: echo {{turn}} 'a'"), tools=BASH)
    assert call.content[0]["input"] == {"command": "echo {{turn}} 'a'"}
    done = reply(None, user("run: ls"), {"role": "assistant", "content": call.content}, result("a.txt"), tools=BASH)
    assert text(done).endswith("a.txt")
    assert "no bash tool" in text(reply(None, user("run: ls")))


def test_the_built_in_script_writes_a_report(tmp_path: Path) -> None:
    talk = [user("Please read /mnt/session/uploads/sales.csv and write a short report with totals.")]
    first = reply(None, *talk, tools=BASH)
    talk += [{"role": "assistant", "content": first.content}, result("region,amount")]
    second = reply(None, *talk, tools=BASH)
    command = second.content[-1]["input"]["command"]
    source = tmp_path / "sales.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["region", "amount"], ["north", 10], ["south", 2.5], ["north", 1]])
    command = command.replace("/mnt/session/uploads", str(tmp_path)).replace("/mnt/session/outputs", str(tmp_path))
    command = command.replace("python3 ", f"{sys.executable} ")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    report = (tmp_path / "report.md").read_text()
    assert "| amount | 3 | 13.50 | 4.50 | 1.00 | 10.00 |" in report
    assert "| north | 2 | 11.00 |" in report
    talk += [{"role": "assistant", "content": second.content}, result("the table")]
    assert "report.md" in text(reply(None, *talk, tools=BASH))
    talk[-1] = result("Traceback", is_error=True)
    assert "without a report" in text(reply(None, *talk, tools=BASH))


def test_the_built_in_script_leaves_time_to_open_a_stream() -> None:
    """Streams do not replay: a turn of a few milliseconds would be over before a client that sends first listens."""
    assert default_script().name == "hostler-default"
    assert default_script().pace.first_token_ms >= 100


def test_a_script_adds_little_time_to_a_request() -> None:
    quick = msgspec.structs.replace(default_script(), pace=Pace())
    model = ScriptedModel(quick)
    talk = [message for n in range(50) for message in (user(f"say: {n}"), assistant())] + [user("say: hi")]

    async def main() -> float:
        best = 1.0
        for _ in range(20):
            start = time.perf_counter()
            await collect(model, ask(messages=talk))
            best = min(best, time.perf_counter() - start)
        return best

    assert asyncio.run(main()) < 0.003  # the target is 0.3 ms; ten times that only fails on a real mistake


def with_input_file(folder: Path, name: str) -> Path:
    call = {"name": "write", "input": {"file_path": "{{last_user_text}}"}, "input_files": {"content": name}}
    file = folder / "script.json"
    file.write_text(json.dumps({"turns": [{"tools": [call]}]}))
    return file


def test_an_input_may_be_the_text_of_a_file_beside_the_script(tmp_path: Path) -> None:
    program = "print('{{last_user_text}} and {{whatever}}')\n"
    (tmp_path / "program.py").write_text(program)
    model = ScriptedModel(with_input_file(tmp_path, "program.py"))
    made = asyncio.run(answer(model, ask(messages=[user("a.py")])))
    (call,) = made.content
    assert call["input"] == {"file_path": "a.py", "content": program}
    again = asyncio.run(answer(model, ask(messages=[user("b.py")])))
    assert again.content[0]["input"] == {"file_path": "b.py", "content": program}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent.py", "can't read absent.py: No such file"),
        ("../script.json", "the name of a file beside the script"),
        ("/etc/hostname", "the name of a file beside the script"),
        ("binary", "binary is not UTF-8 text"),
        (".", "the name of a file beside the script"),
    ],
)
def test_other_files_are_no_input(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ScriptError) as failed:
        load_script(with_input_file(tmp_path, name))
    assert str(failed.value).startswith("script.json: turns[0].tools[0].input_files.content: ")
    assert says in str(failed.value)


def test_a_script_that_is_no_file_has_no_files_beside_it() -> None:
    call = {"name": "write", "input_files": {"content": "script.json"}}
    with pytest.raises(ScriptError, match="beside the script"):
        ScriptedModel({"turns": [{"tools": [call]}]})


def test_a_long_message_is_passed_on_whole() -> None:
    long = "x" * 300_000
    assert text(reply({"turns": [{"text": "{{last_user_text}}"}]}, user(long))) == long


def test_only_the_json_of_a_period_begins_a_handover() -> None:
    offered = [*BASH, {"name": "write", "input_schema": {"type": "object"}}]
    for words in ("say: period_summary", 'what is a "period_summary": ?', '["period_summary"]', '{"a": 1}'):
        assert "handover" not in text(reply(None, user(words), tools=offered))
    made = reply(None, user('\n{"x": 1, "period_summary": {}}'), tools=offered)
    assert [block["name"] for block in made.content if block["type"] == "tool_use"] == ["write", "write"]
