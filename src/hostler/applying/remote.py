"""Finds, makes and updates objects on a server over its HTTP API. It must not read files or print."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from hostler.applying.definitions import MARK, Definition, Kind
from hostler.client import Api, CantAsk, Refused, part

_PATHS: dict[Kind, str] = {"agent": "/v1/agents", "environment": "/v1/environments", "vault": "/v1/vaults"}
NAMES: dict[Kind, str] = {"agent": "name", "environment": "name", "vault": "display_name"}


class _Item(msgspec.Struct):
    id: str
    metadata: dict[str, str]


class _Page(msgspec.Struct):
    data: list[_Item]
    next_page: str | None = None


class Found(NamedTuple):
    """`marked` was made by `hostler apply`; `others` have the same name and were not."""

    marked: dict[str, Any] | None
    others: int


class Remote:
    """What of one server can be kept in files."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def find(self, kind: Kind, name: str) -> Found:
        """The object of this name that a file was applied to before."""
        same = [item for item in self._all(_PATHS[kind]) if item.get(NAMES[kind]) == name]
        marked = [item for item in same if MARK in item["metadata"]]
        if len(marked) > 1:
            ids = ", ".join(item["id"] for item in marked)
            raise CantAsk(f"There are several {kind}s named {name}: {ids}. Archive all but one.")
        return Found(marked[0] if marked else None, len(same) - len(marked))

    def credentials(self, vault_id: str) -> list[dict[str, Any]]:
        """Those of a vault that are in use."""
        return self._all(f"/v1/vaults/{part(vault_id)}/credentials")

    def create(self, definition: Definition) -> dict[str, Any]:
        return self.put(_PATHS[definition.kind], definition.request)

    def update(self, definition: Definition, object_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.put(f"{_PATHS[definition.kind]}/{part(object_id)}", body)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises Refused for what a file is to blame for, CantAsk."""
        try:
            return self._read(self.api.post(path, body), _Item)
        except Refused as error:
            if error.answered == 409:
                raise CantAsk("Someone else changed it at the same time. Run the command again.") from error
            raise

    def _all(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page: str | None = None
        while True:
            answer = self._read(self.api.get(path, limit="100", page=page), _Page)
            found += answer["data"]
            page = answer.get("next_page")
            if not page:
                return found

    def _read(self, body: Any, kind: type[msgspec.Struct]) -> dict[str, Any]:
        """A body of which at least `kind` is there."""
        try:
            msgspec.convert(body, kind)
        except msgspec.ValidationError as error:
            raise CantAsk(f"What answers at {self.api.url} is not an agents API (status 200).") from error
        return dict(body)
