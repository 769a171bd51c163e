"""What the operator's settings make of the way out: hosts, registries, the authority, and the egress log."""

from __future__ import annotations

import asyncio
import datetime
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hostler.sandbox.backends import SandboxConfig, open_backend
from hostler.sandbox.contract import Network
from hostler.sandbox.edge import authority as authority_module
from hostler.sandbox.edge.authority import Authority
from hostler.sandbox.edge.egresslog import Dropped, EgressLog
from hostler.sandbox.edge.ledger import Account, Entry, Record
from hostler.sandbox.edge.outgoing import policy
from hostler.sandbox.edge.registries import REGISTRIES
from hostler.sandbox.edge.route import Refusal, Route

PUBLIC = "93.184.215.14"
NO_PIP = {"PIP_CONFIG_FILE": "/dev/null"}


def reach(config: SandboxConfig, network: Network, host: str, port: int = 443, address: str = PUBLIC) -> str:
    """Why a host is refused; nothing when it is not."""

    async def resolve(host: str, port: int) -> list[str]:
        return [address]

    async def connect(address: str, port: int) -> Any:
        return None

    async def main() -> None:
        rules = policy(config, NO_PIP).confined(network)
        await Route(rules, resolve=resolve, connect=connect, connect_seconds=5).open_tunnel(host, port)

    try:
        asyncio.run(main())
    except Refusal as e:
        return e.text
    return ""


def test_private_hosts_are_the_operators_choice_and_must_be_allowed_too() -> None:
    config = SandboxConfig(allow_private_hosts=("wiki.lan", "10.0.0.5:8443", "[fd00::5]:1"))
    everything, limited = Network(), Network(hosts=("wiki.lan",))
    assert reach(config, everything, "wiki.lan", 1, "10.1.1.1") == ""
    assert reach(config, everything, "WIKI.lan.", 1, "10.1.1.1") == ""
    assert reach(config, everything, "10.0.0.5", 8443, "10.0.0.5") == ""
    assert reach(config, everything, "[fd00::5]", 1, "fd00::5") == ""
    assert "not public" in reach(config, everything, "10.0.0.5", 443, "10.0.0.5")
    assert "not public" in reach(config, everything, "sub.wiki.lan", 1, "10.1.1.1")
    assert reach(config, limited, "wiki.lan", 1, "10.1.1.1") == ""
    assert "not among the hosts" in reach(config, limited, "10.0.0.5", 8443, "10.0.0.5")
    assert "no name may have" in reach(config, everything, "wiki.lan", 80, "169.254.169.254")
    assert "no name may have" in reach(config, everything, "wiki.lan", 80, "::ffff:169.254.169.254")


def test_blocked_hosts_and_those_of_cloud_metadata() -> None:
    config = SandboxConfig(blocked_hosts=("bad.example", "*.worse.example"))
    for host in ("bad.example", "BAD.example.", "a.worse.example", "metadata.google.internal", "metadata"):
        for network in (Network(), Network(hosts=(host.rstrip("."),))):
            assert "does not let sandboxes reach" in reach(config, network, host)
    assert reach(config, Network(), "worse.example") == ""


@pytest.mark.parametrize("entry", ["https://a.b", "a b", "*.a.b", "a:b", "", "a:1:2"])
def test_a_private_host_that_is_none_is_told(tmp_path: Path, entry: str) -> None:
    backend = open_backend(tmp_path / "sandboxes", SandboxConfig(allow_private_hosts=(entry,)), NO_PIP)
    (check,) = [check for check in backend.probe() if not check.ok]
    assert "allow_private_hosts" in check.detail


def test_the_registries_are_open_with_package_managers_only() -> None:
    some = [host.replace("*", "de") for hosts in REGISTRIES.values() for host in hosts]
    for host in some:
        assert reach(SandboxConfig(), Network(hosts=(), package_managers=True), host) == ""
        assert reach(SandboxConfig(), Network(hosts=("a.example",)), host) != ""
    assert reach(SandboxConfig(), Network(hosts=(), package_managers=True), "evil.pypi.org") != ""


def test_the_authority_stays_and_its_certificate_is_renewed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Authority(tmp_path / "a")
    certificate = x509.load_pem_x509_certificate(first.certificate)
    assert stat.S_IMODE((tmp_path / "a" / "authority.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert Authority(tmp_path / "a").certificate == first.certificate
    monkeypatch.setattr(authority_module, "_RENEWAL", datetime.timedelta(days=10_000))
    again = x509.load_pem_x509_certificate(Authority(tmp_path / "a").certificate)
    assert again.serial_number != certificate.serial_number
    assert (again.public_key(), again.subject) == (certificate.public_key(), certificate.subject)


def test_a_damaged_authority_is_made_anew_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "authority.pem").write_bytes(b"-----BEGIN nothing")
    with caplog.at_level(logging.WARNING):
        assert Authority(tmp_path).certificate.startswith(b"-----BEGIN CERTIFICATE")
    assert "damaged" in caplog.text


def test_contexts_are_kept_but_not_without_end(tmp_path: Path) -> None:
    made = Authority(tmp_path)
    assert made.context("a.test", "h2") is made.context("a.test", "h2")
    for number in range(300):
        made.context(f"{number}.test", None)
    assert len(made._contexts) == 256


def entry(**more: Any) -> Entry:
    return Entry(**{"time": 1.0, "host": "a.test", "port": 443, "verdict": "allowed", "sent": 3, "received": 4, **more})


def test_the_log_is_turned_over_counted_and_forgotten(tmp_path: Path) -> None:
    made = EgressLog(tmp_path / "log", file_bytes=2000)
    for number in range(100):
        made.append("one", entry(port=number))
    made.append("two", entry())
    made.close()
    ports = [line.port for line in made.read("one") if isinstance(line, Entry)]
    assert ports == list(range(100))[-len(ports) :]
    assert sum(file.stat().st_size for file in (tmp_path / "log").glob("one*.jsonl")) < 12_000
    again = EgressLog(tmp_path / "log", file_bytes=2000)
    assert (again.moved("one"), again.moved("two"), again.moved("three")) == (700, 7, 0)
    again.forget("one")
    again.append("one", entry())
    again.close()
    assert list(again.read("one")) == []
    assert len(list(again.read("two"))) == 1


def test_lines_that_the_disk_can_not_take_in_time_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostler.sandbox.edge.egresslog._WAITING", 5)
    made = EgressLog(tmp_path)
    made._writing = True  # as if the thread were busy
    for _ in range(8):
        made.append("one", entry())
    made._write_all()
    made.close()
    lines = list(made.read("one"))
    assert len(lines) == 6
    assert lines[-1] == Dropped(time=1.0, dropped=3)


def test_a_line_that_was_cut_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    made = EgressLog(tmp_path)
    made.append("one", entry())
    made.close()
    with (tmp_path / "one.jsonl").open("ab") as file:
        file.write(b'{"time": 2.0, "host": "b')
    assert len(list(made.read("one"))) == 1


def test_no_word_of_a_sandbox_steers_a_terminal() -> None:
    record = Record(Account())
    record.host = "a\x1b[2J.test"
    record.fail("refused", "b\x9bü")
    assert (record.entry().host, record.entry().reason) == ("a?[2J.test", "b??")
