"""When each key last looked at tasks: whoever decides again without having looked repeats a decision that got lost.

It is remembered for a while, in this process alone. It must not know how anybody looks.
"""

from __future__ import annotations

from hostler import clock

MAX_LOOKS = 10_000
_EVERY = ""


class Looks:
    """When each key last saw a task, or a list of them."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], int] = {}

    def note(self, key_id: str, task_id: str = _EVERY) -> None:
        if len(self._at) >= MAX_LOOKS:
            self._at.clear()
        self._at[key_id, task_id] = clock.now()

    def last(self, key_id: str, task_id: str) -> int:
        return max(self._at.get((key_id, task_id), 0), self._at.get((key_id, _EVERY), 0))
