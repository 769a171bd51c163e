"""What the transport to an init in a container needs of an engine: bytes both ways to a program that it starts inside.

Docker's and podman's `exec`, or Kubernetes' one, are each a few lines that make this. It must not know what is carried.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol


class Stream(Protocol):
    """Stdin and stdout of a program inside. Closing it must give the program the end of its stdin."""

    async def read(self) -> bytes:
        """Some bytes of stdout; none at its end. Raises OSError, or EOFError where the connection broke off."""
        ...

    def write(self, data: bytes) -> None:
        """Queue bytes for stdin."""
        ...

    async def drain(self) -> None:
        """Wait until not too much is queued. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go at once, whatever is queued."""
        ...


# Starts a program in one container, as the container's root. Raises `SandboxUnavailable`.
OpenStream = Callable[[Sequence[str]], Awaitable[Stream]]
