"""The coordinator's tools: who can be delegated to, opening a thread and sending it messages, closing it again.

What a call does is committed with its result, so a crash never leaves half of it. It must not run any thread: a message
that waits for one is all that starts it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.harness.ledger import Ledger
from hostler.harness.mail import sent
from hostler.harness.parts import Call
from hostler.harness.roster import Member, Roster, roster_of
from hostler.harness.run import Run
from hostler.harness.served import Effect, Offer, ServedResult
from hostler.harness.threads import MAX_CHILDREN, ThreadRow, read_agent
from hostler.harness.tooltable import Tool
from hostler.ids import new_id
from hostler.log.entries import Draft
from hostler.wire.agents import InlineAgent
from hostler.wire.multiagent import ADVISOR_NAME

PREFIX = "ant__"  # reserved: no tool of an agent's own can have it
LIST, SEND, CREATE, CLOSE = (PREFIX + name for name in ("list_agents", "send_to_agent", "create_agent", "close_thread"))
RESERVED = (ADVISOR_NAME, "coordinator")  # in messages between threads they stand for somebody else
NO_DESCRIPTION = "no description"
MAX_MESSAGE = 1_000_000  # characters

SENT = "Sent to {name} in thread {id}. The answer will come to you as a message: end your turn to wait for it."
FULL = f"There are {MAX_CHILDREN} threads already. Close one with {CLOSE}, or send a message to one that is there."
NO_AGENT = "There is no agent {name!r}. The agents are: {names}."
NO_THREAD = "There is no open thread {id!r}. {list} shows those that are."
BUSY = "Thread {id} is still at work; it can be closed once it has answered."


class Refused(Exception):
    """The call can't be done; the message is for the model."""


class Send(msgspec.Struct, frozen=True):
    message: str
    agent: str | None = None
    thread_id: str | None = None


class Create(msgspec.Struct, frozen=True):
    name: str
    instructions: str
    message: str
    description: str | None = None


class Close(msgspec.Struct, frozen=True):
    thread_id: str


class Delegation:
    """See `ServedTools`."""

    effect: Effect = "in_commit"

    def offer(self, run: Run) -> Offer:
        roster = roster_of(run.agent) if run.primary else None
        if roster is None or not (roster.members or roster.inline):
            return Offer()
        return Offer(_definitions(roster))

    def serves(self, call: Call) -> bool:
        return call.kind == "server" and call.name in (LIST, SEND, CREATE, CLOSE)

    async def perform(self, run: Run, call: Call) -> ServedResult:
        roster = roster_of(run.agent)
        try:
            if roster is None:
                raise Refused("This agent has nobody to delegate to any more.")
            if call.name == LIST:
                return _text(_listing(run, roster))
            if call.name == SEND:
                return _send(run, roster, _read(call, Send))
            if call.name == CREATE:
                return _create(run, roster, _read(call, Create))
            return _close(run, _read(call, Close))
        except Refused as refusal:
            return _text(str(refusal), is_error=True)


def _read(call: Call, kind: type[Any]) -> Any:
    try:
        value = msgspec.convert(call.input, kind)
    except msgspec.ValidationError as error:
        raise Refused(f"Invalid input: {error}") from None
    message = getattr(value, "message", None)
    if message is not None and not message.strip():
        raise Refused("Invalid input: `message` must not be empty.")
    if message is not None and len(message) > MAX_MESSAGE:
        raise Refused(f"Invalid input: `message` is longer than {MAX_MESSAGE} characters; put it into a file.")
    return value


def _send(run: Run, roster: Roster, asked: Send) -> ServedResult:
    if asked.thread_id is None:
        return _open(run, _member(roster, asked.agent), asked.message)
    child = run.wake.runs.get(asked.thread_id)
    if child is None or child.primary or child.thread.terminated:
        raise Refused(NO_THREAD.format(id=asked.thread_id, list=LIST))
    name = child.row_of_thread.name
    return _text(SENT.format(name=name, id=child.id), also=sent(run, child.id, name, _content(asked.message)))


def _member(roster: Roster, name: str | None) -> Member:
    found = [member for member in roster.members if name in (member.name, member.id)]
    if not found:
        raise Refused(NO_AGENT.format(name=name, names=", ".join(member.name for member in roster.members) or "none"))
    return found[0]


