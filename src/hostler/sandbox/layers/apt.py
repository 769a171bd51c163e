"""The package manager apt, as a builder of layers: packages are installed for real, with their scripts, over the
machine's own system, and what that changes is the layer.

It only says what is to be run, where: in a build sandbox. It must not run anything itself.
"""

from __future__ import annotations

import hashlib
import platform
import re
from functools import lru_cache
from pathlib import Path

from hostler.sandbox.contract import Exec, Folder
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.aptsources import ETC, AptSources
from hostler.sandbox.layers.packages import Missing, Programs

_STATUS = Path("/var/lib/dpkg/status")
_NEEDS = ("/usr/bin/apt-get", "/usr/bin/dpkg")
_NO_APT = "the server's machine has no apt and dpkg, which only Debian, Ubuntu and their kin have"
_NOT_IN_IMAGES = (
    "what apt installs would change the system's own folders, which in a container are the image's: put the packages "
    "into the image"
)
_SPLIT_USR = "the server's machine has a /bin of its own beside /usr: only systems with a merged /usr have apt layers"
_LINE = re.compile(r"[a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?(?:[=/][A-Za-z0-9.+:~_-]+)?")
_BLAMES = re.compile(
    r"Unable to locate package (\S+)|Version '[^']*' for '([^']+)' was not found|Package '?([^\s']+)'? has no "
    r"installation candidate|error processing package (\S+)|error processing archive \S*/\d*-?([a-z0-9+.-]+)_|"
    r"Failed to fetch \S*/([a-z0-9+.-]+)_\S+\.deb"
)
_CONFIG = f"{ETC}/hostler.conf"
_OPTIONS = """\
APT::Sandbox::User "root";
APT::Install-Recommends "false";
DPkg::Options { "--force-unsafe-io"; "--force-confdef"; "--force-confold"; };
Dpkg::Use-Pty "false";
"""

# Services are not started by what installs them.
_POLICY = "/usr/sbin/policy-rc.d"

_FETCH = """\
apt-get update -q || exit
exec apt-get install -q -y --download-only "$@"
"""

# dpkg makes a second name for each file that it replaces, which the kernel refuses for files of another owner: so all
# files of packages that get a new version are made the build's own before.
_INSTALL = rf"""
while [ "$1" != -- ]; do rm -f "$1"; shift; done; shift
[ -e {_POLICY} ] || {{ printf '#!/bin/sh\nexit 101\n' > {_POLICY}; chmod 755 {_POLICY}; }}
apt-get install -s -y "$@" | sed -n 's/^\(Inst\|Remv\) \([^ ]*\) \[.*/\2/p' | sort -u |
while read -r package; do
  dpkg -L "$package" | sed 's/^.*diverted \(by\|to\|others\).* to: //'
done | sort -u | while read -r file; do
  if [ -f "$file" ] && [ ! -L "$file" ] && [ ! -O "$file" ]; then
    cp -p "$file" "$file.hostler" && mv "$file.hostler" "$file"
  fi
done
apt-get install -q -y --no-download "$@" || exit
if [ "$(cat {_POLICY})" = "$(printf '#!/bin/sh\nexit 101\n')" ]; then rm -f {_POLICY}; fi
"""


class Apt:
    """See `packages.Manager`."""

    name = "apt"
    tops = frozenset({"system"})
    system = True

    def __init__(self, sources: AptSources) -> None:
        self._sources = sources
        self.reach = sources.reach

    def fingerprint(self, programs: Programs) -> str:
        """The machine's own packages: what is installed is chosen by what there is already. Raises Missing."""
        if not programs.of_machine:
            raise Missing(_NOT_IN_IMAGES)
        if not all(Path(program).exists() for program in _NEEDS):
            raise Missing(_NO_APT)
        if not Path("/bin").is_symlink():
            raise Missing(_SPLIT_USR)
        try:
            return f"{platform.machine()} {_installed(_STATUS.stat().st_mtime_ns)}"
        except OSError:
            raise Missing(_NO_APT) from None

    def check(self, lines: tuple[str, ...]) -> None:
        """Raise ValueError unless each line names a package: a path is none, and a name with a minus behind removes."""
        for line in lines:
            if not _LINE.fullmatch(line) or line.endswith("-"):
                raise ValueError(f"{line!r} is not a package like name or name=1.0-1")

    def environment(self, programs: Programs) -> dict[str, str]:
        return {
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "APT_CONFIG": _CONFIG,
            "NO_PROXY": "",
            "no_proxy": "",
            "DEBCONF_NONINTERACTIVE_SEEN": "true",
        }

    def folders(self, programs: Programs) -> list[Folder]:
        return self._sources.folders

    def files(self) -> dict[str, bytes]:
        return {**self._sources.files, _CONFIG: (_OPTIONS + self._sources.options).encode()}

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        return [
            Exec(argv=["sh", "-c", _FETCH, "sh", *lines]),
            Exec(argv=["sh", "-c", _INSTALL, "sh", *self._sources.logins, "--", *lines]),
        ]

    def blame(self, said: str) -> str | None:
        found = _BLAMES.search(said)
        return next((word for word in found.groups() if word), None) if found else None

    def installed(self, folder: Path) -> list[str]:
        """What dpkg has written down, less what the machine has."""
        ours = _versions(manifests.read_inside(folder, "system/var/lib/dpkg/status"))
        machine = _versions(_STATUS.read_bytes())
        return [f"{name}-{version}" for name, version in ours.items() if machine.get(name) != version]


@lru_cache(maxsize=2)
def _installed(mtime_ns: int) -> str:
    return hashlib.sha256(_STATUS.read_bytes()).hexdigest()


def _versions(status: bytes) -> dict[str, str]:
    found = {}
    for paragraph in status.decode(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[:1] != " ")
        if fields.get("Status") == "install ok installed":
            found[fields.get("Package", "")] = fields.get("Version", "")
    return found
