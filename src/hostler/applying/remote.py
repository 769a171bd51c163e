"""Finds, makes and updates objects on a server over its HTTP API. It must not read files or print."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import msgspec

from hostler.applying.definitions import MARK, Definition, Kind
from hostler.errors import HostlerError

HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}
TIMEOUT = 60.0
_PATHS: dict[Kind, str] = {"agent": "/v1/agents", "environment": "/v1/environments"}


class CantApply(HostlerError):
    """The server can't be used."""


class Refused(Exception):
    """The server refused a request; the text is the server's."""


class _Item(msgspec.Struct):
    id: str
    name: str
    metadata: dict[str, str]


class _Page(msgspec.Struct):
    data: list[_Item]
    next_page: str | None = None


class Found(NamedTuple):
    """`marked` was made by `hostler apply`; `others` have the same name and were not."""

    marked: dict[str, Any] | None
    others: int


class Remote:
    """One server. Use it as a context manager."""

    def __init__(self, base_url: str, api_key: str) -> None:
        """A server on this machine is never reached through a proxy of the environment."""
        self._url = base_url.rstrip("/")
        try:
            near = urlsplit(self._url).hostname in ("127.0.0.1", "::1", "localhost")
            headers = {**HEADERS, "x-api-key": api_key}
            self._http = httpx2.Client(headers=headers, timeout=TIMEOUT, trust_env=not near)
        except (ValueError, UnicodeError) as error:
            raise CantApply("The base URL or the API key has characters that neither can have.") from error

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._http.close()

    def find(self, kind: Kind, name: str) -> Found:
        """The object of this name that a file was applied to before."""
        marked: list[dict[str, Any]] = []
        others = 0
        page: str | None = None
        while True:
            query = {"limit": "100", **({"page": page} if page else {})}
            answer = self._ask("GET", _PATHS[kind], _Page, params=query)
            for item, shown in zip(msgspec.convert(answer, _Page).data, answer["data"], strict=True):
                if item.name == name:
                    ours = MARK in item.metadata
                    marked += [shown] if ours else []
                    others += not ours
            page = answer.get("next_page")
            if not page:
                break
        if len(marked) > 1:
            ids = ", ".join(item["id"] for item in marked)
            raise CantApply(f"There are several {kind}s named {name}: {ids}. Archive all but one.")
        return Found(marked[0] if marked else None, others)

    def create(self, definition: Definition) -> dict[str, Any]:
        return self._ask("POST", _PATHS[definition.kind], _Item, json=definition.request)

    def update(self, definition: Definition, object_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", f"{_PATHS[definition.kind]}/{object_id}", _Item, json=body)

    def _ask(self, method: str, path: str, kind: type[msgspec.Struct], **more: Any) -> dict[str, Any]:
        """The answer's body, of which at least `kind` is there."""
        try:
            answer = self._http.request(method, self._url + path, **more)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise CantApply(
                f"No server answers at {self._url} ({type(error).__name__}). "
                "Start one with `hostler serve`, or name another with --base-url or HOSTLER_BASE_URL."
            ) from error
        try:
            body = answer.json()
            if answer.status_code == 200:
                msgspec.convert(body, kind)
            said = "" if answer.status_code == 200 else str(body["error"]["message"])
        except (ValueError, KeyError, TypeError) as error:
            raise CantApply(
                f"What answers at {self._url} is not an agents API (status {answer.status_code})."
            ) from error
        if answer.status_code == 401:
            raise CantApply(f"{self._url} doesn't accept the API key. `hostler keys create` makes one.")
        if answer.status_code == 409:
            raise CantApply("Someone else changed it at the same time. Run the command again.")
        if answer.status_code in (400, 404):  # 404: something that the file names is not there
            raise Refused(said)
        if answer.status_code != 200:
            raise CantApply(f"{self._url} answered {answer.status_code}: {said}")
        return dict(body)
