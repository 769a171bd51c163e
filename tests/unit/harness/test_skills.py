"""A session's skills: read from the store as they were pinned, and mounted."""

from __future__ import annotations

import asyncio
from pathlib import Path

from databases import Databases
from hostler.harness.skills import announced, load_tx, mounts
from hostler.services.skills import Skills
from hostler.skills.bundle import Sent
from hostler.store.blobs import Blobs
from hostler.wire.agents import Skill


def sent(name: str) -> list[Sent]:
    head = f"---\nname: {name}\ndescription: Does {name}.\n---\n".encode()
    return [Sent(f"{name}/SKILL.md", head), Sent(f"{name}/bin/run", b"#!/bin/sh\n"), Sent(f"{name}/data", b"x")]


def test_pinned_skills_are_read_in_the_order_of_the_agent(databases: Databases, tmp_path: Path) -> None:
    async def main() -> None:
        store, blobs = await databases.open(), Blobs(tmp_path / "files")
        blobs.open()
        service = Skills(store, blobs)
        made = [await service.create(sent(name), None) for name in ("one", "two")]
        pinned = [Skill(type="custom", skill_id=skill.id, version=skill.latest or "") for skill in reversed(made)]
        await service.delete_version(made[0].id, made[0].latest or "")
        found = await store.read(lambda: load_tx([*pinned, Skill(type="custom", skill_id="skill_x", version="1")]))
        assert [(skill.name, skill.folder) for skill in found] == [
            ("two", "/mnt/skills/two"),
            ("one", "/mnt/skills/one"),
        ]
        assert [skill.path for skill in announced(found, pinned[1:])] == ["/mnt/skills/one/SKILL.md"]
        targets = {mount.target: (mount.source.read_bytes(), mount.executable) for mount in mounts(found, blobs)}
        assert targets["/mnt/skills/one/bin/run"] == (b"#!/bin/sh\n", True)
        assert targets["/mnt/skills/two/data"] == (b"x", False)
        assert len(targets) == 6
        await store.close()

    asyncio.run(main())


def test_agents_of_one_session_may_have_skills_of_one_name(databases: Databases, tmp_path: Path) -> None:
    """Or several versions of one: each has a folder, and a list that grows moves none."""

    async def main() -> None:
        store, blobs = await databases.open(), Blobs(tmp_path / "files")
        blobs.open()
        service = Skills(store, blobs)
        one, other = await service.create(sent("one"), None), await service.create(sent("one"), None)
        third = await service.create(sent("one-2"), None)
        newer = await service.add_version(one.id, sent("one"))
        pinned = [
            Skill(type="custom", skill_id=skill_id, version=version or "")
            for skill_id, version in (
                (one.id, one.latest), (other.id, other.latest), (one.id, newer.version), (third.id, third.latest),
            )
        ]  # fmt: skip
        folders = ["/mnt/skills/one", "/mnt/skills/one-2", "/mnt/skills/one-3", "/mnt/skills/one-2-2"]
        for length in range(5):
            found = await store.read(lambda length=length: load_tx([*pinned[:length], *pinned[:length]]))
            assert [skill.folder for skill in found] == folders[:length]
        assert len({mount.target for mount in mounts(found, blobs)}) == 12
        await store.close()

    asyncio.run(main())
