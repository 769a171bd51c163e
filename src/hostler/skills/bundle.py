"""Checks an uploaded skill whole, before anything of it is kept: files with paths, or one zip archive of them.

It works in memory on what is bounded already, and writes nothing: names are compared, never opened.
"""

from __future__ import annotations

import io
import lzma
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hostler.errors import InvalidRequest, RequestTooLarge
from hostler.skills.frontmatter import check_name, read_frontmatter

MAX_BYTES = 30 * 1024 * 1024  # of all files, unpacked
MAX_FILES = 500
HEAD = "SKILL.md"
_MAX_PATH = 1024
_MAX_SEGMENT = 255
_MAX_DEPTH = 32
_MAX_ENTRIES = 5000  # of an archive, folders and archives within it counted
_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_ENTRY = b"PK\x01\x02"
_UNIX = (3, 19)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UTF8_NAME, _ENCRYPTED = 0x800, 0x1
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError, OverflowError,
    NotImplementedError, OSError,
)  # fmt: skip


class Sent(NamedTuple):
    """A file as a client names it: with its folders, the top one included. `mode` is 0 where nothing says it."""

    path: str
    content: bytes
    mode: int = 0


class File(NamedTuple):
    """A file of a skill: `path` is relative to the skill's folder."""

    path: str
    content: bytes
    executable: bool


class Bundle(NamedTuple):
    """A skill that is fit to be kept. `directory` is the folder that its files were sent in."""

    name: str
    description: str
    directory: str
    version: str | None
    files: list[File]


def read_bundle(sent: Sequence[Sent]) -> Bundle:
    """Check what was uploaded. Raises InvalidRequest saying which file is wrong, and RequestTooLarge."""
    if len(sent) == 1 and _is_archive(sent[0]):
        sent = _unpack(sent[0].content)
    if not sent:
        raise InvalidRequest("files[]: there are no files; a skill is a folder with a SKILL.md")
    if len(sent) > MAX_FILES:
        raise InvalidRequest(f"files[]: a skill has at most {MAX_FILES} files, these are {len(sent)}")
    if sum(len(file.content) for file in sent) > MAX_BYTES:
        raise too_large()
    _check_paths([file.path for file in sent])
    directory = _directory(sent)
    files = [_file(file, directory) for file in sorted(sent)]
    head = next((file for file in files if file.path == HEAD), None)
    if head is None:
        raise InvalidRequest(f"files[]: {directory}/{HEAD} is missing; it must be at the root of the folder")
    front = read_frontmatter(head.content, f"{directory}/{HEAD}")
    if front.name is None:
        check_name(directory, f"{directory}/{HEAD}: name is missing, and the folder's name instead of it")
    return Bundle(front.name or directory, front.description, directory, front.version, files)


def too_large() -> RequestTooLarge:
    return RequestTooLarge(f"files[]: the files of a skill may have {MAX_BYTES} bytes in all, unpacked")


def _file(sent: Sent, directory: str) -> File:
    """What begins with `#!` is executable too: uploads of single files bring no mode."""
    executable = bool(sent.mode & 0o111) or sent.content.startswith(b"#!")
    return File(sent.path[len(directory) + 1 :], sent.content, executable)


def _directory(sent: Iterable[Sent]) -> str:
    tops = sorted({file.path.partition("/")[0] for file in sent})
    if any("/" not in file.path for file in sent):
        raise InvalidRequest(
            "files[]: each filename must begin with the skill's folder, such as my-skill/SKILL.md; "
            f"{next(file.path for file in sent if '/' not in file.path)[:200]!r} does not. Clients that leave "
            "folders out can send a zip archive"
        )
    if len(tops) > 1:
        raise InvalidRequest(f"files[]: all files must be in one folder, these are in {', '.join(tops[:5])[:300]}")
    return tops[0]


