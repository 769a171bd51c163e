"""What applying one object did or would do, for people, for programs, and as a diff. It must not talk to a server."""

from __future__ import annotations

import difflib
from typing import Any, Literal, NamedTuple

import yaml

from hostler.client import printable

Action = Literal["created", "updated", "unchanged"]
_NOT_SHOWN = ("id", "type", "version", "created_at", "updated_at", "archived_at", "vault_id", "orgId", "versions")
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


class Change(NamedTuple):
    """`before` is what the server shows, None for what is not there; `after` the fields that differ, or all of a new
    object. No secret is in either."""

    type: str
    name: str
    file: str
    action: Action
    before: dict[str, Any] | None
    after: dict[str, Any]
    id: str | None = None
    version: int | None = None
    lines: tuple[str, ...] = ()
    same_name: int = 0
    notes: tuple[str, ...] = ()

    def record(self, *, dry_run: bool, diff: bool) -> dict[str, Any]:
        """For programs."""
        changed = list(self.after) if self.action == "updated" else []
        told = {
            "file": self.file, "type": self.type, "name": self.name, "action": self.action, "id": self.id,
            "version": self.version, "changed": changed, "differences": list(self.lines), "dry_run": dry_run,
            "same_name": self.same_name, "notes": list(self.notes),
        }  # fmt: skip
        return {**told, "diff": "\n".join(self.diff())} if diff else told

    def words(self, *, dry_run: bool) -> str:
        action = f"would be {self.action}" if dry_run and self.action != "unchanged" else self.action
        where = f" {self.id}" if self.id else ""
        version = f", version {self.version}" if self.version else ""
        said = [f"{self.type} {self.name}: {action}{where}{version}", *(f"  {line}" for line in self.lines)]
        if self.same_name:
            said.append(
                f"  Note: {self.same_name} more of this name were not made by hostler apply; they are left alone."
            )
        said += [f"  Note: {note}" for note in self.notes]
        return "\n".join(map(printable, said))

    def diff(self) -> list[str]:
        """A unified diff of what is there and what would be; no lines where nothing changes."""
        if self.action == "unchanged":
            return []
        old = "/dev/null" if self.before is None else f"{self.type} {self.name}" + _version(self.version)
        lines = difflib.unified_diff(
            _yaml(self.before or {}), _yaml({**(self.before or {}), **self.after}), old, self.file, lineterm=""
        )
        return [printable(line) for line in lines]


def coloured(lines: list[str]) -> str:
    """For a terminal."""
    import click

    styled = []
    for line in lines:
        head = line.startswith(("---", "+++"))
        colour = None if head else _COLOURS.get(line[:1])
        styled.append(click.style(line, fg=colour, bold=head))
    return "\n".join(styled)


def _version(version: int | None) -> str:
    return f" (version {version})" if version else ""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(value: dict[str, Any]) -> list[str]:
    shown = {key: item for key, item in value.items() if key not in _NOT_SHOWN and item not in (None, [], {}, "")}
    text = yaml.dump(shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110) if shown else ""
    return str(text).splitlines()
