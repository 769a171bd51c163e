"""What sessions have been told already by this process, so that nobody is told twice. It forgets the oldest."""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED = 4096


class Told:
    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()

    def new(self, session_id: str, what: str) -> bool:
        """Whether this is news for the session; from now on it is not."""
        key = (session_id, what)
        if key in self._told:
            return False
        self._told[key] = None
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return True
