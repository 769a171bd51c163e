"""Skills through the strict official SDK: uploads in all its forms, and an agent that reads one and runs its script."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.lib import files_from_dir

from contract.world import BUILTINS, CONFIG, SCRIPT, World, only, sync_world, unknown_fields
from databases import Databases
from running import Server

HEAD = "---\nname: {name}\ndescription: Adds numbers. Use it for sums.\n---\n# Sums\nRun scripts/add.sh.\n"


def folder(path: Path, name: str = "adding-up", answer: str = "42") -> Path:
    """A skill's folder on disk."""
    made = path / name
    (made / "scripts").mkdir(parents=True, exist_ok=True)
    (made / "SKILL.md").write_text(HEAD.format(name=name))
    (made / "scripts" / "add.sh").write_text(f"#!/bin/sh\necho {answer}\n")
    return made


@pytest.fixture
def skill(world: World, tmp_path: Path) -> Any:
    return world.beta.skills.create(files=files_from_dir(folder(tmp_path)))


def test_a_skill_from_a_directory(either: World, tmp_path: Path) -> None:
    made = either.beta.skills.create(files=files_from_dir(folder(tmp_path)), display_name="Sums")
    assert (made.type, made.display_name, made.source.type) == ("skill", "Sums", "custom")
    assert either.beta.skills.retrieve(made.id) == made
    assert either.sdk.skills.retrieve(made.id).latest_version_id == made.latest_version_id, "the GA twin"
    version = either.beta.skills.versions.retrieve("latest", skill_id=made.id)
    assert (version.id, version.name, version.skill_id) == (made.latest_version_id, "adding-up", made.id)
    assert version.description == "Adds numbers. Use it for sums."
    more = either.beta.skills.versions.create(made.id, files=files_from_dir(folder(tmp_path, answer="43")))
    assert int(more.id) > int(version.id)
    assert [found.id for found in either.beta.skills.versions.list(made.id, limit=1)] == [more.id, version.id]
    for value in (made, version, either.beta.skills.list(limit=3)):
        assert [field for field in unknown_fields(value) if field != ".has_more"] == []
    for one in (version, more):
        gone = either.beta.skills.versions.delete(one.id, skill_id=made.id)
        assert gone.to_dict() == {"id": one.id, "type": "skill_version_deleted"}
    assert either.beta.skills.delete(made.id).to_dict() == {"id": made.id, "type": "skill_deleted"}
    with pytest.raises(anthropic.NotFoundError):
        either.beta.skills.retrieve(made.id)


def test_the_ga_class(either: World, tmp_path: Path) -> None:
    made = either.sdk.skills.create(files=files_from_dir(folder(tmp_path)))
    assert made.display_name == "adding-up"
    version = either.sdk.skills.versions.create(made.id, files=files_from_dir(folder(tmp_path)))
    assert either.sdk.skills.versions.retrieve("latest", skill_id=made.id).id == version.id
    assert made.id in [found.id for found in either.sdk.skills.list(limit=5, source="custom")]
    with pytest.raises(anthropic.BadRequestError, match="delete all of its versions"):
        either.sdk.skills.delete(made.id)
    for found in list(either.sdk.skills.versions.list(made.id)):
        either.sdk.skills.versions.delete(found.id, skill_id=made.id)
    assert either.sdk.skills.delete(made.id).type == "skill_deleted"


def test_an_archive_and_its_download(either: World, tmp_path: Path) -> None:
    source = folder(tmp_path)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    forms: list[Any] = [("adding-up.zip", packed.getvalue(), "application/zip"), packed.getvalue()]
    for form in forms:
        made = either.beta.skills.create(files=[form])
        content = either.beta.skills.versions.download("latest", skill_id=made.id).read()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.namelist() == ["adding-up/SKILL.md", "adding-up/scripts/add.sh"]


def test_uploads_that_are_refused(world: World, tmp_path: Path) -> None:
    for files, says in (
        ([("SKILL.md", b"x")], "must begin with the skill's folder"),
        ([("a/SKILL.md", b"no head")], "must begin with a line '---'"),
        ([("a/SKILL.md", HEAD.format(name="a").encode()), ("a/../b", b"")], r"'\.\.'"),
        ([folder(tmp_path) / "SKILL.md"], "must begin with the skill's folder"),
    ):
        with pytest.raises(anthropic.BadRequestError, match=says):
            world.beta.skills.create(files=files)


