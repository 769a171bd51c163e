"""One session that a client drives to its end through any number of deaths of the server, and what must then hold."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx2
import msgspec
from mortal import Mortal

Event = dict[str, Any]
LOST = (httpx2.TransportError,)
RESULTS = {
    "agent.tool_result": "tool_use_id",
    "agent.mcp_tool_result": "mcp_tool_use_id",
    "user.custom_tool_result": "custom_tool_use_id",
}
USES = ("agent.tool_use", "agent.custom_tool_use", "agent.mcp_tool_use")
DEADLINE = 30.0


class Died(Exception):
    """The connection was lost: the server has died, or is about to."""


class Job:
    """A client of one session. It keeps every event that it was told is stored."""

    begins_with = "user.message"

    def __init__(self, server: Mortal, text: str, agent: Event | None = None, **session: Any) -> None:
        self.server = server
        self.text = text
        self.acknowledged: dict[str, Event] = {}
        self.lost = False  # the connection was: the server is dead or about to be
        self.progress: list[float] = []  # seconds from a restart's readiness to the next event, one for each death
        agent_id = self._create("agents", {"name": "a", "model": "scripted", **(agent or TOOLS)})
        environment_id = self._create("environments", {"name": "e"})
        self.id = self._create("sessions", {"agent": agent_id, "environment_id": environment_id, **session})

    # -- what a client does ----------------------------------------------------------------------------------------

    def run(self) -> list[Event]:
        """Send the message and drive the session to its end; return all its events."""
        with self.following() as stream:
            if stream is not None:
                with contextlib.suppress(Died):
                    self.say(self.text)
                    self._follow_to_end(stream)
        return self.finish()

    def run_to_first_death(self) -> None:
        """Send the message and wait until the server dies of it."""
        with self.following() as stream, contextlib.suppress(Died):
            assert stream is not None
            self.say(self.text)
            for _ in stream:
                pass

    def finish(self) -> list[Event]:
        """Drive the session on to its end, and the server through the deaths it was ordered."""
        while not self._over():
            if self.lost:
                self.revive()
            self._go_on()
        while self.server.orders():
            self.revive()
        return self.listed()

    def say(self, text: str) -> None:
        self.send({"type": "user.message", "content": [{"type": "text", "text": text}]})

    def send(self, *events: Event) -> list[Event]:
        """Send events and note what was acknowledged. Raises Died."""
        try:
            response = self.server.client.post(f"/v1/sessions/{self.id}/events", json={"events": events})
        except LOST as error:
            raise self._died() from error
        assert response.status_code == 200, response.text
        echoes: list[Event] = response.json()["data"]
        for echo in echoes:
            self._note(echo)
        return echoes

    def listed(self) -> list[Event]:
        try:
            response = self.server.client.get(f"/v1/sessions/{self.id}/events", params={"limit": 1000})
        except LOST as error:
            raise self._died() from error
        assert response.status_code == 200, response.text
        data: list[Event] = response.json()["data"]
        assert response.json()["next_page"] is None
        return data

    @contextlib.contextmanager
    def following(self) -> Iterator[Iterator[Event] | None]:
        """The stored events that come from now on; None when the server dies before it answers."""
        with contextlib.ExitStack() as stack:
            try:
                path = f"/v1/sessions/{self.id}/events/stream"
                response = stack.enter_context(self.server.client.stream("GET", path))
                assert response.status_code == 200
            except LOST:
                self._died()
                yield None
                return
            yield self._read(response)

    def until(self, stream: Iterator[Event], event_type: str, count: int = 1) -> Event:
        """Read the stream up to the count-th event of this type."""
        for event in stream:
            if event["type"] == event_type and event["processed_at"] is not None:
                count -= 1
                if count == 0:
                    return event
        raise AssertionError("the stream ended")

    def retrieve(self) -> Event:
        response = self.server.client.get(f"/v1/sessions/{self.id}")
        assert response.status_code == 200, response.text
        session: Event = response.json()
        return session

    def outputs(self) -> dict[str, bytes]:
        """The session's delivered files."""
        found = self.server.client.get("/v1/files", params={"scope_id": self.id}).json()["data"]
        contents = {}
        for file in found:
            assert file["filename"] not in contents, "an output was collected twice"
            contents[file["filename"]] = self.server.client.get(f"/v1/files/{file['id']}/content").content
        return contents

    def revive(self) -> None:
        """Start the server again once it has died."""
        self.server.wait_killed()
        self.server.start()
        self.lost = False

    def confirm(self, idle: Event) -> None:
        for event_id in idle["stop_reason"]["event_ids"]:
            self.send({"type": "user.tool_confirmation", "tool_use_id": event_id, "result": "allow"})

    # -- inside ----------------------------------------------------------------------------------------------------

    def _died(self) -> Died:
        self.lost = True
        return Died()

    def _go_on(self) -> None:
        """After a restart: find out what the state is, do what is the client's to do, and follow to the end."""
        spawned, ready = self.server.spawned, self.server.ready
        with self.following() as stream, contextlib.suppress(Died):
            if stream is None:
                return
            events = self.listed()
            for event in events:
                self._note(event)
            if not any(event["type"] == self.begins_with for event in events):
                self.say(self.text)  # the first try was not acknowledged, and not taken
            elif (last := last_status(events)) is not None and last["type"] == "session.status_idle":
                if last["stop_reason"]["type"] != "requires_action":
                    return
                self.confirm(last)
            self._follow_to_end(stream)
        self._measure(spawned, ready)

    def _measure(self, spawned: float, ready: float) -> None:
        with contextlib.suppress(Died):
            after = [at for event in self.listed() if (at := stamp(event)) is not None and at > spawned]
            if after:
                self.progress.append(min(after) - ready)

    def _follow_to_end(self, stream: Iterator[Event]) -> None:
        for event in stream:
            if event["type"] == "session.status_idle":
                if event["stop_reason"]["type"] != "requires_action":
                    return
                self.confirm(event)

    def _over(self) -> bool:
        try:
            last = last_status(self.listed())
        except Died:
            return False
        return last is not None and last["type"] == "session.status_idle" and not _waits(last)

    def _read(self, response: httpx2.Response) -> Iterator[Event]:
        end = time.monotonic() + DEADLINE
        lines = response.iter_lines()
        while True:
            try:
                line = next(lines, None)
            except LOST as error:
                raise self._died() from error
            if line is None:
                raise self._died()
            assert time.monotonic() < end, f"nothing more came:\n{self.server.log()}"
            if line.startswith("data: "):
                event: Event = msgspec.json.decode(line[6:])
                if event["type"] != "ping":
                    self._note(event)
                    yield event

    def _note(self, event: Event) -> None:
        """What a client was shown is a promise: consumed ones may never change, queued ones never vanish."""
        known = self.acknowledged.get(event["id"])
        assert known is None or known["processed_at"] in (None, event["processed_at"]), (known, event)
        self.acknowledged[event["id"]] = event

    def _create(self, kind: str, body: Event) -> str:
        response = self.server.client.post(f"/v1/{kind}", json=body)
        assert response.status_code == 200, response.text
        created: str = response.json()["id"]
        return created


