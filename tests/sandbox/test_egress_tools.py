"""curl, Python, git and pip of the sandbox reach the internet through the proxy, and reach this host by no spelling.

Names are resolved by the tests; the servers are the tests' own, on the loopback of this host.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import io
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, CommandResult, Network, SandboxSpec, Shell
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy

NAME = "files.test"
GIT_BACKEND = Path("/usr/lib/git-core/git-http-backend")


class _Files(BaseHTTPRequestHandler):
    """Serves `pages`, and the git repositories below `repositories`; keeps every path that was asked for."""

    pages: dict[str, bytes]
    repositories: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/git/"):
            self._git(b"")
            return
        page = self.pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("content-type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("content-length", str(len(page or b"")))
        self.end_headers()
        self.wfile.write(page or b"")

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self._git(self.rfile.read(int(self.headers.get("content-length", 0))))

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_error(400)

    def _git(self, body: bytes) -> None:
        path, _, query = self.path.removeprefix("/git").partition("?")
        environ = {
            "GIT_PROJECT_ROOT": str(self.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
            "PATH": os.environ["PATH"],
            # The repository may belong to another user than the tests.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        answer = subprocess.run([str(GIT_BACKEND)], input=body, env=environ, capture_output=True, check=False).stdout
        head, _, rest = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for field in {**fields, "Content-Length": str(len(rest))}.items():
            self.send_header(*field)
        self.end_headers()
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Site:
    def __init__(self, folder: Path, port: int, handler: type[_Files]) -> None:
        self.folder = folder
        self.port = port
        self.handler = handler

    @property
    def url(self) -> str:
        return f"http://{NAME}:{self.port}"


@contextlib.contextmanager
def _serving(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[_Site]:
    handler = type("Handler", (_Files,), {"pages": {"/hello": b"hello\n"}, "repositories": folder, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield _Site(folder, server.server_address[1], handler)
        server.shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[_Site]:
    with _serving(tmp_path) as site:
        yield site


async def _to_loopback(host: str, port: int) -> list[str]:
    if host != NAME:
        raise OSError(f"no such name: {host}")
    return ["127.0.0.1"]


def _run(
    folder: Path, script: str, *, network: Network | None = None, strict: bool = False, **more: Path
) -> CommandResult:
    """Run a script in a sandbox whose proxy lets private addresses through, unless it is `strict`."""

    async def main() -> CommandResult:
        resolve = None if strict else _to_loopback
        proxy = EgressProxy(EgressPolicy(allow_private=not strict), resolve=resolve)
        backend = BubblewrapBackend(folder, egress=proxy.serve, **more)
        try:
            sandbox = await backend.provision(SandboxSpec(key="tools", network=network or Network()))
            return await sandbox.run("call", Shell(script=script, timeout_ms=60_000))
        finally:
            await backend.destroy("tools")
            await backend.aclose(stop=True)
            proxy.close()

    return asyncio.run(main())


def test_curl(folder: Path, site: _Site) -> None:
    result = _run(folder, f"curl -sS {site.url}/hello && curl -sS -p {site.url}/hello")
    assert (result.exit_code, result.output) == (0, b"hello\nhello\n")


def test_python(folder: Path, site: _Site) -> None:
    program = f"import urllib.request; print(urllib.request.urlopen('{site.url}/hello').read())"
    result = _run(folder, f'python3 -c "{program}"')
    assert (result.exit_code, result.output) == (0, b"b'hello\\n'\n")


def test_https_with_an_authority_that_the_host_trusts(folder: Path, tmp_path: Path) -> None:
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    with _serving(tmp_path, context) as site:
        url = f"https://{NAME}:{site.port}/hello"
        program = f"import urllib.request; print(urllib.request.urlopen('{url}').read())"
        script = f'curl -sS {url} && python3 -c "{program}"'
        result = _run(folder, script, ca_bundle=certificate)
        assert (result.exit_code, result.output) == (0, b"hello\nb'hello\\n'\n")
        assert _run(folder, f"curl -sS {url}").exit_code == 60  # a certificate that nobody vouches for


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem"


def test_git(folder: Path, site: _Site) -> None:
    assert GIT_BACKEND.exists()
    _git(site.folder, "init", "-q", "--bare", "project.git")
    _git(site.folder / "project.git", "config", "http.receivepack", "true")
    script = (
        "set -e; git config --global user.email a@b; git config --global user.name a; "
        f"git clone -q {site.url}/git/project.git first 2>&1; cd first; echo one > file; git add file; "
        "git commit -qm one; git push -q origin HEAD:main; cd ..; "
        f"git clone -q -b main {site.url}/git/project.git second; cat second/file"
    )
    result = _run(folder, script)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, b"one"), result.output


def _git(folder: Path, *arguments: str) -> None:
    git = shutil.which("git")
    assert git
    subprocess.run([git, *arguments], cwd=folder, check=True)


def test_pip(folder: Path, site: _Site) -> None:
    wheel = _wheel()
    link = f'<a href="/hello_there-1.0-py3-none-any.whl#sha256={hashlib.sha256(wheel).hexdigest()}">hello</a>'
    site.handler.pages |= {"/simple/hello-there/": link.encode(), "/hello_there-1.0-py3-none-any.whl": wheel}
    install = f"PIP_INDEX_URL={site.url}/simple/ pip install -q --no-input --trusted-host {NAME} hello-there"
    result = _run(folder, f"unset PIP_CERT; {install} && python3 -c 'import hello_there; print(hello_there.WORD)'")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, b"installed"), result.output


def _wheel() -> bytes:
    info = "hello_there-1.0.dist-info"
    files = {
        "hello_there.py": b"WORD = 'installed'\n",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: hello-there\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def test_without_a_network_nothing_works(folder: Path, site: _Site) -> None:
    script = (
        f"curl -sS -m 3 {site.url}/hello; curl -sS -m 3 http://127.0.0.1:{site.port}/hello; "
        f"curl -sS -m 3 -x http://127.0.0.1:3128 {site.url}/hello; getent hosts localhost.localdomain example.com; "
        "env | grep -i _proxy"
    )
    result = _run(folder, script, network=NO_NETWORK)
    assert b"hello\n" not in result.output
    assert b"PROXY=" not in result.output.upper()
    assert site.handler.asked == []


def _own_address() -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return [probe.getsockname()[0]]
    return []


def test_this_host_is_reached_by_no_spelling(folder: Path, site: _Site) -> None:
    """Also not by names that resolve to it, nor by what looks like a public address and is its own."""
    mapped = [f"[::ffff:{ipaddress.IPv4Address('127.0.0.1')}]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"]
    numeric = ["127.0.0.1", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1."]
    names = ["localhost", "LOCALHOST.", "localhost.localdomain", "ip6-localhost", socket.gethostname()]
    others = ["[::1]", "[::]", "[fe80::1]", "169.254.169.254", "10.0.0.1", "metadata.google.internal", *_own_address()]
    script = "".join(
        f"curl -s -m 8 --noproxy '' {tunnel} -x http://127.0.0.1:3128 'http://{host}:{site.port}/hello'; echo; "
        for host in [*mapped, *numeric, *names, *others]
        for tunnel in ("", "-p")
    )
    result = _run(folder, script, strict=True)
    assert result.exit_code == 0
    assert site.handler.asked == []
    assert b"hello\n" not in result.output
    assert result.output.count(b"hostler egress: ") > 15  # the proxy was there, and refused
