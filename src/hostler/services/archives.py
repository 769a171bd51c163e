"""The format of exported sessions: a zstd-compressed tar whose first entry, the manifest, names all others.

`docs/checkpoints.md` describes it for other programs. An archive is read whole, into a folder of its own, and each part
compared with what the manifest says, before anybody looks at what is in it. It must not touch the database.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import zstandard

from hostler.errors import InvalidRequest, RequestTooLarge
from hostler.sandbox.snapshots import Source, write
from hostler.sandbox.tarstream import FILE, BadTar, Member, Writer

FORMAT, VERSION = "hostler-session", 1
MANIFEST, SESSION, ENTRIES, SANDBOX, BLOBS = (
    "manifest.json", "session.json", "entries.jsonl", "sandbox.tar.zst", "blobs/",
)  # fmt: skip
MAX_MANIFEST = 16 * 1024 * 1024
MAX_SESSION, MAX_ENTRIES = 64 * 1024 * 1024, 256 * 1024 * 1024  # bytes of either part
_CHUNK = 1 << 20
_NAME = re.compile(r"session\.json|entries\.jsonl|sandbox\.tar\.zst|blobs/[0-9a-f]{64}")


SessionId = Annotated[str, msgspec.Meta(pattern="^sesn_[0-9A-Za-z]{1,64}$")]
ThreadId = Annotated[str, msgspec.Meta(pattern="^sthr_[0-9A-Za-z]{1,64}$")]
EventId = Annotated[str, msgspec.Meta(pattern="^[a-z]{1,16}_[0-9A-Za-z_]{1,128}$")]
ResourceId = Annotated[str, msgspec.Meta(pattern="^sesrsc_[0-9A-Za-z]{1,64}$")]
FileId = Annotated[str, msgspec.Meta(pattern="^file_[0-9A-Za-z]{1,64}$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Time = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
Flag = Annotated[int, msgspec.Meta(ge=0, le=1)]


NULL = b"null"  # of a column that has nothing; a part's JSON is never absent


class _Exact(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is not known here would be lost: it is refused."""


class Part(_Exact):
    name: str
    bytes: Size
    sha256: Sha256


class Manifest(_Exact):
    format: Literal["hostler-session"]
    version: int
    session_id: SessionId
    exported_at: str
    server: str
    parts: list[Part]


class SessionPart(_Exact):
    """The session's row, without what belongs to a server: leases, and where its sandbox is."""

    id: SessionId
    agent_id: str
    agent_version: int
    environment_id: str
    thread_id: ThreadId
    status: Literal["idle", "terminated"]
    title: str | None
    metadata: msgspec.Raw
    agent: msgspec.Raw
    first_agent: msgspec.Raw
    environment: msgspec.Raw
    vault_ids: msgspec.Raw
    budget: msgspec.Raw
    usage: msgspec.Raw
    pending: msgspec.Raw
    outcomes: msgspec.Raw
    paused: Flag
    active_us: Size
    created_at: Time
    updated_at: Time
    archived_at: Time | None
    next_seq: Size
    last_at: Time


class ThreadPart(_Exact):
    id: ThreadId
    parent_id: ThreadId | None
    name: str
    agent: msgspec.Raw
    status: Literal["idle", "terminated"]
    usage: msgspec.Raw
    active_us: Size
    created_at: Time
    updated_at: Time
    archived_at: Time | None


class ResourcePart(_Exact):
    """Without the token that a repository may have had."""

    id: ResourceId
    type: Literal["file", "github_repository"]
    file_id: FileId | None
    mount_path: str
    created_at: Time
    updated_at: Time
    body: msgspec.Raw


class FilePart(_Exact):
    id: FileId
    filename: str
    mime_type: str
    size_bytes: Size
    downloadable: Flag
    blob: Sha256
    output_path: str | None
    output_tag: str | None
    created_at: Time
    expires_at: Time | None


class SkillFilePart(_Exact):
    path: str
    blob: Sha256
    size_bytes: Size
    executable: Flag


class SkillPart(_Exact):
    """A version of a skill that the session has pinned."""

    skill_id: str
    version: str
    place: Size
    created_at: Time
    name: str
    description: str
    directory: str
    files: list[SkillFilePart]


class CheckpointPart(_Exact):
    """What `sandbox.tar.zst` is."""

    position: Size
    event_id: EventId | None
    bytes: Size
    sha256: Sha256
    created_at: Time


class Content(_Exact):
    """`session.json`."""

    session: SessionPart
    threads: list[ThreadPart]
    resources: list[ResourcePart]
    files: list[FilePart]
    skills: list[SkillPart]
    checkpoint: CheckpointPart | None