TOOLS: Event = {
    "tools": [
        {
            "type": "agent_toolset_20260401",
            "configs": [{"name": "write", "permission_policy": {"type": "always_ask"}}],
        }
    ]
}


def stamp(event: Event) -> float | None:
    text = event["processed_at"]
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


def last_status(events: list[Event]) -> Event | None:
    found = [event for event in events if event["type"].startswith("session.status_")]
    return found[-1] if found else None


def _waits(idle: Event) -> bool:
    return bool(idle["stop_reason"]["type"] == "requires_action")


# -- what must hold --------------------------------------------------------------------------------------------------


def check_log(job: Job, events: list[Event]) -> None:
    """The log's promises, whatever happened: order, uniqueness, nothing acknowledged lost, one answer each."""
    ids = [event["id"] for event in events]
    assert len(set(ids)) == len(ids)
    stamps = [event["processed_at"] for event in events]
    assert None not in stamps
    assert stamps == sorted(set(stamps))
    by_id = {event["id"]: event for event in events}
    for event_id, shown in job.acknowledged.items():
        assert event_id in by_id, f"lost: {shown}"
        now = by_id[event_id]
        if shown["processed_at"] is None:
            now = {**now, "processed_at": None}
        assert now == shown
    uses = [event["id"] for event in events if event["type"] in USES]
    answers = Counter(event[RESULTS[event["type"]]] for event in events if event["type"] in RESULTS)
    assert answers == Counter(uses)
    check_pairs(events)


def check_pairs(events: list[Event]) -> None:
    """Running and idle take turns, for the session and each thread alike, and every request's span ends once."""
    threads = {event["session_thread_id"] for event in events if event["type"].startswith("session.thread_status_")}
    for kind, thread in (("session.status", None), *(("session.thread_status", thread) for thread in threads)):
        mine = [event["type"] for event in events if event.get("session_thread_id") == thread]
        states = [name.removeprefix(f"{kind}_") for name in mine if name.startswith(f"{kind}_")]
        again = [i for i, state in enumerate(states) if state == "rescheduled"]  # and running, once more
        assert all(states[i + 1] == "running" for i in again)
        states = [state for i, state in enumerate(states) if i not in again and i - 1 not in again]
        assert states == ["running", "idle"] * (len(states) // 2), states
    starts = [event["id"] for event in events if event["type"] == "span.model_request_start"]
    ends = [event["model_request_start_id"] for event in events if event["type"] == "span.model_request_end"]
    assert ends == starts


def essence(events: list[Event]) -> list[Any]:
    """What must be alike with and without kills: failed requests left out, results of parallel calls in any order."""
    failed = {event["model_request_start_id"] for event in events if event.get("is_error") and _is_end(event)}
    kept = [
        event
        for event in events
        if event["id"] not in failed and not (_is_end(event) and event["model_request_start_id"] in failed)
    ]
    shown: list[Any] = [[event["type"], _content(event)] for event in kept]
    return _sorted_runs(shown)


def _is_end(event: Event) -> bool:
    return bool(event["type"] == "span.model_request_end")


def _content(event: Event) -> Any:
    if event["type"] == "session.usage":
        usage = event["usage"]
        return {name: usage[name] for name in ("input_tokens", "output_tokens")}
    if event["type"] == "session.status_idle":
        return event["stop_reason"]["type"]
    if event["type"] == "session.error":
        return event["error"]["type"]
    return [event.get("content"), event.get("name"), event.get("input"), event.get("is_error")]


def _sorted_runs(shown: list[Any]) -> list[Any]:
    ordered: list[Any] = []
    run: list[Any] = []
    for item in [*shown, None]:
        if item is not None and item[0] == "agent.tool_result":
            run.append(item)
            continue
        ordered += sorted(run, key=str)
        run = []
        if item is not None:
            ordered.append(item)
    return ordered
