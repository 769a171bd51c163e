"""Takes in outcomes that clients define: one is active at a time, and its rubric is kept as text. It must not
commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from sqlalchemy import bindparam, or_, select

from hostler import clock
from hostler.errors import InvalidRequest
from hostler.harness.outcomes import ACTIVE
from hostler.ids import new_id
from hostler.log.entries import Draft
from hostler.services.reading import first
from hostler.store.blobs import Blobs
from hostler.store.store import Store
from hostler.store.tables import files
from hostler.wire.events import MAX_RUBRIC, ClientEvent, FileRubric, TextRubric, UserDefineOutcomeParams
from hostler.wire.sessions import OutcomeEvaluation

_FILE = select(files.c.blob, files.c.size_bytes).where(
    files.c.id == bindparam("id"), or_(files.c.expires_at.is_(None), files.c.expires_at > bindparam("now"))
)
_read = msgspec.json.Decoder(list[OutcomeEvaluation]).decode


def read(column: bytes | None) -> list[OutcomeEvaluation]:
    return _read(column) if column else []


def unreached(column: bytes | None) -> bool:
    """Whether the session works towards an outcome."""
    return any(outcome.result in ACTIVE for outcome in read(column))


def drafted(
    event: UserDefineOutcomeParams, outcomes: list[OutcomeEvaluation], at: str
) -> tuple[Draft, list[OutcomeEvaluation]]:
    """The event, consumed on receipt, and the session's outcomes with it. `with_text_rubrics` has been called."""
    active = next((outcome for outcome in outcomes if outcome.result in ACTIVE), None)
    if active is not None:
        raise InvalidRequest(
            f"Invalid user.define_outcome event at {at}: outcome {active.outcome_id} is still {active.result}; "
            "wait for its evaluation to end, or send a user.interrupt"
        )
    outcome_id = new_id("outc")
    fields = {
        "outcome_id": outcome_id,
        "description": event.description,
        "rubric": event.rubric,
        "max_iterations": event.max_iterations,
    }
    added = OutcomeEvaluation(outcome_id=outcome_id, description=event.description)
    return Draft(type="user.define_outcome", fields=fields), [*outcomes, added]


async def with_text_rubrics(
    store: Store, blobs: Blobs, events: Sequence[ClientEvent], within: str = "events"
) -> list[ClientEvent]:
    """The events with every rubric that is given as a file replaced by the file's text. Raises InvalidRequest."""
    resolved: list[ClientEvent] = []
    for index, event in enumerate(events):
        if isinstance(event, UserDefineOutcomeParams) and isinstance(event.rubric, FileRubric):
            text = await _text_of(store, blobs, event.rubric.file_id, f"{within}.{index}.rubric.file_id")
            event = msgspec.structs.replace(event, rubric=TextRubric(content=text))
        resolved.append(event)
    return resolved


async def _text_of(store: Store, blobs: Blobs, file_id: str, at: str) -> str:
    row = await store.read(lambda: first(_FILE, {"id": file_id, "now": clock.now()}))
    if row is None:
        raise InvalidRequest(f"{at}: file {file_id} was not found")
    if row[1] > 4 * MAX_RUBRIC:
        raise InvalidRequest(f"{at}: the rubric in file {file_id} is longer than {MAX_RUBRIC} characters")
    try:
        text = (await asyncio.to_thread(blobs.path(row[0]).read_bytes)).decode()
    except OSError as error:
        raise InvalidRequest(f"{at}: file {file_id} was not found") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{at}: file {file_id} is not UTF-8 text") from error
    if not text.strip() or len(text) > MAX_RUBRIC or "\0" in text:
        raise InvalidRequest(f"{at}: a rubric has 1 to {MAX_RUBRIC} characters of text, file {file_id} has {len(text)}")
    return text