def _create(run: Run, roster: Roster, asked: Create) -> ServedResult:
    if not roster.inline:
        raise Refused(f"Agents can't be made up here; use {SEND} with one of the roster.")
    name = asked.name.strip()[:256]
    if not name or name in RESERVED or any(member.name == name for member in roster.members):
        raise Refused("Invalid input: `name` must not be empty, nor the name of an agent of the roster.")
    mine = run.agent
    agent = InlineAgent(
        name=name,
        description=asked.description,
        model=mine.model,
        system=asked.instructions,
        tools=mine.tools,
        mcp_servers=mine.mcp_servers,
        skills=mine.skills,
        execution_identity=mine.execution_identity,
    )
    return _open(run, Member(id="", name=name, description=None, body=msgspec.json.encode(agent)), asked.message)


def _open(run: Run, member: Member, message: str) -> ServedResult:
    children = [child for child in run.wake.runs.values() if not child.primary and not child.thread.terminated]
    if len(children) >= MAX_CHILDREN:
        raise Refused(FULL)
    row = ThreadRow(
        id=new_id("sthr"),
        parent_id=run.id,
        name=member.name,
        agent=read_agent(member.body),
        ledger=Ledger(),
        stored=True,
        shown=member.body,
    )
    created = Draft(
        type="session.thread_created", fields={"agent_name": row.name, "session_thread_id": row.id}, thread_id=run.id
    )
    also = [created, *sent(run, row.id, row.name, _content(message))]
    return _text(SENT.format(name=row.name, id=row.id), also=also, opened=[row])


def _close(run: Run, asked: Close) -> ServedResult:
    child = run.wake.runs.get(asked.thread_id)
    if child is None or child.primary or child.thread.terminated:
        raise Refused(NO_THREAD.format(id=asked.thread_id, list=LIST))
    if child.thread.active:
        raise Refused(BUSY.format(id=child.id))
    end = Draft(type="session.thread_status_terminated", fields=child.label, thread_id=child.id)
    also = [end, msgspec.structs.replace(end, thread_id=None)]
    return _text(f"Thread {child.id} is closed.", also=also, closed=[child.id])


def _listing(run: Run, roster: Roster) -> str:
    lines = ["Agents:"]
    lines += [
        f"- {member.name}" + (f": {member.description}" if member.description else "") for member in roster.members
    ]
    children = [child for child in run.wake.runs.values() if not child.primary and not child.thread.terminated]
    lines.append(f"Open threads ({len(children)} of at most {MAX_CHILDREN}):")
    lines += [f"- {child.id}: {child.row_of_thread.name}, {_state(child)}" for child in children]
    return "\n".join(lines if children else [*lines, "- none"])


def _state(child: Run) -> str:
    if child.thread.waiting:
        return "waits for the user"
    return "at work" if child.thread.active else "idle"


def _content(message: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": message}]


def _text(text: str, **more: Any) -> ServedResult:
    return ServedResult(content=_content(text), **more)


def _definitions(roster: Roster) -> list[Tool]:
    names = "\n".join(f"- {member.name}: {member.description or NO_DESCRIPTION}" for member in roster.members)
    string = {"type": "string"}
    tools = [
        _tool(LIST, "List the agents you can delegate to and the threads that are open.", {}, []),
        _tool(
            CLOSE,
            "Close a thread that has answered and is not needed any more. It can't be opened again.",
            {"thread_id": string},
            ["thread_id"],
        ),
    ]
    if roster.members:
        text = (
            "Send a message to another agent. It works by itself, in a thread with a conversation of its own, and in "
            "the same sandbox as you; it knows only what you tell it. With `agent` a new thread is opened; with "
            "`thread_id` an open one goes on. This returns at once: the answer comes to you later as a message, so "
            "send all that "
            f"can be done side by side and then end your turn.\nAgents:\n{names}"
        )
        fields = {"agent": string, "message": string, "thread_id": string}
        tools.append(_tool(SEND, text, fields, ["message"]))
    elif roster.inline:
        text = "Send a further message to an agent whose thread is open. Its answer comes to you later as a message."
        tools.append(_tool(SEND, text, {"thread_id": string, "message": string}, ["thread_id", "message"]))
    if roster.inline:
        text = (
            "Make up an agent for one task and open a thread for it: `instructions` is its system prompt, `message` "
            "its first message. It has your model and your tools, and works in the same sandbox. This returns at "
            "once: its answer comes to you later as a message."
        )
        fields = {"name": string, "description": string, "instructions": string, "message": string}
        tools.append(_tool(CREATE, text, fields, ["name", "instructions", "message"]))
    return sorted(tools, key=lambda tool: tool.name)


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> Tool:
    schema = {"type": "object", "properties": properties, "required": required}
    definition = {"name": name, "description": description, "input_schema": schema}
    return Tool(name=name, kind="server", definition=definition, hidden=True)
