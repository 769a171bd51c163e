"""The package manager go, as a builder of layers, with the module proxy that this machine's settings name.

It only says what is to be run, where: in a build sandbox. It must not run anything itself.
"""

from __future__ import annotations

import contextlib
import netrc
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hostler.sandbox.contract import Exec, Folder
from hostler.sandbox.layers.prefixed import Prefixed
from hostler.sandbox.layers.reach import reach
from hostler.sandbox.rootfs import HOME

_PROXY, _SUMS = "https://proxy.golang.org", "https://sum.golang.org"
_PASSED = ("GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOINSECURE", "GOTOOLCHAIN")
_LOCAL = re.compile(r"file://(/[^,|\s]+)")
_PASSED_TOO = ("GOFLAGS", "CGO_ENABLED")


class Go(Prefixed):
    """See `packages.Manager`."""

    name = "go"
    tops = frozenset({"bin"})
    needs = ("go",)
    remedy = (
        "install Go on the server's machine, below /usr (/usr/local/go will do), or put golang-go into the "
        "environment's apt packages"
    )
    line = re.compile(r"[A-Za-z0-9][\w.~/+-]*(?:@[\w.+-]+)?")
    example = "example.com/module/command@v1.0.0"
    blames = re.compile(r"go: (?:downloading )?([^\s:@]+@[^\s:]+):|package (\S+) is not")

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        """One by one: go takes only packages of one module at a time. Without a version, the latest."""
        variables = ["env", f"GOBIN={folder}/bin", "GOPATH=/tmp/go", "GOCACHE=/tmp/go-build"]
        packages = [line if "@" in line else f"{line}@latest" for line in lines]
        return [Exec(argv=[*variables, "go", "install", "-modcacherw", package]) for package in packages]

    def installed(self, folder: Path) -> list[str]:
        """The programs: their versions stand in them only."""
        return sorted(program.name for program in (folder / "bin").glob("*"))


def open_go(environ: Mapping[str, str], proxy: str | None) -> Go:
    """go with the settings of this machine. Raises ValueError."""
    settings = read(environ)
    variables = {name: settings[name] for name in (*_PASSED, *_PASSED_TOO) if name in settings}
    folders: list[Folder] = []
    if "GOPROXY" in variables:
        variables["GOPROXY"] = _LOCAL.sub(lambda match: _share(match[1], folders), variables["GOPROXY"])
    urls = [url for url in re.split(r"[,|\s]", settings.get("GOPROXY", "") + " " + settings.get("GOSUMDB", "")) if url]
    known = {urlsplit(url).hostname for url in urls}
    entries, secrets = _logins(environ, {host for host in known if host})
    files = {f"{HOME}/.netrc": entries.encode()} if entries else {}
    found = reach([*urls, _PROXY, _SUMS], environ, proxy=proxy, secrets=secrets)
    return Go(found, variables, files, folders)


def _share(path: str, folders: list[Folder]) -> str:
    """The address inside of a proxy that is a folder of this machine."""
    folders.append(Folder(source=Path(path), target=f"/mnt/go/{len(folders)}"))
    return f"file://{folders[-1].target}"


def read(environ: Mapping[str, str]) -> dict[str, str]:
    """What `go env -w` has kept, and the environment's own."""
    config = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME') or '/nonexistent'}/.config"
    found = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path(environ.get("GOENV") or f"{config}/go/env").read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals:
                found[name.strip()] = value.strip()
    return found | {name: value for name, value in environ.items() if name.startswith(("GO", "CGO")) and value}


def _logins(environ: Mapping[str, str], hosts: set[str]) -> tuple[str, list[str]]:
    """The entries of ~/.netrc for these hosts, and the passwords among them."""
    text, secrets = "", []
    with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
        known = netrc.netrc(environ.get("NETRC") or f"{environ.get('HOME') or '/nonexistent'}/.netrc").hosts
        for host in sorted(hosts & set(known)):
            login, _, password = known[host]
            text += f"machine {host} login {login} password {password}\n"
            secrets.append(password or "")
    return text, secrets
