"""What a provider is told when it is made: one form for all, built-in or third-party. It reads nothing itself."""

from __future__ import annotations

from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from hostler.models.catalogue import BUILTIN, Catalogue


class ModelConfigError(ValueError):
    """The model configuration is wrong; the message names the setting."""


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one provider instance.

    `model` is what to call the model at the vendor ("" keeps the request's id), `key_hint` names the setting to check
    when the key is refused, `where` names the configuration's place for error messages.
    """

    api_key: str = ""
    base_url: str = ""
    model: str = ""
    headers: dict[str, str] = {}
    client: Literal["http", "sdk"] = "http"
    connect_timeout: float = 10.0
    read_timeout: float = 120.0
    options: dict[str, Any] = {}
    catalogue: Catalogue = BUILTIN
    key_hint: str = "HOSTLER_MODEL_API_KEY"
    where: str = "models"

    def __repr__(self) -> str:
        return f"ProviderSettings(base_url={self.base_url!r}, model={self.model!r}, where={self.where!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not appear in any message."""
        named = (v for k, v in self.options.items() if isinstance(v, str) and k.endswith(("key", "token")))
        return (self.api_key, *self.headers.values(), *named)

    @property
    def is_local(self) -> bool:
        """Whether the endpoint is this machine, which is never reached through a proxy."""
        host = urlsplit(self.base_url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")


Options = TypeVar("Options", bound=msgspec.Struct)


def read_options(settings: ProviderSettings, kind: type[Options]) -> Options:
    """A route's `options` in the provider's own form; raises `ModelConfigError` naming the field."""
    try:
        return msgspec.convert(settings.options, kind)
    except msgspec.ValidationError as error:
        raise ModelConfigError(f"{settings.where}.options: {error}") from error