def test_an_agent_reads_its_skill_and_runs_its_script_but_can_not_change_it(world: World, skill: Any) -> None:
    agent = world.agent(BUILTINS, skills=[{"type": "custom", "skill_id": skill.id}])
    assert [(found.skill_id, found.version) for found in agent.skills] == [(skill.id, skill.latest_version_id)]
    session_id = world.session(agent=agent.id)
    place = "/mnt/skills/adding-up"
    world.turn(
        session_id, f"run: {place}/scripts/add.sh; ls -l {place} | grep -c '^-rw-r--r--'; head -2 {place}/SKILL.md"
    )
    assert world.last_text(session_id) == "It said: 42\n1\n---\nname: adding-up"
    changes = (
        f"echo x >> {place}/SKILL.md", f"rm {place}/SKILL.md", f"touch {place}/new", "mkdir /mnt/skills/other",
        f"chmod 777 {place}/scripts/add.sh", f"mv {place} /tmp/", f"ln -sf /tmp {place}/scripts",
    )  # fmt: skip
    for change in changes:
        world.turn(session_id, f"run: {change}")
        assert only(world.raw(session_id), "agent.tool_result")[-1]["is_error"] is True, change
    world.turn(session_id, f"read {place}/SKILL.md")
    assert "Run scripts/add.sh." in world.last_text(session_id)


def test_a_version_that_is_deleted_under_a_running_session(world: World, skill: Any) -> None:
    agent = world.agent(BUILTINS, skills=[{"type": "custom", "skill_id": skill.id}])
    begun, fresh = world.session(agent=agent.id), world.session(agent=agent.id)
    script = "run: /mnt/skills/adding-up/scripts/add.sh"
    world.turn(begun, script)
    world.beta.skills.versions.delete(skill.latest_version_id, skill_id=skill.id)
    world.beta.skills.delete(skill.id)
    for session_id in (begun, fresh):
        world.turn(session_id, script)
        assert world.last_text(session_id).strip() == "It said: 42"
    with pytest.raises(anthropic.NotFoundError, match=r"agent\.skills\.0"):
        world.session(agent=agent.id)


def test_a_new_version_changes_no_session(world: World, skill: Any, tmp_path: Path) -> None:
    agent = world.agent(BUILTINS, skills=[{"type": "custom", "skill_id": skill.id}])
    session_id = world.session(agent=agent.id)
    world.beta.skills.versions.create(skill.id, files=files_from_dir(folder(tmp_path, answer="43")))
    script = "run: /mnt/skills/adding-up/scripts/add.sh"
    world.turn(session_id, script)
    assert world.last_text(session_id).strip() == "It said: 42"
    updated = world.beta.agents.update(agent.id, skills=[{"type": "custom", "skill_id": skill.id, "version": "latest"}])
    session_id = world.session(agent=updated.id)
    world.turn(session_id, script)
    assert world.last_text(session_id).strip() == "It said: 43"


@pytest.fixture
def mortal(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mortal")
    with Server(folder / "data", config=CONFIG, scripted=SCRIPT, database=databases.url("skills")) as server:
        yield server


def test_kill_between_upload_creation_and_use(mortal: Server, tmp_path: Path) -> None:
    """What was acknowledged is there after each death: the skill, the agent, and the session's copy in its sandbox."""

    def reborn() -> World:
        mortal.kill()
        mortal.start()
        return stack.enter_context(sync_world(mortal))

    with contextlib.ExitStack() as stack:
        world = stack.enter_context(sync_world(mortal))
        skill = world.beta.skills.create(files=files_from_dir(folder(tmp_path)))
        world = reborn()
        agent = world.agent(BUILTINS, skills=[{"type": "custom", "skill_id": skill.id}])
        session_id = world.session(agent=agent.id)
        world = reborn()
        world.turn(session_id, "run: /mnt/skills/adding-up/scripts/add.sh")
        assert world.last_text(session_id).strip() == "It said: 42"
        world.beta.skills.versions.delete(skill.latest_version_id, skill_id=skill.id)
        world = reborn()
        world.turn(session_id, "run: /mnt/skills/adding-up/scripts/add.sh; head -1 /mnt/skills/adding-up/SKILL.md")
        assert world.last_text(session_id) == "It said: 42\n---"
