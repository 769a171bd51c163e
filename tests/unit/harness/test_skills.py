"""A session's skills: read from the store as they were pinned, and mounted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from databases import Databases
from hostler.harness.skills import MountedSkill, announced, mounts, skills_tx
from hostler.ids import new_id
from hostler.services.agent_skills import pin_tx
from hostler.services.skills import Skills
from hostler.skills.bundle import Sent
from hostler.store.blobs import Blobs
from hostler.store.store import Store
from hostler.wire.agents import SessionAgent, Skill


def sent(name: str) -> list[Sent]:
    head = f"---\nname: {name}\ndescription: Does {name}.\n---\n".encode()
    return [Sent(f"{name}/SKILL.md", head), Sent(f"{name}/bin/run", b"#!/bin/sh\n"), Sent(f"{name}/data", b"x")]


def session_agent(name: str, *skills: Skill, members: Sequence[Any] = ()) -> SessionAgent:
    body = {
        "type": "agent", "id": name, "version": 1, "name": name, "description": None, "model": {"id": "m"},
        "system": None, "tools": [], "mcp_servers": [], "skills": [msgspec.to_builtins(skill) for skill in skills],
        "execution_identity": {"type": "service_account"},
        "multiagent": {"type": "coordinator", "agents": list(members)} if members else None,
    }  # fmt: skip
    return msgspec.convert(body, SessionAgent)


def at(skill: Any, version: str | None = None) -> Skill:
    return Skill(type="custom", skill_id=skill.id, version=version or skill.latest)


class Shelf:
    """A store with a service, and sessions that pin."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.blobs = Blobs(folder / "files")
        self.blobs.open()
        self.service = Skills(store, self.blobs)

    async def pinned(self, agent: SessionAgent) -> list[MountedSkill]:
        session_id = new_id("sesn")
        await self.store.write(lambda: pin_tx(session_id, agent))
        return await self.store.read(lambda: skills_tx(session_id))


def played(databases: Databases, folder: Path, play: Callable[[Shelf], Awaitable[None]]) -> None:
    async def main() -> None:
        store = await databases.open()
        await play(Shelf(store, folder))
        await store.close()

    asyncio.run(main())


def test_what_is_pinned_is_mounted_and_announced(databases: Databases, tmp_path: Path) -> None:
    async def play(shelf: Shelf) -> None:
        one, two = [await shelf.service.create(sent(name), None) for name in ("one", "two")]
        agent = session_agent("a", at(two), at(one))
        await shelf.service.delete_version(one.id, one.latest or "")
        found = await shelf.pinned(agent)
        assert [skill.folder for skill in found] == ["/mnt/skills/two", "/mnt/skills/one"]
        assert [skill.path for skill in announced(found, [at(one)])] == ["/mnt/skills/one/SKILL.md"]
        targets = {mount.target: (mount.source.read_bytes(), mount.executable) for mount in mounts(found, shelf.blobs)}
        assert targets["/mnt/skills/one/bin/run"] == (b"#!/bin/sh\n", True)
        assert targets["/mnt/skills/two/data"] == (b"x", False)
        assert len(targets) == 6
        assert await shelf.pinned(session_agent("none")) == []

    played(databases, tmp_path, play)


def test_agents_of_one_session_may_have_skills_of_one_name(databases: Databases, tmp_path: Path) -> None:
    """Or several versions of one: each has a folder to itself, and what two agents have is there once."""

    async def play(shelf: Shelf) -> None:
        one, other = [await shelf.service.create(sent("one"), None) for _ in range(2)]
        third = await shelf.service.create(sent("one-2"), None)
        newer = await shelf.service.add_version(one.id, sent("one"))
        members = [session_agent("m", at(one), at(other)), session_agent("n", at(one, newer.version), at(third))]
        found = await shelf.pinned(session_agent("a", at(one), members=[msgspec.to_builtins(m) for m in members]))
        folders = [skill.folder for skill in found]
        assert folders == ["/mnt/skills/one", "/mnt/skills/one-2", "/mnt/skills/one-3", "/mnt/skills/one-2-2"]
        assert len({mount.target for mount in mounts(found, shelf.blobs)}) == 12
        assert [skill.path for skill in announced(found, members[1].skills)] == [
            "/mnt/skills/one-3/SKILL.md",
            "/mnt/skills/one-2-2/SKILL.md",
        ]

    played(databases, tmp_path, play)
