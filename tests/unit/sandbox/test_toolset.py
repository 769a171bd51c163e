"""The toolset over a sandbox: bash, checks of the input, long outputs, and what happens after a crash."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from local_sandbox import LocalSandbox

from hostler.sandbox.contract import Command, CommandResult, SandboxUnavailable, Shell, UnknownCall
from hostler.sandbox.render import render, terminal_text
from hostler.sandbox.toolset import SPILL_LIMIT, TOOLS, ToolResult, attach, cancel, execute, spill
from hostler.sandbox.toolspec import Bash


def call(sandbox: LocalSandbox, name: str, **input: Any) -> ToolResult:
    return asyncio.run(execute(sandbox, f"call_{len(sandbox.started)}", name, input))


def text(result: ToolResult) -> str:
    assert [block["type"] for block in result.content] == ["text"]
    return str(result.content[0]["text"])


def test_bash_keeps_its_state(sandbox: LocalSandbox) -> None:
    assert call(sandbox, "bash", command="mkdir d; cd d; export A=1") == ToolResult(
        content=[{"type": "text", "text": "[no output]"}]
    )
    assert text(call(sandbox, "bash", command="basename $PWD; echo $A; echo err >&2")) == "d\n1\nerr"


def test_bash_restart_alone_and_with_a_command(sandbox: LocalSandbox) -> None:
    call(sandbox, "bash", command="cd /; export A=1")
    assert text(call(sandbox, "bash", restart=True)) == "bash session restarted"
    assert text(call(sandbox, "bash", command="echo A=$A")) == "A="
    call(sandbox, "bash", command="export A=1")
    assert text(call(sandbox, "bash", command="echo A=$A", restart=True)) == "A="
    assert sandbox.acknowledged == ["call_4-restart"]


def test_bash_exit_code(sandbox: LocalSandbox) -> None:
    result = call(sandbox, "bash", command="echo out; false")
    assert result == ToolResult(content=[{"type": "text", "text": "out\n[exit code 1]"}], is_error=True)


def test_bash_that_ends_its_shell_says_what_was_lost(sandbox: LocalSandbox) -> None:
    failed = call(sandbox, "bash", command="echo bye; exit 3")
    assert failed.is_error
    assert text(failed).startswith("bye\n[exit code 3]\n[the shell itself ended: the next command starts a fresh one")
    left = call(sandbox, "bash", command="exit 0")
    assert not left.is_error
    assert text(left).startswith("[the shell itself ended")


def test_bash_timeout(sandbox: LocalSandbox) -> None:
    result = call(sandbox, "bash", command="echo begun; sleep 60", timeout_ms=2000)
    assert result.is_error
    assert text(result) == "begun\n[bash command timed out after 2s; it was ended with all it had started]"


def test_default_timeout_is_120_seconds() -> None:
    seen: list[Command] = []

    class Sees(LocalSandbox):
        def __init__(self) -> None: ...

        async def run(self, call_id: str, command: Command) -> CommandResult:
            seen.append(command)
            return CommandResult(exit_code=0)

    for given in ({}, {"timeout_ms": 0}, {"timeout_ms": None}, {"timeout_ms": 5000}):
        asyncio.run(execute(Sees(), "c", "bash", {"command": "true", **given}))
    assert [c.timeout_ms for c in seen if isinstance(c, Shell)] == [120_000, 120_000, 120_000, 5000]


def test_signal_and_truncation_are_told() -> None:
    killed = CommandResult(exit_code=None, signal=9, output=b"ab", output_bytes=100)
    rendered = render("bash", Bash(command="x"), killed)
    assert rendered.is_error
    assert rendered.text == ("[output truncated: 2 of 100 bytes kept, the head and the tail]\nab\n[ended by signal 9]")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\x1b[31;1mred\x1b[0m \x1b]0;title\x07x\x1b(B", "red x"),
        (b"50%\r100%\r\ndone", "50%\n100%\ndone"),
        (b"a\0b\x07\x7f", "a\u2400b\u2407\u2421"),
        (b"\xff\xfe ok \xc2\x85", "\ufffd\ufffd ok \ufffd"),
        (b"\x1b]0;never closed", "0;never closed"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ],
)
def test_terminal_output_is_made_safe(raw: bytes, expected: str) -> None:
    assert terminal_text(raw) == expected


def test_large_output_is_cleaned_in_pieces_without_a_seam() -> None:
    lines = b"\x1b[1mline\x1b[0m\r\n" * 60_000
    assert terminal_text(lines) == "line\n" * 60_000
    unbroken = "aé\u2028𝄞" * 100_000
    assert terminal_text(unbroken.encode()) == unbroken


@pytest.mark.parametrize(
    ("name", "input", "message"),
    [
        ("bash", {}, "bash: command is required"),
        ("bash", {"command": ""}, "bash: command is required"),
        ("bash", {"command": "a\0b"}, "bash: command must not contain a NUL character (U+0000)"),
        ("bash", {"command": "\ud800"}, "bash: command is not valid Unicode text (it has a lone surrogate)"),
        ("bash", {"command": 1}, "bash: invalid input: Expected `str | null`, got `int` - at `$.command`"),
        ("bash", {"command": "x", "timeout_ms": -1}, "bash: invalid input: Expected `int` >= 0 - at `$.timeout_ms`"),
        (
            "bash",
            {"command": "x", "timeout_ms": 10**9},
            "bash: invalid input: Expected `int` <= 3600000 - at `$.timeout_ms`",
        ),
        ("read", {}, "read: invalid input: Object missing required field `file_path`"),
        ("read", {"file_path": "a", "view_range": [1]}, "read: view_range must be [start_line, end_line]"),
        ("write", {"file_path": "", "content": ""}, None),
        ("write", {"file_path": "a\0", "content": ""}, "write: file_path must not contain a NUL character (U+0000)"),
        ("edit", {"file_path": "a", "old_string": "", "new_string": "b"}, None),
        ("web_fetch", {"url": "x"}, "unknown tool: 'web_fetch'"),
        ("read", ["file_path"], "read: invalid input: Expected `object`, got `array`"),
    ],
)
def test_a_wrong_input_is_a_result_and_runs_nothing(
    sandbox: LocalSandbox, name: str, input: Any, message: str | None
) -> None:
    result = asyncio.run(execute(sandbox, "c", name, input))
    assert result.is_error
    assert message is None or text(result) == message
    assert sandbox.started == []


def test_unknown_keys_and_null_options_are_ignored(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "a").write_text("x")
    assert text(call(sandbox, "read", file_path="a", view_range=None, offset=3)) == "x"


def test_every_tool_is_defined_as_it_is_checked() -> None:
    assert [tool["name"] for tool in TOOLS] == ["bash", "read", "write", "edit", "glob", "grep"]
    for tool in TOOLS:
        schema = tool["input_schema"]
        assert schema["type"] == "object"
        assert set(schema["required"]) <= set(schema["properties"])
        assert tool["description"]


# -- long outputs


def test_a_long_output_goes_to_a_file_and_is_shown_in_part(sandbox: LocalSandbox) -> None:
    result = call(sandbox, "bash", command="seq 1 30000; false")
    shown = text(result)
    kept = sandbox.workspace.parent / "tool_outputs/call_0.txt"
    whole = "\n".join(str(n) for n in range(1, 30_001)) + "\n[exit code 1]"
    assert result.is_error
    assert kept.read_text() == whole
    assert shown.startswith("1\n2\n3\n")
    assert "29999\n30000\n[exit code 1]\n\n[" in shown
    assert f"[{len(whole)} characters in all; the whole is in {kept}" in shown
    assert len(shown) < 25_000
    assert sandbox.acknowledged == ["call_0-spill"]


def test_the_limit_counts_characters(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "a").write_text("é" * SPILL_LIMIT)
    assert text(call(sandbox, "read", file_path="a")) == "é" * SPILL_LIMIT
    (workspace / "a").write_text("é" * (SPILL_LIMIT + 1))
    assert "100001 characters in all" in text(call(sandbox, "read", file_path="a"))


def test_the_second_directory_is_taken_when_the_first_cannot_be(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace.parent / "tool_outputs").write_text("in the way")
    sandbox._paths["/workspace/.tool_outputs"] = str(workspace / ".tool_outputs")
    shown = asyncio.run(spill(sandbox, "../sly/id", "x" * 200_000))
    assert f"the whole is in {workspace}/.tool_outputs/___sly_id.txt" in shown


def test_an_output_that_cannot_be_kept_is_still_shown(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace.parent / "tool_outputs").write_text("in the way")
    sandbox._paths["/workspace/.tool_outputs"] = "/proc/self/nowhere"
    shown = asyncio.run(spill(sandbox, "c", "x" * 200_000))
    assert shown.startswith("xxx")
    assert "the whole could not be kept: no such file or directory" in shown


def test_megabytes_of_noise(sandbox: LocalSandbox) -> None:
    result = call(sandbox, "bash", command="head -c 3000000 /dev/urandom")
    kept = sandbox.workspace.parent / "tool_outputs/call_0.txt"
    text(result).encode()
    assert "\0" not in kept.read_text()


# -- after a crash of the server


def test_attach_collects_without_running_again(sandbox: LocalSandbox, workspace: Path) -> None:
    input = {"command": "echo once >>count; seq 1 30000"}

    async def crash_then_attach() -> tuple[ToolResult, ToolResult]:
        first = await execute(sandbox, "c", "bash", input)
        return first, await attach(sandbox, "c", "bash", input)

    first, again = asyncio.run(crash_then_attach())
    assert first == again
    assert (workspace / "count").read_text() == "once\n"


def test_attach_takes_up_a_spill_that_was_under_way(sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash_then_attach() -> tuple[ToolResult, ToolResult]:
        forget = sandbox.acknowledge

        async def crash(call_id: str) -> None: ...

        monkeypatch.setattr(sandbox, "acknowledge", crash)
        first = await execute(sandbox, "c", "bash", {"command": "seq 1 30000"})
        monkeypatch.setattr(sandbox, "acknowledge", forget)
        return first, await attach(sandbox, "c", "bash", {"command": "seq 1 30000"})

    first, again = asyncio.run(crash_then_attach())
    assert first == again
    assert [call_id for call_id, _ in sandbox.started] == ["c", "c-spill"]


def test_attach_to_a_call_that_never_arrived(sandbox: LocalSandbox) -> None:
    with pytest.raises(UnknownCall):
        asyncio.run(attach(sandbox, "c", "bash", {"command": "true"}))
    wrong = asyncio.run(attach(sandbox, "c", "bash", {}))
    assert text(wrong) == "bash: command is required"


def test_cancel_ends_a_running_command(sandbox: LocalSandbox, workspace: Path) -> None:
    async def interrupt() -> ToolResult:
        os.mkfifo(workspace / "begun")
        script = "echo on; echo >begun; sleep 60"
        running = asyncio.create_task(execute(sandbox, "c", "bash", {"command": script}))
        await asyncio.to_thread((workspace / "begun").read_text)
        await cancel(sandbox, "c")
        return await running

    result = asyncio.run(interrupt())
    assert result.is_error
    assert text(result).startswith("on\n[the command was interrupted before its end]")


def test_a_lost_sandbox_is_never_a_tool_result(sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(call_id: str, command: Command) -> CommandResult:
        raise SandboxUnavailable("gone")

    monkeypatch.setattr(sandbox, "run", lost)
    for name, input in (("bash", {"command": "true"}), ("read", {"file_path": "a"}), ("bash", {"restart": True})):
        with pytest.raises(SandboxUnavailable):
            asyncio.run(execute(sandbox, "c", name, input))
