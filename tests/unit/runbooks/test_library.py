"""What is kept of the runbooks that are deployed, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from databases import Databases
from hostler.errors import InvalidRequest
from hostler.runbooks.library import WORKFLOW, Fault, Library
from hostler.runbooks.validating import Finding


def test_files_are_tried_until_they_are_kept(databases: Databases, tmp_path: Path) -> None:
    """Those that are kept have been tried; to deploy them again needs no process."""
    tried: list[str] = []
    refused = [Finding("IMPORT", "it can't be")]

    async def faults(folder: Path, slug: str, workflow_class: str, modules: list[str]) -> Sequence[Fault]:
        tried.append((folder / WORKFLOW).read_text())
        return [refused.pop()] if refused else []

    async def main() -> None:
        store = await databases.open()
        library = Library(store, tmp_path / "bundles", faults)
        with pytest.raises(InvalidRequest, match="IMPORT: it can't be"):
            await library.deploy("one", "1", "W", [], {WORKFLOW: "a"})
        for slug, version, text in [("one", "1", "a"), ("one", "2", "a"), ("one", "2", "b"), ("two", "1", "a")]:
            await library.deploy(slug, version, "W", [], {WORKFLOW: text})
        await library.deploy("one", "3", "W", [], {WORKFLOW: "a"})
        assert tried == ["a", "a", "b", "a"]
        newest = await library.get("one")
        assert (newest.version, newest.files) == ("3", {WORKFLOW: "a"})
        await store.close()

    asyncio.run(main())
