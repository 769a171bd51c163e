"""Files, session resources and models through the strict official SDK, and files on their way in and out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import anthropic
import pytest

from contract.world import BUILTINS, World, only


def upload(world: World, content: bytes = b"a,b\n1,2\n", name: str = "data.csv", kind: str = "text/csv") -> Any:
    return world.beta.files.upload(file=(name, content, kind))


def test_an_upload(either: World) -> None:
    made = upload(either)
    assert made.id.startswith("file_")
    assert (made.type, made.filename, made.mime_type, made.size_bytes) == ("file", "data.csv", "text/csv", 8)
    assert (made.downloadable, made.scope, made.expires_at) == (False, None, None)
    assert either.beta.files.retrieve_metadata(made.id) == made
    assert either.sdk.files.retrieve_metadata(made.id).id == made.id, "the GA twin"
    with pytest.raises(anthropic.BadRequestError) as refused:
        either.beta.files.download(made.id)
    assert refused.value.body["error"]["details"]["error_code"] == "file_not_downloadable"
    assert either.beta.files.delete(made.id).to_dict() == {"id": made.id, "type": "file_deleted"}
    for gone in (either.beta.files.retrieve_metadata, either.beta.files.delete, either.beta.files.download):
        with pytest.raises(anthropic.NotFoundError):
            gone(made.id)


def test_forms_of_an_upload(either: World, tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(b"words")
    assert either.beta.files.upload(file=path).filename == "report.txt"
    odd = either.beta.files.upload(file=b"\xff\xfe\x00bytes")
    assert (odd.size_bytes, odd.filename.startswith("unnamed")) == (8, True), "bare bytes bring no file name"
    assert either.beta.files.upload(file=io.BytesIO(b"x" * 3_000_000)).size_bytes == 3_000_000
    assert either.beta.files.upload(file=("a/b/../deep.txt", b"x")).filename == "deep.txt"
    expiring = either.beta.files.upload(file=("e.txt", b"x"), expires_in_seconds=3600)
    assert expiring.expires_at > expiring.created_at
    with pytest.raises(anthropic.BadRequestError, match="expires_in_seconds"):
        either.beta.files.upload(file=("e.txt", b"x"), expires_in_seconds=1)


def test_lists_of_files(either: World) -> None:
    made = [upload(either, name=f"{number}.csv").id for number in range(3)]
    assert [found.id for found in either.beta.files.list(limit=2) if found.id in made] == made[::-1]
    picked = either.beta.files.list(ids=[made[2], made[0], "file_none", made[0]])
    assert sorted(found.id for found in picked.data) == sorted([made[0], made[2]])
    assert picked.next_page is None
    assert list(either.beta.files.list(scope_id=either.session())) == []
    for wrong in ({"limit": 0}, {"limit": 1001}, {"ids": made, "limit": 1}):
        with pytest.raises(anthropic.BadRequestError):
            either.beta.files.list(**wrong)


# -- resources


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("calc.py", "/mnt/session/uploads/calc.py"),
        ("/data.csv", "/mnt/session/uploads/data.csv"),
        ("/mnt/session/uploads/sales_data.csv", "/mnt/session/uploads/sales_data.csv"),
        ("/workspace/data.csv", "/workspace/data.csv"),
        ("deep/down/data.csv", "/mnt/session/uploads/deep/down/data.csv"),
        (None, "/mnt/session/uploads/{file_id}"),
    ],
)
def test_where_a_file_is_mounted_and_found(world: World, given: str | None, target: str) -> None:
    """Echoed as it will be, and really there for the agent."""
    original = upload(world)
    resource: dict[str, Any] = {"type": "file", "file_id": original.id}
    if given:
        resource["mount_path"] = given
    session_id = world.session(BUILTINS, resources=[resource])
    (made,) = world.beta.sessions.retrieve(session_id).resources
    target = target.format(file_id=original.id)
    assert made.mount_path == target
    assert made.file_id != original.id, "a copy of the session's own"
    world.turn(session_id, f"run: cat {target}")
    assert world.last_text(session_id).strip().endswith("a,b\n1,2")


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["../x"], "escapes /uploads/"),
        (["a/../../x"], "escapes /uploads/"),
        (["same", "/same"], "mount_path overlaps another resource"),
        (["a", "a/b"], "mount_path overlaps another resource"),
        (["/mnt/session/outputs/x"], "outputs"),
    ],
)
def test_mounts_that_are_refused(world: World, paths: list[str], said: str) -> None:
    file_id = upload(world).id
    resources = [{"type": "file", "file_id": file_id, "mount_path": path} for path in paths]
    with pytest.raises(anthropic.BadRequestError, match=said):
        world.session(resources=resources)


def test_resources_of_a_session(either: World) -> None:
    one, two = upload(either), upload(either, b"two", "two.txt", "text/plain")
    session_id = either.session(resources=[{"type": "file", "file_id": one.id, "mount_path": "one.csv"}])
    resources = either.beta.sessions.resources
    added = resources.add(session_id, type="file", file_id=two.id, mount_path="two.txt")
    assert added.id.startswith("sesrsc_")
    assert (added.type, added.mount_path) == ("file", "/mnt/session/uploads/two.txt")
    found = list(resources.list(session_id))
    assert found == either.beta.sessions.retrieve(session_id).resources
    assert list(resources.list(session_id, limit=1)) == found
    assert {resource.id for resource in found} >= {added.id}
    assert len(found) == 2
    assert resources.retrieve(added.id, session_id=session_id) == added
    with pytest.raises(anthropic.BadRequestError):
        resources.update(added.id, session_id=session_id, authorization_token="t")
    with pytest.raises(anthropic.BadRequestError, match="overlaps"):
        resources.add(session_id, type="file", file_id=one.id, mount_path="two.txt")
    either.beta.files.delete(two.id)
    assert either.beta.files.retrieve_metadata(added.file_id).scope.id == session_id, "the copy outlives the original"
    gone = resources.delete(added.id, session_id=session_id)
    assert gone.to_dict() == {"id": added.id, "type": "session_resource_deleted"}
    with pytest.raises(anthropic.NotFoundError):
        resources.retrieve(added.id, session_id=session_id)
    assert len(list(resources.list(session_id))) == 1


def test_resources_that_are_not_there_yet_are_refused_by_name(world: World) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"resources\.0"):
        world.session(resources=[{"type": "memory_store", "memory_store_id": "memstore_x"}])


# -- in and out of the sandbox


def test_outputs_are_files_of_the_session_by_the_time_it_is_idle(either: World) -> None:
    original = upload(either)
    session_id = either.session(BUILTINS, resources=[{"type": "file", "file_id": original.id, "mount_path": "in.csv"}])
    either.turn(
        session_id,
        "run: mkdir -p /mnt/session/outputs/deep && wc -l < /mnt/session/uploads/in.csv > /mnt/session/outputs/n.txt"
        " && head -c 100000 /dev/zero > /mnt/session/outputs/deep/zeros.bin",
    )
    listed = {found.filename: found for found in either.beta.files.list(scope_id=session_id)}
    assert len(listed) == 3, "the outputs, together with the mounted input"
    report, zeros = listed["n.txt"], listed["zeros.bin"]
    for output in (report, zeros):
        assert output.downloadable is True
        assert (output.scope.type, output.scope.id) == ("session", session_id)
    assert either.beta.files.download(report.id).read() == b"2\n"
    assert either.beta.files.download(zeros.id).read() == bytes(100_000)
    (copy,) = [found for found in listed.values() if found.id not in (report.id, zeros.id)]
    assert copy.downloadable is False
    either.turn(session_id, "run: echo changed > /mnt/session/outputs/n.txt")
    assert either.beta.files.download(report.id).read() == b"changed\n", "a changed output keeps its id"
    either.beta.sessions.delete(session_id)
    for gone in (report, copy):
        with pytest.raises(anthropic.NotFoundError):
            either.beta.files.retrieve_metadata(gone.id)
    assert either.beta.files.retrieve_metadata(original.id).id == original.id, "the upload itself stays"


def test_a_resource_added_between_turns_is_there_in_the_next(world: World) -> None:
    session_id = world.session(BUILTINS)
    world.turn(session_id, "run: ls /mnt/session/uploads")
    world.beta.sessions.resources.add(session_id, type="file", file_id=upload(world, b"late").id, mount_path="late.txt")
    world.turn(session_id, "run: cat /mnt/session/uploads/late.txt")
    assert world.last_text(session_id) == "It said: late"


def test_inputs_are_read_only(world: World) -> None:
    session_id = world.session(BUILTINS, resources=[{"type": "file", "file_id": upload(world).id, "mount_path": "in"}])
    world.turn(session_id, "run: echo x > /mnt/session/uploads/in")
    (refused,) = only(world.raw(session_id), "agent.tool_result")
    assert refused["is_error"] is True


# -- models


def test_models(either: World) -> None:
    models = list(either.beta.models.list(limit=3))
    assert "claude-opus-5-5" in [model.id for model in models]
    first = either.beta.models.list(limit=2)
    assert (first.has_more, first.first_id, first.last_id) == (True, models[0].id, models[1].id)
    after = either.beta.models.list(limit=2, after_id=models[1].id)
    assert [model.id for model in after.data] == [model.id for model in models[2:4]]
    before = either.beta.models.list(limit=1, before_id=models[2].id)
    assert [model.id for model in before.data] == [models[1].id]
    found = either.beta.models.retrieve("claude-opus-5-5")
    assert (found.type, found.id, found.lifecycle) == ("model", "claude-opus-5-5", "active")
    assert either.sdk.models.retrieve("claude-opus-5-5").id == found.id, "the GA twin"
    assert either.beta.models.retrieve("claude-haiku-4-5").id == "claude-haiku-4-5-20251001", "by its alias"
    with pytest.raises(anthropic.NotFoundError):
        either.beta.models.retrieve("no-such-model")
    known = {model.id for model in either.beta.models.list()}
    stages = [{model.id for model in either.beta.models.list(lifecycle=[stage])} for stage in ("active", "deprecated")]
    assert stages[0] | stages[1] == known
    assert "claude-opus-5-5" in stages[0]
