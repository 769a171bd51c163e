"""The form of a script: what a file for the scripted model may say, checked before the first turn is played.

It must not play anything. A wrong script fails at load with file, place and field, never in the middle of a session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hostler.models.protocol import FailureKind, ModelUsage, StopReason

MAX_SCRIPT_BYTES = 32 * 1024 * 1024
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_KNOWN_PLACEHOLDERS = frozenset({"last_user_text", "last_tool_result", "turn", "model"})

Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class ScriptError(ValueError):
    """A script is wrong; the message names file, place and field."""


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast a reply comes: `first_token_ms` of silence, then `chunk_chars` characters every `chunk_ms`.

    `chunk_chars` 0 sends each text in one piece.
    """

    first_token_ms: Milliseconds = 0
    chunk_chars: Count = 0
    chunk_ms: Milliseconds = 0


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool call; without `id` the player makes one that is the same when the same request is repeated.

    `input_files` names files beside the script whose text becomes an input, as it is; once loaded it holds the texts.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    input: dict[str, Any] = {}
    input_files: dict[str, str] = {}
    id: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a turn fails. `truncated` is a stream that ends early.

    `times` fails only the first so many attempts of this turn, then plays it (0: always). `after_chars` first plays
    that many characters of the turn's text.
    """

    kind: FailureKind | Literal["truncated"]
    message: str = ""
    retryable: bool | None = None
    retry_after: Annotated[float, msgspec.Meta(ge=0)] | None = None
    times: Count = 0
    after_chars: Count | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One assistant message: either `thinking`, `text` and `tools`, or the blocks themselves in `content`.

    `invalid_inputs` maps positions of `tool_use` blocks in `content` to why their input did not arrive whole.
    `repeat` plays the turn that many times in a row; `template` false leaves `{{...}}` alone.
    """

    text: str = ""
    thinking: str = ""
    tools: list[ToolCall] = []
    content: list[dict[str, Any]] = []
    stop_reason: StopReason | None = None
    stop_details: dict[str, Any] | None = None
    usage: ModelUsage | None = None
    pace: Pace | None = None
    error: Failure | None = None
    invalid_inputs: dict[int, str] = {}
    template: bool = True
    repeat: Positive = 1


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions on the conversation; all that are given must hold. Patterns are Python regular expressions."""

    user_text_contains: str | None = None
    user_text_matches: str | None = None
    user_text_equals: str | None = None
    first_user_text_equals: str | None = None
    tool_result_contains: str | None = None
    tool_result_matches: str | None = None
    tool_result_is_error: bool | None = None
    turn: Count | None = None
    system_contains: str | None = None
    model: str | None = None
    tool_offered: str | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The turns for a conversation that meets `when`.

    `counts_from` says where a turn's position is counted: from the last message the user wrote, from the first, or
    `never`: the first turn is always the one. With `when.turn` it is `never` too, and there must be just one turn.
    """

    turns: Annotated[list[Turn], msgspec.Meta(min_length=1)]
    when: When = When()
    counts_from: Literal["last_user_text", "start", "never"] = "last_user_text"


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole script: `rules` are tried first, in order; then `turns` by position; then `otherwise`."""

    name: str = "script"
    description: str = ""
    pace: Pace = Pace()
    rules: list[Rule] = []
    turns: list[Turn] = []
    otherwise: Turn | None = None


def load_script(path: Path) -> Script:
    """Read and check a `.json` or `.toml` script; raises `ScriptError`."""
    try:
        if path.stat().st_size > MAX_SCRIPT_BYTES:
            raise ScriptError(f"{path.name}: a script may have at most {MAX_SCRIPT_BYTES} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise ScriptError(f"can't read the script {path.name}: {error.strerror}") from error
    return decode_script(raw, source=path.name, form="toml" if path.suffix == ".toml" else "json", folder=path.parent)


def decode_script(
    raw: bytes, *, source: str = "script", form: Literal["json", "toml"] = "json", folder: Path | None = None
) -> Script:
    """Decode and check a script, whose `input_files` are in `folder`; raises `ScriptError` whose message starts with
    `source` and the place."""
    try:
        decode = msgspec.toml.decode if form == "toml" else msgspec.json.decode
        script: Script = decode(raw, type=Script)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ScriptError(f"{source}: {error}") from error
    check_script(script, source)
    for place, turn, _ in _turns(script, source):
        for number, call in enumerate(turn.tools):
            for name, file in call.input_files.items():
                call.input_files[name] = _beside(folder, file, f"{place}.tools[{number}].input_files.{name}")
    return script


def _beside(folder: Path | None, file: str, place: str) -> str:
    """The text of a file beside the script; nothing else may be named."""
    if folder is None or Path(file).name != file:
        raise ScriptError(f"{place}: Input should be the name of a file beside the script")
    try:
        with (folder / file).open("rb") as opened:
            content = opened.read(MAX_SCRIPT_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ScriptError(f"{place}: can't read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScriptError(f"{place}: {file} is not UTF-8 text") from error
    if len(content) > MAX_SCRIPT_BYTES:
        raise ScriptError(f"{place}: {file} has more than {MAX_SCRIPT_BYTES} bytes")
    return text


def check_script(script: Script, source: str = "script") -> None:
    """Check what the types alone can't say; raises `ScriptError`."""
    if not (script.rules or script.turns or script.otherwise):
        raise ScriptError(f"{source}: a script needs `rules`, `turns` or `otherwise`")
    for place, turn, names in _turns(script, source):
        _check_turn(turn, names, place)


