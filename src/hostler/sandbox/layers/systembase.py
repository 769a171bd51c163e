"""The folders of a build that may change the machine's own: what lies below its overlays, and what became of it.

Nothing of the machine is changed. Only what is listed here of /etc and /var is shown to a build, since scripts of
packages run in it; and nothing that they leave there or in /opt may stand in for what every sandbox brings itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path

from hostler.sandbox import files
from hostler.sandbox.rootfs import Layout

PARTS = ("usr", "etc", "var", "opt")
_ETC = (
    "alternatives",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "cron.d",
    "cron.daily",
    "debconf.conf",
    "debian_version",
    "default",
    "dpkg",
    "fonts",
    "init.d",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "logrotate.d",
    "mime.types",
    "os-release",
    "perl",
    "python3",
    "rc0.d",
    "rc1.d",
    "rc2.d",
    "rc3.d",
    "rc4.d",
    "rc5.d",
    "rc6.d",
    "rcS.d",
    "sgml",
    "shells",
    "skel",
    "terminfo",
    "xml",
)
_EMPTY = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "etc/apt/trusted.gpg.d",
    "var/cache/apt/archives/partial",
    "var/cache/debconf",
    "var/lib/apt/lists/partial",
    "var/log/apt",
    "var/spool",
    "opt",
)
# Of what a build has left, none of this goes into a layer.
_DROPPED = {
    "etc": (
        "apt",
        "debconf.conf",
        "dpkg",
        "group",
        "group-",
        "gshadow",
        "gshadow-",
        "hostname",
        "hosts",
        "machine-id",
        "mtab",
        "passwd",
        "passwd-",
        "resolv.conf",
        "shadow",
        "shadow-",
        "ssl",
        "subgid",
        "subgid-",
        "subuid",
        "subuid-",
        ".pwd.lock",
    ),
    "var": ("backups", "cache", "local", "lock", "log", "mail", "run", "spool", "tmp"),
    "var/lib": ("apt", "systemd", "ucf"),
    "opt": ("hostler",),
}
_FIELDS, _FIRST_PERSON, _NOBODY = 4, 1000, 65534
_FORMAT = 1  # of the base: counted up, it is made anew
_OLD_SECONDS = 24 * 3600.0
_KEPT_OF_DPKG = "status"  # so that `dpkg -l` works in a session


def changes(layout: Layout, part: str) -> Path:
    """The folder that holds the overlay's `up` and `work`, which must lie in one mount."""
    return layout.files / "system" / part


def prepare(layout: Layout, uid: int | None) -> None:
    """Make the folders for what a build changes anew. Raises OSError."""
    files.remove_tree(layout.files / "system")
    for part in PARTS:
        for name in ("up", "work"):
            (changes(layout, part) / name).mkdir(parents=True)
    if uid is not None:
        _give(layout.files / "system", uid)


def base(folder: Path, uid: int | None) -> Path:
    """What lies below the changes of all builds and above the machine's own folders, made anew when the machine's
    packages have changed. It is only ever read. Raises OSError.

    All of it belongs to the builds' user: where root is another one, only what one's own can be changed, so the folders
    of /usr are there once more, empty.
    """
    installed = hashlib.sha256(Path("/var/lib/dpkg/status").read_bytes()).hexdigest()[:32]
    made = folder / f"{installed}-{os.geteuid() if uid is None else uid}-{_FORMAT}"
    if made.is_dir():
        os.utime(made)
        return made
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    half = folder / f"half-{secrets.token_hex(4)}"
    try:
        _make(half, uid)
        with contextlib.suppress(OSError):
            os.rename(half, made)  # else another process was first
    finally:
        files.remove_tree(half)
    _remove_old(folder, made)
    return made


def _make(half: Path, uid: int | None) -> None:
    _copy_folders(Path("/usr"), half / "usr")
    for name in _EMPTY:
        (half / name).mkdir(parents=True, exist_ok=True)
    for name in _ETC:
        _copy(Path("/etc", name), half / "etc" / name)
    for name in ("passwd", "group"):
        (half / "etc" / name).write_text(_system_names(Path("/etc", name)))
    _copy(Path("/var/lib/dpkg"), half / "var/lib/dpkg")
    if uid is not None:
        _give(half, uid)


def _remove_old(folder: Path, but: Path) -> None:
    """Others are of another time; a build that takes this long is over."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path != but and path.stat().st_mtime < time.time() - _OLD_SECONDS:
                files.remove_tree(path)


def _copy_folders(source: Path, target: Path) -> None:
    """The folders of a tree without their files."""
    for above, names, _ in os.walk(source):
        names[:] = [name for name in names if not os.path.islink(f"{above}/{name}")]
        os.makedirs(f"{target}{above[len(str(source)) :]}", mode=0o755, exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    """What everybody may read of a file or folder, its links as they are."""
    if source.is_dir():
        with contextlib.suppress(shutil.Error):  # of single files, each of which was tried
            shutil.copytree(source, target, symlinks=True, copy_function=_copy_public, dirs_exist_ok=True)
    elif source.is_file():
        _copy_public(str(source), str(target))


def _copy_public(source: str, target: str) -> None:
    """As root, too, only what is public."""
    about = os.lstat(source)
    if about.st_mode & 0o004 and (os.path.isfile(source) or os.path.islink(source)):
        shutil.copy2(source, target, follow_symlinks=False)


def _system_names(path: Path) -> str:
    """The users or groups that packages have made, as packages expect them; of persons, none."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.count(":") >= _FIELDS - 1]
    system = [line for line in lines if _is_system(line.split(":")[2])]
    return "".join(f"{line}\n" for line in system)


def _is_system(number: str) -> bool:
    return number.isdecimal() and (int(number) < _FIRST_PERSON or int(number) == _NOBODY)


def _give(folder: Path, uid: int) -> None:
    for above, folders, names in os.walk(folder):
        os.chown(above, uid, uid)
        for name in names + [name for name in folders if os.path.islink(f"{above}/{name}")]:
            os.chown(f"{above}/{name}", uid, uid, follow_symlinks=False)


def collect(layout: Layout, target: Path) -> None:
    """Move what a build has changed to `target/system`. Nothing may run in it any more. Raises OSError."""
    system = target / "system"
    system.mkdir(parents=True, mode=0o755)
    for part in PARTS:
        os.rename(changes(layout, part) / "up", system / part)
    for folder, names in _DROPPED.items():
        if not _is_folder(system, folder):
            _drop(system / folder)
            continue
        for name in names:
            _drop(system / folder / name)
    if _is_folder(system, "var/lib/dpkg"):
        for name in os.listdir(system / "var/lib/dpkg"):
            if name != _KEPT_OF_DPKG:
                _drop(system / "var/lib/dpkg" / name)
    else:
        _drop(system / "var/lib/dpkg")


def _is_folder(top: Path, path: str) -> bool:
    """Whether it is one, reached without a link."""
    for part in Path(path).parts:
        top = top / part
        if top.is_symlink() or not top.is_dir():
            return False
    return True


def _drop(path: Path) -> None:
    """Remove a file, link or folder of a folder that is none's link."""
    if path.is_symlink() or (os.path.lexists(path) and not path.is_dir()):
        path.unlink()
    elif path.is_dir():
        files.remove_tree(path)
