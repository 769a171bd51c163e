"""Finds the handler of a path. It must not know credentials, bodies or resources.

Own, because hosted order needs it: an unknown path is 404 before the key is looked at, a wrong method 405 after it;
and because it splits the raw path first, so that a `%2F` inside an id never changes the route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

Handler = Callable[[Any], Awaitable[Any]]


class Route(NamedTuple):
    """`beta`: the route exists only for requests with the managed-agents beta header."""

    method: str
    path: str
    handler: Handler
    beta: bool = True


class Match(NamedTuple):
    routes: dict[str, Route]  # by method
    params: dict[str, str]


class _Node:
    __slots__ = ("child", "literal", "name", "routes")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.child: _Node | None = None
        self.name = ""
        self.routes: dict[str, Route] = {}


class Router:
    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.strip("/").split("/"):
            if segment.startswith("{"):
                if node.child is None:
                    node.child, node.name = _Node(), segment[1:-1]
                node = node.child
            else:
                node = node.literal.setdefault(segment, _Node())
        node.routes[route.method] = route

    def match(self, raw_path: bytes) -> Match | None:
        """Return what stands at a path, or None. Parameters come percent-decoded; an id with U+0000 matches nothing."""
        node, params = self._root, {}
        for segment in raw_path.decode("latin-1").strip("/").split("/"):
            if (literal := node.literal.get(segment)) is not None:
                node = literal
            elif node.child is not None and segment:
                value = unquote(segment)
                if "\0" in value:
                    return None
                params[node.name] = value
                node = node.child
            else:
                return None
        return Match(node.routes, params) if node.routes else None
