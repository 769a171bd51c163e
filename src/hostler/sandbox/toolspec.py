"""The built-in tools as the model sees them, and the check of what it sends back.

It must not run anything: an input is refused here, with a text the model can act on, before a sandbox is touched.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

DEFAULT_TIMEOUT_MS = 120_000
MAX_TIMEOUT_MS = 3_600_000
MAX_STRING = 16 * 1024 * 1024
MAX_HEAD_LIMIT = 10_000

Text = Annotated[str, Meta(max_length=MAX_STRING)]
Required = Annotated[str, Meta(min_length=1, max_length=MAX_STRING)]


class InvalidInput(Exception):
    """The model's input does not fit the tool; the message is for the model."""


class Bash(Struct, frozen=True):
    command: Text | None = None
    restart: bool | None = None
    timeout_ms: Annotated[int, Meta(ge=0, le=MAX_TIMEOUT_MS)] | None = None


class Read(Struct, frozen=True):
    file_path: Required
    view_range: list[int] | None = None


class Write(Struct, frozen=True):
    file_path: Required
    content: Text


class Edit(Struct, frozen=True):
    file_path: Required
    old_string: Required
    new_string: Text
    replace_all: bool | None = None


class Glob(Struct, frozen=True):
    pattern: Required
    path: Text | None = None


class Grep(Struct, frozen=True):
    pattern: Required
    path: Text | None = None
    head_limit: Annotated[int, Meta(ge=0, le=MAX_HEAD_LIMIT)] | None = None


Input = Bash | Read | Write | Edit | Glob | Grep

_INPUTS: dict[str, type[Input]] = {
    "bash": Bash,
    "read": Read,
    "write": Write,
    "edit": Edit,
    "glob": Glob,
    "grep": Grep,
}


def parse(name: str, raw: object) -> Input:
    """Check an input; keys that the tool does not know are ignored. Raises `InvalidInput`."""
    kind = _INPUTS.get(name)
    if kind is None:
        raise InvalidInput(f"unknown tool: {name[:128]!r}")
    try:
        given: Input = msgspec.convert(raw, kind)
    except msgspec.ValidationError as e:
        raise InvalidInput(f"{name}: invalid input: {e}") from None
    for field in kind.__struct_fields__:
        _check_text(name, field, getattr(given, field))
    _check_meaning(given)
    return given


def _check_text(name: str, field: str, value: object) -> None:
    if not isinstance(value, str):
        return
    if "\0" in value:
        raise InvalidInput(f"{name}: {field} must not contain a NUL character (U+0000)")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{name}: {field} is not valid Unicode text (it has a lone surrogate)") from None


def _check_meaning(given: Input) -> None:
    if isinstance(given, Bash) and not given.command and not given.restart:
        raise InvalidInput("bash: command is required")
    if isinstance(given, Read) and given.view_range and len(given.view_range) != 2:
        raise InvalidInput("read: view_range must be [start_line, end_line]")


def _tool(name: str, description: str, required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "input_schema": schema}


def _string(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _boolean(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


_PATH_RULE = "absolute, or relative to /workspace"

TOOLS: list[dict[str, Any]] = [
    _tool(
        "bash",
        "Run a command in a bash shell that lives as long as the session: its working directory, variables and "
        "functions are still there in the next call. It starts in /workspace. The command has no terminal and nothing "
        "on its standard input. The result is stdout and stderr together, and the exit code when it is not 0. A very "
        "long output is saved to a file and shown in part. Start servers and other long jobs in the background with "
        "`&` and their output sent to a file. Put deliverables into /mnt/session/outputs.",
        [],
        command=_string("The command or script to run. Required unless `restart` is true."),
        restart=_boolean("End the shell with everything it started, and begin a fresh one."),
        timeout_ms={
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_TIMEOUT_MS,
            "description": f"Milliseconds after which the command is ended. Default {DEFAULT_TIMEOUT_MS}.",
        },
    ),
    _tool(
        "read",
        "Read a file: text as it is, images (PNG, JPEG, GIF, WebP) and PDF documents as such. A text file over "
        "256 KiB must be read in parts with `view_range`.",
        ["file_path"],
        file_path=_string(f"Path of the file, {_PATH_RULE}."),
        view_range={
            "type": "array",
            "items": {"type": "integer"},
            "minItems": 2,
            "maxItems": 2,
            "description": "First and last line, counted from 1, both included. A last line of 0 or less means the "
            "end of the file.",
        },
    ),
    _tool(
        "write",
        "Write a file, replacing all it had. Missing parent directories are made. To change a part of an existing "
        "file use `edit`.",
        ["file_path", "content"],
        file_path=_string(f"Path of the file, {_PATH_RULE}."),
        content=_string("All of the file's new text."),
    ),
    _tool(
        "edit",
        "Replace a piece of text in a file. `old_string` must be in the file exactly once, white space included, "
        "unless `replace_all` is true.",
        ["file_path", "old_string", "new_string"],
        file_path=_string(f"Path of the file, {_PATH_RULE}."),
        old_string=_string("The text to replace, exactly as it stands in the file."),
        new_string=_string("The text to put in its place."),
        replace_all=_boolean("Replace every occurrence instead of exactly one."),
    ),
    _tool(
        "glob",
        "Find files by a pattern of their path, the most recently changed first, at most 100. `*`, `?` and `[...]` "
        "match within a name, `**` matches any number of directories, `{a,b}` is either. Names that start with a dot "
        "match too.",
        ["pattern"],
        pattern=_string("The pattern, for example `**/*.py` or `src/{lib,bin}/*.rs`."),
        path=_string("The directory to search. Default /workspace."),
    ),
    _tool(
        "grep",
        "Find the files whose content matches a regular expression, the most recently changed first. The result is "
        "their paths; use `read`, or `rg`/`grep` in bash, to see the lines.",
        ["pattern"],
        pattern=_string("The regular expression."),
        path=_string("The file or directory to search. Default /workspace."),
        head_limit={
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_HEAD_LIMIT,
            "description": "At most this many paths.",
        },
    ),
]