class EntryPart(_Exact):
    """A line of `entries.jsonl`, in the order of receipt."""

    seq: Size
    position: Size
    id: EventId
    thread_id: ThreadId
    type: str
    private: Annotated[int, msgspec.Meta(ge=0, le=2)]
    answers: str | None
    body: msgspec.Raw


def pack(target: Path, manifest: Manifest, sources: dict[str, Path]) -> None:
    """Write an archive; `sources` are the files of its parts. Raises OSError."""

    def fill(writer: Writer) -> None:
        head = msgspec.json.encode(manifest)
        writer.add(Member(path=MANIFEST.encode(), size=len(head)), [head])
        for part in manifest.parts:
            member = Member(path=part.name.encode(), size=part.bytes)
            writer.add(member, _chunks(sources[part.name]))

    write(target, fill)


def part_of(name: str, file: Path) -> Part:
    """What the manifest says of a file."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(file):
        digest.update(chunk)
        size += len(chunk)
    return Part(name=name, bytes=size, sha256=digest.hexdigest())


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk


def unpack(archive: Path, folder: Path, limit: int) -> Manifest:
    """Read an archive into a folder, a file for each part, named by the part's name with `/` as `_`. Raises
    InvalidRequest for one that is damaged, hostile or of another version, and RequestTooLarge."""
    try:
        with archive.open("rb") as file:
            return _unpack(Source(file), folder, limit)
    except (BadTar, zstandard.ZstdError) as error:
        raise InvalidRequest(f"The archive is damaged, or none of an exported session: {error}.") from error


def _unpack(source: Source, folder: Path, limit: int) -> Manifest:
    members = source.reader.members()
    manifest = _manifest(source, next(members, None), limit)
    for part, member in zip(manifest.parts, members, strict=False):
        if member.path != part.name.encode() or member.kind != FILE or member.extents is not None:
            raise InvalidRequest(f"The archive has {member.path!r} where its manifest names {part.name}.")
        if member.size != part.bytes:
            raise InvalidRequest(f"The archive's {part.name} has {member.size} bytes, its manifest says {part.bytes}.")
        digest = hashlib.sha256()
        with (folder / part.name.replace("/", "_")).open("xb") as target:
            for _, chunk in source.reader.chunks(member):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != part.sha256:
            raise InvalidRequest(f"The archive's {part.name} is damaged: its digest is not that of the manifest.")
    if len({part.name for part in manifest.parts}) != sum(1 for _ in folder.iterdir()):
        raise InvalidRequest("The archive lacks parts that its manifest names.")
    if next(members, None) is not None:
        raise InvalidRequest("The archive has parts that its manifest doesn't name.")
    source.finish()
    return manifest


def _manifest(source: Source, member: Member | None, limit: int) -> Manifest:
    if member is None or member.path != MANIFEST.encode() or member.size > MAX_MANIFEST or member.extents is not None:
        raise InvalidRequest("The archive is none of an exported session: it doesn't begin with a manifest.")
    text = b"".join(chunk for _, chunk in source.reader.chunks(member))
    try:
        if (version := msgspec.json.decode(text, type=_Version).version) != VERSION:
            raise InvalidRequest(f"The archive has version {version} of the format; this server reads {VERSION}.")
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The archive's manifest is not valid: {error}.") from error
    names = [part.name for part in manifest.parts]
    if len(set(names)) != len(names) or not all(_NAME.fullmatch(name) for name in names):
        raise InvalidRequest("The archive's manifest names parts twice, or parts that no session has.")
    if not {SESSION, ENTRIES} <= set(names):
        raise InvalidRequest("The archive's manifest lacks the session or its entries.")
    _check_sizes(manifest, limit)
    return manifest


def _check_sizes(manifest: Manifest, limit: int) -> None:
    if sum(part.bytes for part in manifest.parts) > limit:
        raise RequestTooLarge(f"The archive holds more than {limit} bytes; `import_mb` in the config file allows more.")
    for part in manifest.parts:
        most = {SESSION: MAX_SESSION, ENTRIES: MAX_ENTRIES}.get(part.name, limit)
        if part.bytes > most:
            raise RequestTooLarge(f"The archive's {part.name} is larger than {most} bytes.")
        if part.name.startswith(BLOBS) and part.name.removeprefix(BLOBS) != part.sha256:
            raise InvalidRequest(f"The archive's {part.name} is not named by its digest.")


class _Version(msgspec.Struct):
    version: int
