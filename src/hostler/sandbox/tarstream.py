"""Writes and reads tar as a stream: the part of the format that snapshots and exports need, and nothing else of it.

`tarfile` trusts sizes that an archive claims and can't write sparse files. What is written here GNU tar reads. The
reader refuses what the writer never writes, holds a bounded part in memory, and must not touch the file system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

BLOCK = 512
MAX_PATH = 16 * 1024
MAX_RECORDS = 1024 * 1024
MAX_EXTENTS = 1_000_000
FILE, HARD_LINK, SYMLINK, FOLDER, FIFO = b"0", b"1", b"2", b"5", b"6"
_KINDS = (FILE, HARD_LINK, SYMLINK, FOLDER, FIFO)
_EXTENDED = b"x"
_XATTR = b"SCHILY.xattr."
_SPARSE_NAME = b"GNUSparseFile.0/sparse"
_CHUNK = 1 << 20
_MOST = 2**63 - 1  # of what the system takes: sizes, and seconds of a time
_OCTAL_MAX = 8**11 - 1


class BadTar(Exception):
    """It is no tar of the kind that is written here, or it ends early."""


class Member(msgspec.Struct, kw_only=True):
    """One entry. `path` and `link` are bytes, relative, without a slash at the end. `size` is a file's length;
    `extents`, of a sparse one, are offset and length of what is in the archive, in order: the rest is zeros."""

    path: bytes
    kind: bytes = FILE
    mode: int = 0o644
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    xattrs: dict[bytes, bytes] = {}
    extents: list[tuple[int, int]] | None = None

    @property
    def data(self) -> list[tuple[int, int]]:
        """Offset and length of the parts that the archive holds."""
        if self.extents is not None:
            return self.extents
        return [(0, self.size)] if self.kind == FILE and self.size else []

    @property
    def data_bytes(self) -> int:
        return sum(length for _, length in self.data)


class Writer:
    """Gives the bytes of an archive to `write`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def add(self, member: Member, chunks: Iterable[bytes] = ()) -> None:
        """Add one entry; `chunks` are the bytes of its data, exactly as many as its extents say."""
        sparse = _sparse_map(member) if member.extents is not None else b""
        size = len(sparse) + member.data_bytes
        records = _pad(_records(member, size))
        self._write(_header(b"@PaxHeader", _EXTENDED, 0o644, len(_records(member, size)), 0) + records)
        name = _SPARSE_NAME if sparse else member.path[:100]
        self._write(_header(name, member.kind, member.mode, size, member.mtime_ns, member.link[:100]) + sparse)
        written = len(sparse)
        for chunk in chunks:
            self._write(chunk)
            written += len(chunk)
        if written != size:
            raise ValueError(f"{member.path!r}: {written} bytes were given of {size}")
        self._write(bytes(-size % BLOCK))

    def end(self) -> None:
        self._write(bytes(2 * BLOCK))


