"""Resources of a session: files, and the kinds that this server refuses by name for now."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from hostler.wire.base import UNSET, Params, Unset, Wire

MountPath = Annotated[str, Meta(min_length=1, max_length=4096)]


class FileResourceParams(Params, tag="file", tag_field="type", kw_only=True):
    file_id: Annotated[str, Meta(min_length=1, max_length=128)]
    mount_path: MountPath | None = None


class RepositoryResourceParams(Params, tag="github_repository", tag_field="type", kw_only=True):
    url: str
    authorization_token: str | Unset | None = UNSET
    checkout: dict[str, Any] | Unset | None = UNSET
    mount_path: MountPath | None = None


class MemoryStoreResourceParams(Params, tag="memory_store", tag_field="type", kw_only=True):
    memory_store_id: str
    access: str | Unset | None = UNSET
    instructions: str | Unset | None = UNSET


ResourceParams = FileResourceParams | RepositoryResourceParams | MemoryStoreResourceParams


class ResourceUpdate(Params, kw_only=True):
    authorization_token: str


class FileResource(Wire, tag="file", tag_field="type", kw_only=True):
    id: str
    file_id: str
    mount_path: str
    created_at: str
    updated_at: str


class ResourceDeleted(Wire, tag="session_resource_deleted", tag_field="type", kw_only=True):
    id: str
