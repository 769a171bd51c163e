"""The probe of `mcp_oauth_validate` against servers made with the official MCP library, in each of its transports."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.vault.outward import Outward
from hostler.vault.probe import Refused, probe

SERVER = Path(__file__).with_name("real_mcp.py")


@pytest.fixture(params=["streams", "json", "stateless", "older"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    command = [sys.executable, "-W", "ignore", str(SERVER), request.param, "s3cret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, process.communicate()
        yield f"http://127.0.0.1:{port}/mcp"
        process.kill()
        process.communicate()


def probed(url: str, token: str) -> Refused | None:
    async def run() -> Refused | None:
        outward = Outward()
        try:
            return await probe(outward, url, token)
        finally:
            await outward.aclose()

    return asyncio.run(run())


def test_a_real_server(url: str) -> None:
    assert probed(url, "s3cret") is None
    refused = probed(url, "other")
    assert refused is not None
    assert refused.method == "initialize"
    assert refused.answer is not None
    assert (refused.answer.status, refused.answer.body) == (401, b"who are you?")
