"""Turns a folded session into a model request: system prompt, tools, messages, cache breakpoints. It must not do I/O.

The same log always gives the same request, so that the vendor's prompt cache hits from one request to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hostler.harness import skills
from hostler.harness.parts import Call, Heard, Part, Said, Summed
from hostler.sandbox.contract import OUTPUTS, UPLOADS, WORKSPACE

Block = dict[str, Any]
Message = dict[str, Any]

CACHE = {"type": "ephemeral"}
CONTINUE = "[The last message reached its output limit. Continue exactly where it stopped.]"
SUMMARY_INTRO = "[The conversation so far was too long to keep. This is its summary.]\n\n"
NO_OUTPUT = "(no output)"
CLIP = 2000

SUMMARIZE = (
    "The conversation is about to outgrow the context window. Write a summary that will replace it: you will go on "
    "from the summary alone. Keep, in this order: what the user asked for, word for word where wording matters, and "
    "every constraint; what has been done, with the names of files, commands and results that are still needed; what "
    "was tried and failed; what remains, and the very next step. Write only the summary; call no tool."
)


OF_CHILD = (
    "Another agent, the coordinator, has given you your task; it sends you messages and sees of your work only the "
    "last message of each of your turns, which is delivered to it. Say there all that it needs. It works in the same "
    "sandbox."
)


def system_prompt(
    system: str | None,
    sandboxed: bool,
    inputs: Iterable[str],
    known: Sequence[skills.Announced] = (),
    more: Iterable[str] = (),
    *,
    child: bool = False,
    elsewhere: str | None = None,
) -> list[Block]:
    """The agent's own prompt, after what it must know of its sandbox when it has one: `inputs` are mounted paths,
    `known` its skills, `more` further lines on what is there. `child` says that it works for a coordinator. `elsewhere`
    is what to say instead when its tools run in no sandbox of ours."""
    texts = []
    if sandboxed:
        texts.append(elsewhere or "\n".join([_surroundings(sorted(inputs)), *more]))
        if (listed := skills.section(known, mounted=elsewhere is None)) is not None:
            texts.append(listed)
    if child:
        texts.append(OF_CHILD)
    if system:
        texts.append(system)
    return [{"type": "text", "text": text} for text in texts]


def _surroundings(inputs: list[str]) -> str:
    lines = [
        "You work in a Linux sandbox of your own; your tools run inside it.",
        f"- The working directory is {WORKSPACE}.",
        f"- Files that the user should receive go to {OUTPUTS}; everything there is delivered when you finish.",
        f"- Files that the user provides are read-only below {UPLOADS}.",
    ]
    if inputs:
        lines += ["- Provided now:", *(f"  - {path}" for path in inputs)]
    return "\n".join(lines)


def messages(parts: Iterable[Part], files: Mapping[str, Block]) -> list[Message]:
    """The conversation in Messages API form. `files` gives the source block of each file id that it refers to."""
    built: list[Message] = []
    for part in parts:
        if isinstance(part, Said):
            _say(built, part, files)
        elif isinstance(part, Heard):
            _hear(built, [_resolved(block, files) for block in part.content])
        elif isinstance(part, Summed):
            _hear(built, [{"type": "text", "text": SUMMARY_INTRO + part.text}])
        else:
            built.append({"role": "system", "content": part.text})
    return built


def file_ids(parts: Iterable[Part]) -> set[str]:
    """The files that a conversation refers to."""
    found = set()
    for part in parts:
        contents = [part.content] if isinstance(part, Heard) else []
        if isinstance(part, Said):
            contents = [call.result for call in part.calls if call.result]
        for block in (block for content in contents for block in content):
            source = block.get("source")
            if isinstance(source, dict) and source.get("type") == "file":
                found.add(source["file_id"])
    return found


def with_breakpoints(built: list[Message]) -> list[Message]:
    """Mark where the prompt may be cached up to: the end of the last two user messages. The rest is left as it is."""
    marked = list(built)
    users = [index for index, message in enumerate(marked) if message["role"] == "user"][-2:]
    for index in users:
        content = marked[index]["content"]
        marked[index] = {"role": "user", "content": [*content[:-1], {**content[-1], "cache_control": CACHE}]}
    return marked


def marked_last(blocks: list[Block]) -> list[Block]:
    """Mark the last of the system blocks or tools for the prompt cache."""
    return [*blocks[:-1], {**blocks[-1], "cache_control": CACHE}] if blocks else []


def shortened(built: list[Message], limit: int) -> list[Message]:
    """Cut a conversation to about `limit` characters, for a summary of one that is too long: first the middle of long
    tool results, then the oldest messages after the first."""
    if _size(built) > limit:
        built = [{**message, "content": _clipped(message["content"])} for message in built]
    while len(built) > 2 and _size(built) > limit:
        # Never leave a tool result without the call before it.
        end = next((i for i in range(2, len(built)) if not _answers(built[i])), None)
        if end is None:
            break
        built = [built[0], *built[end:]]
    return built


def _size(built: list[Message]) -> int:
    return sum(len(str(message["content"])) for message in built)


def _answers(message: Message) -> bool:
    return message["role"] == "user" and any(block["type"] == "tool_result" for block in message["content"])


def _clipped(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [_clip(block) for block in content]


def _clip(block: Block) -> Block:
    if block["type"] == "tool_result":
        return {**block, "content": [_clip(inner) for inner in block["content"]]}
    if block["type"] == "text" and len(block["text"]) > CLIP:
        return {**block, "text": block["text"][: CLIP // 2] + "\n[...]\n" + block["text"][-CLIP // 2 :]}
    if block["type"] in ("image", "document"):
        return {"type": "text", "text": f"[{block['type']} left out]"}
    return block


def _hear(built: list[Message], blocks: list[Block]) -> None:
    if built and built[-1]["role"] == "user":
        built[-1] = {"role": "user", "content": [*built[-1]["content"], *blocks]}
    else:
        built.append({"role": "user", "content": blocks})


def _say(built: list[Message], said: Said, files: Mapping[str, Block]) -> None:
    if said.content:
        built.append({"role": "assistant", "content": said.content})
    if said.calls:
        _hear(built, [_result(call, files) for call in said.calls])
    elif said.stop_reason == "max_tokens":
        _hear(built, [{"type": "text", "text": CONTINUE}])


def _result(call: Call, files: Mapping[str, Block]) -> Block:
    content = [_resolved(block, files) for block in call.result or []]
    block = {
        "type": "tool_result",
        "tool_use_id": call.model_id,
        "content": content or [{"type": "text", "text": NO_OUTPUT}],
    }
    return {**block, "is_error": True} if call.is_error else block


def _resolved(block: Block, files: Mapping[str, Block]) -> Block:
    """The block as the model takes it: a file id becomes the file's content."""
    source = block.get("source")
    if not (isinstance(source, dict) and source.get("type") == "file"):
        return block
    found = files.get(source["file_id"])
    if found is None:
        return {"type": "text", "text": f"[The file {source['file_id']} does not exist any more.]"}
    kind = "image" if found["type"] == "base64" and found["media_type"].startswith("image/") else "document"
    # A file is what it contains: the API refuses an image block around a text, and a document block around a picture.
    return {**block, "source": found} if kind == block["type"] else {"type": kind, "source": found}
