"""Where the operator has apt find packages: sources, keys, logins and proxies of this machine, as apt reads them.

Logins go into build sandboxes only, and are gone there before a package's own scripts run. It must not connect to
anything, and runs nothing but the host's own `apt-config`.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hostler.sandbox.contract import Folder
from hostler.sandbox.layers.reach import Reach, reach

ETC = "/etc/apt"
_PROGRAM = Path("/usr/bin/apt-config")
_SECONDS = 20
_SETTING = re.compile(r'([\w:./-]+) "(.*)";')
_URL = re.compile(r"\b(?:mirror\+)?(https?://[^\s\]\"']+)")
_LOCAL = re.compile(r"\b(?:file|copy):(?://)?(/[^\s\]\"']+)")
_KEYRING = re.compile(r"signed-by[:=]\s*(/[^\s\],]+)", re.IGNORECASE)
_LOGIN = re.compile(r"password\s+(\S+)")
_PASSED = re.compile(
    r"Acquire::(?:AllowInsecureRepositories|AllowDowngradeToInsecureRepositories|Check-Valid-Until|Check-Date|Retries|"
    r"https::Verify-Peer|https::Verify-Host)|APT::(?:Default-Release|Architecture|Get::AllowUnauthenticated)"
)
_MOST_BYTES = 4 * 1024 * 1024  # of one file


class AptSources(NamedTuple):
    """`files` are for a build sandbox, absolute path inside -> content; `logins` are those that go before packages
    run. `folders` hold repositories of this machine. `options` are lines of apt's own configuration."""

    files: dict[str, bytes]
    logins: list[str]
    folders: list[Folder]
    options: str
    reach: Reach

    def __repr__(self) -> str:
        return "AptSources(...)"


def read(environ: Mapping[str, str], proxy: str | None = None) -> AptSources:
    """Read the settings of the machine; without apt, there are none. Raises ValueError for an address that is none."""
    settings = _settings(environ)
    found = {f"{ETC}/{inside}": _read(path) for inside, path in _places(settings)}
    files = {inside: content for inside, content in found.items() if content is not None}
    folders: list[Folder] = []
    urls: list[str] = []
    for inside in [name for name in files if name.startswith(f"{ETC}/sources")]:
        text = files[inside].decode(errors="replace")
        urls += _URL.findall(text)
        for keyring in _KEYRING.findall(text):
            content = None if keyring.startswith("/usr/") else _read(Path(keyring))
            files |= {keyring: content} if content is not None else {}
        files[inside] = _LOCAL.sub(lambda match: _share(match[1], folders), text).encode()
    logins = [inside for inside in files if inside.startswith(f"{ETC}/auth.conf")]
    secrets = [word for inside in logins for word in _LOGIN.findall(files[inside].decode(errors="replace"))]
    own = (settings.get(f"Acquire::{scheme}::Proxy", "") for scheme in ("https", "http"))
    upstream = proxy or next((value for value in own if "://" in value), None)
    known = reach(urls, environ, proxy=upstream, bundle=settings.get("Acquire::https::CaInfo"), secrets=secrets)
    options = "".join(f'{name} "{value}";\n' for name, value in settings.items() if _PASSED.fullmatch(name))
    return AptSources(files, logins, folders, options, known)


def _share(path: str, folders: list[Folder]) -> str:
    """The address inside of a repository that is a folder of this machine."""
    target = f"/mnt/apt/{len(folders)}"
    if not Path(path).is_dir():
        return f"file:{path}"
    folders.append(Folder(source=Path(path), target=target))
    return f"file:{target}"


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    if not _PROGRAM.exists():
        return {}
    passed = {name: environ[name] for name in ("APT_CONFIG", "HOME") if name in environ}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [str(_PROGRAM), "dump"],
            env=passed | {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        return dict(_SETTING.findall(done.stdout.decode(errors="replace")))
    return {}


def _places(settings: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Where each file will be below /etc/apt, and where it is."""
    etc = Path(settings.get("Dir", "/"), settings.get("Dir::Etc", "etc/apt"))
    for option, usual in (("sourcelist", "sources.list"), ("trusted", "trusted.gpg"), ("preferences", "preferences")):
        yield usual, etc / settings.get(f"Dir::Etc::{option}", usual)
    yield "auth.conf", etc / settings.get("Dir::Etc::netrc", "auth.conf")
    parts = {
        "sourceparts": ("sources.list.d", r".*\.(list|sources)"),
        "trustedparts": ("trusted.gpg.d", r".*\.(gpg|asc)"),
        "preferencesparts": ("preferences.d", r"[\w.-]+"),
        "netrcparts": ("auth.conf.d", r"[\w.-]+"),
        "keyrings": ("keyrings", r"[\w.-]+"),
    }
    for option, (usual, named) in parts.items():
        folder = etc / settings.get(f"Dir::Etc::{option}", usual)
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir()):
                if re.fullmatch(named, path.name):
                    yield f"{usual}/{path.name}", path


def _read(path: Path) -> bytes | None:
    """The content of a file; None when there is none for this user, as is usual for logins that only root may read."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None
