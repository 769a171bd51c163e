"""Claude through the `anthropic` SDK: Bedrock, Vertex and Foundry always, the plain protocol with `client = "sdk"`.

It must not retry and must not import the SDK on the way to server-ready (about 2 seconds and 60 MB): `warm_up` does
that in a thread. The SDK's raw events are accumulated by us; its own accumulating helper costs twice the CPU.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import msgspec

from hostler.models import failures
from hostler.models.accumulate import MessageAccumulator
from hostler.models.anthropic_http import DEFAULT_BASE_URL, AnthropicHttp, check_key
from hostler.models.anthropic_request import request_body
from hostler.models.http import KEEP_IDLE_SECONDS, drain
from hostler.models.protocol import ModelEvent, ModelFailure, ModelRequest
from hostler.models.provider import ProviderSettings, read_options

if TYPE_CHECKING:
    import anthropic
    import httpx2


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of `provider = "anthropic"`: none."""


class _Bedrock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of `provider = "bedrock"`; without keys or profile AWS's own credential chain is used."""

    region: str
    access_key: str | None = None
    secret_key: str | None = None
    session_token: str | None = None
    profile: str | None = None


class _Vertex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of `provider = "vertex"`; without `access_token` Google's application-default credentials are used."""

    region: str
    project_id: str
    access_token: str | None = None


class _Foundry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of `provider = "foundry"`: the resource's name, unless `base_url` is given."""

    resource: str | None = None


def build(settings: ProviderSettings) -> AnthropicHttp | AnthropicSdk:
    """Claude behind the plain protocol: the thin reader, or the SDK where `client = "sdk"`."""
    read_options(settings, _Plain)
    return AnthropicSdk(settings, _plain_client) if settings.client == "sdk" else AnthropicHttp(settings)


def build_bedrock(settings: ProviderSettings) -> AnthropicSdk:
    options = read_options(settings, _Bedrock)
    return AnthropicSdk(settings, lambda s, common: _bedrock_client(s, options, common))


def build_vertex(settings: ProviderSettings) -> AnthropicSdk:
    options = read_options(settings, _Vertex)
    return AnthropicSdk(settings, lambda s, common: _vertex_client(s, options, common))


def build_foundry(settings: ProviderSettings) -> AnthropicSdk:
    options = read_options(settings, _Foundry)
    return AnthropicSdk(settings, lambda s, common: _foundry_client(s, options, common))


MakeClient = Callable[[ProviderSettings, dict[str, Any]], Any]


def _plain_client(settings: ProviderSettings, common: dict[str, Any]) -> Any:
    import anthropic

    check_key(settings)
    # A base URL is always given: ANTHROPIC_BASE_URL is a client's variable and may point at this very server.
    base_url = settings.base_url or DEFAULT_BASE_URL
    return anthropic.AsyncAnthropic(api_key=settings.api_key or "none", base_url=base_url, **common)


def _bedrock_client(settings: ProviderSettings, options: _Bedrock, common: dict[str, Any]) -> Any:
    import anthropic

    return anthropic.AsyncAnthropicBedrock(
        api_key=settings.api_key or None,
        aws_region=options.region,
        aws_access_key=options.access_key,
        aws_secret_key=options.secret_key,
        aws_session_token=options.session_token,
        aws_profile=options.profile,
        base_url=settings.base_url or f"https://bedrock-runtime.{options.region}.amazonaws.com",
        **common,
    )


def _vertex_client(settings: ProviderSettings, options: _Vertex, common: dict[str, Any]) -> Any:
    import anthropic

    return anthropic.AsyncAnthropicVertex(
        region=options.region,
        project_id=options.project_id,
        access_token=options.access_token or settings.api_key or None,
        base_url=settings.base_url or None,
        **common,
    )


def _foundry_client(settings: ProviderSettings, options: _Foundry, common: dict[str, Any]) -> Any:
    import anthropic

    where = {"base_url": settings.base_url} if settings.base_url else {"resource": options.resource}
    return anthropic.AsyncAnthropicFoundry(api_key=settings.api_key or None, **cast(Any, where), **common)


