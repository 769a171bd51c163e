"""Registries of all package managers on the loopback, with packages made on the spot: a build needs no internet.

Each asks for a login, so that a test can look for it where it must not be.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "reader", "s3cret-word"
TOKEN = "s3cret-token"
_BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Registry:
    """What is served, by path. `held` keeps answers back until it is set, `open` asks for no login."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.with_login = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.held: threading.Event | None = None
        self.reached = threading.Event()
        self.open = False


@contextlib.contextmanager
def serving() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            registry.reached.set()
            if registry.held is not None:
                registry.held.wait(60)
            known = self.headers.get("authorization") in (_BASIC, f"Bearer {TOKEN}", TOKEN)
            path = self.path.replace("%2f", "/").replace("%2F", "/").replace("/./", "/").lstrip("/")
            body = registry.files.get(path)
            status = 401 if not (known or registry.open) else 404 if body is None else 200
            self.send_response(status)
            if status == 401:
                self.send_header("www-authenticate", 'Basic realm="packages"')
            self.send_header("content-length", str(len(body or b"")) if status == 200 else "0")
            self.end_headers()
            if status == 200:
                self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that was killed has hung up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        registry = Registry(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            if registry.held is not None:
                registry.held.set()
            server.shutdown()
            thread.join()


def tar(files: dict[str, str | bytes], *, modes: dict[str, int] | None = None) -> bytes:
    """A tar.gz of these files; with the folders above those whose name begins with `./`."""
    buffer = io.BytesIO()
    above = {str(folder) for name in files for folder in Path(name).parents if name.startswith("./")} - {"."}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in sorted(above):
            about = tarfile.TarInfo(f"./{name}")
            about.type, about.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(about)
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(content), (modes or {}).get(name, 0o644)
            archive.addfile(about, io.BytesIO(content))
    return buffer.getvalue()


# -- npm --


def npm_package(registry: Registry, name: str, *, install: str | None = None) -> None:
    """A module that says its name, and a program of the same name. `install` is run by npm as it installs."""
    program = name.rpartition("/")[2]
    about = {
        "name": name,
        "version": "1.0.0",
        "main": "index.js",
        "bin": {program: "cli.js"},
        "scripts": {"install": install} if install else {},
    }
    tarball = tar(
        {
            "package/package.json": json.dumps(about),
            "package/index.js": f"module.exports = {json.dumps(name)};\n",
            "package/cli.js": "#!/usr/bin/env node\nconsole.log('program of', require('./index.js'));\n",
        },
        modes={"package/cli.js": 0o755},
    )
    path = f"{name}/-/{program}-1.0.0.tgz"
    dist = {"tarball": f"{registry.url}/{path}", "shasum": hashlib.sha1(tarball, usedforsecurity=False).hexdigest()}
    versions = {"1.0.0": {**about, "dist": dist, "hasInstallScript": bool(install)}}
    registry.files[path] = tarball
    registry.files[name] = json.dumps({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": versions}).encode()


def npm_settings(registry: Registry, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "npmrc").write_text(
        f"registry={registry.url}/\n//127.0.0.1:{registry.port}/:_authToken=${{NPM_SECRET}}\nfetch-retries=0\n"
    )
    return {"NPM_CONFIG_USERCONFIG": str(folder / "npmrc"), "NPM_SECRET": TOKEN}


# -- apt --


def _ar(members: dict[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb(
    name: str,
    files: dict[str, str],
    *,
    version: str = "1.0",
    scripts: dict[str, str] | None = None,
    more: str = "",
    modes: dict[str, int] | None = None,
) -> tuple[bytes, str]:
    """A Debian package and its paragraph, less what is of its place."""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Tests <tests@example.com>\n{more}"
        f"Description: made by a test\n"
    )
    about: dict[str, str | bytes] = {"./control": control}
    for script, text in (scripts or {}).items():
        about[f"./{script}"] = text
    control_tar = tar(about, modes={f"./{script}": 0o755 for script in scripts or {}})
    data = tar({f"./{path}": text for path, text in files.items()}, modes=modes)
    return _ar({"debian-binary": b"2.0\n", "control.tar.gz": control_tar, "data.tar.gz": data}), control


def apt_package(registry: Registry, name: str, files: dict[str, str], **more: object) -> None:
    """Add a package to the repository."""
    content, control = deb(name, files, **more)  # type: ignore[arg-type]
    path = f"{name}_{len(registry.files)}_all.deb"
    registry.files[f"apt/{path}"] = content
    digest = hashlib.sha256(content).hexdigest()
    paragraph = f"{control}Filename: ./{path}\nSize: {len(content)}\nSHA256: {digest}\n\n"
    packages = registry.files.get("apt/Packages", b"") + paragraph.encode()
    registry.files["apt/Packages"] = packages
    registry.files["apt/Packages.gz"] = gzip.compress(packages)
    sums = "".join(
        f" {hashlib.sha256(registry.files[f'apt/{each}']).hexdigest()} {len(registry.files[f'apt/{each}'])} {each}\n"
        for each in ("Packages", "Packages.gz")
    )
    registry.files["apt/Release"] = f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{sums}".encode()


@cache
def _base() -> Path:
    """What builds with apt begin with, once for all tests of a process: it is thousands of small files."""
    folder = Path(tempfile.mkdtemp(prefix="hostler-base-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def share_base(layers: Path) -> None:
    """Have the builds of this folder of layers begin with what those of other tests have made."""
    (layers / "building").mkdir(parents=True, mode=0o700)
    (layers / "building" / ".base").symlink_to(_base())


def apt_settings(registry: Registry, folder: Path) -> dict[str, str]:
    """The login stands in apt's own file of logins."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "auth.conf").write_text(f"machine {registry.url}/ login {USER} password {PASSWORD}\n")
    (folder / "sources.list").write_text(f"deb [trusted=yes] {registry.url}/apt ./\n")
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "apt.conf").write_text(
        f'Dir::Etc "{folder}";\nDir::Etc::sourceparts "empty";\nDir::Etc::netrcparts "empty";\n'
        f'Dir::Etc::trustedparts "empty";\nDir::Etc::preferencesparts "empty";\n'
        'Acquire::http::Proxy "";\nAcquire::https::Proxy "";\n'
    )
    return {"APT_CONFIG": str(folder / "apt.conf")}


# -- gem --

_GEM = """
require "rubygems/package"; require "zlib"; require "fileutils"
name, folder = ARGV
Dir.chdir(folder)
FileUtils.mkdir_p(["lib", "exe", "gems", "quick/Marshal.4.8"])
File.write("lib/#{name}.rb", "module Probe; NAME = '#{name}'; end\\n")
File.write("exe/#{name}", "require '#{name}'; puts \\"program of \\#{Probe::NAME}\\"\\n")
spec = Gem::Specification.new do |s|
  s.name, s.version, s.summary, s.authors = name, "1.0.0", "made by a test", ["tests"]
  s.files, s.bindir, s.executables, s.license = ["lib/#{name}.rb", "exe/#{name}"], "exe", [name], "MIT"
  s.homepage = "https://example.com"
end
Gem::DefaultUserInteraction.ui = Gem::SilentUI.new
FileUtils.mv(Gem::Package.build(spec), "gems/")
File.binwrite("quick/Marshal.4.8/#{name}-1.0.0.gemspec.rz", Zlib::Deflate.deflate(Marshal.dump(spec)))
tuples = Marshal.dump([[name, Gem::Version.new("1.0.0"), "ruby"]])
empty = Marshal.dump([])
{"specs" => tuples, "latest_specs" => tuples, "prerelease_specs" => empty}.each do |file, dump|
  Zlib::GzipWriter.open("#{file}.4.8.gz") { |gz| gz.write(dump) }
end
"""


def gem_package(registry: Registry, name: str, folder: Path) -> None:
    """A gem with a library and a program, and an index of it alone; made by the machine's own Ruby."""
    folder.mkdir(parents=True)
    subprocess.run(["ruby", "-e", _GEM, name, str(folder)], check=True, capture_output=True)
    for path in folder.rglob("*"):
        if path.is_file():
            registry.files[f"gem/{path.relative_to(folder)}"] = path.read_bytes()
    digest = hashlib.sha256(registry.files[f"gem/gems/{name}-1.0.0.gem"]).hexdigest()
    info = f"---\n1.0.0 |checksum:{digest}\n".encode()
    registry.files[f"gem/info/{name}"] = info
    sums = hashlib.md5(info, usedforsecurity=False).hexdigest()
    registry.files["gem/versions"] = f"created_at: 2026-01-01T00:00:00Z\n---\n{name} 1.0.0 {sums}\n".encode()


def gem_settings(registry: Registry, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gemrc").write_text(f"---\n:sources:\n- {registry.with_login}/gem/\n")
    return {"GEMRC": str(folder / "gemrc")}


# -- go --


def go_module(registry: Registry, module: str) -> None:
    """A module with one command, which says its name."""
    name = module.rpartition("/")[2]
    mod = f"module {module}\n\ngo 1.18\n"
    main = f'package main\n\nimport "fmt"\n\nfunc main() {{ fmt.Println("program of {name}") }}\n'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{module}@v1.0.0/go.mod", mod)
        archive.writestr(f"{module}@v1.0.0/main.go", main)
    place = f"go/{module}/@v"
    registry.files[f"{place}/list"] = b"v1.0.0\n"
    registry.files[f"{place}/v1.0.0.info"] = b'{"Version": "v1.0.0", "Time": "2026-01-01T00:00:00Z"}'
    registry.files[f"go/{module}/@latest"] = registry.files[f"{place}/v1.0.0.info"]
    registry.files[f"{place}/v1.0.0.mod"] = mod.encode()
    registry.files[f"{place}/v1.0.0.zip"] = buffer.getvalue()


def go_settings(registry: Registry, folder: Path) -> dict[str, str]:
    """As a folder: go asks no registry on the loopback through a proxy."""
    for name, content in registry.files.items():
        if name.startswith("go/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return {"GOPROXY": f"file://{folder}/go", "GOSUMDB": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}


# -- cargo --


def crate(registry: Registry, name: str) -> None:
    """A crate with one program, which says its name, in a sparse index."""
    about = f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n'
    main = f'fn main() {{ println!("program of {name}"); }}\n'
    archive = tar({f"{name}-1.0.0/Cargo.toml": about, f"{name}-1.0.0/src/main.rs": main})
    entry = {
        "name": name,
        "vers": "1.0.0",
        "deps": [],
        "cksum": hashlib.sha256(archive).hexdigest(),
        "features": {},
        "yanked": False,
    }
    registry.files["cargo/config.json"] = json.dumps(
        {"dl": f"{registry.url}/crates/{{crate}}-{{version}}.crate", "api": registry.url, "auth-required": True}
    ).encode()
    registry.files[f"cargo/{name[:2]}/{name[2:4]}/{name}"] = json.dumps(entry).encode() + b"\n"
    registry.files[f"crates/{name}-1.0.0.crate"] = archive


def cargo_settings(registry: Registry, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(
        '[source.crates-io]\nreplace-with = "local"\n\n[registries.local]\n'
        f'index = "sparse+{registry.url}/cargo/"\n\n[registry]\ndefault = "local"\n'
        'global-credential-providers = ["cargo:token"]\n'
    )
    (folder / "credentials.toml").write_text(f'[registries.local]\ntoken = "{TOKEN}"\n')
    return {"CARGO_HOME": str(folder)}
