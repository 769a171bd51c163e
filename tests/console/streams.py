"""Reads a page's stream as a browser does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2


class Frame(NamedTuple):
    name: str
    data: Any
    place: str | None


def frames(client: httpx2.Client, url: str, **more: Any) -> Iterator[Frame]:
    """The frames of a stream until it ends; closing the iterator hangs up."""
    headers = {"accept": "text/event-stream", **more.pop("headers", {})}
    with client.stream("GET", url, headers=headers, timeout=20, **more) as answer:
        assert answer.status_code == 200, answer.read()
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                if "event" in fields:
                    yield Frame(fields["event"], json.loads(fields["data"]), fields.get("id"))
                fields = {}
