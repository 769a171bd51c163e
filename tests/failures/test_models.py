"""A model endpoint that is down, slow or lies: the session says so with the right error, tries again where that may
help, and is usable afterwards."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from model_servers import Handler, answering, messages_stream, sse, streaming

from failures.client import IDLE, Api, errors, message, said, types
from failures.endpoint import Endpoint, half_a_head, not_http, saying
from running import Server

WHOLE = [sse(event) for event in messages_stream([{"type": "text", "text": "never seen"}])]
TOOL = [sse(event) for event in messages_stream([{"type": "tool_use", "id": "t", "name": "bash", "input": '{"comm'}])]
STORM = answering(529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
ATTEMPTS = 3
CONFIG = """
[harness]
retry_base = 0.02
retry_limit = 0.1
model_attempts = 3
"""
ROUTE = """
[[models.route]]
pattern = "{pattern}"
provider = "anthropic"
base_url = "{url}"
api_key = "sk-ant-secret-of-the-test"
read_timeout = {silence}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint) -> Iterator[Api]:
    config = CONFIG + '[[models.route]]\npattern = "keyless-*"\nprovider = "anthropic"\napi_key_env = "NOT_SET_HERE"\n'
    config += ROUTE.format(pattern="slow-*", url=endpoint.url, silence=0.3)
    config += ROUTE.format(pattern="down-*", url=f"http://127.0.0.1:{free_port()}", silence=20)
    config += ROUTE.format(pattern="*", url=endpoint.url, silence=20)
    with Server(tmp_path_factory.mktemp("models") / "data", config=config) as server, Api(server) as api:
        yield api
    assert "sk-ant-secret" not in server.log()


FAILED, OVERLOADED = "model_request_failed_error", "model_overloaded_error"
LIMITED, BILLING = "model_rate_limited_error", "billing_error"


@pytest.mark.parametrize(
    ("model", "handler", "kind", "attempts"),
    [
        ("m", STORM, OVERLOADED, ATTEMPTS),
        ("m", answering(503, "<html>down</html>", kind="text/html"), OVERLOADED, ATTEMPTS),
        ("m", answering(500, {}), FAILED, ATTEMPTS),
        ("m", answering(429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
                        {"retry-after": "0"}), LIMITED, ATTEMPTS),
        ("m", answering(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "b"}}), FAILED, 1),
        ("m", answering(401, {"type": "error", "error": {"type": "authentication_error", "message": "x"}}), FAILED, 1),
        ("m", answering(402, {"type": "error", "error": {"type": "billing_error", "message": "unpaid"}}), BILLING, 1),
        ("m", answering(200, "<html>a captive portal</html>", kind="text/html"), FAILED, ATTEMPTS),
        ("m", answering(200, {"id": "msg_1", "content": []}), FAILED, ATTEMPTS),
        ("m", streaming(), FAILED, ATTEMPTS),
        ("m", streaming(*WHOLE[:3]), FAILED, ATTEMPTS),
        ("m", streaming(*WHOLE[:5], reset=True), FAILED, ATTEMPTS),
        ("m", streaming(*WHOLE[:-1]), FAILED, ATTEMPTS),
        ("m", streaming(*TOOL[:4]), FAILED, ATTEMPTS),
        ("m", streaming(b"event: message_start\ndata: {nonsense\n\n"), FAILED, ATTEMPTS),
        ("m", streaming(b"event: message_start\ndata: []\n\n"), FAILED, ATTEMPTS),
        ("m", streaming(*WHOLE[1:]), FAILED, ATTEMPTS),
        ("m", streaming(WHOLE[0], b"\xff\xfe\xfd\x00\n\n"), FAILED, ATTEMPTS),
        ("m", streaming(WHOLE[0], sse({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})),
         OVERLOADED, ATTEMPTS),
        ("m", half_a_head, FAILED, ATTEMPTS),
        ("m", not_http, FAILED, ATTEMPTS),
        ("slow-m", streaming(*WHOLE[:4], hang=True), FAILED, ATTEMPTS),
    ],
)  # fmt: skip
def test_a_failing_endpoint(
    api: Api, endpoint: Endpoint, model: str, handler: Handler, kind: str, attempts: int
) -> None:
    endpoint.plan = [handler]
    endpoint.asked.clear()
    session = api.session(api.agent(model=model))
    events = api.turn(session, "hello")
    assert errors(events) == [(kind, "retrying")] * (attempts - 1) + [(kind, "exhausted")]
    # A connection that ends before its answer began is given a second chance within the attempt.
    assert len(endpoint.asked) in (attempts, 2 * attempts)
    assert types(events).count("session.status_rescheduled") == attempts - 1
    assert types(events).count("session.status_running") == attempts
    spans = [event for event in events if event["type"] == "span.model_request_end"]
    assert [span["is_error"] for span in spans] == [True] * attempts
    assert said(events) == []
    assert events[-1]["stop_reason"] == {"type": "retries_exhausted"}
    assert api.get(f"/v1/sessions/{session}")["status"] == "idle"

    endpoint.plan = [saying("well again")]
    events = api.turn(session, "and now?")
    assert said(events) == ["well again"]
    assert events[-1]["stop_reason"] == {"type": "end_turn"}
    assert "secret" not in str(api.events(session))


def test_a_storm_that_passes(api: Api, endpoint: Endpoint) -> None:
    endpoint.plan = [STORM, streaming(*WHOLE[:4]), saying("made it")]
    events = api.turn(api.session(), "hello")
    assert errors(events) == [(OVERLOADED, "retrying"), (FAILED, "retrying")]
    assert said(events) == ["made it"]
    assert events[-1]["stop_reason"] == {"type": "end_turn"}


def test_an_interrupt_ends_the_waiting(api: Api, endpoint: Endpoint) -> None:
    endpoint.plan = [streaming(*WHOLE[:4], hang=True)]
    session, got = api.session(), []
    for event in api.stream(session, lambda: api.send(session, message("hello"))):
        got.append(event)
        if event["type"] == "span.model_request_start":
            api.send(session, {"type": "user.interrupt"})
        if event["type"] == IDLE:
            break
    assert errors(got) == []
    assert got[-1]["stop_reason"] == {"type": "end_turn"}


def test_an_endpoint_that_is_down(api: Api) -> None:
    events = api.turn(api.session(api.agent(model="down-m")), "hello")
    assert errors(events) == [(FAILED, "retrying")] * (ATTEMPTS - 1) + [(FAILED, "exhausted")]
    assert "can't be reached" in str(events)
    assert events[-1]["stop_reason"] == {"type": "retries_exhausted"}


def test_no_model_key(api: Api) -> None:
    events = api.turn(api.session(api.agent(model="keyless-m")), "hello")
    assert errors(events) == [(FAILED, "exhausted")]
    assert "NOT_SET_HERE" in next(event["error"]["message"] for event in events if event["type"] == "session.error")
    assert events[-1]["stop_reason"] == {"type": "retries_exhausted"}


def test_a_clients_base_url_never_redirects_the_server(start: Callable[..., Server], endpoint: Endpoint) -> None:
    endpoint.plan = [saying("from the model")]
    endpoint.asked.clear()
    with Endpoint() as clients:
        environ = {
            "ANTHROPIC_BASE_URL": clients.url,
            "ANTHROPIC_API_KEY": "sk-ant-key",
            "HOSTLER_MODEL_BASE_URL": endpoint.url,
        }
        with Api(start(environ=environ)) as api:
            assert said(api.turn(api.session(), "hello")) == ["from the model"]
        assert clients.asked == []
    assert endpoint.asked[0].headers["x-api-key"] == "sk-ant-key"
