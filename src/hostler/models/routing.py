"""Chooses a provider for each model id: the configured routes in order, then the default. It must not speak a protocol.

A provider is one row in `PROVIDERS`, or anyone's callable named by a dotted path `package.module:callable` that takes
`ProviderSettings` and returns a `Model`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from urllib.parse import urlsplit

import msgspec

from hostler.models.catalogue import Catalogue, configured
from hostler.models.config import ModelRoute, ModelsConfig
from hostler.models.protocol import Model, ModelEvent, ModelRequest
from hostler.models.provider import ModelConfigError, ProviderSettings

PROVIDERS = {
    "anthropic": "hostler.models.anthropic:build",
    "bedrock": "hostler.models.anthropic:build_bedrock",
    "vertex": "hostler.models.anthropic:build_vertex",
    "foundry": "hostler.models.anthropic:build_foundry",
    "openai": "hostler.models.openai:build",
    "script": "hostler.models.script:build",
}


class RouteInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of what `hostler doctor` shows. `has_key` says whether a key is set; the key itself is nowhere in it."""

    pattern: str
    provider: str
    model: str
    endpoint: str
    has_key: bool


class Router:
    """A `Model` made of providers.

    `api_key` and `base_url` are those of the default Anthropic-protocol provider. With neither, and
    `allow_script_default`, ids that no route matches are played by the built-in script, and `scripted` is true so that
    whoever starts the server can say so.
    """

    def __init__(
        self,
        config: ModelsConfig | None = None,
        *,
        api_key: str = "",
        base_url: str = "",
        allow_script_default: bool = False,
    ) -> None:
        config = config or ModelsConfig()
        self.catalogue: Catalogue = configured(config)
        unset = allow_script_default and not (api_key or base_url)
        self.scripted = unset and all(route.pattern != "*" for route in config.route)
        # Some request can be answered: there is a key or an endpoint, or something else was chosen.
        self.usable = bool(api_key or base_url or unset or config.route)
        default = ModelRoute(provider="script" if unset else "anthropic", api_key=api_key, base_url=base_url)
        routes = [*config.route, default]
        self._routes = [
            (route, self._provider(route, f"models.route[{number}]" if number < len(config.route) else "models"))
            for number, route in enumerate(routes)
        ]

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Ask the provider of the first route whose pattern matches `request.model` (case-sensitive, shell style)."""
        return self.provider_for(request.model).stream(request)

    def provider_for(self, model_id: str) -> Model:
        for route, provider in self._routes:
            if fnmatch.fnmatchcase(model_id, route.pattern):
                return provider
        raise AssertionError("the default route matches every id")

    def route_of(self, model_id: str) -> RouteInfo:
        """The route by which a model id is asked."""
        return next(route for route in self.describe() if fnmatch.fnmatchcase(model_id, route.pattern))

    def describe(self) -> list[RouteInfo]:
        """The routes in the order they are tried, the default last."""
        return [
            RouteInfo(
                pattern=route.pattern,
                provider=route.provider,
                model=route.model,
                endpoint=_without_user(route.base_url),
                has_key=bool(route.api_key),
            )
            for route, _ in self._routes
        ]

    async def warm_up(self) -> None:
        """Load what the providers need, off the event loop: call it in the background once the server is ready."""
        for _, provider in self._routes:
            if (warm_up := getattr(provider, "warm_up", None)) is not None:
                await warm_up()

    async def aclose(self) -> None:
        for _, provider in self._routes:
            await provider.aclose()

    def _provider(self, route: ModelRoute, where: str) -> Model:
        settings = ProviderSettings(
            api_key=route.api_key.strip(),
            base_url=_checked_url(route.base_url, where),
            model=route.model,
            headers=route.headers,
            client=route.client,
            connect_timeout=route.connect_timeout,
            read_timeout=route.read_timeout,
            options=route.options,
            catalogue=self.catalogue,
            key_hint=route.api_key_env or (f"`api_key` in {where}" if where != "models" else "HOSTLER_MODEL_API_KEY"),
            where=where,
        )
        maker = _maker(route.provider, where)
        try:
            return maker(settings)
        except ModelConfigError:
            raise
        except ValueError as error:  # a script or a provider of one's own, which doesn't know where it is named
            raise ModelConfigError(f"{where}: {error}") from error


def _maker(name: str, where: str) -> Callable[[ProviderSettings], Model]:
    """The callable that makes a provider, imported when first needed; raises `ModelConfigError`."""
    path = PROVIDERS.get(name, name)
    module, colon, attribute = path.partition(":")
    if not colon:
        known = ", ".join(PROVIDERS)
        raise ModelConfigError(
            f"{where}.provider: {name!r} is none of {known}, and no dotted path `package.module:callable`"
        )
    try:
        made: Callable[[ProviderSettings], Model] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelConfigError(f"{where}.provider: can't load {name!r}: {error}") from error
    return made


def _checked_url(url: str, where: str) -> str:
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        name = f"{where}.base_url" if where != "models" else "HOSTLER_MODEL_BASE_URL"
        raise ModelConfigError(f"{name}: {_without_user(url)!r} is no http or https URL")
    return url


def _without_user(url: str) -> str:
    """The URL without any user and password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
