"""Runs one session against a real model, through the HTTP API of a server of its own, and keeps the script that replays
it.

It must not reach past the API into the session, nor print: whoever calls it is told every event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from hostler import app, serving
from hostler.errors import HostlerError
from hostler.models.record import Recorder
from hostler.settings import Settings

DEFAULT_MODEL = "claude-sonnet-5-5"
INTERRUPT_SECONDS = 3.0
CALL_SECONDS = 60.0
_HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}
_TOOLSET = {"type": "agent_toolset_20260401"}
_ENDS = ("session.status_terminated", "session.deleted")
_DENIED = "Nobody is here to confirm this tool; `hostler record --allow` would."

Event = dict[str, Any]


class RecordingFailed(HostlerError):
    """The session could not be recorded."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to record. `agent` is a JSON file of `POST /v1/agents`; `model` and `system` take precedence over it.

    `allow` lets tools run that ask for a confirmation; else they are denied.
    """

    prompt: str
    output: Path
    model: str | None = None
    system: str | None = None
    agent: Path | None = None
    files: tuple[Path, ...] = ()
    allow: bool = False


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `script` is None when the model never answered; `stop_reason` None when it was interrupted."""

    session_id: str
    script: str | None
    stop_reason: str | None
    outputs: list[str]
    scripted: bool
    first_key: str | None = None


async def record(settings: Settings, job: Job, tell: Callable[[Event], None]) -> Recording:
    """Record until the session turns idle, or until SIGINT or SIGTERM: what was recorded by then is kept.

    `settings` name the data folder and the models; the server listens on a free port. Raises RecordingFailed and
    BadSettings.
    """
    agent = _agent(job)
    _check_files(job)
    settings = msgspec.structs.replace(settings, host="127.0.0.1", port=0, database=None)
    quit_ = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, quit_.set)
    async with _served(settings, job) as (house, url, first_key):
        key, secret = await house.services.keys.create("record")
        headers = {**_HEADERS, "authorization": f"Bearer {secret}"}
        try:
            # Our own server has no TLS.
            async with httpx2.AsyncClient(
                base_url=url, headers=headers, timeout=CALL_SECONDS, trust_env=False, verify=False
            ) as http:
                recording = await _record(_Client(http, job, tell), house, agent, quit_)
        except httpx2.HTTPError as error:
            raise RecordingFailed(f"The server of the recording failed: {type(error).__name__}: {error}") from error
        finally:
            await house.services.keys.revoke(key.id)
    return msgspec.structs.replace(recording, first_key=first_key)


