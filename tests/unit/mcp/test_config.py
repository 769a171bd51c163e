"""The `[mcp]` table: what a stdio server may see of our environment, and that nothing of it is shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hostler.mcp.config import McpConfig, StdioServer, target

FILES = StdioServer(command="files", env={"PLAIN": "one", "HOME": "/other"}, env_from=["SECRET", "ABSENT"])
ENVIRON = {"PATH": "/bin", "HOME": "/root", "SECRET": "s3cret", "HOSTLER_API_KEY": "sk-1"}


def test_a_program_gets_what_it_is_given_and_the_usual() -> None:
    found = target(McpConfig(stdio={"files": FILES}), "stdio:files", ENVIRON)
    assert found is not None
    assert found.environment == {"PATH": "/bin", "HOME": "/other", "SECRET": "s3cret", "PLAIN": "one"}
    assert target(McpConfig(), "stdio:files", ENVIRON) is None


def test_a_url_is_a_url() -> None:
    found = target(McpConfig(stdio={"files": FILES}), "https://files/", ENVIRON)
    assert found is not None
    assert (found.url, found.program, found.environment) == ("https://files/", None, {})


def test_secrets_are_not_shown() -> None:
    config = McpConfig(stdio={"files": FILES})
    shown = repr(config) + repr(target(config, "stdio:files", ENVIRON)) + repr(target(config, "http://u:pw@h/", {}))
    assert "s3cret" not in shown
    assert "one" not in shown
    assert "pw" not in shown


@pytest.mark.parametrize(
    "table", [{"call_seconds": 0}, {"stdio": {"a b": {"command": "x"}}}, {"stdio": {"a": {}}}, {"x": 1}]
)
def test_a_wrong_table_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, McpConfig)