class AnthropicSdk:
    """A `Model` behind one of the SDK's clients, made lazily: missing credentials are a request's failure."""

    def __init__(self, settings: ProviderSettings, make_client: MakeClient) -> None:
        self._settings = settings
        self._make_client = make_client
        self._client: Any = None
        self._lock = asyncio.Lock()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        await self._ready()
        body, betas = request_body(request, self._settings.catalogue, self._settings.model)
        accumulator = MessageAccumulator(request.model, *self._settings.secrets)
        create = self._client.beta.messages.create
        try:
            async with await create(**body, **({"betas": betas} if betas else {}), stream=True) as events:
                async for event in events:
                    for item in accumulator.feed(_plain(event)):
                        yield item
                    if accumulator.finished:
                        await drain(events)
                accumulator.end()
        except ModelFailure:
            raise
        except Exception as error:  # signing may raise whatever a cloud's own library does
            raise self._failure(error) from None

    async def warm_up(self) -> None:
        """Import the SDK and make the client in a thread. What is missing is reported at the first request."""
        with suppress(ModelFailure):
            await self._ready()

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _ready(self) -> None:
        async with self._lock:
            if self._client is None:
                try:
                    self._client = await asyncio.to_thread(self._make)
                except ModelFailure:
                    raise
                except Exception as error:  # the SDK raises many kinds for missing credentials and extras
                    detail = failures.redact(str(error), *self._settings.secrets)
                    raise failures.refused(f"{self._settings.where}: the provider can't be set up: {detail}") from None

    def _make(self) -> Any:
        import anthropic
        import httpx2

        from hostler.models.bounds import bound

        s = self._settings
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=KEEP_IDLE_SECONDS)
        timeout = httpx2.Timeout(s.read_timeout, connect=s.connect_timeout)
        client = anthropic.DefaultAsyncHttpxClient(
            timeout=timeout,
            limits=limits,
            trust_env=not s.is_local,
            follow_redirects=False,
            event_hooks={"response": [bound]},
        )
        common = {"max_retries": 0, "timeout": timeout, "default_headers": s.headers or None, "http_client": client}
        return self._make_client(s, common)

    def _failure(self, error: Exception) -> ModelFailure:
        import anthropic
        import httpx2

        s = self._settings
        if isinstance(error, anthropic.APIStatusError):
            return self._status_failure(error)
        if isinstance(error, anthropic.APITimeoutError | httpx2.TimeoutException):
            return failures.broken(f"no byte arrived for {s.read_timeout:g} seconds, or no connection was made")
        if isinstance(error, anthropic.APIConnectionError):
            cause = error.__cause__ or error
            return failures.unreachable(failures.redact(f"{type(cause).__name__}: {cause}", *s.secrets))
        said = failures.redact(f"{type(error).__name__}: {error}", *s.secrets)
        if isinstance(error, anthropic.AnthropicError | httpx2.HTTPError | ValueError):
            return failures.broken(said)
        if isinstance(error, ImportError):
            extra = "install the extra `hostler[bedrock]` or `hostler[vertex]`"
            return failures.refused(f"{s.where}: this provider needs a library that is missing: {extra} ({said})")
        return ModelFailure("unknown", f"{s.where}: the request could not be signed or sent: {said}", retryable=True)

    def _status_failure(self, error: anthropic.APIStatusError) -> ModelFailure:
        body = error.body
        if error.status_code == 200:  # an error event inside the stream
            inner = body.get("error", body) if isinstance(body, dict) else body
            return failures.from_error_event(inner, *self._settings.secrets)
        text = body if isinstance(body, str) else msgspec.json.encode(body, enc_hook=str)
        return failures.from_status(
            error.status_code,
            _headers(error.response),
            text,
            key_hint=self._settings.key_hint,
            secrets=self._settings.secrets,
        )


def _plain(event: Any) -> dict[str, Any]:
    """The event as sent; what is no object of the SDK goes on as it is and is refused there."""
    return event.to_dict(warnings=False) if hasattr(event, "to_dict") else event  # type: ignore[no-any-return]


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
