"""All routes that the server has, as it registers them."""

from __future__ import annotations

from typing import Any

from hostler.api.app import Services, routes


def all_routes() -> list[tuple[str, str]]:
    nothing: Any = None
    return [(route.method, route.path) for route in routes(Services(*[nothing] * len(Services._fields)))]