@contextlib.asynccontextmanager
async def _served(settings: Settings, job: Job) -> AsyncIterator[tuple[app.Rooms, str, str | None]]:
    """A server in this process whose model is recorded."""
    stop = asyncio.Event()
    opened: asyncio.Future[tuple[app.Rooms, str, str | None]] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serving.serve(
            settings,
            lambda *said: opened.set_result(said),
            lambda model: Recorder(model, job.output, name=job.output.stem),
            stop,
        )
    )
    opening: set[asyncio.Future[Any]] = {server, opened}
    await asyncio.wait(opening, return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        await server
    try:
        yield opened.result()
    finally:
        stop.set()
        await server


async def _record(client: _Client, house: app.Rooms, agent: dict[str, Any], quit_: asyncio.Event) -> Recording:
    before = _written(client.job.output)
    session_id = await client.begin(agent)
    try:
        stop_reason = await _converse(client, session_id, quit_)
        outputs = await client.download(session_id)
    finally:
        await house.sandboxes.destroy(session_id)
    script = client.job.output if _written(client.job.output) != before else None
    return Recording(
        session_id=session_id,
        script=str(script.absolute()) if script else None,
        stop_reason=stop_reason,
        outputs=[str(path) for path in outputs],
        scripted=house.router.scripted,
    )


async def _converse(client: _Client, session_id: str, quit_: asyncio.Event) -> str | None:
    """Why the session stopped; None when it was `quit_` that ended it."""
    talk, asked = asyncio.create_task(client.converse(session_id)), asyncio.create_task(quit_.wait())
    try:
        await asyncio.wait((talk, asked), return_when=asyncio.FIRST_COMPLETED)
        if talk.done():
            return talk.result()
        await client.interrupt(session_id)
        await asyncio.wait((talk,), timeout=INTERRUPT_SECONDS)  # it settles, and its last events are told
        return None
    finally:
        for task in (talk, asked):
            task.cancel()
        await asyncio.gather(talk, asked, return_exceptions=True)


class _Client:
    """The session as a client of the API sees it."""

    def __init__(self, http: httpx2.AsyncClient, job: Job, tell: Callable[[Event], None]) -> None:
        self.job = job
        self._http = http
        self._tell = tell

    async def begin(self, agent: dict[str, Any]) -> str:
        """Make all that a session needs; returns its id."""
        made = await self._post("/v1/agents", agent)
        custom = [tool["name"] for tool in made["tools"] if tool["type"] == "custom"]
        if custom:
            raise RecordingFailed(
                f"The agent has the custom tool {custom[0]!r}, which only your own program can answer. Leave it out, "
                "or record your program's session with `hostler.models.record.Recorder`."
            )
        environment = await self._post("/v1/environments", {"name": "record"})
        resources = [await self._upload(path) for path in self.job.files]
        body = {"agent": made["id"], "environment_id": environment["id"], "resources": resources}
        session = await self._post("/v1/sessions", body)
        return str(session["id"])

    async def converse(self, session_id: str) -> str:
        """Send the prompt and tell the events until the session has nothing more to do; returns why it stopped."""
        path = f"/v1/sessions/{session_id}/events"
        async with self._http.stream("GET", f"{path}/stream", timeout=None) as response:
            if response.status_code != 200:
                await response.aread()
                _checked(response)
            text = {"type": "text", "text": self.job.prompt}
            await self._post(path, {"events": [{"type": "user.message", "content": [text]}]})
            async for frame in httpx2.EventSource(response):
                if frame.event == "ping":
                    continue
                event = json.loads(frame.data)
                self._tell(event)
                if event["type"] in _ENDS:
                    return str(event["type"])
                if event["type"] == "session.status_idle":
                    stop = event["stop_reason"]
                    if stop["type"] != "requires_action":
                        return str(stop["type"])
                    await self._post(path, {"events": [self._verdict(wanted) for wanted in stop["event_ids"]]})
        raise RecordingFailed("The stream of events ended before the session did.")

    def _verdict(self, tool_use_id: str) -> Event:
        result = {"result": "allow"} if self.job.allow else {"result": "deny", "deny_message": _DENIED}
        return {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, **result}

    async def interrupt(self, session_id: str) -> None:
        await self._post(f"/v1/sessions/{session_id}/events", {"events": [{"type": "user.interrupt"}]})

    async def download(self, session_id: str) -> list[Path]:
        """Save what the agent handed back beside the script."""
        listed = (await self._get(f"/v1/files?limit=1000&scope_id={session_id}"))["data"]
        found = [file for file in reversed(listed) if file["downloadable"]]
        folder = self.job.output.with_name(f"{self.job.output.stem}-outputs")
        saved: list[Path] = []
        for file in found:
            folder.mkdir(exist_ok=True)
            path = _free(folder, file["filename"], saved)
            async with self._http.stream("GET", f"/v1/files/{file['id']}/content") as response:
                with path.open("wb") as target:
                    async for chunk in response.aiter_bytes():
                        target.write(chunk)
            saved.append(path)
        return saved

    async def _upload(self, path: Path) -> dict[str, str]:
        with path.open("rb") as file:
            made = _checked(await self._http.post("/v1/files", files={"file": (path.name, file)}))
        return {"type": "file", "file_id": made["id"], "mount_path": path.name}

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _checked(await self._http.post(path, json=body))

    async def _get(self, path: str) -> dict[str, Any]:
        return _checked(await self._http.get(path))


def _checked(response: httpx2.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    if response.status_code != 200:
        raise RecordingFailed(f"The server refused {response.request.url.path}: {body['error']['message']}")
    return body


def _agent(job: Job) -> dict[str, Any]:
    agent: dict[str, Any] = {"name": "recorded", "model": DEFAULT_MODEL, "tools": [_TOOLSET]}
    if job.agent is not None:
        try:
            agent = json.loads(job.agent.read_bytes())
        except OSError as error:
            raise RecordingFailed(f"The agent file {job.agent} can't be read: {error.strerror}.") from error
        except ValueError as error:
            raise RecordingFailed(f"The agent file {job.agent} is not valid JSON: {error}.") from error
        if not isinstance(agent, dict):
            raise RecordingFailed(f"The agent file {job.agent} must hold an object, as for POST /v1/agents.")
        agent.setdefault("name", job.agent.stem)
        agent.setdefault("model", DEFAULT_MODEL)
    return agent | ({"model": job.model} if job.model else {}) | ({"system": job.system} if job.system else {})


def _check_files(job: Job) -> None:
    """Find out before a model is paid for, not after."""
    for path in job.files:
        if not path.is_file():
            raise RecordingFailed(f"The file {path} does not exist.")
    if job.output.suffix != ".json":
        raise RecordingFailed(f"The script {job.output} must be a .json file.")
    if not job.output.absolute().parent.is_dir():
        raise RecordingFailed(f"The folder of {job.output} does not exist.")


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _free(folder: Path, filename: str, taken: list[Path]) -> Path:
    """A path for a file of this name that no earlier one of this recording has."""
    name = Path(Path(filename).name or "unnamed")
    path, number = folder / name, 1
    while path in taken:
        number += 1
        path = folder / f"{name.stem}-{number}{name.suffix}"
    return path
