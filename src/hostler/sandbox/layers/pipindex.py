"""Where the operator has pip find packages: from the `PIP_*` variables and the files `pip.conf` of this machine.

Index URLs may hold passwords: what is read here goes into build sandboxes only, never into an agent's. It must not
connect to anything.
"""

from __future__ import annotations

import configparser
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

from hostler.sandbox.contract import Folder
from hostler.sandbox.layers.reach import Reach, bypasses, hosts_of, secrets_of

_LINKS = "/mnt/links"
_DEFAULT_HOSTS = (("pypi.org", 443), ("files.pythonhosted.org", 443))
_PASSED = ("no_index", "trusted_host", "timeout", "default_timeout", "retries")
_PLACES = ("index_url", "extra_index_url", "find_links")


class PipIndex(NamedTuple):
    """`variables` are for the environment of pip in a build sandbox, which also has `folders`."""

    variables: dict[str, str]
    folders: list[Folder]
    reach: Reach

    def __repr__(self) -> str:
        return "PipIndex(...)"


def read(environ: Mapping[str, str], proxy: str | None = None) -> PipIndex:
    """Read the settings of the machine. `proxy` is the one of the config file; without it, pip's or the system's."""
    settings = _files(environ) | _variables(environ)
    variables: dict[str, str] = {}
    folders: list[Folder] = []
    urls: list[SplitResult] = []
    for name in _PLACES:
        words = []
        for word in settings.get(name, "").split():
            path = _local(word)
            if path is None:
                urls.append(urlsplit(word))
                words.append(word)
            elif path.is_dir():
                target = f"{_LINKS}/{len(folders)}"
                folders.append(Folder(source=path, target=target))
                words.append(f"file://{target}" if name != "find_links" else target)
        if words:
            variables[_variable(name)] = " ".join(words)
    variables |= {_variable(name): " ".join(settings[name].split()) for name in _PASSED if name in settings}
    upstream = proxy or settings.get("proxy") or environ.get("HTTPS_PROXY") or environ.get("https_proxy") or None
    if upstream and bypasses(urlsplit(variables.get("PIP_INDEX_URL", "")).hostname or _DEFAULT_HOSTS[0][0], environ):
        upstream = None
    bundle = settings.get("cert") or environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    hosts = _trusted(urls, settings.get("trusted_host", ""))
    secrets = frozenset(secrets_of([*urls, urlsplit(upstream or "")]))
    return PipIndex(variables, folders, Reach(hosts, upstream, Path(bundle) if bundle else None, secrets))


def _variable(name: str) -> str:
    return f"PIP_{name.upper()}"


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    names = (*_PLACES, *_PASSED, "cert", "proxy")
    return {name: value for name in names if (value := environ.get(_variable(name)))}


def _files(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip.conf says: the machine's, then the user's, then the one that PIP_CONFIG_FILE names."""
    home = Path(environ.get("HOME") or "/nonexistent")
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = environ.get("PIP_CONFIG_FILE")
    paths = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", own / "pip/pip.conf"]
    found: dict[str, str] = {}
    for path in ([] if named == "/dev/null" else paths) + ([Path(named)] if named else []):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read_string(path.read_text())
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {name.replace("-", "_"): value for name, value in parser.items(section)}
    return found


def _local(word: str) -> Path | None:
    """The folder that a word names, where it is no address: `/opt/wheels`, `~/wheels`, `file:///opt/wheels`."""
    if word.startswith("file:"):
        return Path(url2pathname(urlsplit(word).path))
    if "://" in word:
        return None
    with contextlib.suppress(RuntimeError):
        return Path(word).expanduser().absolute()
    return Path(word).absolute()


def _trusted(urls: list[SplitResult], hosts: str) -> frozenset[tuple[str, int]]:
    found = {*_DEFAULT_HOSTS, *hosts_of(urls)}
    for host in hosts.split():
        name, _, port = host.lower().partition(":")
        found |= {(name, int(port))} if port.isdecimal() else {(name, 80), (name, 443)}
    return frozenset(found)
