"""Serves what a container's programs ask of the egress proxy, as long as somebody holds the task.

A stream that breaks off is opened anew: what connects meanwhile waits at the init's listener.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hostler.sandbox.container.channels import BrokenStream, Channels
from hostler.sandbox.container.local import Listener
from hostler.sandbox.container.setup import CHANNELS
from hostler.sandbox.container.streams import OpenStream
from hostler.sandbox.contract import Network, SandboxUnavailable

Egress = Callable[[socket.socket, str, Network], Coroutine[Any, Any, None]]
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
log = logging.getLogger(__name__)


async def serve(egress: Egress, open_stream: OpenStream, socket_path: Path, key: str, network: Network) -> None:
    """Serve until cancelled."""
    listener = Listener(socket_path)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(egress(listener.socket, key, network), name=f"proxy of {key}")
            group.create_task(_carry(open_stream, listener), name=f"channels of {key}")
    finally:
        listener.close()


async def _carry(open_stream: OpenStream, listener: Listener) -> None:
    loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
    while True:
        begun = loop.time()
        try:
            await Channels(await open_stream(CHANNELS), listener.connect).run()
        except (SandboxUnavailable, OSError, EOFError, BrokenStream):
            pass
        except Exception:  # a fault of ours: the container keeps its way out
            log.exception("the connections of a container were ended")
        pause = _FIRST_PAUSE if loop.time() - begun > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
        await asyncio.sleep(pause)
