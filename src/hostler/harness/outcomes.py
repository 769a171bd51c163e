"""An outcome that a session works towards: attempt, evaluation, revision, as a fold over its events. It must not do
I/O.

`result` is the wire's: `pending` until the first request, `running` while an attempt is made, `evaluating`, and at last
`satisfied`, `max_iterations_reached`, `failed` or `interrupted`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hostler import clock
from hostler.wire.base import timestamp
from hostler.wire.sessions import OutcomeEvaluation

DEFAULT_ITERATIONS = 3
ACTIVE = ("pending", "running", "evaluating")
NEEDS_REVISION = "needs_revision"

TASK = (
    "Work until this outcome is reached. When you end your turn, your work is evaluated against the rubric; if it "
    "falls short you are told how and go on.\n<outcome>\n{description}\n</outcome>\n<rubric>\n{rubric}\n</rubric>"
)
REVISE = (
    "The evaluation found that the outcome is not reached yet. Revise your work.\n<evaluation>\n{text}\n</evaluation>"
)
LAST = (
    "The evaluation found that the outcome is not reached, and no further attempt will be evaluated. Say briefly what "
    "is done and what is missing; do not work on.\n<evaluation>\n{text}\n</evaluation>"
)


class Outcome(msgspec.Struct, kw_only=True):
    """One outcome. `start_id` is the event of an evaluation that has begun and not ended."""

    id: str
    description: str
    rubric: str
    max_iterations: int
    iteration: int = 0
    result: str = "pending"
    explanation: str | None = None
    start_id: str | None = None
    seq: int  # the order in which it was received
    ended_at: int | None = None  # microseconds
    unseen: bool = True  # no request has gone out since it was defined

    @classmethod
    def of(cls, event: dict[str, Any], seq: int) -> Outcome:
        """From its `user.define_outcome`, whose rubric is text."""
        return cls(
            id=event["outcome_id"],
            description=event["description"],
            rubric=event["rubric"]["content"],
            max_iterations=event.get("max_iterations") or DEFAULT_ITERATIONS,
            seq=seq,
        )

    @property
    def active(self) -> bool:
        return self.result in ACTIVE

    @property
    def last(self) -> bool:
        """Whether no further attempt would be evaluated."""
        return self.iteration + 1 >= self.max_iterations

    def task(self) -> str:
        return TASK.format(description=self.description, rubric=self.rubric)

    def feedback(self, text: str) -> str:
        return (LAST if self.last else REVISE).format(text=text)

    def work(self) -> None:
        self.unseen = False
        if self.result == "pending":
            self.result = "running"

    def begin(self, event_id: str) -> None:
        self.result, self.start_id = "evaluating", event_id

    def end(self, result: str, explanation: str, at: int) -> None:
        self.start_id, self.explanation = None, explanation
        if result == NEEDS_REVISION:
            self.result = "running"
            self.iteration += 1
        else:
            self.result, self.ended_at = result, at

    def shown(self, completed_at: str | None, **changed: Any) -> OutcomeEvaluation:
        """As the session shows it, or will with what is `changed`."""
        values = {"iteration": self.iteration, "result": self.result, "explanation": self.explanation, **changed}
        return OutcomeEvaluation(outcome_id=self.id, description=self.description, completed_at=completed_at, **values)


def column(outcomes: Iterable[Outcome], changing: Outcome, **changed: Any) -> dict[str, Any]:
    """The session's column that shows these outcomes, with what is about to change of one."""
    shown = []
    for outcome in outcomes:
        changes = changed if outcome is changing else {}
        over = changes.get("result", outcome.result) not in ACTIVE
        at = outcome.ended_at or clock.now()
        shown.append(outcome.shown(timestamp(at) if over else None, **changes))
    return {"outcomes": msgspec.json.encode(shown)}
