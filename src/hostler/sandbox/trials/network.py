"""Trials of the conformance suite: where the network of a sandbox ends.

They need no internet, and send nothing that leaves the host when a backend keeps the law.
"""

from __future__ import annotations

import select
import socket

from hostler.sandbox.contract import Exec, Network
from hostler.sandbox.lab import Lab, Trials, expect, expect_equal

TRIALS = Trials()

_INNER = """
import socket, sys
def device(s):
    for _, name in socket.if_nameindex():
        if name != "lo": s.setsockopt(socket.SOL_SOCKET, 25, name.encode() + b"\\0")
def no_route(s):
    device(s)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
for host in sys.argv[2:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for prepare in (bool, device, no_route):
            with socket.socket(socket.AF_INET, kind) as s:
                s.settimeout(1)
                try:
                    prepare(s)
                    s.connect((host, int(sys.argv[1])))
                    s.send(b"x")
                    s.recv(1)
                    print(host, kind, prepare)
                except OSError:
                    pass
"""


@TRIALS
async def an_open_network_leads_to_public_addresses_only(lab: Lab) -> None:
    """No socket, whichever way it chooses, reaches the host by its own addresses, private or reserved ones."""
    sandbox = await lab.sandbox(network=Network())
    towards = [_source_towards(host) for host in ("9.9.9.9", "10.0.0.1", "192.168.0.1")]
    own = {address for address in towards if address is not None}
    with socket.create_server(("0.0.0.0", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        port = server.getsockname()[1]
        datagrams.bind(("0.0.0.0", port))
        hosts = [*own, "10.0.0.1", "192.0.2.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"]
        argv = ["python3", "-c", _INNER, str(port), *hosts]
        result = await lab.run(sandbox, Exec(argv=argv, timeout_ms=60_000))
        expect_equal((result.exit_code, result.output), (0, b""), f"what answered ({result.errors!r})")
        for listener in (server, datagrams):
            arrived, _, _ = select.select([listener], [], [], 0)
            expect(not arrived, "the host was reached")


def _source_towards(host: str) -> str | None:
    """The host's own address on its way there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])
