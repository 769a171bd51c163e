"""Applies what belongs together, one object after the other, each on the ids of those before it. It must not print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hostler.applying.changes import Change
from hostler.applying.definitions import Definition, with_urls
from hostler.applying.folder import Unit
from hostler.applying.foresight import foresee, resolved_tools
from hostler.applying.members import with_ids
from hostler.applying.registering import Registration, find_tenant
from hostler.applying.remote import Remote
from hostler.applying.sealing import Vault, check, left_over, seal
from hostler.applying.updates import describe, differences, update_of
from hostler.client import Refused
from hostler.errors import InvalidRequest


class Wishes(NamedTuple):
    dry_run: bool = False
    renew_secrets: bool = False
    tenant: str | None = None


class Applying:
    """One command's work on one server."""

    def __init__(self, remote: Remote, wishes: Wishes) -> None:
        self._remote = remote
        self._wishes = wishes
        self._to_come: set[str] = set()  # agents that a dry run would have made

    def run(self, unit: Unit) -> Iterator[Change]:
        """Each change as it is done; what can be known to be in the way is found before. Raises BadDefinition,
        CantAsk."""
        tenant = self._wishes.tenant
        tenant_id = find_tenant(self._remote.api, tenant) if tenant is not None else None
        vault = self._vault_of(unit)
        ids: dict[str, str | None] = {}
        agent: Definition | None = None
        for definition in unit.definitions():
            if definition.kind == "agent":
                agent = definition = with_urls(definition, self._remote.api.url)
            change = self._one(definition)
            ids[definition.kind] = change.id
            if definition.kind == "vault":
                vault.id = change.id
                notes = left_over(unit.secrets, vault) if "credentials" in definition.document.data else ()
                change = change._replace(notes=notes)
            yield change
            if definition.kind == "vault":
                yield from self._seal(unit, vault)
        if agent is not None and tenant is not None and tenant_id is not None:
            registration = Registration(self._remote.api, tenant, tenant_id, agent, ids.get("environment"))
            yield from registration.run(ids["agent"], vault, dry_run=self._wishes.dry_run)

    def _vault_of(self, unit: Unit) -> Vault:
        """The vault as it is now, for which all secrets are there that it will be sent."""
        known = self._remote.find("vault", unit.vault.name).marked if unit.vault is not None else None
        vault = Vault(self._remote, known["id"] if known else None)
        check(unit.secrets, vault, renew=self._wishes.renew_secrets)
        return vault

    def _seal(self, unit: Unit, vault: Vault) -> Iterator[Change]:
        for secret in unit.secrets:
            yield seal(secret, vault, dry_run=self._wishes.dry_run, renew=self._wishes.renew_secrets)

    def _one(self, definition: Definition) -> Change:
        """Make, update or leave one object."""
        found = self._remote.find(definition.kind, definition.name)
        definition = with_ids(definition, self._member)
        if self._wishes.dry_run:
            self._to_come.add(definition.name)
        try:
            work = _foreseen if self._wishes.dry_run else self._done
            change = work(definition, found.marked)
        except Refused as error:
            raise definition.fault(error.message) from error
        except InvalidRequest as error:
            raise definition.fault(error.message) from error
        return change._replace(same_name=found.others if found.marked is None else 0)

    def _member(self, name: str) -> str | None:
        known = self._remote.find("agent", name).marked
        return known["id"] if known else "(new)" if name in self._to_come else None

    def _done(self, definition: Definition, before: dict[str, Any] | None) -> Change:
        if before is None:
            return _change(definition, "created", None, self._remote.create(definition), {})
        shown = self._remote.update(definition, before["id"], update_of(definition, before))
        changed = differences(before, shown)
        lines = tuple(describe(field, *values) for field, values in changed.items())
        after = {field: values[1] for field, values in changed.items()}
        return _change(definition, "updated" if changed else "unchanged", before, shown, after)._replace(lines=lines)


def _foreseen(definition: Definition, before: dict[str, Any] | None) -> Change:
    if before is None:
        tools = resolved_tools(definition.request.get("tools", []))
        after = {**definition.request, **({"tools": tools} if tools else {})}
        return _change(definition, "created", None, {}, after)
    after = foresee(update_of(definition, before), before)
    change = _change(definition, "updated" if after else "unchanged", before, before, after)
    return change._replace(lines=tuple(after))


def _change(definition: Definition, action: Any, before: Any, shown: dict[str, Any], after: dict[str, Any]) -> Change:
    file = str(definition.document.file)
    made = Change(definition.kind, definition.name, file, action, before, after)
    return made._replace(id=shown.get("id"), version=shown.get("version"))
