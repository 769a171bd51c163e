"""Configuration to providers: patterns, keys, defaults, third-party providers, and errors that name the setting."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from model_servers import Server, answer, answering, ask, chunk, failure, messages_stream, serving, sse, streaming

from hostler.models.anthropic import AnthropicSdk
from hostler.models.anthropic_http import AnthropicHttp
from hostler.models.config import ModelRoute, ModelsConfig, with_keys
from hostler.models.openai import ChatCompletions
from hostler.models.protocol import ModelEvent, ModelRequest, ModelResponse, ModelUsage
from hostler.models.provider import ProviderSettings
from hostler.models.routing import Router
from hostler.models.script import ScriptedModel

CONFIG = """
[[route]]
pattern = "claude-*-4-5*"
provider = "bedrock"
options = { region = "eu-west-1", access_key = "AKIA1", secret_key = "s" }

[[route]]
pattern = "gpt-*"
provider = "openai"
model = "llama3.1"
base_url = "http://127.0.0.1:11434/v1"
api_key_env = "LLAMA_KEY"

[[route]]
pattern = "test-*"
provider = "script"

[[route]]
pattern = "mine"
provider = "test_model_routing:build_echo"
options = { word = "yes" }

[price."llama3.1"]
input = 0.1
output = 0.2

[model."gpt-local"]
display_name = "Local"
max_input_tokens = 32000
"""


def build_echo(settings: ProviderSettings) -> Echo:
    return Echo(settings.options["word"])


class Echo:
    """A third party's provider."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        content = [{"type": "text", "text": self.word}]
        yield ModelResponse(content=content, stop_reason="end_turn", usage=ModelUsage(), model=request.model)

    async def aclose(self) -> None:
        """Nothing to close."""


def config(toml: str = CONFIG, **environ: str) -> ModelsConfig:
    return with_keys(msgspec.toml.decode(toml, type=ModelsConfig), environ)


def test_the_first_matching_route_wins() -> None:
    router = Router(config(LLAMA_KEY="k"), api_key="sk-default")
    kinds = {
        "claude-opus-4-5-20251101": AnthropicSdk,
        "gpt-4": ChatCompletions,
        "test-1": ScriptedModel,
        "mine": Echo,
        "claude-opus-5-5": AnthropicHttp,
    }
    for model_id, kind in kinds.items():
        assert type(router.provider_for(model_id)).__name__ == kind.__name__
    assert asyncio.run(answer(router, ask(model="mine"))).content[0]["text"] == "yes"
    assert [(info.provider, info.has_key) for info in router.describe()] == [
        ("bedrock", False),
        ("openai", True),
        ("script", False),
        ("test_model_routing:build_echo", False),
        ("anthropic", True),
    ]
    assert not router.scripted
    assert router.catalogue.price("llama3.1") is not None
    assert router.catalogue.traits("gpt-local").max_input_tokens == 32000


def test_a_route_renames_and_brings_its_key() -> None:
    async def main() -> Server:
        handler = streaming(chunk({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}))
        async with serving(handler) as server:
            toml = f'[[route]]\npattern = "gpt-*"\nprovider = "openai"\nmodel = "llama"\nbase_url = "{server.url}"\n'
            router = Router(config(toml + 'api_key_env = "K"\nheaders = { "X-Org" = "o" }', K="the-key"))
            await answer(router, ask(model="gpt-4"))
            await router.aclose()
            return server

    seen = asyncio.run(main()).seen[0]
    assert seen.body["model"] == "llama"
    assert (seen.headers["authorization"], seen.headers["x-org"]) == ("Bearer the-key", "o")


def test_a_base_url_without_a_key_is_a_keyless_gateway() -> None:
    async def main() -> Server:
        async with serving(streaming(*map(sse, messages_stream([{"type": "text", "text": "a"}])))) as server:
            router = Router(base_url=server.url, allow_script_default=True)
            assert not router.scripted
            await answer(router, ask())
            await router.aclose()
            return server

    assert "x-api-key" not in asyncio.run(main()).seen[0].headers


def test_without_a_key_the_script_plays_only_when_allowed() -> None:
    scripted = Router(allow_script_default=True)
    assert scripted.scripted
    assert "scripted model" in asyncio.run(answer(scripted, ask())).content[0]["text"]
    bare = Router()
    assert not bare.scripted
    failed = asyncio.run(failure(bare, ask()))
    assert "set HOSTLER_MODEL_API_KEY" in failed.message


