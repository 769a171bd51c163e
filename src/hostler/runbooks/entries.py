"""A task's journal: what it is made of, on the server's side and on the worker's. It must not know how it is kept.

    started      the input, and what the task runs
    step         a step has returned: its result, and the state that it left on the instance
    activity     an activity has returned, or failed for good
    attempt      an activity has failed and is tried again, not before a time
    waiting      a wait with a time limit has begun: when it ends
    waited       a wait is over: its condition held, or its time was up
    child        a child task was started
    child_ended  it has returned, or failed
    agent        an agent's run is over
    moment       what the clock said
    resting      the process has gone; agents and children that the task waits for are at work
    signal       somebody sent the task something
    log          a line of the runbook's logger
    ended        the task has returned, failed, or was cancelled

`key` says which call of the runbook an entry answers; a call that finds its answer in the journal is not made again.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal[
    "started", "step", "activity", "attempt", "waiting", "waited", "child", "child_ended", "agent", "moment", "resting",
    "signal", "log", "ended",
]  # fmt: skip


class Draft(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An entry to be. `body` is for people and for the server, `value` for the worker alone: a pickle of its own."""

    kind: Kind
    key: str = ""
    body: dict[str, Any] = {}
    value: bytes | None = None


class Entry(Draft, kw_only=True):
    """`at` is in microseconds since the epoch."""

    position: int
    at: int
