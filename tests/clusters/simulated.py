"""A simulated Kubernetes API server: the objects that Hostler uses, watches, `pods/exec` over WebSocket, and faults.

Its pods are real processes where a node can run them. What it refuses, it refuses in the words of the real one. It is
written from the published API; it is no proof of a real cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import json
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from clusters.nodes import Container, Node

Object = dict[str, Any]
TOKEN = "token-of-the-simulated-cluster"
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255
_WORDS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 410: "Expired"}
_KINDS = {"pods": "Pod", "persistentvolumeclaims": "PersistentVolumeClaim", "networkpolicies": "NetworkPolicy"}


class Refused(Exception):
    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
            "reason": reason or _WORDS.get(status, "InternalError"), "code": status,
        }  # fmt: skip


class Fault:
    """What is to go wrong with the next `times` requests whose line (`GET /path`) contains `text`."""

    def __init__(
        self, text: str, status: int = 0, *, times: int = 1, message: str = "", after: str = "", late: bool = False
    ) -> None:
        self.text = text
        self.status = status  # none: the connection is dropped
        self.times = times
        self.message = message or "simulated"
        self.after = after
        self.late = late  # it is done all the same

    def hits(self, line: str) -> bool:
        if self.times > 0 and self.text in line:
            self.times -= 1
            return True
        return False


class _Dropped(Response):
    """An answer that breaks off, with its connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


