"""Which files of a folder are applied, and in which order: a machine, a vault, and the agent that uses them.

It must not talk to a server.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hostler.applying.definitions import MARK, Definition, Kind, load
from hostler.applying.secrets import Secret, credentials
from hostler.yamlfile import BadDefinition

FILES: tuple[Kind, ...] = ("environment", "vault", "agent")


class Unit(NamedTuple):
    """What belongs together: a folder's files, or one file. `secrets` go into the vault."""

    environment: Definition | None = None
    vault: Definition | None = None
    agent: Definition | None = None
    secrets: tuple[Secret, ...] = ()

    def definitions(self) -> list[Definition]:
        return [each for each in (self.environment, self.vault, self.agent) if each is not None]


def load_unit(path: Path, *, registers: bool) -> Unit:
    """Read a file or folder; an agent that is to be registered gets a vault for its key. Raises BadDefinition."""
    unit = _folder(path) if path.is_dir() else _unit([load(path)])
    if registers and unit.agent is None:
        raise BadDefinition(f"{path}: holds no agent, and --tenant registers one")
    if registers and unit.agent is not None and unit.vault is None:
        request = {"display_name": unit.agent.name, "metadata": {MARK: "true"}}
        return unit._replace(vault=Definition("vault", request, unit.agent.document, {}))
    return unit


def _folder(folder: Path) -> Unit:
    files = {kind: file for kind in FILES if (file := _file(folder, kind)) is not None}
    if not files:
        raise BadDefinition(f"{folder}: there is no agent.yaml in this folder, nor environment.yaml or vault.yaml")
    agent = load(files["agent"], kind="agent") if "agent" in files else None
    name = agent.name if agent else folder.resolve().name
    others = [load(file, kind=kind, name=name) for kind, file in files.items() if kind != "agent"]
    return _unit([*others, *([agent] if agent else [])])


def _file(folder: Path, kind: Kind) -> Path | None:
    found = [file for ending in ("yaml", "yml") if (file := folder / f"{kind}.{ending}").is_file()]
    if len(found) > 1:
        raise BadDefinition(f"{found[1]}: {found[0].name} is there, too; keep one of them")
    return found[0] if found else None


def _unit(definitions: list[Definition]) -> Unit:
    by_kind = {each.kind: each for each in definitions}
    vault = by_kind.get("vault")
    secrets = tuple(credentials(vault.document)) if vault else ()
    return Unit(by_kind.get("environment"), vault, by_kind.get("agent"), secrets)
