"""The fold: the same state from scratch as while running, whatever order things arrived in."""

from __future__ import annotations

import itertools
import random
from typing import Any

from stage import THREAD, entry

from hostler.harness.parts import Heard, Said
from hostler.harness.state import DISPATCHED, MODEL_MESSAGE, Session
from hostler.log.entries import Entry
from hostler.store.tables import QUEUED


def text(words: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": words}]


def note(*calls: dict[str, Any]) -> dict[str, Any]:
    return {
        "content": text("said"),
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_details": None,
        "context_tokens": 7,
        "calls": [
            {
                "model_id": f"m_{call['id']}",
                "name": "bash",
                "kind": "builtin",
                "input": {},
                "permission": "allow",
                **call,
            }
            for call in calls
        ],
    }


def folded(entries: list[Entry]) -> Session:
    session = Session()
    session.absorb(sorted(entries, key=lambda each: each.position))
    return session


def test_a_message_that_waits_is_seen_behind_later_entries() -> None:
    waiting = entry(3, "user.message", QUEUED + 3, content=text("more"))
    entries = [entry(0, "session.status_running"), entry(4, MODEL_MESSAGE, **note()), waiting]
    assert list(folded(entries).thread(THREAD).queued) == [waiting.id]


def test_a_message_consumed_after_later_entries_is_heard_in_its_place() -> None:
    late = entry(1, "user.message", 5, content=text("late"))
    session = folded([entry(0, "user.message", content=text("first")), entry(2, MODEL_MESSAGE, **note()), late])
    thread = session.thread(THREAD)
    assert [type(part) for part in thread.parts] == [Heard, Said, Heard]
    assert thread.wants_answer


def test_the_fold_is_the_same_in_any_portions() -> None:
    """As a writer reads: entries in portions by order of receipt, each portion in list order."""
    entries = [
        entry(0, "user.message", 2, content=text("go")),
        entry(1, "session.status_running", 0),
        entry(2, "span.model_request_start", 3, id="sevt_span"),
        entry(3, MODEL_MESSAGE, 4, **note({"id": "c1"}, {"id": "c2"}, {"id": "c3", "kind": "custom"})),
        entry(4, "span.model_request_end", 5, model_request_start_id="sevt_span"),
        entry(5, DISPATCHED, 6, calls=["c1", "c2"], generation="g"),
        entry(6, "user.custom_tool_result", 7, custom_tool_use_id="c3", content=text("3")),
        entry(7, "user.message", QUEUED + 7, content=text("wait")),
        entry(8, "agent.tool_result", 9, tool_use_id="c2", content=text("2")),
        entry(9, "agent.tool_result", 10, tool_use_id="c1", content=text("1")),
    ]
    whole = state_of(folded(entries))
    for cuts in itertools.combinations(range(1, len(entries)), 2):
        session = Session()
        for low, high in itertools.pairwise((0, *cuts, len(entries))):
            session.absorb(sorted(entries[low:high], key=lambda each: each.position))
        assert state_of(session) == whole


def test_answers_in_any_order_give_the_same_state() -> None:
    calls = [{"id": f"c{n}"} for n in range(4)]
    head = [entry(0, "session.status_running"), entry(1, MODEL_MESSAGE, **note(*calls))]
    states = set()
    for order in itertools.permutations(range(4)):
        answers = [
            entry(2 + at, "agent.tool_result", tool_use_id=f"c{n}", content=text(str(n))) for at, n in enumerate(order)
        ]
        states.add(repr(state_of(folded([*head, *answers]))))
    assert len(states) == 1


def test_what_is_known_already_changes_nothing() -> None:
    entries = [entry(0, "user.message", content=text("go")), entry(1, MODEL_MESSAGE, **note({"id": "c1"}))]
    session = folded(entries)
    before = state_of(session)
    random.Random(1).shuffle(entries)
    session.absorb(entries)
    assert state_of(session) == before


def test_consuming_an_entry_that_waited_folds_it_once() -> None:
    session = Session()
    waiting = entry(0, "user.message", QUEUED, content=text("go"))
    session.absorb([waiting])
    consumed = entry(0, "user.message", 5, content=text("go"), id=waiting.id)
    session.absorb([consumed])
    session.absorb([consumed, waiting])
    assert len(session.thread(THREAD).parts) == 1
    assert session.thread(THREAD).queued == {}


def state_of(session: Session) -> dict[str, Any]:
    thread = session.thread(THREAD)
    state = {**vars(session), **vars(thread), "threads": list(session.threads), "queued": list(thread.queued)}
    return {name: repr(value) for name, value in state.items()}
