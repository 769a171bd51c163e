"""The `[data_plane]` table: where tenants' data lies and how long a statement may take. It must not open anything."""

from __future__ import annotations

import msgspec

SCHEMES = ("postgresql://", "postgres://")
TENANT = "{tenant}"


class DataPlaneConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tenants` gives single tenants databases of their own, by slug; all others have that of `--data-plane`."""

    tenants: dict[str, str] = {}
    tenant_connections: int = 4
    statement_seconds: float = 60.0
    wait_seconds: float = 90.0
    result_mb: int = 48

    def __post_init__(self) -> None:
        for slug, url in self.tenants.items():
            check(url, f"tenants.{slug}")
        if not 1 <= self.tenant_connections <= 100:
            raise ValueError("tenant_connections must be from 1 to 100")
        if not 0.1 <= self.statement_seconds <= 3600:
            raise ValueError("statement_seconds must be from 0.1 to 3600")
        if not 0 <= self.wait_seconds <= 3600:
            raise ValueError("wait_seconds must be from 0 to 3600")
        if not 1 <= self.result_mb <= 60:
            raise ValueError("result_mb must be from 1 to 60")

    def __repr__(self) -> str:
        """Without URLs, which hold passwords."""
        return f"DataPlaneConfig(tenants={sorted(self.tenants)})"


def check(url: str, where: str) -> None:
    """Raises ValueError, without the URL's own words."""
    if not url.startswith(SCHEMES):
        raise ValueError(f"{where} must be a postgresql:// URL")
