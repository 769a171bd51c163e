"""Well-known tools in a real sandbox reach an https site that gets a secret, with nothing set up inside.

The site is the tests' own, on the loopback of this host; the tools see a certificate of the installation's authority.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from edge_world import PLACEHOLDER, VALUE, make_certificate, secret, serve_site

from hostler.sandbox import rootfs
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import CommandResult, Network, SandboxSpec, Secret, Shell
from hostler.sandbox.edge.authority import Authority
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy
from hostler.sandbox.edge.egresslog import EgressLog
from hostler.sandbox.edge.interception import Edge

NAME = "api.test"
URLLIB = (
    "import os, urllib.request as r; "
    "print(r.urlopen(r.Request('URL', headers={'X-Key': os.environ['TOKEN']})).read().decode())"
)
NODE = "fetch('URL', {headers: {'X-Key': process.env.TOKEN}}).then(r => r.text()).then(console.log)"
RUBY = "require 'open-uri'; puts URI.open('URL', 'X-Key' => ENV['TOKEN']).read"
TOOLS = {
    "curl": 'curl -sS -H "X-Key: $TOKEN" URL',
    "wget": 'wget -q -O - --header "X-Key: $TOKEN" URL',
    "python3": f'python3 -c "{URLLIB}"',
    "node": f'node -e "{NODE}"',
    "npm": "npm view thing --registry=URL --//PLACE/:_authToken=$TOKEN",
    "pip3": "pip3 download -q --no-deps -i https://user:$TOKEN@PLACE/index/ thing",
    "ruby": f'ruby -e "{RUBY}"',
    "git": 'git -c http.extraHeader="X-Key: $TOKEN" ls-remote URL',
}


def run(folder: Path, home: Path, script: str, network: Network | None = None) -> CommandResult:
    async def secrets(key: str) -> Sequence[Secret]:
        return [secret()]

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def main() -> CommandResult:
        authority = Authority(home / "egress")
        proxy = EgressProxy(
            EgressPolicy(allow_private=True),
            resolve=resolve,
            edge=Edge(secrets, authority, home / "cert.pem"),
            journal=EgressLog(home / "log"),
        )
        machine = rootfs.ca_bundle(None)
        backend = BubblewrapBackend(folder, egress=proxy.serve, bundle=lambda: authority.bundle(machine))
        try:
            spec = SandboxSpec(key="tools", network=network or Network(), env={"TOKEN": PLACEHOLDER})
            sandbox = await backend.provision(spec)
            return await sandbox.run("call", Shell(script=script, timeout_ms=90_000))
        finally:
            await backend.destroy("tools")
            await backend.aclose(stop=True)
            proxy.close()

    return asyncio.run(main())


def here(tool: str) -> bool:
    found = shutil.which(tool, path=rootfs.SYSTEM_PATH)
    if tool != "node" or found is None:
        return found is not None
    flags = "process.exit(process.allowedNodeEnvironmentFlags.has('--use-env-proxy') ? 0 : 1)"
    return subprocess.run([found, "-e", flags], check=False).returncode == 0  # older ones know no proxy


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if here(tool)])
def test_a_tool_sends_the_secret_that_it_does_not_know(tool: str, folder: Path, tmp_path: Path) -> None:
    make_certificate(tmp_path)
    with serve_site(tmp_path) as (port, seen):
        script = TOOLS[tool].replace("URL", f"https://{NAME}:{port}/").replace("PLACE", f"{NAME}:{port}")
        result = run(folder, tmp_path, script, Network(hosts=(NAME,)))
    assert VALUE in seen, result.output
    assert set(seen) <= {VALUE, ""}
    assert VALUE.encode() not in result.output
    if tool not in ("git", "npm", "pip3"):
        assert result.output.count(f"you sent {PLACEHOLDER}".encode()) == 1, result.output
