"""Rows as released versions wrote them: each private note must be readable for ever, or old sessions can't go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostler.harness import state
from hostler.harness.state import Session
from hostler.log.entries import Entry

GOLDEN = Path(__file__).with_name("golden")
NOTES = {
    state.MODEL_MESSAGE,
    state.DISPATCHED,
    state.SUMMARY,
    state.ATTEMPT_FAILED,
    state.HIDDEN_RESULT,
    state.REPOSITORY_READY,
    state.SANDBOX_RESET,
    state.FEEDBACK,
}


def rows(name: str) -> tuple[list[Entry], dict[str, Any]]:
    golden = msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes())
    entries = []
    for row in golden["entries"]:
        body = row["body"]
        private = int(body["type"].startswith("hostler."))
        place = (row["seq"], row["position"], body["id"], "sthr_1", body["type"], private)
        entries.append(Entry(*place, msgspec.json.encode(body)))
    return entries, golden["expect"]


@pytest.mark.parametrize("name", sorted(note.removeprefix("hostler.") for note in NOTES))
def test_old_rows_fold(name: str) -> None:
    entries, expected = rows(name)
    session = Session()
    session.absorb(entries)
    thread = session.thread("sthr_1")
    if "parts" in expected:
        assert [type(part).__name__ for part in thread.parts] == expected.pop("parts")
    for call_id, fields in expected.pop("calls", {}).items():
        for field, value in fields.items():
            assert getattr(thread.calls[call_id], field) == value, (call_id, field)
    for field, value in expected.pop("session", {}).items():
        assert getattr(session, field) == value, field
    for field, value in expected.items():
        assert getattr(thread, field) == value, field


def test_every_private_note_has_its_rows() -> None:
    """A new type of note needs a golden file, and no file may stand for a type that nobody folds."""
    folded = {name for name in {**state._FOLDS, **state._SESSION_FOLDS} if name.startswith("hostler.")}
    assert folded == NOTES
    assert {f"hostler.{file.stem}" for file in GOLDEN.glob("*.json")} == NOTES
