"""The `[runbooks]` table of the config file. It must not read the environment: it names what of it bundles may see."""

from __future__ import annotations

import os
from typing import Literal

import msgspec


class RunbooksConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How runbooks run. `environ` names variables of the server that bundles see, `variables` are theirs alone."""

    stall_seconds: float = 60.0
    rest_seconds: float = 60.0
    spare_seconds: float = 60.0
    tasks_at_once: int = 32
    document_mb: int = 100
    isolation: Literal["bubblewrap", "none"] = "bubblewrap"
    folders: list[str] = []
    environ: list[str] = []
    variables: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not 1 <= self.stall_seconds <= 3600:
            raise ValueError("stall_seconds must be from 1 to 3600")
        if not 0.1 <= self.rest_seconds <= 86_400:
            raise ValueError("rest_seconds must be from 0.1 to 86400")
        if any(not os.path.isabs(folder) for folder in self.folders):
            raise ValueError("folders must be absolute paths")
        if not 0 <= self.spare_seconds <= 86_400:
            raise ValueError("spare_seconds must be from 0 to 86400")
        if not 1 <= self.tasks_at_once <= 10_000:
            raise ValueError("tasks_at_once must be from 1 to 10000")
        if not 1 <= self.document_mb <= 500:
            raise ValueError("document_mb must be from 1 to 500")

    def __repr__(self) -> str:
        """Without the values, which may be secrets."""
        return f"RunbooksConfig(environ={self.environ!r}, variables={sorted(self.variables)!r})"
