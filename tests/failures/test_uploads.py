"""Large uploads go to disk as they come; those that break off or are too large leave nothing behind."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Iterator
from pathlib import Path

from failures.client import Api, memory_peak, ok, refused
from running import Server

MIB = 1024 * 1024
HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
TAIL = b"\r\n--B--\r\n"
FORM = {"content-type": "multipart/form-data; boundary=B"}
PIECE = hashlib.sha256(b"piece").digest() * (MIB // 32)


def form(megabytes: int) -> Iterator[bytes]:
    yield HEAD
    for _ in range(megabytes):
        yield PIECE
    yield TAIL


def stored(server: Server) -> set[Path]:
    """The contents on disk; those of the skills that come with the server are there from the start."""
    return {path for path in (server.data_dir / "files").rglob("*") if path.is_file()}


def test_the_server_never_holds_a_file_in_memory(start: Callable[..., Server]) -> None:
    server = start()
    with Api(server) as api:
        ok(api.http.post("/v1/files", files={"file": ("warm", PIECE)}))
        before = memory_peak(server.pid)
        file = ok(api.http.post("/v1/files", content=form(64), headers=FORM))
        session = api.session(
            resources=[{"type": "file", "file_id": file["id"], "mount_path": "big"}],
        )
        events = api.turn(session, "run: cp /mnt/session/uploads/big /mnt/session/outputs/copy")
        assert events[-1]["stop_reason"] == {"type": "end_turn"}
        (copy,) = [found for found in api.get("/v1/files", scope_id=session)["data"] if found["downloadable"]]
        digest = hashlib.sha256()
        with api.http.stream("GET", f"/v1/files/{copy['id']}/content") as response:
            for chunk in response.iter_bytes():
                digest.update(chunk)
    assert file["size_bytes"] == 64 * MIB
    assert digest.digest() == hashlib.sha256(PIECE * 64).digest()
    assert memory_peak(server.pid) - before < 24 * MIB


def test_a_file_over_the_limit(start: Callable[..., Server]) -> None:
    server = start(config="[server]\nfile_mb = 2\n")
    before = stored(server)
    with Api(server) as api:
        refusal = refused(api.http.post("/v1/files", content=form(3), headers=FORM), 413, "request_too_large")
        assert str(2 * MIB) in refusal
        refused(api.http.post("/v1/files", files={"file": ("x", PIECE * 3)}), 413, "request_too_large")
        assert stored(server) == before
        assert api.get("/v1/files")["data"] == []
        ok(api.http.post("/v1/files", content=form(2), headers=FORM))


def test_an_upload_that_breaks_off(start: Callable[..., Server]) -> None:
    server = start()
    before = stored(server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/v1/files")
    for name, value in {**server.headers, **FORM, "content-length": str(50 * MIB)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(HEAD + PIECE)
    connection.close()
    with Api(server) as api:
        cut = HEAD + PIECE  # whole as HTTP, but its form never ends
        refused(api.http.post("/v1/files", content=cut, headers=FORM), 400)
        ok(api.http.post("/v1/files", content=form(1), headers=FORM))
        assert server.stop() == 0
    assert len(stored(server) - before) == 1
    assert "Traceback" not in server.log()
