"""What the settings ask for, decoded or made: rooms' tables, models. It must not start anything.

It is shared by the server and by the commands that look at its configuration without serving.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hostler.git.hosts import GitConfig, Hosts
from hostler.harness.deps import HarnessConfig
from hostler.mcp.config import McpConfig
from hostler.models.config import ModelsConfig, with_keys
from hostler.models.routing import Router
from hostler.runbooks.config import RunbooksConfig
from hostler.runbooks.dataplane.config import DataPlaneConfig, check
from hostler.sandbox.backends import SandboxConfig
from hostler.services.work import WorkConfig
from hostler.settings import BadSettings, Settings, decode
from hostler.web.config import WebConfig


class Configuration(msgspec.Struct, frozen=True):
    """The tables of the config file that rooms decode for themselves."""

    harness: HarnessConfig
    models: ModelsConfig
    sandbox: SandboxConfig
    mcp: McpConfig
    web: WebConfig
    git: GitConfig
    work: WorkConfig
    runbooks: RunbooksConfig
    data_plane: DataPlaneConfig


def configuration(settings: Settings) -> Configuration:
    """Decode the rooms' tables. Raises BadSettings with the file, table and key."""
    tables, file = settings.tables, settings.config_file
    return Configuration(
        decode(tables.get("harness", {}), HarnessConfig, "harness", file),
        decode(tables.get("models", {}), ModelsConfig, "models", file),
        decode(tables.get("sandbox", {}), SandboxConfig, "sandbox", file),
        decode(tables.get("mcp", {}), McpConfig, "mcp", file),
        decode(tables.get("web", {}), WebConfig, "web", file),
        _git_config(tables.get("git", {}), file),
        decode(tables.get("work", {}), WorkConfig, "work", file),
        decode(tables.get("runbooks", {}), RunbooksConfig, "runbooks", file),
        _data_plane(settings),
    )


def _data_plane(settings: Settings) -> DataPlaneConfig:
    config: DataPlaneConfig = decode(
        settings.tables.get("data_plane", {}), DataPlaneConfig, "data_plane", settings.config_file
    )
    if settings.data_plane is not None:
        try:
            check(settings.data_plane, "--data-plane")
        except ValueError as error:
            raise BadSettings(f"{error}.") from None
    return config


def _git_config(table: dict[str, Any], file: Path | None) -> GitConfig:
    config: GitConfig = decode(table, GitConfig, "git", file)
    try:
        Hosts(config.hosts)
    except ValueError as error:
        raise BadSettings(f"The config file {file}, table [git]: {error}.") from error
    return config


def open_router(settings: Settings, config: ModelsConfig) -> Router:
    """The configured models; without a key, the built-in script where it was asked for. Raises BadSettings."""
    try:
        return Router(
            with_keys(config, settings.environ),
            api_key=settings.model_api_key,
            base_url=settings.model_base_url,
            allow_script_default=settings.scripted,
        )
    except ValueError as error:
        where = "" if str(error).startswith("HOSTLER_") else f"The config file {settings.config_file}: "
        raise BadSettings(f"{where}{error}") from error
