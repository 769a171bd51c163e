"""Content blocks of session events. It must not know which event allows which block: `events` lists them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hostler.wire.base import UNSET, Params, Unset

# One set of types for both directions: what is accepted is stored and sent back as it came.


class TextBlock(Params, tag="text", tag_field="type", kw_only=True):
    text: str


class RedactedBlock(Params, tag="redacted", tag_field="type", kw_only=True):
    pass


class Base64Source(Params, tag="base64", tag_field="type", kw_only=True):
    media_type: Annotated[str, Meta(min_length=1, max_length=255)]
    data: Annotated[str, Meta(min_length=1)]


class UrlSource(Params, tag="url", tag_field="type", kw_only=True):
    url: Annotated[str, Meta(min_length=1, max_length=8192)]


class FileSource(Params, tag="file", tag_field="type", kw_only=True):
    file_id: Annotated[str, Meta(min_length=1, max_length=128)]


class PlainTextSource(Params, tag="text", tag_field="type", kw_only=True):
    media_type: Literal["text/plain"]
    data: str


ImageSource = Base64Source | UrlSource | FileSource
DocumentSource = Base64Source | PlainTextSource | UrlSource | FileSource


class ImageBlock(Params, tag="image", tag_field="type", kw_only=True):
    source: ImageSource


class DocumentBlock(Params, tag="document", tag_field="type", kw_only=True):
    source: DocumentSource
    title: str | Unset | None = UNSET
    context: str | Unset | None = UNSET


class SearchResultText(Params, tag="text", tag_field="type", kw_only=True):
    text: str


class SearchResultCitations(Params, kw_only=True):
    enabled: bool


class SearchResultBlock(Params, tag="search_result", tag_field="type", kw_only=True):
    source: str
    title: str
    content: list[SearchResultText]
    citations: SearchResultCitations


MessageContent = TextBlock | ImageBlock | DocumentBlock | RedactedBlock
ResultContent = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock
AgentContent = TextBlock | RedactedBlock
