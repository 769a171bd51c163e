"""One round of something that goes on as long as the server: what goes wrong in it must not end what comes after it.

It must not hide that the database can no longer be written: then the server has to end.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from hostler.errors import Unavailable
from hostler.store.store import AlreadyOpen, StoreClosed

FINAL = (StoreClosed, AlreadyOpen)


async def survived(work: Awaitable[object], log: logging.Logger, failed: str) -> bool:
    """Whether it went well. If not, the log says what failed; a fault that nobody expected stands there whole."""
    try:
        await work
    except FINAL:
        raise
    except (Unavailable, OSError) as problem:
        log.warning("%s: %s", failed, problem)
        return False
    except Exception:
        log.exception("%s", failed)
        return False
    return True
