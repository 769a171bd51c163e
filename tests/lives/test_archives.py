"""Export and import: the same session on another server, and archives that are refused before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from failures.client import Api, Json, errors, refused
from hostler.sandbox import snapshots
from hostler.sandbox.tarstream import SYMLINK, Member, Writer
from lives.test_hibernation import MOUNTED, output
from running import Server

Parts = dict[str, bytes]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Another server, on another data folder."""
    folder = tmp_path_factory.mktemp("other") / "data"
    with Server(folder, config="[harness]\nimport_mb = 50\ncheckpoint_seconds = 0\n") as server, Api(server) as api:
        yield api


def worked(api: Api) -> str:
    """A session with an input, an output, files and shell state."""
    file = api.http.post("/v1/files", files={"file": ("in.txt", b"input")}).json()
    resources = [{"type": "file", "file_id": file["id"], "mount_path": "/data/in.txt"}]
    session = api.session(resources=resources, title="moved", metadata={"a": "b"})
    command = f"cp {MOUNTED} /mnt/session/outputs/out.txt; echo kept > file; export KEPT=yes; cd /tmp"
    api.turn(session, f"run: {command}")
    return session


def exported(api: Api, session: str) -> bytes:
    answer = api.http.get(f"/v1/sessions/{session}/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zstd"
    return answer.content


def take(api: Api, archive: bytes) -> Any:
    return api.http.post("/v1/sessions/import", content=archive)


def read(archive: bytes, folder: Path) -> Parts:
    file = folder / "archive"
    file.write_bytes(archive)
    parts: Parts = {}
    with file.open("rb") as source:
        stream = snapshots.Source(source)
        for member in stream.reader.members():
            parts[member.path.decode()] = b"".join(chunk for _, chunk in stream.reader.chunks(member))
    return parts


def written(parts: Parts, folder: Path, /, **manifest: object) -> bytes:
    """An archive of these parts, with a manifest that fits them but for what is given."""
    said = json.loads(parts["manifest.json"])
    names = [name for name in parts if name != "manifest.json"]
    digests = {name: hashlib.sha256(parts[name]).hexdigest() for name in names}
    said["parts"] = [{"name": name, "bytes": len(parts[name]), "sha256": digests[name]} for name in names]
    said |= manifest

    def fill(writer: Writer) -> None:
        for name, data in {"manifest.json": json.dumps(said).encode(), **{n: parts[n] for n in names}}.items():
            writer.add(Member(path=name.encode(), size=len(data)), [data] if data else [])

    target = folder / "written"
    target.unlink(missing_ok=True)
    snapshots.write(target, fill)
    return target.read_bytes()


def test_a_session_moves_to_another_server(api: Api, other: Api) -> None:
    session = worked(api)
    archive = exported(api, session)
    before, events = api.get(f"/v1/sessions/{session}"), api.events(session)
    taken = take(other, archive)
    assert taken.status_code == 200, taken.text
    after = other.get(f"/v1/sessions/{session}")
    assert {**after, "stats": None} == {**before, "stats": None}
    assert other.events(session) == events
    outputs = other.get("/v1/files", scope_id=session)["data"]
    assert outputs == api.get("/v1/files", scope_id=session)["data"]
    (out,) = [file for file in outputs if file["downloadable"]]
    assert other.http.get(f"/v1/files/{out['id']}/content").content == b"input"
    turn = other.turn(session, f"run: cat /workspace/file {MOUNTED}; echo; echo $KEPT $PWD")
    assert output(turn) == "kept\ninput\nyes /tmp"
    assert errors(turn) == []
    message = refused(take(other, archive), 409)
    assert session in message
    assert output(api.turn(session, "run: cat /workspace/file")) == "kept"  # it lives on here, too


def test_many_exports_at_once(api: Api) -> None:
    """Each makes a checkpoint, which takes the place of the one before."""
    session = worked(api)
    with ThreadPoolExecutor(6) as pool:
        archives = list(pool.map(lambda _: exported(api, session), range(18)))
    assert len(archives) == 18


def test_a_session_comes_back_where_it_was_deleted(api: Api) -> None:
    session = worked(api)
    api.post(f"/v1/sessions/{session}/hibernate")
    archive, events = exported(api, session), api.events(session)
    assert api.http.delete(f"/v1/sessions/{session}").status_code == 200
    assert take(api, archive).status_code == 200
    assert api.events(session) == events
    assert output(api.turn(session, "run: cat /workspace/file")) == "kept"


def test_sessions_without_files_and_archived_ones(api: Api, other: Api) -> None:
    fresh = api.session()
    over = worked(api)
    api.post(f"/v1/sessions/{over}/archive")
    for session in (fresh, over):
        assert take(other, exported(api, session)).status_code == 200
        assert other.events(session) == api.events(session)
    assert other.get(f"/v1/sessions/{over}")["status"] == "terminated"
    other.turn(fresh, "run: echo hello")


def test_no_secret_is_in_an_archive(api: Api, tmp_path: Path) -> None:
    vault = api.post("/v1/vaults", {"display_name": "v"})
    token = "tok-very-secret-4711"
    auth = {"type": "static_bearer", "token": token, "mcp_server_url": "https://mcp.example.com/mcp"}
    api.post(f"/v1/vaults/{vault['id']}/credentials", {"auth": auth})
    repository = {
        "type": "github_repository",
        "url": "https://github.com/example/example",
        "authorization_token": token,
    }
    session = api.session(vault_ids=[vault["id"]], resources=[repository])
    parts = read(exported(api, session), tmp_path)
    assert vault["id"].encode() in parts["session.json"]
    assert not any(token.encode() in data for data in parts.values())


def test_running_and_unknown_sessions_are_refused(api: Api) -> None:
    refused(api.http.get("/v1/sessions/sesn_none/export"), 404, "not_found_error")
    session = api.session()
    for event in api.stream(session, lambda: api.send(session, {
        "type": "user.message", "content": [{"type": "text", "text": "run: sleep 600"}]
    })):  # fmt: skip
        if event["type"] == "agent.tool_use":
            break
    assert "running" in refused(api.http.get(f"/v1/sessions/{session}/export"), 400)
    api.send(session, {"type": "user.interrupt"})
    assert api.http.get(f"/v1/sessions/{session}/export", headers={"authorization": "Bearer x"}).status_code == 401
    assert api.http.post("/v1/sessions/import", content=b"", headers={"authorization": "Bearer x"}).status_code == 401


def edited(parts: Parts, **changes: object) -> Parts:
    content = json.loads(parts["session.json"])
    content["session"] |= changes
    return {**parts, "session.json": json.dumps(content).encode()}


def lines(parts: Parts, change: Callable[[list[Json]], object]) -> Parts:
    found = [json.loads(line) for line in parts["entries.jsonl"].splitlines()]
    change(found)
    return {**parts, "entries.jsonl": b"".join(json.dumps(line).encode() + b"\n" for line in found)}


def hostile_sandbox(folder: Path) -> bytes:
    target = folder / "hostile"
    out = Member(path=b"workspace/../../out", kind=SYMLINK, link=b"/etc")
    snapshots.write(target, lambda writer: writer.add(out))
    return target.read_bytes()


def kept(api: Api) -> list[str]:
    """What an import could have left in the data folder."""
    folders = [api.server.data_dir / name for name in ("files", "snapshots", "exports")]
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


def test_hostile_archives_leave_nothing(api: Api, other: Api, tmp_path: Path) -> None:
    session = worked(api)
    archive = exported(api, session)
    parts = read(archive, tmp_path)
    blob = next(name for name in parts if name.startswith("blobs/"))
    content = json.loads(parts["session.json"])

    def build(of: Parts = parts, **manifest: object) -> bytes:
        return written(of, tmp_path, **manifest)

    sandbox = hostile_sandbox(tmp_path)
    said = {"bytes": len(sandbox), "sha256": hashlib.sha256(sandbox).hexdigest()}
    forged = {**content, "checkpoint": {**content["checkpoint"], **said}}
    climbing = json.loads(parts["session.json"])
    climbing["resources"][0]["mount_path"] = "/etc/passwd"
    bomb = b"\0" * 60_000_000
    bad = {
        "empty": b"",
        "no archive": b"hello",
        "cut": archive[: len(archive) // 2],
        "cut by a byte": archive[:-1],
        "changed": archive[:2000] + b"\xff" + archive[2001:],
        "version": build(version=2),
        "format": build(format="zip"),
        "other session": build(session_id="sesn_x"),
        "traversal": build({**parts, "../../x": b"x"}),
        "absolute": build({**parts, "/etc/x": b"x"}),
        "unnamed part": build({**parts, "blobs/" + "0" * 64: b"x"}),
        "missing blob": build({name: data for name, data in parts.items() if name != blob}),
        "exchanged blob": build({**parts, blob: b"y" * len(parts[blob])}),
        "bomb": build({**parts, "blobs/" + hashlib.sha256(bomb).hexdigest(): bomb}),
        "lying sizes": build(parts=json.loads(parts["manifest.json"])["parts"][:2]),
        "running": build(edited(parts, status="running")),
        "agent": build(edited(parts, agent={"name": "x"})),
        "unknown field": build(edited(parts, secret="x")),
        "id": build(edited(parts, id="../../x"), session_id="../../x"),
        "mount": build({**parts, "session.json": json.dumps(climbing).encode()}),
        "sandbox": build({**parts, "session.json": json.dumps(forged).encode(), "sandbox.tar.zst": sandbox}),
        "event twice": build(lines(parts, lambda found: found.append(found[-1]))),
        "private type": build(lines(parts, lambda found: found[0].update(type="hostler.x"))),
        "event body": build(lines(parts, lambda found: found[0]["body"].update(content=7))),
        "no fold": build(lines(parts, lambda found: found.clear() or found.append({
            "seq": 1, "position": 5, "id": "sevt_1", "thread_id": content["session"]["thread_id"], "private": 1,
            "type": "hostler.model_message", "answers": None, "body": {"id": "sevt_1", "type": "hostler.model_message"},
        }))),
    }  # fmt: skip
    before = kept(other)
    for name, content_bytes in bad.items():
        answer = take(other, content_bytes)
        assert answer.status_code in (400, 413), (name, answer.text)
        assert answer.json()["error"]["message"], name
        assert other.http.get(f"/v1/sessions/{session}").status_code == 404, name
    assert kept(other) == before
    assert take(other, archive).status_code == 200