def _records(member: Member, size: int) -> bytes:
    seconds, nanos = divmod(member.mtime_ns, 10**9)
    pairs = [(b"mtime", b"%d.%09d" % (seconds, nanos))]
    name = b"GNU.sparse.name" if member.extents is not None else b"path"
    pairs.insert(0, (name, member.path))
    if member.link:
        pairs.append((b"linkpath", member.link))
    if size > _OCTAL_MAX:
        pairs.append((b"size", b"%d" % size))
    if member.extents is not None:
        pairs += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
        pairs.append((b"GNU.sparse.realsize", b"%d" % member.size))
    pairs += [(_XATTR + key, value) for key, value in sorted(member.xattrs.items())]
    if any(not _is_text(value) for _, value in pairs):
        pairs.insert(0, (b"hdrcharset", b"BINARY"))
    return b"".join(_record(key, value) for key, value in pairs)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value\\n`, where the length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def _sparse_map(member: Member) -> bytes:
    extents = member.extents or []
    lines = [len(extents), *(number for extent in extents for number in extent)]
    return _pad(b"".join(b"%d\n" % number for number in lines))


def _header(name: bytes, kind: bytes, mode: int, size: int, mtime_ns: int, link: bytes = b"") -> bytes:
    seconds = min(max(0, mtime_ns // 10**9), _OCTAL_MAX)
    fields = [
        name.ljust(100, b"\0"),
        b"%07o\0" % (mode & 0o7777),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % min(size, _OCTAL_MAX),
        b"%011o\0" % seconds,
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar\x0000",
    ]
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


class Reader:
    """Takes the bytes of an archive from `read`, which may give fewer than asked for and gives none at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = 0  # data of the current member that has not been read
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """The entries in order; take one's `chunks` before the next, or it is skipped. Raises BadTar."""
        while True:
            self._skip()
            block = self._exactly(BLOCK)
            if not any(block):
                if any(self._exactly(BLOCK)):
                    raise BadTar("something stands behind the end")
                return
            yield self._member(block)

    def chunks(self, member: Member) -> Iterator[tuple[int, bytes]]:
        """The data of the current entry: pieces, each with its offset in the file."""
        for offset, length in member.data:
            while length:
                chunk = self._exactly(min(length, _CHUNK))
                self._left -= len(chunk)
                yield offset, chunk
                offset, length = offset + len(chunk), length - len(chunk)

    def _member(self, block: bytes) -> Member:
        kind, length = _checked(block)
        if kind != _EXTENDED or length > MAX_RECORDS:
            raise BadTar("an entry without extended header, or with too long a one")
        records = _read_records(self._exactly(length))
        self._exactly(-length % BLOCK)
        block = self._exactly(BLOCK)
        kind, size = _checked(block)
        if kind not in _KINDS:
            raise BadTar(f"an entry of the unknown type {kind!r}")
        size = _number(records.get(b"size", b"%d" % size))
        if kind != FILE and size:
            raise BadTar("an entry that is no file has data")
        self._left, self._padding = size, -size % BLOCK
        member = _described(kind, _octal(block[100:108]), size, records)
        if b"GNU.sparse.major" in records:
            member.size = _number(records.get(b"GNU.sparse.realsize", b""))
            member.extents = self._extents(member.size)
        return member

    def _extents(self, size: int) -> list[tuple[int, int]]:
        """The map in front of a sparse file's data."""
        buffer, position = b"", 0

        def line() -> int:
            nonlocal buffer, position
            while (end := buffer.find(b"\n", position)) < 0:
                if len(buffer) - position > BLOCK or self._left < BLOCK:
                    raise BadTar("a sparse file without a map")
                buffer, position = buffer[position:] + self._exactly(BLOCK), 0
                self._left -= BLOCK
            number, position = _number(buffer[position:end]), end + 1
            return number

        count = line()
        if count > MAX_EXTENTS:
            raise BadTar("a sparse file in too many pieces")
        extents, at = [], 0
        for _ in range(count):
            offset, length = line(), line()
            if offset < at or offset + length > size:
                raise BadTar("a sparse file whose pieces overlap")
            extents.append((offset, length))
            at = offset + length
        if sum(length for _, length in extents) != self._left:
            raise BadTar("a sparse file whose map does not fit its data")
        return extents

    def _skip(self) -> None:
        while self._left:
            self._left -= len(self._exactly(min(self._left, _CHUNK)))
        self._exactly(self._padding)
        self._padding = 0

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._read(count)
            if not part:
                raise BadTar("it ends early")
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _checked(block: bytes) -> tuple[bytes, int]:
    """The type and the size of a header whose sum is right."""
    if _octal(block[148:156]) != sum(block[:148]) + 8 * 32 + sum(block[156:]) or block[257:262] != b"ustar":
        raise BadTar("a header is damaged")
    return block[156:157], _octal(block[124:136])


def _octal(field: bytes) -> int:
    text = field.strip(b"\0 ")
    if not text or text.strip(b"01234567"):
        raise BadTar("a number is damaged")
    return int(text, 8)


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19 or int(text) > _MOST:
        raise BadTar("a number is damaged")
    return int(text)


def _read_records(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = _number(data[at:space]) if space > 0 else 0
        record = data[at : at + length]
        key, found, value = record[space - at + 1 : -1].partition(b"=")
        if not found or len(record) != length or record[-1:] != b"\n" or key in records:
            raise BadTar("an extended header is damaged")
        records[key] = value
        at += length
    return records


def _described(kind: bytes, mode: int, size: int, records: dict[bytes, bytes]) -> Member:
    path = records.get(b"GNU.sparse.name") or records.get(b"path", b"")
    link = records.get(b"linkpath", b"")
    if not path or len(path) > MAX_PATH or len(link) > MAX_PATH or b"\0" in path + link:
        raise BadTar("an entry has no name, or none that a file can have")
    whole, _, nanos = records.get(b"mtime", b"0.0").partition(b".")
    negative, whole = whole.startswith(b"-"), whole.removeprefix(b"-")
    seconds = -_number(whole) if negative else _number(whole)
    if any(b"\0" in key for key in records):
        raise BadTar("an entry has a record that no file can have")
    xattrs = {key.removeprefix(_XATTR): value for key, value in records.items() if key.startswith(_XATTR)}
    return Member(
        path=path,
        kind=kind,
        mode=mode & 0o7777,
        size=size,
        mtime_ns=seconds * 10**9 + _number(nanos[:9].ljust(9, b"0")),
        link=link,
        xattrs=xattrs,
    )
