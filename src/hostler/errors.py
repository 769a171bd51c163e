"""The one family of errors that reach a client. Each knows its wire type and status; `api/` alone turns it into the
envelope.

    HostlerError                        500 api_error
    +-- InvalidRequest                  400 invalid_request_error
    |   +-- MethodNotAllowed            405 invalid_request_error
    |   +-- RequestTooLarge             413 request_too_large
    +-- AuthenticationFailed            401 authentication_error
    +-- PermissionDenied                403 permission_error
    +-- NotFound                        404 not_found_error
    +-- Conflict                        409 conflict_error
    |   +-- AlreadyExists               409 invalid_request_error
    +-- PreconditionFailed              412 invalid_request_error
    +-- RateLimited                     429 rate_limit_error
    +-- Overloaded                      529 overloaded_error
    +-- Unsupported                     501 api_error
    +-- Unavailable                     503 api_error        (disk full, store down: try again)

Control flow of a running session (interrupt, stale lease, new input) is not here: it lives with the log and the
harness.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HostlerError(Exception):
    """Internal server error."""

    status: ClassVar[int] = 500
    wire_type: ClassVar[str] = "api_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        error_code: str | None = None,
        details: dict[str, Any] | None = None,
        retry: bool | None = None,
    ) -> None:
        """`error_code` and `details` go into `error.details`; `retry` becomes the `x-should-retry` header."""
        self.message = message or (self.__doc__ or "").strip()
        self.details = {**({"error_code": error_code} if error_code else {}), **(details or {})}
        self.retry = retry
        super().__init__(self.message)


class InvalidRequest(HostlerError):
    """The request is invalid."""

    status = 400
    wire_type = "invalid_request_error"


class MethodNotAllowed(InvalidRequest):
    """Method not allowed"""

    status = 405


class RequestTooLarge(InvalidRequest):
    """Request exceeds the maximum allowed number of bytes."""

    status = 413
    wire_type = "request_too_large"


class AuthenticationFailed(HostlerError):
    """Authentication failed"""

    status = 401
    wire_type = "authentication_error"


class PermissionDenied(HostlerError):
    """This key may not do that."""

    status = 403
    wire_type = "permission_error"


class NotFound(HostlerError):
    """Not found"""

    status = 404
    wire_type = "not_found_error"


class Conflict(HostlerError):
    """The resource was changed by another request."""

    status = 409
    wire_type = "conflict_error"

    def __init__(self, message: str | None = None, **extra: Any) -> None:
        # SDKs repeat a 409 twice unless told not to; ours are deterministic.
        super().__init__(message, **{"retry": False, **extra})


class AlreadyExists(Conflict):
    """There is one already."""

    wire_type = "invalid_request_error"


class PreconditionFailed(HostlerError):
    """What the request stands on has changed."""

    status = 412
    wire_type = "invalid_request_error"


class RateLimited(HostlerError):
    """Too many requests."""

    status = 429
    wire_type = "rate_limit_error"


class Overloaded(HostlerError):
    """The server is overloaded; try again later."""

    status = 529
    wire_type = "overloaded_error"


class Unsupported(HostlerError):
    """This server can't do that."""

    status = 501


class Unavailable(HostlerError):
    """The server can't store data right now; try again later."""

    status = 503
