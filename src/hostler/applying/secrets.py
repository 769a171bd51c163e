"""Credentials of a vault as a file wants them. The file says where a secret is found, never what it is.

It must not talk to a server, and must not print a secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from hostler.applying.definitions import MARK
from hostler.yamlfile import BadDefinition, Document, read_text

_KEYS = ("display_name", "auth", "metadata")
_SECRET = ("token", "access_token", "refresh_token", "client_secret", "secret_value")
_TARGETS = {"static_bearer": "mcp_server_url", "mcp_oauth": "mcp_server_url", "environment_variable": "secret_name"}


class Secret(NamedTuple):
    """One credential. `request` has `{env: NAME}` or `{file: PATH}` where secrets belong."""

    request: dict[str, Any]
    document: Document
    place: str

    @property
    def type(self) -> str:
        return str(self.request["auth"]["type"])

    @property
    def target(self) -> str:
        """What it is for; a vault holds one for each."""
        return target(self.request["auth"])

    def public(self) -> dict[str, Any]:
        """Without secrets."""
        return {**self.request, "auth": _without(self.request["auth"])}

    def whole(self) -> dict[str, Any]:
        """With them. Raises BadDefinition where one can't be found."""
        return {**self.request, "auth": self._filled(self.request["auth"], f"{self.place}.auth")}

    def _filled(self, auth: dict[str, Any], place: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in auth.items():
            if key in _SECRET:
                found[key] = self._found(value, f"{place}.{key}")
            else:
                found[key] = self._filled(value, f"{place}.{key}") if isinstance(value, dict) else value
        return found

    def _found(self, source: dict[str, str], place: str) -> str:
        if "env" in source:
            value = os.environ.get(source["env"], "")
            if not value:
                raise self.document.fault(place, f"{place}: the environment variable {source['env']} is not set")
            return value
        file = self.document.file.parent / Path(source["file"]).expanduser()
        try:
            value = read_text(file).strip()
        except BadDefinition as error:
            raise self.document.fault(place, f"{place}: {error.message}") from error
        if not value:
            raise self.document.fault(place, f"{place}: {file} is empty")
        return value


def credentials(document: Document) -> list[Secret]:
    """Raises BadDefinition."""
    listed = document.data.get("credentials") or []
    if not isinstance(listed, list):
        raise document.fault("credentials", "credentials: Input should be a list")
    found: list[Secret] = []
    for index, item in enumerate(listed):
        secret = _credential(document, item, f"credentials.{index}")
        if any(each.target == secret.target for each in found):
            raise document.fault(secret.place, f"{secret.place}: there is one for {secret.target} already")
        found.append(secret)
    return found


def target(auth: dict[str, Any]) -> str:
    return str(auth.get(_TARGETS.get(str(auth.get("type")), ""), "")).rstrip("/")


def _credential(document: Document, item: Any, place: str) -> Secret:
    auth = item.get("auth") if isinstance(item, dict) else None
    if not isinstance(auth, dict) or auth.get("type") not in _TARGETS:
        known = ", ".join(_TARGETS)
        raise document.fault(f"{place}.auth.type", f"{place}: Input should have `auth` with a type: {known}")
    for key in item:
        if key not in _KEYS:
            raise document.fault(f"{place}.{key}", f"{place}.{key}: unknown key; a credential has {', '.join(_KEYS)}")
    key = _TARGETS[auth["type"]]
    if not isinstance(auth.get(key), str) or not auth[key]:
        raise document.fault(f"{place}.auth", f"{place}.auth.{key}: Field required")
    _check_secrets(document, auth, f"{place}.auth")
    metadata = item.get("metadata") or {}
    if not isinstance(metadata, dict) or MARK in metadata:
        raise document.fault(f"{place}.metadata", f"{place}.metadata: Input should be a mapping of text to text")
    request = {"display_name": item.get("display_name") or auth[key], "auth": auth}
    return Secret({**request, "metadata": {**metadata, MARK: "true"}}, document, place)


def _check_secrets(document: Document, auth: dict[str, Any], place: str) -> None:
    for key, value in auth.items():
        if key not in _SECRET:
            if isinstance(value, dict):
                _check_secrets(document, value, f"{place}.{key}")
            continue
        kinds = list(value) if isinstance(value, dict) else []
        if kinds not in (["env"], ["file"]) or not isinstance(value[kinds[0]], str) or not value[kinds[0]]:
            said = "say where it is found, `{env: NAME}` or `{file: PATH}`: secrets don't belong into this file"
            raise document.fault(f"{place}.{key}", f"{place}.{key}: {said}")


def _without(auth: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without(value) if isinstance(value, dict) else value for key, value in auth.items() if key not in _SECRET
    }
