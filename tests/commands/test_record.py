"""`hostler record`: what it saves plays the same session again, and it never leaves anything running."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from commands.command import complaint, hostler, records, spawn

Json = dict[str, Any]
SPOKEN = ("agent.message", "agent.thinking", "agent.tool_use", "agent.tool_result", "session.error")
COPY = "tee /mnt/session/outputs/out.txt < /mnt/session/uploads/in.txt"
SCRIPT = {
    "turns": [
        {
            "thinking": "hm",
            "text": "I look at it: {{last_user_text}}",
            "tools": [{"name": "bash", "input": {"command": COPY}}],
        },
        {"text": "{{unknown}} is kept", "template": False, "error": {"kind": "overloaded", "times": 1}},
    ]
}  # fmt: skip


def config(folder: Path, script: Json | Path, more: str = "") -> Path:
    """A config file whose model plays a script."""
    if not isinstance(script, Path):
        file = folder / "given.json"
        file.write_text(json.dumps(script))
        script = file
    toml = folder / f"{script.stem}.toml"
    options = f"options = {{ file = {json.dumps(str(script))} }}"
    harness = "[harness]\nretry_base = 0.01\n"
    toml.write_text(f'{harness}\n[[models.route]]\nprovider = "script"\n{options}\n{more}')
    return toml


def essence(events: list[Json]) -> list[Any]:
    """What a session came to, without ids and times."""
    ids = ("id", "processed_at", "tool_use_id")
    return [
        {name: value for name, value in event.items() if name not in ids} if event["type"] in SPOKEN else event["type"]
        for event in events
    ]


def test_a_recorded_session_plays_again(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("three\n")
    arguments = ["record", "count {{turn}}", "--file", "in.txt", "--json"]
    first = hostler(
        *arguments, "--config", config(tmp_path, SCRIPT), "--output", "first.json", "--system", "S", cwd=tmp_path
    )
    assert first.returncode == 0, first.stderr
    again = hostler(
        *arguments, "--config", config(tmp_path, tmp_path / "first.json"), "--output", "again.json", cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr

    *events, recording = records(first.stdout)
    *events_again, _ = records(again.stdout)
    assert essence(events) == essence(events_again)
    assert [event["content"][0]["text"] for event in events if event["type"] == "agent.tool_result"] == ["three"]
    assert recording["type"] == "recording"
    assert recording["stop_reason"] == "end_turn"
    assert recording["script"] == str(tmp_path / "first.json")
    assert recording["outputs"] == ["first-outputs/out.txt"]
    assert (tmp_path / "first-outputs" / "out.txt").read_text() == "three\n"
    saved, saved_again = (json.loads((tmp_path / name).read_text()) for name in ("first.json", "again.json"))
    assert saved["turns"] == saved_again["turns"]
    assert saved["turns"][1]["error"]["kind"] == "overloaded"


def test_what_a_person_reads(tmp_path: Path) -> None:
    script = {"turns": [{"text": "hello\x1b[2J\nthere"}]}
    done = hostler("record", "hi", "--config", config(tmp_path, script), "--output", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    assert "agent.message\n  | hello [2J\n  | there\n" in done.stdout
    assert f"Recorded in {tmp_path / 's.json'}" in done.stdout
    assert "hostler serve --config" in done.stdout
    assert "sk-hostler" not in done.stdout


def test_it_says_when_it_has_recorded_the_built_in_script(tmp_path: Path) -> None:
    done = hostler(
        "record", "say: hi", "--output", tmp_path / "s.json", "--data-dir", tmp_path / "data",
        environ={"HOSTLER_SCRIPTED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "built-in script that was recorded" in done.stdout
    assert "shown this once:\n  sk-hostler-" in done.stdout
    listed = hostler("keys", "list", "--json", "--data-dir", tmp_path / "data")
    assert [(key["name"], key["revoked_at"] is None) for key in json.loads(listed.stdout)] == [
        ("first", True),
        ("record", False),
    ]


def test_a_session_that_fails_is_recorded_and_ends_with_1(tmp_path: Path) -> None:
    script = {"turns": [{"error": {"kind": "billing", "message": "unpaid"}}]}
    done = hostler("record", "hi", "--config", config(tmp_path, script), "--output", tmp_path / "s.json", "--json")
    assert done.returncode == 1, done.stderr
    assert records(done.stdout)[-1]["stop_reason"] == "retries_exhausted"
    assert json.loads((tmp_path / "s.json").read_text())["turns"][0]["error"]["kind"] == "billing"


ASKING = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}


@pytest.mark.parametrize(("options", "said"), [(["--allow"], "ran"), ([], "denied")])
def test_tools_that_ask(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "agent.json").write_text(json.dumps({"tools": [ASKING]}))
    script = {"turns": [{"tools": [{"name": "bash", "input": {"command": "echo ran"}}]}, {"text": "done"}]}
    done = hostler(
        "record", "hi", *options, "--agent", tmp_path / "agent.json", "--config", config(tmp_path, script),
        "--output", tmp_path / "s.json", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = [event for event in records(done.stdout) if event["type"] == "agent.tool_result"]
    assert said in result["content"][0]["text"]


@pytest.mark.parametrize(
    ("agent", "options", "why"),
    [
        ({"tools": [{"type": "custom", "name": "w", "description": "d", "input_schema": {"type": "object"}}]}, [],
         "custom tool 'w'"),
        ({"tools": 3}, [], "tools"),
        ([1], [], "must hold an object"),
        ({}, ["--file", "missing.txt"], "missing.txt does not exist"),
        ({}, ["--output", "s.yaml"], "must be a .json file"),
        ({}, ["--output", "no/such/s.json"], "does not exist"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, agent: Any, options: list[str], why: str) -> None:
    (tmp_path / "agent.json").write_text(json.dumps(agent))
    done = hostler("record", "hi", "--output", "s.json", "--agent", "agent.json", *options, cwd=tmp_path)
    assert why in complaint(done)
    assert not (tmp_path / "s.json").exists()


def test_ctrl_c_keeps_what_was_recorded_and_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    script = {
        "turns": [
            {"tools": [{"name": "bash", "input": {"command": "(sleep 100 &) ; echo one"}}]},
            {"tools": [{"name": "bash", "input": {"command": "echo started > /workspace/x; sleep 100"}}]},
        ]
    }
    process = spawn(
        "record", "hi", "--json", "--config", config(tmp_path, script), "--output", tmp_path / "s.json",
        environ={"TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    assert process.stdout is not None
    uses = 0
    while uses < 2:
        uses += json.loads(process.stdout.readline())["type"] == "agent.tool_use"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    events = records(out)
    assert events[-1]["stop_reason"] is None
    assert "session.status_idle" in [event["type"] for event in events]
    assert len(json.loads((tmp_path / "s.json").read_text())["turns"]) == 2
    assert os.listdir(tmp_path / "tmp") == []
    assert not any(str(tmp_path) in command for command in commands())


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
