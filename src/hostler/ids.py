"""Makes the identifiers that go over the wire. It must not know what they identify.

An id is `<prefix>_` and 26 characters of Crockford base32: 48 bits of milliseconds, then 80 random bits, so ids of one
kind sort by creation time and an index on them grows at its end.
"""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str) -> str:
    """Return a new id such as `sesn_01KAM5...`; `prefix` is the wire's own (`agent`, `env`, `sesn`, `sevt`, ...)."""
    number = int.from_bytes((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10), "big")
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