def _check_paths(paths: Sequence[str]) -> None:
    """Refuse paths that lead elsewhere, and such as would be one file on some systems."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        parts = _parts(path)
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        spelt = [folders.setdefault(_folded(folder), folder) for folder in above]
        other = next((known for known, folder in zip(spelt, above, strict=True) if known != folder), None)
        other = other or files.get(_folded(path))
        if other is not None:
            raise _collision(path, other)
        files[_folded(path)] = path
    for key in files.keys() & folders.keys():
        raise _collision(files[key], folders[key])


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _collision(path: str, other: str) -> InvalidRequest:
    return InvalidRequest(f"files[]: {path[:200]!r} collides with {other[:200]!r}")


def _parts(path: str) -> list[str]:
    shown = f"files[]: the filename {path[:200]!r}"
    if any(unicodedata.category(letter) in _UNSEEN for letter in path) or "\ufffd" in path:
        raise InvalidRequest(f"{shown} has control characters, or is not UTF-8")
    if "\\" in path:
        raise InvalidRequest(f"{shown} has a backslash; folders are separated by /")
    parts = path.split("/")
    if path.startswith("/") or (len(parts[0]) == 2 and parts[0][1] == ":"):
        raise InvalidRequest(f"{shown} is absolute")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidRequest(f"{shown} has an empty, '.' or '..' part")
    encoded = [len(part.encode()) for part in parts]
    if len(parts) > _MAX_DEPTH or max(encoded) > _MAX_SEGMENT or sum(encoded) + len(parts) > _MAX_PATH:
        raise InvalidRequest(f"{shown} is too long or too deep")
    return parts


# -- archives


def _is_archive(sent: Sent) -> bool:
    return sent.content.startswith(_SIGNATURES) or sent.path.lower().endswith((".zip", ".skill"))


def _unpack(content: bytes) -> list[Sent]:
    if content.count(_ENTRY) > _MAX_ENTRIES:  # before anything is made of each of them
        raise InvalidRequest(f"files[]: the zip archive has more than {_MAX_ENTRIES} entries")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            wanted = [entry for entry in archive.infolist() if _is_file(entry)]
            if len(wanted) > MAX_FILES:
                raise InvalidRequest(f"files[]: a skill has at most {MAX_FILES} files, the archive has {len(wanted)}")
            if sum(entry.file_size for entry in wanted) > MAX_BYTES:
                raise too_large()
            return _read_all(archive, wanted)
    except _BROKEN as error:
        raise InvalidRequest(f"files[]: the zip archive can't be read: {str(error)[:200]}") from error


def _read_all(archive: zipfile.ZipFile, entries: Iterable[zipfile.ZipInfo]) -> list[Sent]:
    """Inflate, counting what really comes out: what an archive says of its sizes is not believed."""
    found, left = [], MAX_BYTES
    for entry in entries:
        with archive.open(entry) as file:
            content = file.read(left + 1)
        left -= len(content)
        if left < 0:
            raise too_large()
        found.append(Sent(_name(entry), content, _mode(entry)))
    return found


def _is_file(entry: zipfile.ZipInfo) -> bool:
    """False for folders, and for what a Mac adds beside the folder. Raises InvalidRequest for what is no file."""
    name = _name(entry)
    kind = stat.S_IFMT(_mode(entry))
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidRequest(f"files[]: {name[:200]!r} in the archive is a link or a special file")
    if name.endswith("/") or kind == stat.S_IFDIR:
        _parts(name.rstrip("/"))
        return False
    if name.startswith("__MACOSX/") or name.rpartition("/")[2] == ".DS_Store":
        return False
    if entry.flag_bits & _ENCRYPTED:
        raise InvalidRequest(f"files[]: {name[:200]!r} in the archive is encrypted")
    if entry.compress_type not in _METHODS:
        raise InvalidRequest(f"files[]: {name[:200]!r} in the archive is not compressed with deflate")
    return True


def _name(entry: zipfile.ZipInfo) -> str:
    """The name as it was written, with U+0000 and all. Without the mark for UTF-8, it may be UTF-8 all the same."""
    name = entry.orig_filename
    if entry.flag_bits & _UTF8_NAME or name.isascii():
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError as error:
        raise InvalidRequest(f"files[]: the name {name[:200]!r} in the archive is not UTF-8") from error


def _mode(entry: zipfile.ZipInfo) -> int:
    return entry.external_attr >> 16 if entry.create_system in _UNIX else 0
