"""Every event type that a session here can have, through the strict official SDK, on the stream and in the list."""

from __future__ import annotations

import pytest

from contract.scenarios import SCENARIOS, judge
from contract.world import World, kind_of
from hostler.wire.events import LISTABLE


@pytest.mark.parametrize("name", SCENARIOS)
def test_events_on_the_stream_and_in_the_list(either: World, name: str) -> None:
    judge(either, name)


def test_a_deletion_is_the_last_event_of_a_stream(either: World) -> None:
    session_id = either.session()
    either.turn(session_id, "say: Bye.")
    with either.stream(session_id) as stream:
        either.beta.sessions.delete(session_id)
        (last,) = stream.rest()
    assert last.type == "session.deleted"


def test_no_event_type_is_forgotten() -> None:
    """A new one gets a scenario."""
    seen = {kind for _, kinds in SCENARIOS.values() for kind in kinds}
    possible = {kind for kind in LISTABLE if not kind.startswith("workflow_run.")}
    assert seen == possible


def test_types_that_can_t_occur_are_still_valid_filters(world: World) -> None:
    session_id = world.session()
    assert world.listed(session_id, types=list(LISTABLE)) == []
    assert {kind_of(event) for event in world.turn(session_id, "say: x")} <= set(LISTABLE)
