"""The bodies of requests at the git gateway, as an agent may send them: packed, and more than is good."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from hostler.harness.gateway import Refused, _whole
from hostler.sandbox.edge.gateway import GatewayRequest


def whole(*parts: bytes) -> bytes:
    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return asyncio.run(_whole(GatewayRequest("POST", "/", [("Content-Encoding", "gzip")], body())))


def test_a_packed_request_is_unpacked() -> None:
    packed = gzip.compress(b"0032want")
    assert whole(packed) == whole(packed[:5], packed[5:]) == b"0032want"


def test_what_follows_a_packed_request_is_not_kept() -> None:
    tracemalloc.start()
    with pytest.raises(Refused, match="not what its encoding says"):
        whole(gzip.compress(b"0000"), *[bytes(64 * 1024)] * 200)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1024 * 1024
