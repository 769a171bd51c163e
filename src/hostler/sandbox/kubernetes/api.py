"""Requests to a cluster's API: bounded in size and time, tried again where that can help, refused in Kubernetes' words.

Every object that we make has a name of our choosing, so that asking twice does nothing twice. Knows no kind of object.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.kubernetes.access import Access

_TRIES = 5
_PAUSE, _LONGEST_PAUSE = 0.3, 10.0
PASSING = {429, 500, 502, 503, 504}
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_MAX_ANSWER = 32 * 1024 * 1024
_WATCH_LINE = 4 * 1024 * 1024


class ApiError(SandboxUnavailable):
    """The API refused. `status` is HTTP's, `reason` Kubernetes' word for it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"Kubernetes says: {message}")
        self.status = status
        self.reason = reason


class Unreachable(SandboxUnavailable):
    """The API does not answer."""


class Api:
    """One cluster's. Every method raises `ApiError` and `Unreachable`."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._client: httpx2.AsyncClient | None = None

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        return await self.ask("GET", path, query=query)

    async def find(self, path: str) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self.ask("POST", path, body=body)

    async def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        return await self.ask("PATCH", path, body=patch, kind="application/merge-patch+json")

    async def replace(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Give fields of an object, by their paths, other values: nothing of the old stays, as in a merge."""
        steps = [{"op": "add", "path": field, "value": value} for field, value in fields.items()]
        return await self.ask("PATCH", path, body=steps, kind="application/json-patch+json")

    async def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Ask for the end of an object; no-op when there is none."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self.ask("DELETE", path, body=body)
        except ApiError as error:
            if error.status != 404:
                raise

    async def ask(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None, kind: str = ""
    ) -> dict[str, Any]:
        pause, renewed = _PAUSE, False
        for left in reversed(range(_TRIES)):
            try:
                status, wait, answer = await self._once(method, path, query, body, kind)
            except httpx2.TransportError as error:
                if not left:
                    where = self.access.url
                    raise Unreachable(f"the cluster's API at {where} does not answer: {_why(error)}") from None
                wait = 0.0
            else:
                if 200 <= status < 300:
                    return _decode(answer)
                if status == 401 and not renewed and left:
                    renewed = True  # another token is tried once
                    self.access.token.refused()
                    continue
                if status not in PASSING or not left:
                    raise refusal(status, answer)
            await asyncio.sleep(min(max(wait, pause), _LONGEST_PAUSE))
            pause *= 2
        raise AssertionError

    async def _once(
        self, method: str, path: str, query: dict[str, str] | None, body: Any, kind: str
    ) -> tuple[int, float, bytes]:
        """Status, how long to wait before another try, body."""
        content = None if body is None else msgspec.json.encode(body)
        headers = await self.headers()
        if content is not None:
            headers["Content-Type"] = kind or "application/json"
        request = self._request(method, path, params=query, content=content, headers=headers)
        response = await self._http().send(request, stream=True)
        try:
            answer = bytearray()
            async for part in response.aiter_bytes():
                answer += part
                if len(answer) > _MAX_ANSWER:
                    raise httpx2.ReadError("its answer is too long")
            after = response.headers.get("retry-after", "")
            return response.status_code, float(after) if after.isdigit() else 0.0, bytes(answer)
        finally:
            await response.aclose()

    async def watch(self, path: str, version: str, field: str, seconds: int) -> AsyncGenerator[dict[str, Any], None]:
        """Changes of the objects that `field` selects since a version; ends whenever the API ends it."""
        query = {"watch": "1", "fieldSelector": field, "resourceVersion": version, "timeoutSeconds": str(seconds)}
        timeout = httpx2.Timeout(seconds + 10.0, connect=10.0)
        request = self._request("GET", path, params=query, headers=await self.headers(), timeout=timeout)
        with contextlib.suppress(httpx2.TransportError):
            response = await self._http().send(request, stream=True)
            try:
                if response.status_code != 200:
                    return
                async for event in _lines(response):
                    yield event
            finally:
                await response.aclose()

    async def headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if token := await self.access.token.get():
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _request(self, method: str, path: str, **more: Any) -> httpx2.Request:
        if self.access.server_name:
            more["extensions"] = {"sni_hostname": self.access.server_name}
        return self._http().build_request(method, self.access.url + quote(path), **more)

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(verify=self.access.tls or False, trust_env=False, timeout=_TIMEOUT)
        return self._client


async def _lines(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _WATCH_LINE:
            return
        for line in lines:
            if line.strip():
                yield _decode(line)


def refusal(status: int, answer: bytes) -> ApiError:
    """What a refusal says: a `Status`, or whatever stands between us and the API."""
    try:
        said = _decode(answer)
    except SandboxUnavailable:
        said = {}
    message = said.get("message") or answer[:300].decode(errors="replace").strip() or f"HTTP {status}"
    return ApiError(status, str(said.get("reason") or ""), str(message)[:600])


def _decode(answer: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise Unreachable("what answers at the cluster's address is no Kubernetes API") from None


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
