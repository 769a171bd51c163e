"""Skills over HTTP on both databases: shapes, lists, deletion, and what agents and sessions make of them."""

from __future__ import annotations

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from hostler.skills.prebuilt import prebuilt_versions, read_prebuilt
from serving import Server, ok, refused

Json = dict[str, Any]
TOOLSET = {"type": "agent_toolset_20260401"}
NO_READ = {**TOOLSET, "configs": [{"name": "read", "enabled": False}]}
ONLY_READ = {**TOOLSET, "default_config": {"enabled": False}, "configs": [{"name": "read", "enabled": True}]}
OLD = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01,skills-2025-10-02"}


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def folder(name: str = "my-skill", **files: str) -> list[Any]:
    head = f"---\nname: {name}\ndescription: Does {name}.\n---\n"
    contents = {"SKILL.md": head, **files}
    return [("files[]", (f"{name}/{path}", text.encode())) for path, text in contents.items()]


def made(http: httpx2.Client, name: str = "my-skill", **files: str) -> Json:
    return ok(http.post("/v1/skills", files=folder(name, **files)))


def agent_with(http: httpx2.Client, *skills: Json, tools: Any = (TOOLSET,), **more: Any) -> httpx2.Response:
    return http.post(
        "/v1/agents", json={"name": "a", "model": "m", "tools": list(tools), "skills": list(skills), **more}
    )


def custom(skill: Json, **more: Any) -> Json:
    return {"type": "custom", "skill_id": skill["id"], **more}


def test_a_skill_and_its_versions(http: httpx2.Client) -> None:
    skill = ok(http.post("/v1/skills", files=folder(), data={"display_name": "My Skill"}))
    first = skill["latest_version_id"]
    assert skill == {
        "type": "skill",
        "id": skill["id"],
        "display_name": "My Skill",
        "latest_version_id": first,
        "source": {"type": "custom"},
        "created_at": skill["created_at"],
        "updated_at": skill["created_at"],
    }
    path = f"/v1/skills/{skill['id']}"
    assert ok(http.get(path)) == skill
    version = ok(http.get(f"{path}/versions/latest"))
    assert version == {
        "type": "skill_version",
        "id": first,
        "skill_id": skill["id"],
        "name": "my-skill",
        "description": "Does my-skill.",
        "created_at": skill["created_at"],
    }
    second = ok(http.post(f"{path}/versions", files=folder(more="x")))
    assert int(second["id"]) > int(first)
    assert ok(http.get(path))["latest_version_id"] == second["id"]
    assert [found["id"] for found in ok(http.get(f"{path}/versions"))["data"]] == [second["id"], first]
    page = ok(http.get(f"{path}/versions", params={"limit": 1}))
    assert page["has_more"] is True
    last = ok(http.get(f"{path}/versions", params={"limit": 1, "page": page["next_page"]}))
    assert ([found["id"] for found in last["data"]], last["has_more"], last["next_page"]) == ([first], False, None)
    assert "name is my-skill and can't be changed to other" in refused(
        http.post(f"{path}/versions", files=folder("other"))
    )
    for unknown in (
        "/v1/skills/skill_x",
        "/v1/skills/skill_x/versions",
        f"{path}/versions/1",
        f"{path}/versions/1/content",
    ):
        refused(http.get(unknown), 404)


def test_the_older_shape(http: httpx2.Client) -> None:
    skill = ok(http.post("/v1/skills", files=folder(), data={"display_title": "T"}, headers=OLD))
    assert (skill["display_title"], skill["source"]) == ("T", "custom")
    assert set(skill) == {"type", "id", "display_title", "latest_version", "source", "created_at", "updated_at"}
    version = ok(http.get(f"/v1/skills/{skill['id']}/versions/latest", headers=OLD))
    assert (version["version"], version["directory"], version["id"]) == (
        skill["latest_version"],
        "my-skill",
        version["version"],
    )
    for headers in ({"anthropic-version": "2023-06-01"}, {"anthropic-beta": OLD["anthropic-beta"]}):
        assert ok(http.get(f"/v1/skills/{skill['id']}", headers=headers))["display_name"] == "T"
    ok(http.delete(f"/v1/skills/{skill['id']}/versions/{version['version']}"))
    assert ok(http.get(f"/v1/skills/{skill['id']}", headers=OLD))["latest_version"] is None
    assert ok(http.get(f"/v1/skills/{skill['id']}"))["latest_version_id"] == ""


