"""A session's skills: read from the store as they were pinned, and mounted."""

from __future__ import annotations

import asyncio
from pathlib import Path

from databases import Databases
from hostler.harness.skills import MountedSkill, SkillFile, load_tx, mounts
from hostler.sandbox.contract import Mount
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
        assert [(skill.name, skill.announced.path) for skill in found] == [
            ("two", "/mnt/skills/two/SKILL.md"),
            ("one", "/mnt/skills/one/SKILL.md"),
        ]
        targets = {mount.target: (mount.source.read_bytes(), mount.executable) for mount in mounts(found, blobs)}
        assert targets["/mnt/skills/one/bin/run"] == (b"#!/bin/sh\n", True)
        assert targets["/mnt/skills/two/data"] == (b"x", False)
        assert len(targets) == 6
        await store.close()

    asyncio.run(main())


def test_a_skill_that_two_agents_have_is_mounted_once() -> None:
    blobs = Blobs(Path("/blobs"))
    skill = MountedSkill("one", "d", [SkillFile("SKILL.md", "aa11", False)])
    expected = [Mount(source=blobs.path("aa11"), target="/mnt/skills/one/SKILL.md")]
    assert mounts([skill, skill], blobs) == expected
