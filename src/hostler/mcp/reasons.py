"""Says in words why a server can't be used. It must not show the URL, nor more than a line of what the server said."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
from mcp import MCPError
from pydantic import ValidationError

from hostler.mcp.problems import NotAuthorized, NotConnected, NotStarted

LONGEST_MESSAGE = 2000
LONGEST_REASON = 300


def why(problem: BaseException, status: int | None, redact: Callable[[str], str]) -> NotConnected:
    """In words, without the URL and without what the server said in a body. `redact` takes our own credentials out of
    what it said in an error."""
    if status in (401, 403):
        return NotAuthorized(f"it answered with HTTP {status}")
    leaf = _leaf(problem)
    if isinstance(leaf, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError):
        return NotConnected("no connection could be made")
    if isinstance(leaf, FileNotFoundError | PermissionError | NotADirectoryError):
        return NotStarted("its program could not be started")
    if status is not None and status >= 400:
        return NotConnected(f"it answered with HTTP {status}")
    if isinstance(leaf, ValidationError):
        found = leaf.errors(include_input=False, include_url=False)[0]
        return NotConnected(
            f"its answer is not valid: {clipped(redact(_place(found['loc'])))}: {found['msg']}"[:LONGEST_REASON]
        )
    if isinstance(leaf, MCPError):
        return NotConnected(f"it answered: {_first_line(redact(leaf.message))}")
    return NotConnected(f"it does not speak MCP as expected ({type(leaf).__name__})")


def _leaf(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def clipped(text: str) -> str:
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "[...]"


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _first_line(text: str) -> str:
    return next(iter(clipped(text).splitlines()), "an error without words")[:LONGEST_REASON]