def test_no_beta_header_is_needed(http: httpx2.Client) -> None:
    del http.headers["anthropic-beta"]
    assert made(http)["display_name"] == "my-skill"


def test_the_list(http: httpx2.Client) -> None:
    ids = [made(http, f"skill-{number}")["id"] for number in range(3)][::-1]
    page = ok(http.get("/v1/skills", params={"limit": 2, "source": "custom"}))
    assert ([skill["id"] for skill in page["data"]], page["has_more"]) == (ids[:2], True)
    rest = ok(http.get("/v1/skills", params={"page": page["next_page"], "source": "custom"}))
    assert ([skill["id"] for skill in rest["data"]], rest["has_more"], rest["next_page"]) == (ids[2:], False, None)
    for wrong in ({"source": "plugin"}, {"limit": 0}, {"limit": 1001}, {"page": "x"}, {"order": "asc"}):
        refused(http.get("/v1/skills", params=wrong))


def test_a_download_has_one_top_folder_and_modes(http: httpx2.Client) -> None:
    files = [
        (part, (name.replace("my-skill/", "Upload Folder/"), content))
        for part, (name, content) in folder(**{"scripts/run.sh": "#!/bin/sh\n", "é '1'.md": "x"})
    ]
    skill = ok(http.post("/v1/skills", files=files))
    answer = http.get(f"/v1/skills/{skill['id']}/versions/latest/content")
    assert answer.headers["content-type"] == "application/zip"
    assert "my-skill.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
        assert modes == {"my-skill/SKILL.md": 0o644, "my-skill/scripts/run.sh": 0o755, "my-skill/é '1'.md": 0o644}
        assert archive.testzip() is None
    again = ok(http.post(f"/v1/skills/{skill['id']}/versions", files={"files[]": ("x.zip", answer.content)}))
    assert http.get(f"/v1/skills/{skill['id']}/versions/{again['id']}/content").content == answer.content


def test_deletion(http: httpx2.Client) -> None:
    skill = made(http)
    path = f"/v1/skills/{skill['id']}"
    assert "delete all of its versions first" in refused(http.delete(path))
    assert "latest" in refused(http.delete(f"{path}/versions/latest"))
    version = skill["latest_version_id"]
    assert ok(http.delete(f"{path}/versions/{version}")) == {"type": "skill_version_deleted", "id": version}
    refused(http.delete(f"{path}/versions/{version}"), 404)
    refused(http.get(f"{path}/versions/{version}"), 404)
    refused(http.get(f"{path}/versions/latest"), 404)
    assert ok(http.get(f"{path}/versions"))["data"] == []
    assert ok(http.delete(path)) == {"type": "skill_deleted", "id": skill["id"]}
    refused(http.get(path), 404)
    refused(http.delete(path), 404)


