"""`hostler skills prepare`: installs from the operator's index, says what it did, and `doctor` says so too."""

from __future__ import annotations

import json
from pathlib import Path

from commands.command import hostler
from hostler.skills import requirements
from sandbox.wheels import Index, serving, wheel


def stand_ins(folder: Path, *skill_ids: str) -> None:
    """Tiny packages in the place of the real ones."""
    folder.mkdir(exist_ok=True)
    for skill_id in skill_ids:
        for line in requirements.of(skill_id):
            name, _, version = line.partition(" ")[0].partition("==")
            wheel(folder, name.replace("-", "_"), version)


def environment(index: Index) -> dict[str, str]:
    hidden = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "HTTPS_PROXY": "", "https_proxy": ""}
    return hidden | {"PIP_INDEX_URL": index.url, "PIP_CONFIG_FILE": "/dev/null"}


def test_all_are_installed_and_found_again(tmp_path: Path) -> None:
    stand_ins(tmp_path / "wheels", *requirements.IDS)
    with serving(tmp_path / "wheels") as index:
        before = hostler("doctor", "--json", "--data-dir", tmp_path / "data", "--port", 0)
        found = {check["name"]: check for check in json.loads(before.stdout)}
        for skill_id in requirements.IDS:
            check = found[f"skill {skill_id}: packages"]
            assert (check["ok"], check["required"], check["remedy"]) == (False, False, "hostler skills prepare")
        assert not (tmp_path / "data").exists()
        done = hostler("skills", "prepare", "--data-dir", tmp_path / "data", environ=environment(index))
        assert done.returncode == 0, done.stdout + done.stderr
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
            "ok   docx",
            "ok   pdf",
            "ok   pptx",
            "ok   xlsx",
        ]
        asked = len(index.asked)
        again = hostler("skills", "prepare", "--json", "--data-dir", tmp_path / "data", environ=environment(index))
        assert len(index.asked) == asked
    answer = {skill["id"]: skill for skill in json.loads(again.stdout)}
    assert list(answer) == list(requirements.IDS)
    assert answer["xlsx"]["packages"] == ["et_xmlfile-2.0.0", "openpyxl-3.1.5", "pillow-13.0.0"]
    assert answer["xlsx"]["bytes"] > 0
    after = hostler("doctor", "--data-dir", tmp_path / "data", "--port", 0)
    assert "ok   skill xlsx: packages: 3 installed, 0 MiB" in after.stdout


def test_what_fails_is_said_with_the_reason_and_the_rest_is_installed(tmp_path: Path) -> None:
    stand_ins(tmp_path / "wheels", "docx")
    with serving(tmp_path / "wheels") as index:
        done = hostler("skills", "prepare", "--data-dir", tmp_path / "data", environ=environment(index))
    assert done.returncode == 1
    assert "ok   docx: lxml-" in done.stdout
    assert "FAIL xlsx: Installing et-xmlfile with pip failed." in done.stdout
    assert "et-xmlfile" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