def _turns(script: Script, source: str) -> Iterator[tuple[str, Turn, frozenset[str]]]:
    """Every turn with its place and the placeholders it may use."""
    for index, rule in enumerate(script.rules):
        place = f"{source}: rules[{index}]"
        names = _KNOWN_PLACEHOLDERS | _groups(rule.when, place)
        if len(rule.turns) > 1 and (rule.when.turn is not None or rule.counts_from == "never"):
            raise ScriptError(
                f'{place}.turns: with `when.turn` or `counts_from` "never" only one turn can ever be played'
            )
        for number, turn in enumerate(rule.turns):
            yield f"{place}.turns[{number}]", turn, names
    for number, turn in enumerate(script.turns):
        yield f"{source}: turns[{number}]", turn, _KNOWN_PLACEHOLDERS
    if script.otherwise is not None:
        yield f"{source}: otherwise", script.otherwise, _KNOWN_PLACEHOLDERS


def _groups(when: When, place: str) -> frozenset[str]:
    """Names and numbers of the groups that the rule's patterns capture."""
    names: set[str] = set()
    for field in ("user_text_matches", "tool_result_matches"):
        pattern = getattr(when, field)
        if pattern is None:
            continue
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ScriptError(f"{place}.when.{field}: no valid regular expression: {error}") from error
        names |= set(compiled.groupindex) | {str(n) for n in range(compiled.groups + 1)}
    return frozenset(names)


def _check_turn(turn: Turn, names: frozenset[str], place: str) -> None:
    if turn.content and (turn.text or turn.thinking or turn.tools):
        raise ScriptError(f"{place}: give either `content` or `text`, `thinking` and `tools`, not both")
    if not (turn.content or turn.text or turn.thinking or turn.tools or turn.stop_reason or turn.error):
        raise ScriptError(f"{place}: a turn needs `text`, `thinking`, `tools`, `content`, `stop_reason` or `error`")
    for number, block in enumerate(turn.content):
        _check_block(block, f"{place}.content[{number}]")
    for position in turn.invalid_inputs:
        if not 0 <= position < len(turn.content) or turn.content[position].get("type") != "tool_use":
            raise ScriptError(f"{place}.invalid_inputs: {position} is no position of a tool_use block in `content`")
    plays = turn.content or turn.text or turn.thinking or turn.tools or turn.stop_reason
    if turn.error is not None and turn.error.times and not plays:
        raise ScriptError(f"{place}.error.times: the turn has nothing to play after it has failed {turn.error.times}x")
    if turn.template:
        _check_placeholders(turn, names, place)


def _check_block(block: dict[str, Any], place: str) -> None:
    kind = block.get("type")
    if not isinstance(kind, str) or not kind:
        raise ScriptError(f"{place}.type: every block needs a `type`")
    if kind == "text" and not isinstance(block.get("text"), str):
        raise ScriptError(f"{place}.text: a text block needs a `text` string")
    if kind == "tool_use" and not (isinstance(block.get("name"), str) and isinstance(block.get("input"), dict)):
        raise ScriptError(f"{place}: a tool_use block needs a `name` string and an `input` object")


def _check_placeholders(turn: Turn, names: frozenset[str], place: str) -> None:
    inputs = [call.input for call in turn.tools]
    written = msgspec.json.encode([turn.text, turn.thinking, inputs, turn.content]).decode()
    for name in PLACEHOLDER.findall(written):
        if name not in names:
            known = ", ".join(sorted(names))
            raise ScriptError(
                f'{place}: unknown placeholder {{{{{name}}}}} (known here: {known}; "template": false turns them off)'
            )
