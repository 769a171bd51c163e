"""Time stamps, the explanation of bad values, NUL detection."""

import msgspec
import pytest

from hostler.wire.agents import AgentCreate, AgentUpdate
from hostler.wire.base import UNSET, explain, has_nul, parse_timestamp, timestamp
from hostler.wire.events import EventsSend
from hostler.wire.sessions import SessionCreate


def test_timestamp_is_rfc3339_with_six_digits() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000000Z"
    assert timestamp(1_767_323_045_000_001) == "2026-01-02T03:04:05.000001Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05.000001Z",
        "2026-01-02T03:04:05.000001",
        "2026-01-02T04:04:05.000001+01:00",
        "2026-01-02T04:04:05.000001 01:00",
    ],
)
def test_filters_read_time_leniently(text: str) -> None:
    assert parse_timestamp(text) == 1_767_323_045_000_001


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z"])
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's
        parse_timestamp(text)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (AgentCreate, b'{"name":"a"}', "model: Field required"),
        (AgentCreate, b'{"name":"a","model":"m","x":1}', "x: Extra inputs are not permitted"),
        (
            AgentCreate,
            b'{"name":"a","model":"m","tools":[{"type":"agent_toolset_20260401","configs":[{"name":"bash","no":1}]}]}',
            "tools.0.configs.0.no: Extra inputs are not permitted",
        ),
        (AgentCreate, b'{"name":"a","model":"m","tools":[{"type":"z"}]}', "tools.0.type: Invalid value 'z'"),
        (AgentCreate, b'{"name":"","model":"m"}', "name: Expected `str` of length >= 1"),
        (AgentCreate, b'{"name":"a","model":"m","metadata":{"k":1}}', "metadata: Expected `str`, got `int`"),
        (
            SessionCreate,
            b'{"agent":"a","environment_id":"e","budget":{"type":"limit","max_list_cost":{"amount":"1.5","currency":"USD"}}}',
            'budget.max_list_cost.amount: must be whole cents above 0, as a string of digits such as "250"',
        ),
        (AgentCreate, b"[]", "Expected `object`, got `array`"),
        (EventsSend, b'{"events":[{"type":"x"}]}', "events.0.type: Invalid value 'x'"),
        (EventsSend, b'{"events":[{}]}', "events.0.type: Field required"),
        (SessionCreate, b'{"agent":{"type":"agent"},"environment_id":"e"}', "agent.id: Field required"),
    ],
)
def test_a_bad_value_is_named_by_its_path(kind: type, body: bytes, text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(body, type=kind)
    assert explain(caught.value) == text


def test_absent_and_null_differ() -> None:
    assert msgspec.json.decode(b"{}", type=AgentUpdate).system is UNSET
    assert msgspec.json.decode(b'{"system":null}', type=AgentUpdate).system is None


def test_nul_is_seen_only_when_it_is_one() -> None:
    assert has_nul(rb'{"a":"\u0000"}')
    assert has_nul(rb'{"a":"\\\u0000"}')
    assert not has_nul(rb'{"a":"\\u0000"}')
