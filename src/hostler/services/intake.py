"""Takes in what clients send to a session: checks a whole request, then turns it into entries and session columns.

It must not commit or publish. Messages and interrupts wait in the queue until the harness consumes them; answers to
tool uses are consumed on receipt, and the first one counts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, or_, select

from hostler.errors import InvalidRequest, RateLimited
from hostler.harness.self_hosted import TOOL_NAMES
from hostler.log.entries import COLUMNS, PUBLIC, Draft, Entry
from hostler.services import budgets, defining, interrupts
from hostler.services.reading import first
from hostler.store.sql import Tx
from hostler.store.tables import entries, files
from hostler.wire.base import UNSET, encode
from hostler.wire.content import (
    Base64Source,
    DocumentBlock,
    FileSource,
    ImageBlock,
    RedactedBlock,
    TextBlock,
)
from hostler.wire.events import (
    ClientEvent,
    SystemMessageParams,
    UserCustomToolResultParams,
    UserDefineOutcomeParams,
    UserInterruptParams,
    UserMessageParams,
    UserToolConfirmationParams,
    UserToolResultParams,
)

MAX_FILE_DOCUMENTS = 100  # of the events that a session begins with
MAX_QUEUED = 1000
MAX_INTERRUPTS = 16  # that may wait beyond it
CONFIRMS = "confirm:"  # `entries.answers` of a confirmation; a result answers the bare tool use id

_ENTRY = (
    select(*COLUMNS)
    .where(entries.c.session_id == bindparam("s"), entries.c.id == bindparam("id"))
    .order_by(entries.c.private.desc())
)
_COPY = select(*COLUMNS).where(
    entries.c.session_id == bindparam("s"), entries.c.id == bindparam("id"), entries.c.private == PUBLIC
)
_ANSWER = (
    select(*COLUMNS)
    .where(
        entries.c.session_id == bindparam("s"),
        or_(entries.c.answers == bindparam("a"), entries.c.answers == bindparam("b")),
    )
    .order_by(entries.c.seq)
)
_FILE = select(files.c.id).where(
    files.c.id == bindparam("id"), or_(files.c.expires_at.is_(None), files.c.expires_at > bindparam("now"))
)
_Answer = UserToolConfirmationParams | UserCustomToolResultParams | UserToolResultParams


class State(NamedTuple):
    """What of a session decides whether an event may come."""

    session_id: str
    thread_id: str
    pending: list[str]
    queued: int
    idle: bool
    children: tuple[str, ...] = ()  # threads of other agents that have not ended
    resting: bool = False  # idle with nothing to do: nobody works on it, nothing waits
    takes_system: bool = True  # whether the model takes system messages in mid-conversation
    capped: bool = False  # the budget is used up
    paused: bool = False  # idle with work that waits for a higher budget
    outcomes: bytes | None = None  # JSON list of OutcomeEvaluation
    environment_id: str = ""
    self_hosted: bool = False  # its tools run at workers of its environment


class Intake(NamedTuple):
    """`echoes` has one item for each event: a new draft, or the entry that stands already. `patch` is for the row."""

    echoes: list[Draft | Entry]
    drafts: list[Draft]
    patch: dict[str, Any]


def check(events: Sequence[ClientEvent], within: str = "events") -> None:
    """Refuse what is wrong whatever the session's state: unsupported types, misplaced system messages, bad blocks."""
    for index, event in enumerate(events):
        at = f"{within}.{index}"
        if isinstance(event, SystemMessageParams):
            _check_system(events, index, at)
        elif isinstance(event, UserToolConfirmationParams):
            if event.deny_message is not None and event.result != "deny":
                raise InvalidRequest(f"{at}.deny_message: only allowed with result 'deny'")
        elif not isinstance(event, UserInterruptParams | UserDefineOutcomeParams):
            _check_content(event, at)


