"""What a vault gives to whoever talks to an MCP server. It must not know where it comes from."""

from __future__ import annotations

import msgspec


class Bearer(msgspec.Struct, frozen=True):
    """A token to send as `Authorization: Bearer`, and whose it is. It does not show the token when it is printed."""

    token: str
    credential_id: str
    vault_id: str

    def __repr__(self) -> str:
        return f"Bearer(credential_id={self.credential_id!r}, vault_id={self.vault_id!r})"
