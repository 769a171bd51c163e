"""What can go wrong between us and an MCP server, by what it means for the caller. It must not hold secrets or URLs:
its messages are read by clients and models.
"""

from __future__ import annotations


class NotConnected(Exception):
    """The server can't be used: the message says why."""


class NotAuthorized(NotConnected):
    """The server wants a credential, or another one."""


class NotStarted(NotConnected):
    """The server is a program, and there is no such program."""


class CallProblem(Exception):
    """A call that gave no result."""


class NotSent(CallProblem):
    """The call provably never reached the server, or was turned away at its door: it may be made again."""


class Unauthorized(CallProblem):
    """The server turned the call away for want of a credential: it did not run."""


class Refused(CallProblem):
    """The server answered with an error."""


class OutcomeUnknown(CallProblem):
    """The call was sent and no answer came: it may have run, in part or in full."""