class Cluster:
    """One namespace of one cluster. Tests change its attributes; `lines` are all requests so far."""

    def __init__(self, *, runs_pods: bool = True, versions: tuple[str, ...] = ("v1beta1",)) -> None:
        self.versions = versions
        self.protocols: tuple[str, ...] = PROTOCOLS
        self.token = TOKEN
        self.denied: set[str] = set()  # "create networkpolicies" and the like
        self.faults: list[Fault] = []
        self.lines: list[str] = []
        self.objects: dict[str, dict[str, Object]] = {kind: {} for kind in (*_KINDS, "sandboxes")}
        self.runtime_classes = {"gvisor": "runsc"}
        self.stuck = ""  # a reason for which containers do not start
        self.node = Node() if runs_pods else None
        self.containers: dict[str, Container] = {}
        self.sockets: set[WebSocket] = set()
        self._watchers: set[asyncio.Queue[Object]] = set()
        self._version = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.port = 0

    # -- for tests --

    def __enter__(self) -> Cluster:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(20)
        for container in self.containers.values():
            container.kill()
        if self.node is not None:
            self.node.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, **user: Any) -> Object:
        """A kubeconfig's content."""
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "agents"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": user or {"token": TOKEN}}],
        }  # fmt: skip

    def call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do something within the server's own loop."""
        assert self._loop is not None

        async def run() -> Any:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def pod(self) -> Object:
        """The one pod there is."""
        (pod,) = self.objects["pods"].values()
        return pod

    def end_pod(self, name: str, phase: str, reason: str, message: str = "", *, code: int = 137) -> None:
        """Let a pod end as a node would report it."""

        async def work() -> None:
            pod = self.objects["pods"][name]
            pod["status"] |= {"phase": phase, "message": message}
            state = {"terminated": {"reason": reason, "exitCode": code}}
            pod["status"]["containerStatuses"][0]["state"] = state
            if reason == "Evicted":
                pod["status"]["reason"] = reason
            if (container := self.containers.get(name)) is not None:
                container.kill()
            self._changed("MODIFIED", "pods", pod)

        self.call(work)

    def cut(self) -> None:
        """Break off all streams into pods, as a restart of the API server does."""

        async def work() -> None:
            for socket in list(self.sockets):
                with contextlib.suppress(RuntimeError):
                    await socket.close(1012)

        self.call(work)

    # -- the server --

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        app = Starlette(
            routes=[
                WebSocketRoute("/api/v1/namespaces/{ns}/pods/{name}/exec", self._exec),
                Route("/{path:path}", self._request, methods=["GET", "POST", "PATCH", "DELETE"]),
            ]
        )
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="websockets-sansio"
        )
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn sets no event
            await asyncio.sleep(0.005)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self._started.set()
        await serving
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _request(self, request: Request) -> Response:
        line = f"{request.method} {request.url.path}"
        self.lines.append(line)
        for fault in self.faults:
            if fault.hits(line):
                if fault.late:
                    await self._answer(request)
                if not fault.status:
                    return _Dropped()
                headers = {"Retry-After": fault.after} if fault.after else {}
                return JSONResponse(Refused(fault.status, fault.message).body, fault.status, headers)
        try:
            self._known(request.headers.get("authorization", ""))
            return await self._answer(request)
        except Refused as refused:
            return JSONResponse(refused.body, refused.status)

    def _known(self, authorization: str) -> None:
        if authorization != f"Bearer {self.token}":
            raise Refused(401, "Unauthorized")

    async def _answer(self, request: Request) -> Response:
        parts = request.url.path.strip("/").split("/")
        match parts:
            case ["version"]:
                return JSONResponse({"gitVersion": "v1.36.0"})
            case ["apis", "agents.x-k8s.io"]:
                if not self.versions:
                    raise Refused(404, "the server could not find the requested resource")
                return JSONResponse({"versions": [{"version": version} for version in self.versions]})
            case ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]:
                said = (await request.json())["spec"]["resourceAttributes"]
                what = f"{said['verb']} {said['resource']}" + (
                    f"/{said['subresource']}" if "subresource" in said else ""
                )
                return JSONResponse({"status": {"allowed": what not in self.denied}})
            case ["apis", "node.k8s.io", "v1", "runtimeclasses", name]:
                if name not in self.runtime_classes:
                    raise Refused(404, f'runtimeclasses "{name}" not found')
                return JSONResponse({"metadata": {"name": name}, "handler": self.runtime_classes[name]})
            case [*front, "namespaces", "agents", kind] if kind in self.objects:
                return await self._folder(request, front, kind)
            case [*front, "namespaces", "agents", kind, name] if kind in self.objects:
                return await self._object(request, front, kind, name)
        raise Refused(404, "the server could not find the requested resource")

    def _allow(self, verb: str, kind: str) -> None:
        if f"{verb} {kind}" in self.denied:
            raise Refused(403, f"{kind} is forbidden: User cannot {verb} resource")

    async def _folder(self, request: Request, front: list[str], kind: str) -> Response:
        if request.method == "POST":
            self._allow("create", kind)
            return JSONResponse(self._create(kind, await request.json()), 201)
        query = request.query_params
        if query.get("watch"):
            self._allow("watch", kind)
            return StreamingResponse(self._watch(kind, query["fieldSelector"], int(query["timeoutSeconds"])))
        self._allow("list", kind)
        items = list(self.objects[kind].values())
        if selector := query.get("labelSelector"):
            name, _, value = selector.partition("=")
            items = [item for item in items if (item["metadata"].get("labels") or {}).get(name) == value]
        return JSONResponse({"kind": f"{kind}List", "items": items})

    def _create(self, kind: str, body: Object) -> Object:
        name = body["metadata"]["name"]
        assert len(name) <= 63
        if name in self.objects[kind]:
            raise Refused(409, f'{kind} "{name}" already exists')
        body["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": "agents"}
        self.objects[kind][name] = body
        if kind == "pods":
            body["status"] = {"phase": "Pending"}
            self._spawn(self._run_pod(body))
        self._changed("ADDED", kind, body)
        if kind == "sandboxes":
            self._reconcile(name)
        return body

    async def _object(self, request: Request, front: list[str], kind: str, name: str) -> Response:
        found = self.objects[kind].get(name)
        if request.method == "GET":
            self._allow("get", kind)
        if found is None:
            raise Refused(404, f'{kind} "{name}" not found')
        if request.method == "PATCH":
            self._allow("patch", kind)
            self._patch(found, await request.json())
            self._changed("MODIFIED", kind, found)
            self._reconcile(name)
        elif request.method == "DELETE":
            self._allow("delete", kind)
            self._delete(kind, name)
        return JSONResponse(found)

    def _patch(self, found: Object, patch: Any) -> None:
        if isinstance(patch, dict):
            _merge(found, patch)
            return
        for step in patch:
            assert step["op"] == "add"
            *folders, last = step["path"].strip("/").split("/")
            at = found
            for folder in folders:
                at = at[folder]
            at[last] = step["value"]

    def _delete(self, kind: str, name: str) -> None:
        found = self.objects[kind][name]
        if kind == "pods":
            if "deletionTimestamp" not in found["metadata"]:
                found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
                self._changed("MODIFIED", kind, found)
                self._spawn(self._end_pod(found))
            return
        del self.objects[kind][name]
        self._changed("DELETED", kind, found)
        if kind == "persistentvolumeclaims" and self.node is not None:
            self.node.drop_claim(name)
        if kind == "sandboxes":
            if name in self.objects["pods"]:
                self._delete("pods", name)
            for claim in found["spec"]["volumeClaimTemplates"]:
                self._delete("persistentvolumeclaims", f"{claim['metadata']['name']}-{name}")

    # -- the controller of Sandbox resources, and the kubelet --

    def _reconcile(self, name: str) -> None:
        found = self.objects["sandboxes"].get(name)
        if found is None:
            return
        spec, pod = found["spec"], self.objects["pods"].get(name)
        wanted = spec.get("replicas", 1) == 1 and spec.get("operatingMode", "Running") == "Running"
        for claim in spec["volumeClaimTemplates"]:
            claim_name = f"{claim['metadata']['name']}-{name}"
            if claim_name not in self.objects["persistentvolumeclaims"]:
                body = {"metadata": {**copy.deepcopy(claim["metadata"]), "name": claim_name}, "spec": claim["spec"]}
                self._create("persistentvolumeclaims", body)
        if pod is not None and not wanted:
            self._delete("pods", name)
        elif pod is None and wanted:
            template = copy.deepcopy(spec["podTemplate"])
            volumes = [
                {
                    "name": c["metadata"]["name"],
                    "persistentVolumeClaim": {"claimName": f"{c['metadata']['name']}-{name}"},
                }
                for c in spec["volumeClaimTemplates"]
            ]
            template["spec"]["volumes"] = [*template["spec"].get("volumes", []), *volumes]
            template["metadata"] = {**template.get("metadata", {}), "name": name}
            self._create("pods", template)

    async def _run_pod(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        status = pod["status"]
        for volume in pod["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or claim["claimName"] in self.objects["persistentvolumeclaims"]
        if self.stuck:
            state: Object = {"waiting": {"reason": self.stuck, "message": "simulated"}}
            status["containerStatuses"] = [{"name": "sandbox", "state": state}]
            self._changed("MODIFIED", "pods", pod)
            return
        if self.node is not None:
            container = self.containers[name] = await self.node.run(pod)
        status["phase"] = "Running"
        status["containerStatuses"] = [{"name": "sandbox", "state": {"running": {}}}]
        self._changed("MODIFIED", "pods", pod)
        if self.node is None:
            return
        code = await container.shim.wait()
        if status["phase"] == "Running":
            status["phase"] = "Failed" if code else "Succeeded"
            state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
            status["containerStatuses"][0]["state"] = state
            self._changed("MODIFIED", "pods", pod)

    async def _end_pod(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        container = self.containers.pop(name, None)
        if container is not None:
            container.kill()
            await container.shim.wait()
        if self.objects["pods"].get(name) is pod:
            del self.objects["pods"][name]
            self._changed("DELETED", "pods", pod)
            self._reconcile(name)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- watches and streams --

    def _changed(self, what: str, kind: str, found: Object) -> None:
        found["metadata"]["resourceVersion"] = str(next(self._version))
        event = {"type": what, "object": copy.deepcopy(found), "folder": kind}
        for queue in self._watchers:
            queue.put_nowait(event)

    async def _watch(self, kind: str, field: str, seconds: int) -> Any:
        queue: asyncio.Queue[Object] = asyncio.Queue()
        self._watchers.add(queue)
        name = field.partition("=")[2]
        try:
            if (now := self.objects[kind].get(name)) is not None:
                yield json.dumps({"type": "MODIFIED", "object": now}) + "\n"
            else:
                yield json.dumps({"type": "ERROR", "object": Refused(410, "too old resource version").body}) + "\n"
            async with asyncio.timeout(seconds):
                while True:
                    event = await queue.get()
                    if event.pop("folder") == kind and event["object"]["metadata"]["name"] == name:
                        yield json.dumps(event) + "\n"
        except TimeoutError:
            pass
        finally:
            self._watchers.discard(queue)

    async def _exec(self, socket: WebSocket) -> None:
        name, query = socket.path_params["name"], socket.query_params
        self.lines.append(f"EXEC {name} {' '.join(query.getlist('command'))}")
        refused = self._exec_refusal(socket, name)
        if refused is not None:
            await socket.send_denial_response(JSONResponse(refused.body, refused.status))
            return
        offered = socket.scope["subprotocols"]
        protocol = next(p for p in self.protocols if p in offered)
        await socket.accept(subprotocol=protocol)
        process = await self.containers[name].exec(query.getlist("command"))
        self.sockets.add(socket)
        try:
            await _carry(socket, process, protocol)
        finally:
            self.sockets.discard(socket)
            if process.stdin is not None:
                process.stdin.close()
            await process.communicate()  # what nobody has read is let go

    def _exec_refusal(self, socket: WebSocket, name: str) -> Refused | None:
        line = f"EXEC {name} {' '.join(socket.query_params.getlist('command'))}"
        for fault in self.faults:
            if fault.hits(line):
                return Refused(fault.status or 500, fault.message)
        try:
            self._known(socket.headers.get("authorization", ""))
            self._allow("create", "pods/exec")
        except Refused as refused:
            return refused
        if name not in self.objects["pods"]:
            return Refused(404, f'pods "{name}" not found')
        if name not in self.containers:
            return Refused(500, "error dialing backend: no route to host")
        return None


def _merge(into: Object, patch: Object) -> None:
    for name, value in patch.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


async def _carry(socket: WebSocket, process: asyncio.subprocess.Process, protocol: str) -> None:
    """Both ways, until the program ends or the client is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    outputs = [
        asyncio.create_task(_outward(socket, process.stdout, _STDOUT)),
        asyncio.create_task(_outward(socket, process.stderr, _STDERR)),
    ]
    inward = asyncio.create_task(_inward(socket, process.stdin, protocol))
    ended = asyncio.gather(*outputs)
    await asyncio.wait([ended, inward], return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():  # the client is gone: the program finds the end of its stdin
        process.stdin.close()
        ended.cancel()
    inward.cancel()
    await asyncio.gather(ended, inward, return_exceptions=True)
    if not ended.cancelled():
        code = await process.wait()
        status = {"status": "Success"} if code == 0 else {"status": "Failure", "message": f"exit code {code}"}
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_bytes(bytes([_ERROR]) + json.dumps(status).encode())
            await socket.close()


async def _outward(socket: WebSocket, reader: asyncio.StreamReader, stream: int) -> None:
    while data := await reader.read(32768):
        with contextlib.suppress(RuntimeError):
            await socket.send_bytes(bytes([stream]) + data)


async def _inward(socket: WebSocket, writer: asyncio.StreamWriter, protocol: str) -> None:
    with contextlib.suppress(WebSocketDisconnect, ConnectionError):
        while True:
            message = await socket.receive_bytes()
            if message[0] == _STDIN:
                writer.write(message[1:])
                await writer.drain()
            elif message[0] == _CLOSE and protocol == PROTOCOLS[0]:
                writer.close()
                await asyncio.Event().wait()  # the program goes on
