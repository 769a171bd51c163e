"""Raw TCP and UDP of unrestricted sandboxes: what they reach, what they never do, and what is left without a device."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import subprocess
import tempfile
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hostler import addresses
from hostler.sandbox import rawnet
from hostler.sandbox.backends import SandboxConfig, open_bubblewrap
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import Exec, SandboxSpec
from hostler.sandbox.rawnet import RawNetwork
from sandbox import rawlab

USERS = [True, False] if os.geteuid() == 0 else [False]
SCENARIOS = [
    "the_contract_is_kept",
    "the_internet_is_reached",
    "nothing_of_the_hosts_is_reached",
    "the_agent_cannot_change_its_network",
    "datagrams_come_back_to_who_asked_only",
    "only_open_networks_have_an_interface",
    "its_processes_end_with_the_sandbox",
    "it_outlives_the_server",
    "without_its_process_there_is_no_interface",
    "what_is_refused_outside_is_refused_inside",
    "memory_and_processes_hold",
]


def _lacking() -> str:
    """What a host for these tests lacks here: without it, only the fallback can be proved, and is."""
    problem = RawNetwork().check()
    if not problem.ok:
        return problem.detail
    if not all(shutil.which(name) for name in ("ip", "unshare", "nsenter", "setpriv")):
        return "iproute2 and util-linux are needed"
    space = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    done = subprocess.run([*space, "ip", "link", "add", "type", "veth"], capture_output=True, text=True, check=False)
    return done.stderr


@pytest.fixture(scope="module")
def able() -> None:
    if lacking := _lacking():
        pytest.skip(f"no raw network here: {lacking}")


@pytest.mark.parametrize(
    "as_root", [True, False] if os.geteuid() == 0 else [False], ids=lambda r: "root" if r else "user"
)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.usefixtures("able")
def test_raw_network(scenario: str, as_root: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="hostler-raw-") as path:
        done = rawlab.run(scenario, staging=Path(path), as_root=as_root)
    assert done.returncode == 0, done.stdout + done.stderr


_LOOK = """
import socket
print([name for _, name in socket.if_nameindex()])
print(open("/etc/resolv.conf").read())
"""


def _interfaces(folder: Path, raw: RawNetwork) -> str:
    async def look() -> str:
        backend = BubblewrapBackend(folder, raw=raw)
        words = []
        try:
            for key in (f"{folder.parent.name}-{number}" for number in (1, 2)):
                sandbox = await backend.provision(SandboxSpec(key=key))
                words.append((await sandbox.run("a", Exec(argv=["python3", "-c", _LOOK]))).output.decode())
                await backend.destroy(key)
        finally:
            await backend.aclose(stop=True)
        assert words[0] == words[1]
        return words[0]

    return asyncio.run(look())


def test_without_the_device_there_is_no_interface(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = RawNetwork(tun=tmp_path / "none")
    with caplog.at_level(logging.WARNING):
        assert _interfaces(folder, raw).startswith("['lo']\n# No name server")
    (record,) = caplog.records
    assert "no raw network, only the proxy: cannot open" in record.message
    check = raw.check()
    assert not check.ok
    assert not check.required
    assert check.remedy


@pytest.mark.parametrize("networks", [["not a network"], ["10.0.0.0/8"], []])
def test_what_fails_half_way_leaves_no_interface(
    networks: list[str],
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process gives up, here since it was not told whom to refuse: the sandbox starts, and it is said once."""
    monkeypatch.setattr(addresses, "networks_not_public", lambda: networks)
    with caplog.at_level(logging.WARNING):
        assert _interfaces(folder, RawNetwork(tun=Path("/dev/null"))).startswith("['lo']")
    (record,) = caplog.records
    assert "cannot use its options" in record.message


def test_off_means_no_interface_and_no_complaint(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = RawNetwork(off="the configuration says so")
    assert _interfaces(folder, raw).startswith("['lo']\n# No name server")
    assert raw.check().ok
    assert not caplog.records


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SandboxConfig(raw_network="off"), "off: the configuration says so"),
        (SandboxConfig(proxy="http://127.0.0.1:9"), "off: everything goes through the configured `proxy`"),
    ],
)
def test_the_configuration_turns_it_off(config: SandboxConfig, said: str, folder: Path) -> None:
    checks = {check.name: check for check in open_bubblewrap(folder, config, {}).probe()}
    assert checks["sandbox: raw network"].detail == said
    assert checks["sandbox: raw network"].ok


def test_the_addresses_inside_are_nobodys_and_the_same_in_both_languages() -> None:
    header = (Path(rawnet.__file__).parent / "native" / "raw.h").read_text()
    for name in ("RAW_AGENT", "RAW_GATEWAY", "RAW_DNS"):
        found = re.search(rf"#define {name} (0x\w+)u .*?(192\.0\.2\.\d+)", header)
        assert found is not None
        assert str(IPv4Address(int(found[1], 16))) == found[2]
        assert not addresses.is_public(found[2])
    assert rawnet.RawNetwork().name_servers()[0] == "192.0.2.53"
