"""Asks an MCP server whether it takes a token: `initialize`, then `tools/list`, as a client would. It must not know
where the token is from, and it changes nothing on the server.

Spoken directly rather than through the `mcp` library, because the answer that refused is wanted as it came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urljoin, urlsplit

import msgspec

from hostler import __version__
from hostler.vault.outward import MOST_BYTES, Answer, Outward, Unreachable, read_some

if TYPE_CHECKING:
    import httpx2

PROTOCOL = "2025-06-18"
STEP_SECONDS = 15.0
MOST_MESSAGE = 4 * 1024 * 1024
Method = Literal["initialize", "tools/list"]
# What a server that speaks only the older SSE transport answers to a POST.
_OLDER = (400, 404, 405, 406)


class Refused(NamedTuple):
    """The step that failed, and the answer, None when there was none that says anything."""

    method: Method
    answer: Answer | None


class _Failed(Exception):
    def __init__(self, answer: Answer | None) -> None:
        super().__init__("no result")
        self.answer = answer


async def probe(outward: Outward, url: str, token: str) -> Refused | None:
    """Return the step that failed, or None when the server took the token."""
    conversation = _Conversation(outward, url, token)
    method: Method = "initialize"
    try:
        capabilities = await conversation.initialize()
        method = "tools/list"
        if "tools" in capabilities:
            await conversation.request(method, {})
    except _Failed as failed:
        if method == "initialize" and failed.answer is not None and failed.answer.status in _OLDER:
            return await _probe_older(outward, url, token, Refused(method, failed.answer))
        return Refused(method, failed.answer)
    except Unreachable:
        return Refused(method, None)
    finally:
        await conversation.end()
    return None


class _Conversation:
    """The streamable HTTP transport: every message is a POST, an answer is JSON or a stream of events."""

    def __init__(self, outward: Outward, url: str, token: str) -> None:
        self._outward = outward
        self._url = url
        self._headers = _headers(token)
        self._number = 0

    async def initialize(self) -> dict[str, Any]:
        """Return the server's capabilities."""
        result = await self.request("initialize", _greeting())
        self._headers["mcp-protocol-version"] = str(result.get("protocolVersion", PROTOCOL))
        body = msgspec.json.encode(_INITIALIZED)
        await self._outward.send("POST", self._url, self._headers, body, STEP_SECONDS)
        return _dict(result.get("capabilities"))

    async def request(self, method: Method, params: dict[str, Any]) -> dict[str, Any]:
        """Return the result. Raises _Failed or Unreachable."""
        self._number += 1
        body = _request(self._number, method, params)
        async with self._outward.stream("POST", self._url, self._headers, body, STEP_SECONDS) as response:
            if response.status_code != 200:
                raise _Failed(await _answer(response))
            if session := response.headers.get("mcp-session-id"):
                self._headers["mcp-session-id"] = session
            return await _result(response, self._number)

    async def end(self) -> None:
        """Give the session back, where the server made one."""
        if "mcp-session-id" in self._headers:
            try:
                await self._outward.send("DELETE", self._url, self._headers, b"", STEP_SECONDS)
            except Unreachable:
                return


async def _probe_older(outward: Outward, url: str, token: str, refused: Refused) -> Refused | None:
    """The same over the older transport: a stream of events, whose first one says where to post. A server that doesn't
    speak it either is judged by its first refusal."""
    headers = _headers(token)
    method: Method = "initialize"
    try:
        async with outward.stream("GET", url, headers, b"", 2 * STEP_SECONDS) as stream:
            if stream.status_code != 200:
                return Refused(method, await _answer(stream)) if stream.status_code in (401, 403) else refused
            events = _events(stream)
            place = _within(url, await anext(events))
            if place is None:
                return refused  # the token is for this server only
            await _post(outward, place, headers, _request(1, method, _greeting()))
            capabilities = _dict((await _awaited(events, 1)).get("capabilities"))
            method = "tools/list"
            await _post(outward, place, headers, msgspec.json.encode(_INITIALIZED))
            if "tools" in capabilities:
                await _post(outward, place, headers, _request(2, method, {}))
                await _awaited(events, 2)
    except _Failed as failed:
        return Refused(method, failed.answer)
    except Unreachable:
        return Refused(method, None)
    except StopAsyncIteration:
        return refused
    return None


def _within(url: str, said: str) -> str | None:
    """Where to post; None for a place of another server, or none at all."""
    try:
        place = urljoin(url, said.strip())
        return place if urlsplit(place)[:2] == urlsplit(url)[:2] else None
    except ValueError:
        return None


async def _post(outward: Outward, url: str, headers: dict[str, str], body: bytes) -> None:
    answer = await outward.send("POST", url, headers, body, STEP_SECONDS)
    if answer.status >= 300:
        raise _Failed(answer)


# -- messages ------------------------------------------------------------------------------------------------------

_INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def _headers(token: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
    }


def _greeting() -> dict[str, Any]:
    client = {"name": "hostler", "version": __version__}
    return {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}


def _request(number: int, method: Method, params: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


async def _answer(response: httpx2.Response) -> Answer:
    body, truncated = await read_some(response, MOST_BYTES)
    return Answer(response.status_code, response.headers, body, truncated)


async def _result(response: httpx2.Response, number: int) -> dict[str, Any]:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return await _awaited(_events(response), number)
    body, truncated = await read_some(response, MOST_MESSAGE)
    result = _read(body, number)
    if result is None:
        shown = body[:MOST_BYTES]
        raise _Failed(Answer(response.status_code, response.headers, shown, truncated or len(shown) < len(body)))
    return result


async def _awaited(events: AsyncIterator[str], number: int) -> dict[str, Any]:
    """The result with this id. Others belong to nobody here."""
    async for event in events:
        result = _read(event.encode(), number)
        if result is not None:
            return result
    raise _Failed(None)


def _read(message: bytes, number: int) -> dict[str, Any] | None:
    try:
        said = _dict(msgspec.json.decode(message))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if said.get("id") != number:
        return None
    if "error" in said:
        raise _Failed(
            Answer(200, {"content-type": "application/json"}, message[:MOST_BYTES], len(message) > MOST_BYTES)
        )
    return _dict(said.get("result"))


async def _events(response: httpx2.Response) -> AsyncIterator[str]:
    """The data of each event, up to `MOST_MESSAGE` bytes in all."""
    pending: list[bytes] = []  # of one line; joined once, however small its pieces are
    data, left = [], MOST_MESSAGE
    async for chunk in response.aiter_raw():
        left -= len(chunk)
        if left < 0:
            return
        pending.append(chunk)
        if b"\n" not in chunk:
            continue
        *lines, rest = b"".join(pending).split(b"\n")
        pending = [rest]
        for line in lines:
            text = line.rstrip(b"\r").decode("utf-8", "replace")
            if text.startswith("data:"):
                data.append(text[5:].removeprefix(" "))
            elif not text and data:
                yield "\n".join(data)
                data = []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
