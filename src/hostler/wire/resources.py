"""Resources of a session: files and repositories, and the kind that this server refuses by name for now."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hostler.wire.base import UNSET, Params, Unset, Wire, matching

MountPath = Annotated[str, Meta(min_length=1, max_length=4096)]


class FileResourceParams(Params, tag="file", tag_field="type", kw_only=True):
    file_id: Annotated[str, Meta(min_length=1, max_length=128)]
    mount_path: MountPath | None = None


class BranchCheckout(Params, tag="branch", tag_field="type", kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)]


class CommitCheckout(Params, tag="commit", tag_field="type", kw_only=True):
    sha: Annotated[
        str,
        matching(
            r"^(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})\Z", "must be the full hash of a commit, 40 or 64 hexadecimal digits"
        ),
    ]


Checkout = BranchCheckout | CommitCheckout
Token = Annotated[str, Meta(min_length=1, max_length=4096)]


class RepositoryResourceParams(Params, tag="github_repository", tag_field="type", kw_only=True):
    url: Annotated[str, Meta(min_length=1, max_length=1024)]
    authorization_token: Token | None = None
    checkout: Checkout | None = None
    mount_path: MountPath | None = None

    def __repr__(self) -> str:
        return "RepositoryResourceParams(...)"


class MemoryStoreResourceParams(Params, tag="memory_store", tag_field="type", kw_only=True):
    memory_store_id: str
    access: str | Unset | None = UNSET
    instructions: str | Unset | None = UNSET


ResourceParams = FileResourceParams | RepositoryResourceParams | MemoryStoreResourceParams


class ResourceUpdate(Params, kw_only=True):
    authorization_token: Token

    def __repr__(self) -> str:
        return "ResourceUpdate(...)"


class FileResource(Wire, tag="file", tag_field="type", kw_only=True):
    id: str
    file_id: str
    mount_path: str
    created_at: str
    updated_at: str


class RepositoryResource(Wire, tag="github_repository", tag_field="type", kw_only=True):
    id: str
    url: str
    mount_path: str
    checkout: Checkout | None = None
    created_at: str
    updated_at: str


Resource = FileResource | RepositoryResource


class ResourceDeleted(Wire, tag="session_resource_deleted", tag_field="type", kw_only=True):
    id: str
