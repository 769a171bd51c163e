"""The folders of the pre-built skills: what a model reads of them is true, and their pins agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostler.skills import requirements
from hostler.skills.prebuilt import prebuilt_versions
from skills.program import PROGRAMS, Program

ROOT = Path(__file__).parents[2]
SKILLS = sorted(requirements.IDS)


def instructions(skill_id: str) -> str:
    return (requirements.FOLDER / skill_id / "SKILL.md").read_text()


@pytest.mark.parametrize("skill_id", SKILLS)
def test_the_head_of_the_instructions(skill_id: str) -> None:
    match = re.match(r"---\nname: (\w+)\ndescription: (.+)\nversion: \"(\d{8})\"\n---\n", instructions(skill_id))
    assert match is not None
    assert match[1] == skill_id
    assert 80 < len(match[2]) <= 1024
    assert len(instructions(skill_id).splitlines()) < 150


@pytest.mark.parametrize("skill_id", SKILLS)
def test_every_command_is_described_and_every_described_command_is_there(skill_id: str, tmp_path: Path) -> None:
    program = Program(skill_id, tmp_path)
    listed = set(re.findall(r"^    ([a-z-]+)", program("--help"), re.MULTILINE))
    text = instructions(skill_id)
    name = re.escape(PROGRAMS[skill_id])
    described = set(re.findall(rf"{name} ([a-z-]+)", text)) | set(re.findall(r"`([a-z-]+)`", text)) & listed
    assert described & listed == listed
    assert set(re.findall(rf"`{name} ([a-z-]+)", text)) <= listed
    for command in listed:
        help_text = program(command, "--help")
        for option in re.findall(rf"{name} {command} [^`|]*?(--[a-z-]+)", text):
            assert option in help_text, (command, option)


@pytest.mark.parametrize("skill_id", SKILLS)
def test_the_instructions_name_the_place_where_the_folder_is_mounted(skill_id: str) -> None:
    paths = re.findall(r"/mnt/skills/\S+?(?=[ `])", instructions(skill_id))
    assert paths == [f"/mnt/skills/{skill_id}/scripts/{PROGRAMS[skill_id]}"]


def test_pins_are_those_that_the_tests_run_with_and_never_disagree() -> None:
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    for skill_id in SKILLS:
        lines = requirements.of(skill_id)
        assert lines
        for line in lines:
            match = re.match(r"([\w-]+)==([\w.]+)( ;.*)?$", line)
            assert match is not None, f"{line} is not pinned"
            assert locked[match[1]] == match[2], line


def test_what_skills_share_is_the_same_in_each() -> None:
    for name, ids in (("command.py", SKILLS), ("mdblocks.py", ["docx", "pdf", "pptx"])):
        assert len({(requirements.FOLDER / skill_id / "scripts" / name).read_text() for skill_id in ids}) == 1, name


def test_only_ours_have_packages() -> None:
    assert requirements.of("skill_01") == ()
    assert requirements.of("../docx") == ()
    assert set(prebuilt_versions()) == set(SKILLS)


@pytest.mark.parametrize("skill_id", SKILLS)
def test_refusals_are_one_line(skill_id: str, tmp_path: Path) -> None:
    program = Program(skill_id, tmp_path)
    ending = skill_id
    assert "there is no such file" in program.refusal("check", f"nothing.{ending}")
    program.write("text.txt", "x")
    assert "expected a file ending in" in program.refusal("check", "text.txt")
    program.write(f"broken.{ending}", "not at all")
    assert "broken" in program.refusal("check", f"broken.{ending}")
    program.write("package.py", "")
    missing = program.run("--help")
    assert missing.returncode == 0  # needs no package


@pytest.mark.parametrize("skill_id", SKILLS)
def test_a_missing_package_is_named_with_what_to_do(skill_id: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / f"x.{skill_id}").write_bytes(b"")
    program = Program(skill_id, tmp_path)
    command = [sys.executable, "-S", "-E", str(program.path), "check", f"x.{skill_id}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert f"pip install -r {requirements.FOLDER / skill_id / 'requirements.txt'}" in done.stderr
