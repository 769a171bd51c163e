"""The internet of a raw network's tests, in a network namespace where every address there is belongs to it.

It answers on each port that a test wants: TCP and UDP with what it saw, and name queries on port 53. It says the
process's id when it is there, and does not outlive its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

PORT = 7000
_PKTINFO = 8  # IP_PKTINFO, which Python does not name
ANSWERS = {
    b"far": "93.184.216.34",
    b"inner": "10.1.2.3",
}  # far.test, and inner.test, which points into a private network


def _tcp(port: int) -> None:
    with socket.create_server(("0.0.0.0", port), backlog=128) as server:
        while True:
            client, _ = server.accept()
            threading.Thread(target=_echo, args=(client,), daemon=True).start()


def _echo(client: socket.socket) -> None:
    with client:
        client.sendall(f"tcp {client.getsockname()[0]}\n".encode())
        while data := client.recv(65536):
            client.sendall(data)


def _udp(port: int) -> None:
    """Answer from the address that was asked, and say it; one more answer comes from an address nobody asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IP, _PKTINFO, 1)
        server.bind(("0.0.0.0", port))
        while True:
            data, control, _, peer = server.recvmsg(65536, 256)
            address = control[0][2][8:12]
            for source in (bytes([9, 9, 9, 9]), address):
                info = struct.pack("=I4s4s", 0, source, bytes(4))
                text = f"udp {socket.inet_ntoa(address)} {len(data)}\n".encode() if source == address else b"forged\n"
                answer = _name_answer(data) if port == 53 and source == address else text
                server.sendmsg([answer], [(socket.IPPROTO_IP, _PKTINFO, info)], 0, peer)


def _name_answer(query: bytes) -> bytes:
    name = query[13 : 13 + query[12]]
    end = query.index(b"\0", 12) + 5
    wants_four = query[end - 4 : end - 2] == b"\0\x01" and name in ANSWERS
    found = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton(ANSWERS[name]) if wants_four else b""
    return query[:2] + b"\x81\x80\0\x01\0" + bytes([wants_four]) + b"\0\0\0\0" + query[12:end] + found


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.alarm(120)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"], check=True)
    for serve, port in ((_tcp, PORT), (_tcp, 22), (_udp, PORT), (_udp, 53)):
        threading.Thread(target=serve, args=(port,), daemon=True).start()
    print(os.getpid(), flush=True)
    sys.stdin.read()
    signal.pause()


main()
