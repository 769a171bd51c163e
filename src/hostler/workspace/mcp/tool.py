"""What a tool of the MCP server is: a name, what it says of itself, its arguments, and who may use it.

It must not know any tool, nor the library that speaks MCP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from hostler.errors import InvalidRequest, PermissionDenied
from hostler.wire.base import Params, explain, has_nul
from hostler.workspace.mcp.callers import Caller

Handler = Callable[[Caller, Any], Awaitable[Any]]
FOR_PEOPLE = (
    "{name} is for people: this is an agent's key, which reads and hands in for the task it works on. Ask "
    "somebody with a key of the tenant, or to decide on the task's page."
)


class Contents(msgspec.Struct, frozen=True):
    """An answer that is more than JSON: `about` is its structured part, `blocks` are MCP's content blocks."""

    about: dict[str, Any]
    blocks: list[dict[str, Any]]


class Tool(NamedTuple):
    """`agents`: whether an agent's key may use it. `reads`: it changes nothing."""

    name: str
    description: str
    params: type[Params]
    handler: Handler
    agents: bool = False
    reads: bool = False

    def offered(self, caller: Caller) -> bool:
        return self.agents or caller.agent_id is None

    def schema(self) -> dict[str, Any]:
        _, kinds = msgspec.json.schema_components((self.params,), ref_template="{name}")
        shown: dict[str, Any] = _plain(kinds[self.params.__name__], kinds)
        return shown

    async def call(self, caller: Caller, arguments: dict[str, Any]) -> Any:
        """Raises HostlerError."""
        if not self.offered(caller):
            raise PermissionDenied(FOR_PEOPLE.format(name=self.name))
        return await self.handler(caller, self._decoded(arguments))

    def _decoded(self, arguments: dict[str, Any]) -> Any:
        """Raises InvalidRequest."""
        try:
            if has_nul(msgspec.json.encode(arguments)):
                raise InvalidRequest("The arguments contain the character U+0000, which is not allowed in strings.")
            return msgspec.convert(arguments, self.params)
        except msgspec.ValidationError as error:
            raise InvalidRequest(explain(error, kind=self.params)) from error
        except (UnicodeEncodeError, OverflowError, RecursionError) as error:
            raise InvalidRequest("The arguments are not valid JSON.") from error


def builtins(value: Any) -> dict[str, Any]:
    """What a handler returned as a JSON object: lists stand under `items`."""
    plain = msgspec.to_builtins(value)
    return plain if isinstance(plain, dict) else {"items": plain}


def _plain(schema: Any, kinds: dict[str, Any]) -> Any:
    """Without references, titles of classes, and the null that stands for an argument that is left out."""
    if isinstance(schema, list):
        return [_plain(each, kinds) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain({**kinds[schema["$ref"]], **{key: schema[key] for key in schema if key != "$ref"}}, kinds)
    found = {
        key: _plain(value, kinds) for key, value in schema.items() if key not in ("title", "default", "properties")
    }
    if "properties" in schema:
        found["properties"] = {name: _plain(value, kinds) for name, value in schema["properties"].items()}
    if "default" in schema and schema["default"] is not None:
        found["default"] = schema["default"]
    choices = found.get("anyOf")
    if "default" in schema and isinstance(choices, list) and {"type": "null"} in choices:
        choices = [each for each in choices if each != {"type": "null"}]
        found = {**found, "anyOf": choices} if len(choices) > 1 else {**_without(found, "anyOf"), **choices[0]}
    return found


def _without(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