def check_initial(events: Sequence[ClientEvent]) -> None:
    """Refuse what a session can't begin with."""
    allowed = ("user.message", "user.define_outcome")
    for index, event in enumerate(events):
        if _type(event) not in allowed:
            raise InvalidRequest(f"initial_events.{index}.type: Input should be {' or '.join(allowed)}")
    if sum(isinstance(event, UserDefineOutcomeParams) for event in events) > 1:
        raise InvalidRequest("initial_events: at most one user.define_outcome is allowed")
    check(events, "initial_events")
    if sum(file_documents(event) for event in events) > MAX_FILE_DOCUMENTS:
        raise InvalidRequest(f"initial_events: at most {MAX_FILE_DOCUMENTS} documents may be given by file")


def file_documents(event: ClientEvent) -> int:
    """How many document blocks of an event are given by file id."""
    blocks = getattr(event, "content", None) or ()
    return sum(isinstance(block, DocumentBlock) and isinstance(block.source, FileSource) for block in blocks)


def take_tx(state: State, events: Sequence[ClientEvent], now: int, within: str = "events") -> Tx[Intake]:
    """Check events against the session and draft them. The caller appends `drafts` with `patch` in the same commit."""
    pending = list(state.pending)
    echoes: list[Draft | Entry] = []
    drafts: dict[str, Draft] = {}  # by what they answer, or by id
    answered, released = False, 0
    outcomes = defining.read(state.outcomes)
    only_interrupts = all(isinstance(event, UserInterruptParams) for event in events)
    for index, event in enumerate(events):
        at = f"{within}[{index}]"
        _check_thread(event, state, at)
        yield from _check_files_tx(event, now, f"{within}.{index}")
        echo: Draft | Entry
        if isinstance(event, _Answer):
            used = yield from _check_subject_tx(state, event, at)
            echo, answered = (yield from _answer_tx(state, event, used, drafts, now, at)), True
            if _goes_to_worker(state, event, used):
                released += 1
            else:
                pending = [event_id for event_id in pending if event_id != _subject(event)]
        elif isinstance(event, UserInterruptParams):
            echo = interrupts.drafted(event.session_thread_id, state, queued=not (state.resting and only_interrupts))
            if state.paused and not pending:  # what a budget has stopped goes on with it: not even noted
                echo = _unstored(echo, state, now)
            else:
                spread = interrupts.spread(echo, event.session_thread_id, state.children)
                drafts |= {draft.id: draft for draft in spread}
                pending = yield from interrupts.still_pending_tx(state, pending, event.session_thread_id)
        else:
            _check_waiting(event, pending if state.idle else [], answered, at)
            if state.capped:
                raise budgets.not_accepted(event, at)
            if isinstance(event, SystemMessageParams) and not state.takes_system:
                raise InvalidRequest(
                    f"{within}.{index}: the agent's model does not support system messages in mid-conversation",
                    error_code="model_does_not_support_mid_conversation_system",
                )
            if isinstance(event, UserDefineOutcomeParams):
                echo, outcomes = defining.drafted(event, outcomes, at)
            else:
                echo = _queued(event)
        echoes.append(echo)
        if isinstance(echo, Draft):
            drafts[echo.answers or echo.id] = echo
            if echo.answers and echo.thread_id is not None:  # the session's list shows it as well
                drafts[f"shown:{echo.id}"] = msgspec.structs.replace(echo, thread_id=None, answers=None)
    queued = [draft for draft in drafts.values() if draft.queued and not draft.private]
    # An interrupt is the way out for a session whose queue is full.
    room = MAX_QUEUED + (MAX_INTERRUPTS if all(draft.type == "user.interrupt" for draft in queued) else 0)
    if queued and state.queued + len(queued) > room:
        raise RateLimited(f"{within}: the session has {state.queued} events that wait; at most {MAX_QUEUED} may.")
    quiet = (state.resting and only_interrupts) or (state.idle and released == len(events))
    patch = {} if quiet else {"pending": encode(pending), "wake_at": now}
    if len(outcomes) > len(defining.read(state.outcomes)):
        patch["outcomes"] = encode(outcomes)
    return Intake(echoes, list(drafts.values()), patch)


