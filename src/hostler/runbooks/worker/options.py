"""What a runbook says about a call: its time limits and how often it is tried. the names are Temporal's.

Any object with the attributes of Temporal's `RetryPolicy` will do. It must not call anything.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

ATTEMPTS = 3  # where the runbook says nothing


class Retries(NamedTuple):
    """`attempts` counts the first one; 0 is without end. Times are seconds."""

    attempts: int = ATTEMPTS
    first: float = 1.0
    factor: float = 2.0
    longest: float = 100.0
    never: tuple[str, ...] = ()  # names of errors for which another attempt is no use

    def pause(self, attempt: int) -> float:
        """Seconds after attempt number `attempt`, from 1 on."""
        return min(self.first * self.factor ** min(attempt - 1, 64), self.longest)

    def allows(self, attempt: int, error: BaseException) -> bool:
        """Whether there is another attempt after number `attempt`."""
        if getattr(error, "non_retryable", False) is True or (self.attempts and attempt >= self.attempts):
            return False
        names = {kind.__name__ for kind in type(error).__mro__} | {str(getattr(error, "type", None))}
        return not names & set(self.never)


class Options(NamedTuple):
    """Time limits in seconds: of one attempt, and of all of them together."""

    attempt_seconds: float | None = None
    total_seconds: float | None = None
    retries: Retries = Retries()


def read(kwargs: dict[str, Any]) -> Options:
    """Take what is known out of `kwargs`; the rest is Temporal's own business. Raises TypeError, ValueError."""
    return Options(
        attempt_seconds=seconds(kwargs.get("start_to_close_timeout")),
        total_seconds=seconds(kwargs.get("schedule_to_close_timeout")),
        retries=_retries(kwargs.get("retry_policy")),
    )


def seconds(value: timedelta | float | None) -> float | None:
    """A time limit, as a timedelta or in seconds. Raises TypeError, ValueError."""
    if value is None:
        return None
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if number < 0:
        raise ValueError(f"a time limit can't be {number} seconds")
    return number


def _retries(policy: Any) -> Retries:
    if policy is None:
        return Retries()
    usual = Retries(attempts=0)  # Temporal's own: again and again
    first = seconds(getattr(policy, "initial_interval", None)) or usual.first
    return Retries(
        attempts=int(getattr(policy, "maximum_attempts", 0) or 0),
        first=first,
        factor=float(getattr(policy, "backoff_coefficient", None) or usual.factor),
        longest=seconds(getattr(policy, "maximum_interval", None)) or 100 * first,
        never=tuple(getattr(policy, "non_retryable_error_types", None) or ()),
    )
