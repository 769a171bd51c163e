"""The `[web]` table of the config file. It must not hold a key: only the name of the variable that does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=600)]
Megabytes = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Provider = Literal["", "searxng", "brave", "tavily", "anthropic"]


class WebConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`allow_private_hosts` are `host` or `host:port` that may be fetched though their addresses are not public."""

    search: Provider = ""
    search_url: str = ""
    search_key_env: str = ""
    search_model: str = "claude-haiku-4-5"
    proxy: str = ""
    allow_private_hosts: tuple[str, ...] = ()
    connect_seconds: Seconds = 10.0
    fetch_seconds: Seconds = 30.0
    search_seconds: Seconds = 30.0
    fetch_mb: Megabytes = 10
    read_seconds: Seconds = 5.0
    read_memory_mb: Annotated[int, msgspec.Meta(ge=64, le=16384)] = 512
    fetch_tokens: Annotated[int, msgspec.Meta(ge=100, le=1_000_000)] = 25_000
    fetches_at_once: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16

    def __repr__(self) -> str:
        return f"WebConfig(search={self.search!r})"

    def __post_init__(self) -> None:
        if self.search == "searxng" and not self.search_url:
            raise ValueError("`search_url` must be the SearXNG server's address")
        if self.search in ("brave", "tavily") and not self.search_key_env:
            raise ValueError(f"`search_key_env` must name the variable that holds the {self.search} key")
        for name in ("search_url", "proxy"):
            url = getattr(self, name)
            if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
                raise ValueError(f"`{name}` must be an http or https URL")

    def search_key(self, environ: Mapping[str, str]) -> str:
        """The key, or "" where its variable is not set."""
        return environ.get(self.search_key_env, "").strip() if self.search_key_env else ""

    def may_be_private(self, host: str, port: int) -> bool:
        shown = f"[{host}]" if ":" in host else host
        return bool({shown, f"{shown}:{port}"} & set(self.allow_private_hosts))
