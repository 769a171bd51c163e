"""Makes the credentials of a vault what a file says. A secret that is there can't be compared: it stays, unless it
is to be sent anew. It must not print or keep one."""

from __future__ import annotations

from typing import Any

from hostler.applying.changes import Change
from hostler.applying.definitions import MARK
from hostler.applying.foresight import agrees, filled
from hostler.applying.remote import Remote
from hostler.applying.secrets import Secret, target
from hostler.client import Refused, part


class Vault:
    """A vault on a server; without an id it is still to come, so nothing is in it."""

    def __init__(self, remote: Remote, vault_id: str | None) -> None:
        self.id = vault_id
        self._remote = remote
        self.there = remote.credentials(vault_id) if vault_id is not None else []

    def find(self, wanted: str) -> dict[str, Any] | None:
        return next((each for each in self.there if target(each["auth"]) == wanted), None)

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._remote.put(self._path(), request)

    def update(self, credential_id: str, request: dict[str, Any]) -> dict[str, Any]:
        return self._remote.put(f"{self._path()}/{part(credential_id)}", request)

    def _path(self) -> str:
        assert self.id is not None
        return f"/v1/vaults/{part(self.id)}/credentials"


def check(secrets: tuple[Secret, ...], vault: Vault, *, renew: bool) -> None:
    """Find every secret that will be sent, before anything is. Raises BadDefinition."""
    for secret in secrets:
        known = vault.find(secret.target)
        if known is None or renew:
            secret.whole()
        if known is not None and known["auth"]["type"] != secret.type:
            said = f"{known['id']} is of another type, {known['auth']['type']}; archive it first"
            raise secret.document.fault(secret.place, f"{secret.place}: {said}")


def seal(secret: Secret, vault: Vault, *, dry_run: bool, renew: bool) -> Change:
    known = vault.find(secret.target)
    try:
        if known is None:
            return _created(secret, vault, dry_run)
        return _updated(secret, vault, known, dry_run, renew)
    except Refused as error:
        raise secret.document.fault(secret.place, f"{secret.place}: {error.message}") from error


def _created(secret: Secret, vault: Vault, dry_run: bool) -> Change:
    made = None if dry_run else vault.create(secret.whole())
    return _change(secret, "created", None, secret.public(), made["id"] if made else None)


def _updated(secret: Secret, vault: Vault, known: dict[str, Any], dry_run: bool, renew: bool) -> Change:
    wanted = secret.public()
    after = {
        key: filled(value, known.get(key))
        for key, value in wanted.items()
        if (value != known.get(key) if key == "metadata" else not agrees(value, known.get(key)))
    }
    if renew:
        wanted, after = secret.whole(), {**after, "secret": "sent anew"}
    if not after:
        return _change(secret, "unchanged", known, {}, known["id"])
    if not dry_run:
        metadata = {**dict.fromkeys(known["metadata"]), **wanted["metadata"]}
        vault.update(known["id"], {**wanted, "metadata": metadata})
    return _change(secret, "updated", known, after, known["id"])


def _change(secret: Secret, action: Any, before: Any, after: dict[str, Any], made_id: str | None) -> Change:
    lines = tuple(after) if action == "updated" else ()
    name = str(secret.request["display_name"])
    return Change("credential", name, str(secret.document.file), action, before, after, made_id, lines=lines)


def left_over(secrets: tuple[Secret, ...], vault: Vault) -> tuple[str, ...]:
    """What is said of credentials that were applied once and are no longer in the file."""
    wanted = {secret.target for secret in secrets}
    left = [each for each in vault.there if MARK in each["metadata"] and target(each["auth"]) not in wanted]
    return tuple(f"credential {each['id']} is not in the file any more; it stays until it is archived" for each in left)