def _check_system(events: Sequence[ClientEvent], index: int, at: str) -> None:
    if index != len(events) - 1:
        raise InvalidRequest(f"{at}: a system.message must be the last event of the request")
    before = events[index - 1] if index else None
    if not isinstance(before, UserMessageParams | UserCustomToolResultParams | UserToolResultParams):
        raise InvalidRequest(f"{at}: a system.message must directly follow a user.message or a tool result")


def _check_content(event: Any, at: str) -> None:
    in_message = isinstance(event, UserMessageParams)
    for index, block in enumerate(event.content or ()):
        place = f"{at}.content.{index}"
        if isinstance(block, RedactedBlock):
            raise InvalidRequest(f"{place}: redacted blocks can't be sent")
        if in_message and isinstance(block, TextBlock) and not block.text.strip():
            raise InvalidRequest(f"{place}.text: text must not be empty")
        source = getattr(block, "source", None)
        if isinstance(source, Base64Source):
            _check_base64(source.data, f"{place}.source.data")


def _check_base64(data: str, at: str) -> None:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{at}: not valid base64") from error


def _check_thread(event: ClientEvent, state: State, at: str) -> None:
    thread_id = getattr(event, "session_thread_id", None)
    if thread_id is not None and thread_id not in (state.thread_id, *state.children):
        raise InvalidRequest(f"Invalid {_type(event)} event at {at}: session thread {thread_id} was not found")


def _check_waiting(event: ClientEvent, pending: list[str], answered: bool, at: str) -> None:
    """A waiting session takes answers and interrupts only, and a system message as the trailer of a tool result."""
    if pending and not (isinstance(event, SystemMessageParams) and answered):
        raise InvalidRequest(
            f"Invalid {_type(event)} event at {at}: waiting on responses to events [{', '.join(pending)}]; only "
            "user.tool_confirmation, user.custom_tool_result, user.tool_result, or user.interrupt may be sent"
        )


def _check_files_tx(event: ClientEvent, now: int, at: str) -> Tx[None]:
    for index, file_id in _file_ids(event):
        if (yield from first(_FILE, {"id": file_id, "now": now})) is None:
            raise InvalidRequest(f"{at}.content.{index}.source.file_id: file {file_id} was not found")


def _file_ids(event: ClientEvent) -> Iterator[tuple[int, str]]:
    for index, block in enumerate(getattr(event, "content", None) or ()):
        if isinstance(block, ImageBlock | DocumentBlock) and isinstance(block.source, FileSource):
            yield index, block.source.file_id


def _goes_to_worker(state: State, event: _Answer, used: Entry) -> bool:
    """Whether this allows a call that a worker runs now: the server has nothing to do until its result comes."""
    allows = isinstance(event, UserToolConfirmationParams) and event.result == "allow"
    return allows and state.self_hosted and _at_worker(used)


def _at_worker(used: Entry) -> bool:
    return used.type == "agent.tool_use" and used.decode()["name"] in TOOL_NAMES


def _answer_tx(
    state: State, event: _Answer, used: Entry, drafts: dict[str, Draft], now: int, at: str
) -> Tx[Draft | Entry]:
    """Draft an answer, or find the one that stands: a second answer is accepted and changes nothing."""
    subject, key = _subject(event), _key(event)
    if key in drafts:
        return drafts[key]
    rows = yield _ANSWER, {"s": state.session_id, "a": subject, "b": CONFIRMS + subject}
    standing = [Entry(*row) for row in rows]
    if isinstance(event, UserToolResultParams) and used.decode()["evaluated_permission"] == "ask":
        given = drafts.get(CONFIRMS + subject)
        standing = _unless_allowed(event, standing, given.fields["result"] if given else None, at)
    fields = _fields(event)
    of_child = used.thread_id if used.thread_id != state.thread_id else None
    if of_child is not None:
        fields["session_thread_id"] = of_child
    answer = Draft(type=_type(event), fields=fields, answers=key, thread_id=of_child)
    if not standing:
        return answer
    for entry in standing:
        if entry.type == answer.type:
            return (yield from _shown_tx(entry, state))
    return _unstored(answer, state, now)  # resolved in another way, by an interrupt for one


