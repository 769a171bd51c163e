"""The table of sandbox backends: a name of the settings, and what makes the backend for a data folder.

A new backend is one file beside this one and one row here; its test is `selfcheck`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from hostler.sandbox.bubblewrap import DEFAULTS, BubblewrapBackend
from hostler.sandbox.contract import Backend, Limits


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What a server tells its backend, whichever it is."""

    folder: Path
    egress: Callable[[socket.socket, str], Coroutine[Any, Any, None]] | None = None
    ripgrep: Path | None = None
    ca_bundle: Path | None = None
    limits: Limits = DEFAULTS


def _bubblewrap(given: Choices) -> Backend:
    return BubblewrapBackend(
        given.folder, egress=given.egress, ripgrep=given.ripgrep, ca_bundle=given.ca_bundle, limits=given.limits
    )


BACKENDS: dict[str, Callable[[Choices], Backend]] = {
    "bubblewrap": _bubblewrap,
}
