"""Files: metadata of uploads and of what sessions hand back. It must not know where bytes are kept."""

from __future__ import annotations

from hostler.wire.base import UNSET, Unset, Wire


class FileScope(Wire, tag="session", tag_field="type", kw_only=True):
    id: str


class File(Wire, tag="file", tag_field="type", kw_only=True):
    id: str
    filename: str
    mime_type: str
    size_bytes: int
    created_at: str
    downloadable: bool
    scope: FileScope | Unset = UNSET
    expires_at: str | Unset = UNSET


class FileDeleted(Wire, tag="file_deleted", tag_field="type", kw_only=True):
    id: str