def test_uploads_that_are_refused_leave_nothing(server: Server, http: httpx2.Client) -> None:
    before = server.blobs.names()
    bad = [("files[]", ("my-skill/../x", b"x"))]
    for body, says in (
        ({"files": [*folder(), *bad]}, "'..'"),
        ({"files": {"files[]": ("a.zip", b"PK\x03\x04broken")}}, "can't be read"),
        ({"files": folder(), "data": {"display_name": "x" * 256}}, "display_name"),
        ({"files": folder(), "data": {"display_name": "two\nlines"}}, "display_name"),
        ({"files": folder(), "data": {"display_name": "a", "display_title": "b"}}, "twice"),
        ({"files": folder(), "data": {"other": "x"}}, "other"),
        ({"files": [("files", file) for _, file in folder()]}, "files"),
        ({"data": {"display_name": "x"}, "files": {}}, "multipart"),
        ({"files": [("files[]", (f"s/{n}", b"")) for n in range(600)]}, "parts"),
        ({"json": {}}, "multipart"),
    ):
        assert says in refused(http.post("/v1/skills", **body)), says
    skill = made(http)
    refused(http.post(f"/v1/skills/{skill['id']}/versions", files=folder(), data={"display_name": "x"}))
    assert [found["id"] for found in ok(http.get("/v1/skills"))["data"]] == [skill["id"]]
    assert len(server.blobs.names()) == len(before) + 1


def test_a_name_that_is_not_utf8(http: httpx2.Client) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files[]"; filename="my-skill/\xff.md"\r\n\r\nx\r\n'
        b'--b\r\nContent-Disposition: form-data; name="files[]"; filename="my-skill/SKILL.md"\r\n\r\nx\r\n--b--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert "not UTF-8" in refused(http.post("/v1/skills", content=body, headers=headers))


def test_an_upload_that_is_too_large(http: httpx2.Client) -> None:
    huge = [*folder(), *(("files[]", (f"my-skill/{n}", bytes(11 * 1024 * 1024))) for n in range(3))]
    assert "31457280 bytes" in refused(http.post("/v1/skills", files=huge), 413)


def test_five_hundred_files(http: httpx2.Client) -> None:
    made(http, **{f"a-rather-long-file-name-for-a-skill/{number:0100}": "x" for number in range(499)})


def test_versions_made_at_once_have_ids_of_their_own(http: httpx2.Client) -> None:
    skill = made(http)
    path = f"/v1/skills/{skill['id']}/versions"
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: ok(http.post(path, files=folder(n=str(n))))["id"], range(16)))
    listed = [version["id"] for version in ok(http.get(path, params={"limit": 100}))["data"]]
    assert sorted(listed, reverse=True) == listed
    assert set(listed) == {*ids, skill["latest_version_id"]}
    assert len(listed) == 17


def test_what_an_agent_asks_for_is_resolved(http: httpx2.Client) -> None:
    skill, other = made(http), made(http, "other")
    first = skill["latest_version_id"]
    agent = ok(agent_with(http, custom(skill), custom(other, version="latest")))
    resolved = [custom(skill, version=first), custom(other, version=other["latest_version_id"])]
    assert agent["skills"] == resolved
    newest = ok(http.post(f"/v1/skills/{skill['id']}/versions", files=folder(a="b")))["id"]
    path = f"/v1/agents/{agent['id']}"
    assert ok(http.get(path))["skills"] == resolved, "an agent stays at what it was given"
    assert ok(http.post(path, json={"description": "d"}))["skills"] == resolved
    assert ok(http.post(path, json={"skills": [custom(skill, version=None)]}))["skills"] == [
        custom(skill, version=newest)
    ]
    unchanged = ok(http.post(path, json={"skills": [custom(skill)]}))
    assert unchanged["version"] == 3, "nothing changed makes no version"
    assert ok(http.post(path, json={"skills": [custom(skill, version=first)]}))["skills"] == [
        custom(skill, version=first)
    ]
    assert ok(http.post(path, json={"skills": None}))["skills"] == []


def test_skills_that_are_refused(http: httpx2.Client) -> None:
    skill, twin = made(http), made(http)
    for asked, says, status in (
        ([{"type": "custom", "skill_id": "skill_x"}], "skills.0.skill_id", 404),
        ([custom(skill, version="1")], "skills.0.version", 404),
        ([custom(skill, version="")], None, 200),
        ([custom(skill, type="anthropic")], "skills.0.type", 400),
        ([{"type": "plugin", "skill_id": skill["id"]}], "skills.0.type", 400),
        ([custom(skill), custom(skill)], "skills.1.skill_id: duplicate", 400),
        ([custom(skill), custom(twin)], "has the name my-skill", 400),
        ([custom(skill)] * 21, "skills", 400),
    ):  # fmt: skip
        answer = agent_with(http, *asked)
        assert answer.status_code == status, answer.text
        if says:
            assert says in refused(answer, status)


