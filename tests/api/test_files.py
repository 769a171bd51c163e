"""Files: streamed uploads in all their forms, both lists, downloads, and file resources of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from socket import create_connection
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert

from hostler import clock
from hostler.services.reading import rows
from hostler.store.tables import files as table
from serving import HEADERS, Server, ok, refused

Json = dict[str, Any]


def upload(http: httpx2.Client, name: str | None = "a.txt", data: bytes = b"abc", **fields: str) -> httpx2.Response:
    part = (name, data, "text/plain") if name is not None else (None, data)
    return http.post("/v1/files", files={"file": part}, data=fields)


def test_metadata(http: httpx2.Client) -> None:
    made = ok(upload(http))
    assert {key: made[key] for key in ("type", "filename", "mime_type", "size_bytes", "downloadable")} == {
        "type": "file",
        "filename": "a.txt",
        "mime_type": "text/plain",
        "size_bytes": 3,
        "downloadable": False,
    }
    assert not {"scope", "expires_at"} & set(made)
    assert ok(http.get(f"/v1/files/{made['id']}")) == made
    content = http.get(f"/v1/files/{made['id']}/content")
    refused(content)
    assert content.json()["error"]["details"]["error_code"] == "file_not_downloadable"
    assert ok(http.delete(f"/v1/files/{made['id']}")) == {"type": "file_deleted", "id": made["id"]}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        refused(http.request(method, f"/v1/files/{made['id']}{path}"), 404)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("dir/x.csv", "x.csv"), ("C:\\y.csv", "y.csv"), ("é ü.txt", "é ü.txt"), ("../../etc/passwd", "passwd")],
)
def test_only_the_last_component_of_a_name_is_kept(http: httpx2.Client, sent: str, kept: str) -> None:
    assert ok(upload(http, sent))["filename"] == kept


@pytest.mark.parametrize("name", ["a<b", "a:b", "x" * 256, "a|b", "tab\there"])
def test_bad_names(http: httpx2.Client, name: str) -> None:
    assert "filename" in refused(raw(http, part(name=f'; filename="{name}"')))


def part(field: str = "file", name: str = "", head: str = "", data: bytes = b"data") -> bytes:
    start = f'--B\r\nContent-Disposition: form-data; name="{field}"{name}\r\n{head}\r\n'.encode()
    return start + data + b"\r\n"


def raw(http: httpx2.Client, *parts: bytes, end: bytes = b"--B--\r\n") -> httpx2.Response:
    headers = {"content-type": "multipart/form-data; boundary=B"}
    return http.post("/v1/files", content=b"".join(parts) + end, headers=headers)


def test_a_part_without_a_filename_and_binary_bytes(http: httpx2.Client, server: Server) -> None:
    data = bytes(range(256)) * 10
    made = ok(raw(http, part(head="Content-Type: image/png\r\n", data=data)))
    assert (made["filename"], made["size_bytes"]) == ("unnamed.png", len(data))


def test_text_parts_may_come_before_or_after(http: httpx2.Client) -> None:
    expires = part("expires_in_seconds", data=b"3600")
    assert "expires_at" in ok(raw(http, expires, part()))
    assert "expires_at" in ok(raw(http, part(), expires))
    ok(raw(http, part(), part("purpose", data=b"agent")))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([part("filename")], "filename: Extra"),
        ([part("purpose", data=b"batch"), part()], "purpose: Input"),
        ([part("expires_in_seconds", data=b"3600")], "file: Field required"),
        ([part(), part("expires_in_seconds", data=b"60")], "expires_in_seconds"),
        ([part(), part("expires_in_seconds", data=b"soon")], "expires_in_seconds"),
        ([part(), part()], "file: Extra"),
        ([part(head="X: " + "y" * 20_000 + "\r\n")], "header"),
    ],
)
def test_bad_forms(http: httpx2.Client, parts: list[bytes], says: str) -> None:
    assert says in refused(raw(http, *parts))


@pytest.mark.parametrize("end", [b"", b"--B"])
def test_a_truncated_form(http: httpx2.Client, end: bytes) -> None:
    refused(raw(http, part()[:-2], end=end))


def test_not_a_form(http: httpx2.Client) -> None:
    refused(http.post("/v1/files", json={}))
    refused(http.post("/v1/files", content=b"x", headers={"content-type": "multipart/form-data"}))


def test_a_file_too_large_leaves_nothing_behind(
    server: Server, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {**HEADERS, "content-length": str(600 * 1024 * 1024)}
    lines = ["POST /v1/files HTTP/1.1", "host: x", *(f"{name}: {value}" for name, value in declared.items()), "", ""]
    with create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    monkeypatch.setattr(server.services.files, "max_bytes", 5 * 1024 * 1024)

    def chunks() -> Iterator[bytes]:
        yield part()[:-6]
        for _ in range(8):
            yield b"x" * 1024 * 1024
        yield b"\r\n--B--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=B"}
    refused(http.post("/v1/files", content=chunks(), headers=headers), 413)
    assert server.blobs.names() == []
    assert ok(http.get("/v1/files"))["data"] == []


def test_both_generations_of_the_list(http: httpx2.Client) -> None:
    made = [ok(upload(http, f"{n}"))["id"] for n in range(5)][::-1]

    def page(**query: Any) -> Json:
        return ok(http.get("/v1/files", params=query))

    first = page(limit=2)
    assert [item["id"] for item in first["data"]] == made[:2]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, made[0], made[1])
    second = page(limit=2, page=first["next_page"])
    assert [item["id"] for item in second["data"]] == made[2:4]
    assert [item["id"] for item in page(limit=2, after_id=made[1])["data"]] == made[2:4]
    assert [item["id"] for item in page(limit=2, before_id=made[4])["data"]] == made[2:4]
    assert page(limit=2, before_id=made[2])["has_more"] is False
    last = page(limit=2, after_id=made[3])
    assert ([item["id"] for item in last["data"]], last["has_more"], last["next_page"]) == (made[4:], False, None)
    some = page(**{"ids[]": [made[3], "file_no", made[1], made[3]]})
    assert [item["id"] for item in some["data"]] == [made[1], made[3]]
    refused(http.get("/v1/files", params={"ids[]": made[0], "limit": 2}))
    refused(http.get("/v1/files", params={"ids[]": [f"file_{n}" for n in range(101)]}))
    refused(http.get("/v1/files", params={"limit": 1001}))


def test_an_output_can_be_downloaded(server: Server, http: httpx2.Client, session: Json) -> None:
    async def store() -> None:
        async def chunks() -> Any:
            yield b"<b>report</b>"

        blob = await server.blobs.write(chunks(), limit=100)
        row = {
            "id": "file_out", "filename": "r ü.html", "mime_type": "text/html", "size_bytes": blob.size,
            "downloadable": 1, "session_id": session["id"], "blob": blob.name, "output_path": "r.html",
            "output_tag": "1", "created_at": clock.now(), "expires_at": None,
        }  # fmt: skip
        await server.log.store.write(lambda: rows(insert(table), row))

    server.call(store())
    ok(upload(http))
    (found,) = ok(http.get("/v1/files", params={"scope_id": session["id"]}))["data"]
    assert (found["id"], found["downloadable"], found["scope"]) == (
        "file_out",
        True,
        {"type": "session", "id": session["id"]},
    )
    response = http.get("/v1/files/file_out/content")
    assert (response.content, response.headers["x-content-type-options"]) == (b"<b>report</b>", "nosniff")
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["request-id"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (None, "/mnt/session/uploads/{id}"),
        ("calc.py", "/mnt/session/uploads/calc.py"),
        ("/data.csv", "/mnt/session/uploads/data.csv"),
        ("/uploads/data.csv", "/mnt/session/uploads/data.csv"),
        ("/mnt/session/uploads/sales/data.csv", "/mnt/session/uploads/sales/data.csv"),
        ("/workspace/data.csv", "/workspace/data.csv"),
        ("a/./b//c.txt", "/mnt/session/uploads/a/b/c.txt"),
    ],
)
def test_where_a_file_is_mounted(
    http: httpx2.Client, server: Server, session: Json, path: str | None, target: str
) -> None:
    file_id = ok(upload(http))["id"]
    url = f"/v1/sessions/{session['id']}/resources"
    added = ok(http.post(url, json={"type": "file", "file_id": file_id, "mount_path": path}))
    assert added["mount_path"] == target.format(id=file_id)
    assert added["file_id"] != file_id
    assert ok(http.get(f"{url}/{added['id']}")) == added
    assert ok(http.get(url))["data"] == [added]
    assert ok(http.get(f"/v1/sessions/{session['id']}"))["resources"] == [added]
    copy = ok(http.get(f"/v1/files/{added['file_id']}"))
    assert (copy["scope"]["id"], copy["filename"], copy["downloadable"]) == (session["id"], "a.txt", False)
    refused(http.delete(f"/v1/files/{added['file_id']}"))
    assert server.changed == [session["id"]]
    refused(http.post(f"{url}/{added['id']}", json={"authorization_token": "t"}))
    assert ok(http.delete(f"{url}/{added['id']}")) == {"type": "session_resource_deleted", "id": added["id"]}
    refused(http.get(f"{url}/{added['id']}"), 404)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../x", "escapes /uploads/"),
        ("/mnt/session/uploads/../../../etc/passwd", "escapes /uploads/"),
        ("/workspace/../etc/passwd", "escapes /workspace/"),
        ("/mnt/session", "folder"),
        ("/mnt/session/uploads/", "folder"),
        ("/mnt/session/outputs/x", "hands back"),
        ("a\tb", "control"),
        ("x" * 300, "longer"),
        ("", "mount_path"),
    ],
)
def test_bad_mount_paths(http: httpx2.Client, session: Json, path: str, says: str) -> None:
    file_id = ok(upload(http))["id"]
    body = {"type": "file", "file_id": file_id, "mount_path": path}
    assert says in refused(http.post(f"/v1/sessions/{session['id']}/resources", json=body))


def test_resources_at_creation_are_all_or_nothing(http: httpx2.Client, agent: Json, environment: Json) -> None:
    file_id = ok(upload(http))["id"]

    def create(*resources: Json) -> httpx2.Response:
        body = {"agent": agent["id"], "environment_id": environment["id"], "resources": list(resources)}
        return http.post("/v1/sessions", json=body)

    one = {"type": "file", "file_id": file_id, "mount_path": "a/b"}
    assert "resources.1.mount_path: mount_path overlaps another resource" in refused(create(one, one))
    assert "overlaps" in refused(create(one, {**one, "mount_path": "/a/b/c"}))
    assert "resources.1.file_id" in refused(create(one, {**one, "file_id": "file_no"}), 404)
    assert len(ok(http.get("/v1/files"))["data"]) == 1
    made = ok(create(one, {**one, "mount_path": "c"}))
    assert [item["mount_path"][-3:] for item in made["resources"]] == ["a/b", "s/c"]
    page = ok(http.get(f"/v1/sessions/{made['id']}/resources?limit=1"))
    rest = ok(http.get(f"/v1/sessions/{made['id']}/resources", params={"limit": 1, "page": page["next_page"]}))
    assert [*page["data"], *rest["data"]] == made["resources"]
