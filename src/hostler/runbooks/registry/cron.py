"""Schedules: five cron fields in a time zone, and when they are due. It must not start anything."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from hostler.errors import InvalidRequest

_FIELDS = 5
_SECOND = 1_000_000


def next_after(schedule: str, timezone: str | None, now: int) -> int:
    """When it is due next, after `now`; microseconds both. Raises InvalidRequest for what is no schedule or no zone."""
    try:
        due = next(_simulated(schedule, datetime.fromtimestamp(now / _SECOND, _zone(timezone))))
    except StopIteration:
        raise InvalidRequest(f"schedule: {schedule!r} has no date in the next fifty years") from None
    return _micros(due)


def last_until(schedule: str, timezone: str | None, first: int, now: int) -> int:
    """The last time that it was due until `now`, knowing that it was at `first`."""
    moment = datetime.fromtimestamp(now / _SECOND, _zone(timezone)).replace(microsecond=1)
    try:
        return max(first, _micros(next(_simulated(schedule, moment, reverse=True))))
    except StopIteration:
        return first


def _simulated(schedule: str, moment: datetime, *, reverse: bool = False) -> CronSim:
    if len(schedule.split()) != _FIELDS:
        raise InvalidRequest(
            f"schedule: {schedule!r} should have five fields: minute, hour, day of the month, month, day of the week"
        )
    try:
        return CronSim(schedule, moment, reverse=reverse)
    except CronSimError as problem:
        raise InvalidRequest(f"schedule: {schedule!r} is no cron expression: {problem}") from problem


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # not found, a folder, a path
        raise InvalidRequest(f"timezone: {name!r} is no time zone; one is like Europe/London") from None


def _micros(moment: datetime) -> int:
    return round(moment.timestamp()) * _SECOND