def test_skills_need_read(http: httpx2.Client, environment: Json) -> None:
    skill = custom(made(http))
    for tools in ((), (NO_READ,)):
        assert "reads its skills with the read tool" in refused(agent_with(http, skill, tools=tools))
    agent = ok(agent_with(http, skill, tools=(ONLY_READ,)))
    for change in ({"tools": []}, {"tools": None}, {"tools": [NO_READ]}):
        assert "reads its skills with the read tool" in refused(http.post(f"/v1/agents/{agent['id']}", json=change))
    ok(http.post(f"/v1/agents/{agent['id']}", json={"tools": [], "skills": []}))
    over = {"type": "agent_with_overrides", "id": agent["id"], "version": 1}
    body = {"agent": {**over, "tools": []}, "environment_id": environment["id"]}
    assert "reads its skills with the read tool" in refused(http.post("/v1/sessions", json=body))
    ok(http.post("/v1/sessions", json={**body, "agent": {**over, "tools": [], "skills": []}}))
    session = ok(http.post("/v1/sessions", json={**body, "agent": over}))
    path = f"/v1/sessions/{session['id']}"
    assert "reads its skills with the read tool" in refused(http.post(path, json={"agent": {"tools": [NO_READ]}}))
    ok(http.post(path, json={"agent": {"tools": [TOOLSET]}}))


def test_overrides_of_a_session(http: httpx2.Client, agent: Json, environment: Json) -> None:
    skill = made(http)
    over = {"type": "agent_with_overrides", "id": agent["id"]}
    body = {"agent": {**over, "skills": [custom(skill)]}, "environment_id": environment["id"]}
    session = ok(http.post("/v1/sessions", json=body))
    assert session["agent"]["skills"] == [custom(skill, version=skill["latest_version_id"])]
    assert ok(http.get(f"/v1/agents/{agent['id']}"))["skills"] == []
    for skills in (None, []):
        body["agent"] = {**over, "skills": skills}
        assert ok(http.post("/v1/sessions", json=body))["agent"]["skills"] == []
    body["agent"] = {**over, "skills": [{"type": "custom", "skill_id": "skill_x"}]}
    assert "agent.skills.0.skill_id" in refused(http.post("/v1/sessions", json=body), 404)


def test_what_a_session_has_pinned_stays_until_it_ends(server: Server, http: httpx2.Client, environment: Json) -> None:
    """Also over the sweeps of versions and of files."""
    skill = made(http, note="only in this one")
    agent = ok(agent_with(http, custom(skill)))
    body = {"agent": agent["id"], "environment_id": environment["id"]}
    one, two = (ok(http.post("/v1/sessions", json=body))["id"] for _ in range(2))
    ok(http.delete(f"/v1/skills/{skill['id']}/versions/{skill['latest_version_id']}"))
    ok(http.delete(f"/v1/skills/{skill['id']}"))
    assert "agent.skills.0.skill_id" in refused(http.post("/v1/sessions", json=body), 404)
    names = server.blobs.names()
    for name in names:
        os.utime(server.blobs.path(name), (0, 0))  # as if they had been there for long

    def swept() -> tuple[int, int]:
        return server.call(server.services.skills.sweep()), server.call(server.services.files.sweep())

    assert swept() == (0, 0)
    ok(http.post(f"/v1/sessions/{one}/archive"))
    assert swept() == (0, 0)
    assert ok(http.get(f"/v1/sessions/{two}"))["agent"]["skills"] == agent["skills"]
    ok(http.delete(f"/v1/sessions/{two}"))
    assert swept() == (1, 2)
    assert server.blobs.names() == []


