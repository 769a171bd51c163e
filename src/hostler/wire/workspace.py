"""The Workspace API as its published clients read and write it: camelCase, and what is unknown is left out, never null.

Those clients refuse null where they want an object or a list, ignore keys that they don't know, and know no other
states than those here. The one list of shapes; it must not know how anything is kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from hostler.wire.base import Unset, matching
from hostler.wire.usage import BudgetLimit

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
    """A key, as whoever calls. `tenant_id` is there when it opens one tenant alone."""

    id: str
    email: str
    name: str
    org_id: str
    roles: list[str]
    tenant_id: str | None = None


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


Url = Annotated[str, Meta(min_length=1, max_length=2048)]
VaultIds = Annotated[list[Key], Meta(max_length=50)]
AgentNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
ServerKey = Annotated[str, Meta(min_length=1, max_length=4096)]


class AgentCreate(Asked):
    """From `base_url` on they are ours: a registered agent knows where it lives, and what each of its sessions gets.
    `server_key` is the API key of the server at `base_url`; no answer ever has it."""

    tenant_id: Key
    kind: AgentKind
    name: Title
    external_ref: Key
    description: Text | None = None
    credentials_ref: Key | None = None
    base_url: Url | None = None
    server_key: ServerKey | None = None
    environment_id: Key | None = None
    vault_ids: VaultIds | None = None
    agent_version: AgentNumber | None = None
    budget: BudgetLimit | None = None


class AgentUpdate(Asked):
    """What is absent stays; null clears."""

    name: Title | Unset = UNSET
    description: Text | Unset | None = UNSET
    credentials_ref: Key | Unset | None = UNSET
    base_url: Url | Unset | None = UNSET
    server_key: ServerKey | Unset | None = UNSET
    environment_id: Key | Unset | None = UNSET
    vault_ids: VaultIds | Unset | None = UNSET
    agent_version: AgentNumber | Unset | None = UNSET
    budget: BudgetLimit | Unset | None = UNSET


class VersionCreate(Asked):
    artifact_url: Url | None = None
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
    budget: BudgetLimit | None = None
    versions: list[AgentVersion] | Unset = UNSET
    created_at: str | None = None
    updated_at: str | None = None


class AgentTested(Shown):
    """Whether a registered agent is there to be called. `model` and `version` are what its server says of it."""

    success: bool
    message: str
    latency_ms: int | None = None
    model: str | None = None
    version: int | None = None


# -- workflows --


class WorkflowCreate(Asked):
    runbook_slug: Slug
    entity_id: Key
    runbook_version: Key | None = None
    name: Title | None = None
    description: Text | None = None
    schedule: Key | None = None
    timezone: Key | None = None
    default_config: Config | None = None


class WorkflowUpdate(Asked):
    """What is absent stays; null clears. A `default_config` replaces the one before."""

    name: Title | Unset | None = UNSET
    description: Text | Unset | None = UNSET
    schedule: Key | Unset | None = UNSET
    timezone: Key | Unset | None = UNSET
    default_config: Config | Unset | None = UNSET


class Workflow(Shown):
    """`next_run_at` and `schedule_problem` are ours: when its schedule is due next, and why it last started nothing."""

    id: str
    runbook_slug: str
    entity_id: str
    tenant_id: str
    org_id: str | None = None
    runbook_version: str | None = None
    name: str | None = None
    description: str | None = None
    schedule: str | None = None
    timezone: str | None = None
    default_config: Config | Unset = UNSET
    entity: dict[str, str] | Unset = UNSET
    next_run_at: str | None = None
    schedule_problem: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class CapabilityCreate(Asked):
    name: Title
    description: Text | None = None
    version: Key | None = None


class Capability(Shown):
    id: str
    name: str
    description: str | None = None
    version: str | None = None
    created_at: str | None = None


# -- integrations --


class ConnectionCreate(Asked):
    name: Title
    provider: Provider
    ownership: Ownership = "SELF_MANAGED"
    region: Title | None = None
    config: Config = {}


class DataConnection(Shown):
    """Secrets in `config` are shown as asterisks."""

    id: str
    name: str
    provider: Provider
    ownership: Ownership | Unset = UNSET
    region: str | None = None
    config: Config | Unset = UNSET
    created_at: str | None = None
    updated_at: str | None = None


class Tested(Shown):
    success: bool
    message: str
    latency_ms: int | None = None


class MailboxCreate(Asked):
    tenant_id: Key
    provider: Title = "microsoft-graph"
    address: Title | None = None


class Mailbox(Shown):
    id: str
    tenant_id: str
    provider: str
    address: str | None = None
    created_at: str | None = None


# -- errors --


class Failure(msgspec.Struct, rename="camel"):
    """The envelope of all errors of this API."""

    status_code: int
    message: str
    error: str