def _unless_allowed(event: UserToolResultParams, standing: list[Entry], given: str | None, at: str) -> list[Entry]:
    """What stands against the result of a call that was to be confirmed first: not its being allowed. Raises
    InvalidRequest."""
    confirmed = [entry for entry in standing if entry.type == "user.tool_confirmation"]
    verdict = given or (confirmed[0].decode()["result"] if confirmed else None)
    if verdict is None and not standing:
        raise _no_subject(event, at, "waits for a user.tool_confirmation before it may run")
    return standing if verdict == "deny" else [entry for entry in standing if entry not in confirmed]


def _shown_tx(entry: Entry, state: State) -> Tx[Entry]:
    """As the session's list shows it: an answer to a child thread is there as a copy."""
    if not entry.private:
        return entry
    row = yield from first(_COPY, {"s": state.session_id, "id": entry.id})
    return entry if row is None else Entry(*row)


def _unstored(draft: Draft, state: State, now: int) -> Entry:
    """What is told back, but changes nothing."""
    return Entry(-1, now, draft.id, state.thread_id, draft.type, 0, draft.body())


def _check_subject_tx(state: State, event: _Answer, at: str) -> Tx[Entry]:
    """The tool use that is answered: the one of its own thread, where the session's list shows it as well."""
    row = yield from first(_ENTRY, {"s": state.session_id, "id": _subject(event)})
    entry = Entry(*row) if row is not None else None
    if isinstance(event, UserCustomToolResultParams):
        if entry is None or entry.type != "agent.custom_tool_use":
            raise _no_subject(event, at, "is not an agent.custom_tool_use of this session")
    elif isinstance(event, UserToolResultParams):
        _check_worker_call(state, event, entry, at)
    elif entry is None or entry.type not in ("agent.tool_use", "agent.mcp_tool_use"):
        raise _no_subject(event, at, "is not an agent.tool_use or agent.mcp_tool_use of this session")
    elif entry.decode().get("evaluated_permission") != "ask":
        raise _no_subject(event, at, "does not wait for a confirmation")
    assert entry is not None
    if entry.thread_id not in (state.thread_id, *state.children):
        raise _no_subject(event, at, f"belongs to session thread {entry.thread_id}, which has ended")
    return entry


def _check_worker_call(state: State, event: UserToolResultParams, entry: Entry | None, at: str) -> None:
    if not state.self_hosted:
        raise InvalidRequest(f"Invalid user.tool_result event at {at}: it is only for self_hosted environments")
    if entry is None or not _at_worker(entry):
        raise _no_subject(event, at, "is not an agent.tool_use of this session that a worker runs")
    if entry.decode()["evaluated_permission"] == "deny":
        raise _no_subject(event, at, "was denied, which the server has answered")


def _no_subject(event: _Answer, at: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid {_type(event)} event at {at}: {_subject(event)} {why}")


def _subject(event: _Answer) -> str:
    return event.custom_tool_use_id if isinstance(event, UserCustomToolResultParams) else event.tool_use_id


def _key(event: _Answer) -> str:
    return CONFIRMS + _subject(event) if isinstance(event, UserToolConfirmationParams) else _subject(event)


def _queued(event: ClientEvent) -> Draft:
    return Draft(type=_type(event), fields=_fields(event), queued=True)


def _type(event: ClientEvent) -> str:
    return str(type(event).__struct_config__.tag)


def _fields(event: ClientEvent) -> dict[str, Any]:
    """The event's own fields; what is null or absent is left out, as in what the server sends."""
    values = msgspec.structs.asdict(event)
    return {name: value for name, value in values.items() if value is not None and value is not UNSET}
