"""What the harness works with, bound together once by the composition root. It must not hold a session's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from hostler.harness.life import Life
from hostler.harness.repositories import Repositories
from hostler.harness.secrets import SessionSecrets
from hostler.harness.served import ServedTools
from hostler.harness.session_layers import SessionLayers
from hostler.harness.workqueue import WorkHints
from hostler.log.log import Log
from hostler.models.catalogue import Catalogue
from hostler.models.protocol import Model, ModelUsage
from hostler.sandbox.contract import Backend
from hostler.store.blobs import Blobs
from hostler.vault.bearer import Bearer
from hostler.wire.agents import ModelConfig

DEFAULT_CONTEXT = 200_000
DEFAULT_OUTPUT = 32_000


class HarnessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[harness]` table. Times are seconds."""

    model_attempts: int = 6
    retry_base: float = 1.0
    retry_limit: float = 60.0
    requests_per_turn: int = 1000
    compact_at: float = 0.8  # of the model's input limit
    max_output_tokens: int = DEFAULT_OUTPUT
    judge_model: str = ""  # of calls under the policy `auto`; empty: the agent's own
    judge_seconds: float = 30.0  # for all calls of one message
    idle_sandbox_seconds: float = 300.0
    hibernate_seconds: float = 86_400.0  # of rest, then its directory becomes a snapshot; 0: never
    retention_days: float = 30.0  # of a sandbox, from its creation
    checkpoint_seconds: float = 5.0  # after a turn that used the sandbox; 0: only on request
    checkpoints: int = 5  # that are kept of a session
    checkpoint_mb: int = 512  # files of a sandbox that are written down after a turn, and checkpoints of a session
    import_mb: int = 10_240  # of an imported session's archive, packed and unpacked
    output_bytes: int = 500 * 1024 * 1024  # of one file that the agent hands back
    outputs_bytes: int = 5 * 1024**3  # of all that a session hands back
    layer_wait_seconds: float = 120.0  # of the first tool call, for the packages of skills
    package_wait_seconds: float = 600.0  # of the first tool call, for the packages of the environment


class Contents(Protocol):
    """Gives the contents of files that messages refer to by id."""

    async def sources(self, file_ids: set[str]) -> Mapping[str, dict[str, Any]]:
        """The Messages API source (`base64` or `text`) of each file that exists."""
        ...


class Credentials(Protocol):
    """Gives the tokens that a session may send to MCP servers. Nothing is kept: ask anew for each connection, so that
    what was rotated or archived takes hold."""

    async def authorization(self, vault_ids: Sequence[str], server_url: str) -> Bearer | None:
        """The token for a server, of the first vault that has one. None: the server is asked without."""
        ...

    async def refreshed(self, bearer: Bearer, rejected_token: str) -> Bearer | None:
        """Another token after a server answered 401 to this one. None: there is no other, the refusal stands."""
        ...


class Deps(msgspec.Struct, frozen=True):
    """The harness's collaborators."""

    log: Log
    model: Model
    catalogue: Catalogue
    sandboxes: Backend
    contents: Contents
    blobs: Blobs
    builtins: dict[str, dict[str, Any]]
    config: HarnessConfig
    layers: SessionLayers
    life: Life
    secrets: SessionSecrets
    served: tuple[ServedTools, ...] = ()
    repositories: Repositories | None = None
    work: WorkHints = msgspec.field(default_factory=WorkHints)

    def output_limit(self, model_id: str) -> int:
        known = self.catalogue.traits(model_id).max_tokens
        return min(self.config.max_output_tokens, known or DEFAULT_OUTPUT)

    def context_limit(self, model_id: str) -> int:
        """The tokens from which on the conversation is to be compacted."""
        known = self.catalogue.traits(model_id).max_input_tokens or DEFAULT_CONTEXT
        return int(known * self.config.compact_at)

    def cost(self, model: ModelConfig, usage: ModelUsage) -> Decimal | None:
        """US dollars at list price, None for a model that has none."""
        if self.catalogue.price(model.id) is None:
            return None
        return self.catalogue.list_cost(model.id, usage, inference_geo=model.inference_geo)
