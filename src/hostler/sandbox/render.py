"""Turns the end of a command into what the model reads: text that is safe to store and send, images, documents.

It must not touch the sandbox, nor let through what a log or a model refuses: U+0000, invalid UTF-8, empty text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from hostler.sandbox.contract import CommandResult
from hostler.sandbox.toolspec import DEFAULT_TIMEOUT_MS, Bash, Input, Read

PREVIEW_HEAD = 12_000
PREVIEW_TAIL = 8_000
FILE_TOOL_TIMEOUT_MS = 60_000
PIECE = 256 * 1024

# CSI and OSC sequences, the choice of a character set, and the two-character escapes.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+][ -~]|[=>78c@-Z\\-_])")
_VISIBLE = {c: 0x2400 + c for c in range(0x20) if c not in (0x09, 0x0A)} | {0x7F: 0x2421}
_VISIBLE |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


class Rendered(Struct, frozen=True, kw_only=True):
    """A result before the rule for long outputs: `text`, or one finished content block in `block`."""

    text: str = ""
    block: dict[str, Any] | None = None
    is_error: bool = False


def terminal_text(raw: bytes) -> str:
    """Output of programs: no escape sequences, other control characters shown as symbols, bad bytes as U+FFFD."""
    return "".join(_terminal_piece(piece) for piece in _pieces(raw))


def _terminal_piece(raw: bytes) -> str:
    text = _ANSI.sub("", raw.decode(errors="replace")).replace("\r\n", "\n").replace("\r", "\n")
    return text.translate(_VISIBLE)


def _pieces(raw: bytes) -> Iterator[bytes]:
    """Small enough that a thread at work on a huge output lets the others run; cut between lines if there are any."""
    start = 0
    while len(raw) - start > PIECE:
        end = raw.rfind(b"\n", start, start + PIECE) + 1
        if end <= start:
            end = start + PIECE
            end -= next((back for back in range(4) if raw[end - back] & 0xC0 != 0x80), 0)
        yield raw[start:end]
        start = end
    yield raw[start:]


def file_text(raw: bytes) -> str:
    """Text of a file, as it is but for U+0000, which neither the log nor the API takes."""
    return raw.decode(errors="replace").replace("\0", "\u2400")


def render(name: str, given: Input, result: CommandResult) -> Rendered:
    if isinstance(given, Bash):
        return _render_bash(given, result)
    failure = _file_tool_failure(name, result)
    if failure:
        return Rendered(text=failure, is_error=True)
    if isinstance(given, Read):
        return _render_read(given, result)
    return Rendered(text=file_text(result.output))


def preview(text: str, where: str) -> str:
    """The beginning and the end of a long text; `where` says what became of the whole."""
    left_out = len(text) - PREVIEW_HEAD - PREVIEW_TAIL
    return (
        f"{text[:PREVIEW_HEAD]}\n\n[... {left_out} characters left out here ...]\n\n{text[-PREVIEW_TAIL:]}"
        f"\n\n[{len(text)} characters in all; {where}]"
    )


def _render_bash(given: Bash, result: CommandResult) -> Rendered:
    failed = result.exit_code != 0 or result.timed_out or result.cancelled
    if given.restart and not given.command and not failed:
        return Rendered(text="bash session restarted")
    text = terminal_text(result.output).rstrip("\n")
    if result.output_bytes > len(result.output):
        kept = f"{len(result.output)} of {result.output_bytes} bytes kept, the head and the tail"
        text = f"[output truncated: {kept}]\n{text}"
    notes = _bash_notes(given, result)
    return Rendered(text="\n".join([text, *notes] if text else notes) or "[no output]", is_error=failed)


def _bash_notes(given: Bash, result: CommandResult) -> list[str]:
    notes = []
    if result.timed_out:
        seconds = (given.timeout_ms or DEFAULT_TIMEOUT_MS) / 1000
        notes.append(f"[bash command timed out after {seconds:g}s; it was ended with all it had started]")
    elif result.cancelled:
        notes.append("[the command was interrupted before its end]")
    elif result.exit_code is None:
        notes.append(f"[ended by signal {result.signal}]")
    elif result.exit_code != 0:
        notes.append(f"[exit code {result.exit_code}]")
    if result.shell_ended:
        notes.append(
            "[the shell itself ended: the next command starts a fresh one in /workspace, "
            "without the variables, functions and jobs of this one; files are kept]"
        )
    return notes


def _file_tool_failure(name: str, result: CommandResult) -> str | None:
    if result.timed_out:
        return f"{name}: timed out after {FILE_TOOL_TIMEOUT_MS // 1000}s"
    if result.cancelled:
        return f"{name}: interrupted before its end; what it did is not known"
    if result.exit_code == 0:
        return None
    if result.exit_code == 1 and result.errors:
        return file_text(result.errors).rstrip("\n")
    ending = f"signal {result.signal}" if result.exit_code is None else f"exit code {result.exit_code}"
    detail = terminal_text(result.errors[:500]).strip()
    return f"{name}: the tool did not finish ({ending}){': ' + detail if detail else ''}"


def _render_read(given: Read, result: CommandResult) -> Rendered:
    kind, _, body = result.output.partition(b"\n")
    if result.output_bytes > len(result.output):
        return Rendered(text=f"read: {given.file_path} is too large to hand over", is_error=True)
    if kind == b"text":
        return Rendered(text=file_text(body) or ("[no lines in that range]" if given.view_range else "[empty file]"))
    media_type = kind.decode("ascii")
    source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(body).decode("ascii")}
    return Rendered(block={"type": "document" if media_type == "application/pdf" else "image", "source": source})