def test_the_skills_of_a_roster_are_pinned_too(server: Server, http: httpx2.Client, environment: Json) -> None:
    skill = made(http)
    member = ok(agent_with(http, custom(skill)))
    roster = {"type": "coordinator", "agents": [member["id"]]}
    coordinator = ok(agent_with(http, multiagent=roster))
    body = {"agent": coordinator["id"], "environment_id": environment["id"]}
    session = ok(http.post("/v1/sessions", json=body))
    assert session["agent"]["multiagent"]["agents"][0]["skills"] == member["skills"]
    ok(http.delete(f"/v1/skills/{skill['id']}/versions/{skill['latest_version_id']}"))
    assert server.call(server.services.skills.sweep()) == 0
    said = refused(http.post("/v1/sessions", json=body), 404)
    assert (
        said == f"agent: member a: skills.0.version: skill {skill['id']} has no version {skill['latest_version_id']}."
    )


def test_equal_files_of_living_versions_are_kept(server: Server, http: httpx2.Client) -> None:
    skill = made(http, note="same")
    newest = ok(http.post(f"/v1/skills/{skill['id']}/versions", files=folder(note="same", more="x")))["id"]
    ok(http.delete(f"/v1/skills/{skill['id']}/versions/{skill['latest_version_id']}"))
    for name in server.blobs.names():
        os.utime(server.blobs.path(name), (0, 0))
    assert server.call(server.services.skills.sweep()) == 1
    assert server.call(server.services.files.sweep()) == 0
    assert len(http.get(f"/v1/skills/{skill['id']}/versions/{newest}/content").content) > 200


def test_skills_that_come_with_the_server(server: Server, http: httpx2.Client, tmp_path: Path) -> None:
    home = tmp_path / "package"
    (home / "sums").mkdir(parents=True)

    def packed(version: str) -> None:
        head = f"---\nname: sums\ndescription: At {version}.\nversion: {version}\n---\n"
        (home / "sums" / "SKILL.md").write_text(head)
        for _ in range(2):  # starting again changes nothing
            read = lambda name: read_prebuilt(name, home)  # noqa: E731
            server.call(server.services.skills.keep_prebuilt(prebuilt_versions(home), read))

    packed("20261101")
    custom_one = made(http)
    (listed,) = ok(http.get("/v1/skills", params={"source": "anthropic"}))["data"]
    assert (listed["id"], listed["source"], listed["latest_version_id"]) == ("sums", {"type": "anthropic"}, "20261101")
    both = [skill["id"] for skill in ok(http.get("/v1/skills"))["data"]]
    assert both == [custom_one["id"], "sums"]
    agent = ok(agent_with(http, {"type": "anthropic", "skill_id": "sums"}))
    assert agent["skills"] == [{"type": "anthropic", "skill_id": "sums", "version": "20261101"}]
    packed("20261201")
    assert ok(http.get("/v1/skills/sums/versions/latest"))["description"] == "At 20261201."
    old = ok(http.get("/v1/skills/sums/versions/20261101"))
    assert old["description"] == "At 20261101.", "what agents have pinned is still there"
    assert http.get("/v1/skills/sums/versions/20261101/content").status_code == 200
    for change in (
        http.delete("/v1/skills/sums"),
        http.delete("/v1/skills/sums/versions/20261101"),
        http.post("/v1/skills/sums/versions", files=folder("sums")),
    ):
        assert "comes with the server" in refused(change)


def test_a_file_is_not_mounted_among_skills(http: httpx2.Client, session: Json) -> None:
    file = ok(http.post("/v1/files", files={"file": ("a", b"a")}))
    body = {"type": "file", "file_id": file["id"], "mount_path": "/mnt/skills/my-skill/SKILL.md"}
    assert "/mnt/skills" in refused(http.post(f"/v1/sessions/{session['id']}/resources", json=body))