def test_the_hint_names_the_routes_own_variable() -> None:
    async def main() -> str:
        async with serving(answering(401, {"error": {"message": "no"}})) as server:
            toml = f'[[route]]\nprovider = "openai"\nbase_url = "{server.url}"\napi_key_env = "MY_KEY"\n'
            router = Router(config(toml))
            failed = await failure(router, ask())
            await router.aclose()
            return failed.message

    assert "Check MY_KEY" in asyncio.run(main())


@pytest.mark.parametrize(
    ("toml", "place"),
    [
        ('[[route]]\nprovider = "nope"', "models.route[0].provider"),
        ('[[route]]\nprovider = "nope.nowhere:build"', "models.route[0].provider"),
        ('[[route]]\nbase_url = "localhost:80"', "models.route[0].base_url"),
        ('[[route]]\nprovider = "bedrock"', "models.route[0].options"),
        ('[[route]]\nprovider = "script"\noptions = { file = "/none.json" }', "none.json"),
        ('[[route]]\npattern = "*"\nprovder = "x"', "$.route[0]"),
        ("[[route]]\nread_timeout = 0", "$.route[0].read_timeout"),
        ("[price.x]\ninput = -1\noutput = 1", "$.price[...]"),
        ("[price.x]\ninput = 1", "$.price[...]"),
    ],
)
def test_a_wrong_configuration_names_the_setting(toml: str, place: str) -> None:
    with pytest.raises(ValueError, match=re.escape(place)):
        Router(config(toml))


def test_no_key_is_shown() -> None:
    router = Router(config(LLAMA_KEY="sk-hidden"), api_key="sk-hidden")
    assert "sk-hidden" not in repr(router.describe())
    assert "sk-hidden" not in repr(config(LLAMA_KEY="sk-hidden"))


def test_cloud_clients_are_set_up_lazily_and_their_absence_is_a_failure() -> None:
    async def main() -> Any:
        toml = '[[route]]\nprovider = "foundry"\noptions = { resource = "r" }'
        router = Router(config(toml))
        await router.warm_up()
        return await failure(router, ask())

    failed = asyncio.run(main())
    assert not failed.retryable
    assert "can't be set up" in failed.message


def test_foundry_speaks_to_its_base_url() -> None:
    async def main() -> tuple[Any, Server]:
        async with serving(streaming(*map(sse, messages_stream([{"type": "text", "text": "a"}])))) as server:
            toml = f'[[route]]\nprovider = "foundry"\nbase_url = "{server.url}/anthropic"\napi_key = "k"'
            router = Router(config(toml))
            response = await answer(router, ask())
            await router.aclose()
            return response, server

    response, server = asyncio.run(main())
    assert response.content[0]["text"] == "a"
    assert server.seen[0].path.startswith("/anthropic/v1/messages")
    assert server.seen[0].headers["x-api-key"] == "k"


@pytest.mark.parametrize(
    ("provider", "more"),
    [
        ("bedrock", 'options = { region = "eu-west-1", access_key = "AKIAA", secret_key = "s3cret-s3cret" }'),
        ("bedrock", 'api_key = "s3cret-s3cret"\noptions = { region = "eu-west-1" }'),
        ("vertex", 'options = { region = "global", project_id = "p", access_token = "s3cret-s3cret" }'),
    ],
)
def test_cloud_providers_fail_only_with_a_model_failure(provider: str, more: str) -> None:
    """With or without the clouds' own libraries installed, an endpoint that refuses us is one plain failure."""

    async def main() -> str:
        async with serving(answering(403, {"message": "s3cret-s3cret may not"})) as server:
            router = Router(config(f'[[route]]\nprovider = "{provider}"\nbase_url = "{server.url}"\n{more}'))
            failed = await failure(router, ask())
            await router.aclose()
            assert not failed.retryable
            return failed.message

    assert "s3cret" not in asyncio.run(main())


def test_making_a_router_imports_no_http_library() -> None:
    """The way to server-ready is short: `warm_up` loads what is heavy."""
    code = (
        "import sys\nfrom hostler.models.routing import Router\nrouter = Router(api_key='k')\n"
        "print([name for name in ('httpx2', 'anthropic', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_route_for_every_id_leaves_nothing_to_the_built_in_script() -> None:
    everything = ModelRoute(pattern="*", provider="script")
    assert not Router(ModelsConfig(route=[everything]), allow_script_default=True).scripted
    some = ModelRoute(pattern="test-*", provider="script")
    assert Router(ModelsConfig(route=[some]), allow_script_default=True).scripted
