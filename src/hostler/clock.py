"""Time as the house counts it: integer microseconds since the epoch, UTC. It must not format anything."""

from __future__ import annotations

import time


def now() -> int:
    """Microseconds since the epoch. It may step back with the system's clock: order comes from the log, not from
    here."""
    return time.time_ns() // 1000
