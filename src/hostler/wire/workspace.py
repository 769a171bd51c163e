"""The Workspace API as its published clients read and write it: camelCase, and what is unknown is left out, never null.

Those clients refuse null where they want an object or a list, ignore keys that they don't know, and know no other
states than those here. The one list of shapes; it must not know how anything is kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta
from msgspec import UnsetType as Unset

from hostler.wire.base import matching

DataPlatform = Literal["managed-postgres", "snowflake", "microsoft-fabric"]
Provider = Literal["DATABRICKS", "SNOWFLAKE", "MICROSOFT_FABRIC", "GCP_BIGQUERY"]
Ownership = Literal["SELF_MANAGED", "NTRO_MANAGED"]
TenantStatus = Literal[
    "REQUESTED", "PROVISIONING", "ACTIVE", "SUSPENDED", "DEPROVISIONING", "FAILED", "DECOMMISSIONED"
]  # fmt: skip
TaskStatus = Literal["PENDING", "READY", "IN_PROGRESS", "BLOCKED", "COMPLETED", "FAILED"]
AgentKind = Literal["claude_managed", "azure_ai_agent", "vertex_agent", "openai_assistant"]

Title = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=8192)]
Key = Annotated[str, Meta(min_length=1, max_length=256)]
Slug = Annotated[
    str,
    matching(r"^[a-z0-9][a-z0-9_-]*$", "lower-case letters, digits, `-` and `_` are expected", max_length=64),
]
Config = dict[str, Any]


class Shown(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What the server sends. A field without a value is left out."""


class Asked(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What a client sends. The published ones leave out what they have no value for."""


# -- who --


class Profile(Shown):
    id: str
    email: str
    name: str
    org_id: str
    roles: list[str]


# -- tenants and entities --


class TenantCreate(Asked):
    name: Title
    slug: Slug
    data_platform: DataPlatform
    data_platform_config_id: Key | None = None


class TenantUpdate(Asked):
    config: Config


class Tenant(Shown):
    id: str
    name: str
    slug: str
    data_platform: DataPlatform
    data_platform_config_id: str | None = None
    status: TenantStatus | Unset = UNSET
    config: Config | Unset = UNSET
    entity_count: int | Unset = UNSET
    created_at: str | None = None
    updated_at: str | None = None


class EntityCreate(Asked):
    """`schema_` is the key on the wire."""

    name: Title
    slug: Slug
    type: Title | None = None
    jurisdiction: Title | None = None
    currency: Title | None = None
    schema_: Title | None = msgspec.field(name="schema_", default=None)
    config: Config | None = None


class EntityUpdate(Asked):
    config: Config


class EntityWarning(Shown):
    """`existing` is the entity whose name is the same but for case, spaces and punctuation."""

    kind: Literal["duplicate_candidate"] | Unset = UNSET
    existing: dict[str, str] | Unset = UNSET
    normalised_name: str | None = None
    message: str | None = None


class Entity(Shown):
    id: str
    name: str
    slug: str
    tenant_id: str
    type: str | None = None
    jurisdiction: str | None = None
    currency: str | None = None
    schema_: str | None = msgspec.field(name="schema_", default=None)
    config: Config | Unset = UNSET
    created_at: str | None = None
    updated_at: str | None = None
    warnings: list[EntityWarning] | Unset = UNSET


# -- agents --


class AgentCreate(Asked):
    """The last four are ours: a registered agent knows where it lives, and what each of its sessions gets."""

    tenant_id: Key
    kind: AgentKind
    name: Title
    external_ref: Key
    description: Text | None = None
    credentials_ref: Key | None = None
    base_url: Annotated[str, Meta(max_length=2048)] | None = None
    environment_id: Key | None = None
    vault_ids: Annotated[list[Key], Meta(max_length=50)] | None = None
    agent_version: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


class VersionCreate(Asked):
    artifact_url: Annotated[str, Meta(max_length=2048)] | None = None
    changelog: Text | None = None


class AgentVersion(Shown):
    id: str
    agent_id: str
    version: int
    artifact_url: str | None = None
    changelog: str | None = None
    created_at: str | None = None


class Agent(Shown):
    """`api_key` is there once: in the answer that makes or rotates it. `api_key_hint` is its last four characters."""

    id: str
    tenant_id: str
    name: str
    kind: AgentKind
    external_ref: str
    org_id: str | None = None
    description: str | None = None
    credentials_ref: str | None = None
    mcp_url: str | None = None
    api_key: str | None = None
    api_key_hint: str | None = None
    base_url: str | None = None
    environment_id: str | None = None
    vault_ids: list[str] | Unset = UNSET
    agent_version: int | None = None
    versions: list[AgentVersion] | Unset = UNSET
    created_at: str | None = None
    updated_at: str | None = None


# -- errors --


class Failure(msgspec.Struct, rename="camel"):
    """The envelope of all errors of this API."""

    status_code: int
    message: str
    error: str
