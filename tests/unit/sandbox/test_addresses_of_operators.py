"""Addresses of proxies and package indexes that are wrong: the server starts without layers, and shows no password."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.sandbox.backends import SandboxConfig, open_backend, open_layers
from hostler.sandbox.edge.route import Upstream
from hostler.sandbox.layers.building import BuiltLayers
from hostler.sandbox.unusable import UnusableBackend

WRONG = ["socks5://a:s3cret@proxy:1080", "http://a:s3cret@[", "http://a:s3cret@x:port", "http://a:s3cret@\u2100"]


@pytest.mark.parametrize("proxy", WRONG)
def test_a_proxy(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(ValueError, match="must be given as") as refused:
        Upstream.of(proxy)
    assert "s3cret" not in str(refused.value)
    layers = open_layers(tmp_path, SandboxConfig(), {"HTTPS_PROXY": proxy, "PIP_CONFIG_FILE": "/dev/null"})
    assert not isinstance(layers, BuiltLayers)
    backend = open_backend(tmp_path, SandboxConfig(proxy=proxy), {})
    assert isinstance(backend, UnusableBackend)
    assert "s3cret" not in str([check.detail for check in backend.probe()])


@pytest.mark.parametrize("url", ["http://a:s3cret@[", "http://a:s3cret@\u2100/simple"])
def test_an_index(tmp_path: Path, url: str) -> None:
    layers = open_layers(tmp_path, SandboxConfig(), {"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": "/dev/null"})
    assert not isinstance(layers, BuiltLayers)
