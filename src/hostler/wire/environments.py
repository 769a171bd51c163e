"""Environments: where the sandboxes of sessions run. It must not decide what this server supports: `services/` does."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hostler.wire.base import UNSET, Metadata, MetadataPatch, Name, Params, Unset, Wire

PackageList = Annotated[list[str], Meta(max_length=1000)]


class UnrestrictedNetwork(Params, tag="unrestricted", tag_field="type", kw_only=True):
    pass


class LimitedNetworkParams(Params, tag="limited", tag_field="type", kw_only=True):
    allowed_hosts: Annotated[list[str], Meta(max_length=1000)] | Unset | None = UNSET
    allow_mcp_servers: bool | Unset | None = UNSET
    allow_package_managers: bool | Unset | None = UNSET


class PackagesParams(Params, kw_only=True):
    type: Literal["packages"] | Unset = UNSET
    apt: PackageList | Unset | None = UNSET
    cargo: PackageList | Unset | None = UNSET
    gem: PackageList | Unset | None = UNSET
    go: PackageList | Unset | None = UNSET
    npm: PackageList | Unset | None = UNSET
    pip: PackageList | Unset | None = UNSET


class ConfigParams(Params, kw_only=True):
    """`anthropic_cloud` is the old name of `cloud`. `networking` and `packages` belong to cloud."""

    type: Literal["cloud", "anthropic_cloud", "self_hosted"]
    networking: UnrestrictedNetwork | LimitedNetworkParams | Unset | None = UNSET
    packages: PackagesParams | Unset | None = UNSET


class EnvironmentCreate(Params, kw_only=True):
    name: Name
    config: ConfigParams | None = None
    description: str | None = ""  # older SDKs do not read null here, so only an explicit one gives it
    metadata: Metadata | None = None
    scope: Literal["organization", "account"] | None = None


class EnvironmentUpdate(Params, kw_only=True):
    name: Name | Unset | None = UNSET
    config: ConfigParams | Unset | None = UNSET
    description: str | Unset | None = UNSET
    metadata: MetadataPatch | Unset = UNSET
    scope: Literal["organization", "account"] | Unset | None = UNSET


class LimitedNetwork(Wire, tag="limited", tag_field="type", kw_only=True):
    allowed_hosts: list[str]
    allow_mcp_servers: bool
    allow_package_managers: bool


class Packages(Wire, kw_only=True):
    type: Literal["packages"] = "packages"
    apt: list[str]
    cargo: list[str]
    gem: list[str]
    go: list[str]
    npm: list[str]
    pip: list[str]


class CloudConfig(Wire, tag="cloud", tag_field="type", kw_only=True):
    networking: UnrestrictedNetwork | LimitedNetwork
    packages: Packages


class SelfHostedConfig(Wire, tag="self_hosted", tag_field="type", kw_only=True):
    """Tools run where the environment's own workers are; there is nothing to configure here."""


Config = CloudConfig | SelfHostedConfig


class Environment(Wire, tag="environment", tag_field="type", kw_only=True):
    id: str
    name: str
    description: str | None
    config: Config
    metadata: dict[str, str]
    scope: Literal["organization", "account"] = "organization"
    state: Literal["active", "archived"] = "active"
    created_at: str
    updated_at: str
    archived_at: str | None = None


class EnvironmentDeleted(Wire, tag="environment_deleted", tag_field="type", kw_only=True):
    id: str
